"""Whether a commit's files may become a build's context: checked before one is written.

The tree is read as git lists it, so a bomb of 10^8 names costs nothing: reading
stops at the first limit.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from farm.errors import AttemptError
from farm.reasons import Reason

READ_BYTES = 256 * 1024
REPOSITORY_SHAPES = (
    frozenset({"HEAD", "objects", "refs"}),
    frozenset({"HEAD", "commondir"}),
)
"""A folder with these is a bare repository to git, and its config would be obeyed."""
_SHAPE_NAMES = frozenset[str]().union(*REPOSITORY_SHAPES)
DOCKERFILE_BYTES = 1024**2
DOCKERFILE_LINES = 20_000
"""BuildKit takes minutes over more, and ends in an error of its own."""
_GIT_NAMES = frozenset({".git", "git~1"})


@dataclass(frozen=True)
class Limits:
    """What a commit may hold; a checkout of the largest known monorepos fits."""

    files: int = 500_000
    total_bytes: int = 4 * 1024**3
    depth: int = 128
    path_bytes: int = 4000
    name_bytes: int = 255
    """What a file system of Linux can hold."""


def check_tree(listing: IO[bytes], limits: Limits) -> None:
    """Read `git ls-tree -r -l -z` to its end; raises AttemptError (source_refused) at the first fault."""
    total = 0
    shapes: dict[bytes, set[str]] = defaultdict(set)
    for files, entry in enumerate(_entries(listing), start=1):
        head, _, path = entry.partition(b"\t")
        size = head.split()[-1] if head else b"0"
        total += int(size) if size.isdigit() else 0
        if files > limits.files:
            raise _refused(f"more than {limits.files} files")
        if total > limits.total_bytes:
            raise _refused(f"more than {limits.total_bytes // 1024**2} MiB of files")
        _check_path(path, limits, shapes)


def locate(export: Path, context: str, file: str) -> tuple[Path, Path]:
    """The context folder and the Dockerfile as real paths inside the export.

    Raises AttemptError: `source_refused` for a path that leaves the export over a
    symlink, `configuration_invalid` for a missing context, `dockerfile_invalid` for a
    missing Dockerfile.
    """
    root = export.resolve()
    found_context = _inside(root, context)
    if not found_context.is_dir():
        raise AttemptError(
            Reason.CONFIGURATION_INVALID, f"context: the commit has no folder {context}"
        )
    found_file = _inside(root, file)
    if not found_file.is_file():
        raise AttemptError(Reason.DOCKERFILE_INVALID, f"file: the commit has no {file}")
    _check_dockerfile(found_file, file)
    return found_context, found_file


def _check_dockerfile(path: Path, shown: str) -> None:
    """Raise AttemptError (dockerfile_invalid) for what is no text, or more than anybody writes."""
    with open(path, "rb") as file:
        data = file.read(DOCKERFILE_BYTES + 1)
    if len(data) > DOCKERFILE_BYTES or data.count(b"\n") > DOCKERFILE_LINES:
        raise AttemptError(
            Reason.DOCKERFILE_INVALID,
            f"{shown} is larger than {DOCKERFILE_BYTES // 1024} KiB or {DOCKERFILE_LINES} lines",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise AttemptError(Reason.DOCKERFILE_INVALID, f"{shown} is not UTF-8 text") from exc
    if "\0" in text:
        raise AttemptError(Reason.DOCKERFILE_INVALID, f"{shown} is not a text file")


def _inside(root: Path, relative: str) -> Path:
    try:
        path = (root / relative).resolve()
    except (OSError, RuntimeError) as exc:
        raise _refused(f"{relative} is a loop of symlinks") from exc
    if path != root and root not in path.parents:
        raise _refused(f"{relative} is a symlink that leaves the repository")
    return path


def _entries(listing: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := listing.read(READ_BYTES):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest:
        yield rest


def _check_path(path: bytes, limits: Limits, shapes: dict[bytes, set[str]]) -> None:
    parts = path.split(b"/")
    if len(path) > limits.path_bytes or len(parts) > limits.depth:
        raise _refused("a path that is too long or too deep")
    for depth, part in enumerate(parts):
        if len(part) > limits.name_bytes:
            raise _refused(f"a name of more than {limits.name_bytes} bytes")
        name = part.decode(errors="replace")
        if _is_git_name(name) or name in ("", ".", ".."):
            raise _refused("an entry named .git, or one that git would take for it")
        if name in _SHAPE_NAMES:
            parent = b"/".join(parts[:depth])
            shapes[parent].add(name)
            if any(shape <= shapes[parent] for shape in REPOSITORY_SHAPES):
                shown = parent.decode(errors="replace") or "the top folder"
                raise _refused(f"a folder shaped like a git repository: {shown}")


def _is_git_name(name: str) -> bool:
    """As git compares it for case-folding file systems: ignorable characters count as nothing."""
    if name.isascii():
        return name.lower().rstrip(" .") in _GIT_NAMES
    shown = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return shown.casefold().rstrip(" .") in _GIT_NAMES


def _refused(what: str) -> AttemptError:
    return AttemptError(Reason.SOURCE_REFUSED, f"the commit holds {what}")
