"""What a commit may hold, and where its context and Dockerfile may be."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from farm.errors import AttemptError
from farm.reasons import Reason
from workers.source import Limits, check_tree, locate

LIMITS = Limits(files=10, total_bytes=1000, depth=4, path_bytes=100, name_bytes=50)


def listing(*paths: str, size: str = "1") -> io.BytesIO:
    head = f"100644 blob {'0' * 40} {size:>7}\t"
    return io.BytesIO(b"".join(head.encode() + path.encode() + b"\0" for path in paths))


@pytest.mark.parametrize(
    "paths",
    [
        ("app/main.py", "HEAD", "objects/x", "docs/refs"),
        ("a/HEAD", "b/objects/1", "c/refs/x"),
        (".github/x", ".gitignore", "git/x", ".gitmodules"),
    ],
)
def test_an_honest_tree_passes(paths: tuple[str, ...]) -> None:
    check_tree(listing(*paths), LIMITS)


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (("x/HEAD", "x/objects/a", "x/refs/heads/b"), "repository"),
        (("HEAD", "refs/a", "objects/b"), "top folder"),
        (("x/HEAD", "x/commondir"), "repository"),
        (("dir/" + "n" * 60,), "more than 50 bytes"),
        (("a/.git/config",), ".git"),
        ((".GIT/hooks/post-checkout",), ".git"),
        (("git~1",), ".git"),
        ((".g\u200cit/config",), ".git"),
        ((".git ",), ".git"),
        (("a/../b",), ".git"),
        (tuple(f"f{n}" for n in range(11)), "more than 10 files"),
        (("a/b/c/d/e",), "too deep"),
        (("x" * 40 + "/" + "y" * 45 + "/" + "z" * 20,), "too long"),
    ],
)
def test_a_hostile_tree_is_refused(paths: tuple[str, ...], said: str) -> None:
    with pytest.raises(AttemptError, match=said) as caught:
        check_tree(listing(*paths), LIMITS)
    assert caught.value.reason is Reason.SOURCE_REFUSED


def test_a_bomb_is_refused_by_its_size_before_it_is_written() -> None:
    with pytest.raises(AttemptError, match="MiB"):
        check_tree(listing("a", "b", size="600"), LIMITS)
    check_tree(listing("module", size="-"), LIMITS)


def test_reading_stops_at_the_first_limit() -> None:
    class Endless(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            return b"".join(listing(f"f{n}").getvalue() for n in range(100))

    with pytest.raises(AttemptError, match="files"):
        check_tree(Endless(), LIMITS)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "Dockerfile").write_text("FROM scratch\n")
    (root / "inner").symlink_to("sub")
    (root / "up").symlink_to("..")
    (root / "abs").symlink_to("/")
    (root / "passwd").symlink_to("/etc/passwd")
    (root / "loop").symlink_to("loop")
    return root


def test_a_context_and_a_file_inside_are_found_also_over_a_symlink(export: Path) -> None:
    context, file = locate(export, "inner", "inner/Dockerfile")
    assert (context, file) == (export / "sub", export / "sub" / "Dockerfile")
    assert locate(export, ".", "sub/Dockerfile")[0] == export


@pytest.mark.parametrize(
    ("context", "file", "reason"),
    [
        ("up", "sub/Dockerfile", Reason.SOURCE_REFUSED),
        ("abs", "sub/Dockerfile", Reason.SOURCE_REFUSED),
        ("abs/etc", "sub/Dockerfile", Reason.SOURCE_REFUSED),
        (".", "passwd", Reason.SOURCE_REFUSED),
        ("loop", "sub/Dockerfile", Reason.SOURCE_REFUSED),
        ("nowhere", "sub/Dockerfile", Reason.CONFIGURATION_INVALID),
        ("sub/Dockerfile", "sub/Dockerfile", Reason.CONFIGURATION_INVALID),
        (".", "Dockerfile", Reason.DOCKERFILE_INVALID),
        (".", "sub", Reason.DOCKERFILE_INVALID),
    ],
)
def test_what_is_outside_or_missing_is_refused(
    export: Path, context: str, file: str, reason: Reason
) -> None:
    with pytest.raises(AttemptError) as caught:
        locate(export, context, file)
    assert caught.value.reason is reason
    assert "/etc" not in caught.value.message.replace("abs/etc", "")


@pytest.mark.parametrize(
    "content",
    [
        b"FROM scratch\n\x00",
        "FROM scratch\n".encode("utf-16"),
        b"\x7fELF\xff\xfe",
        b"# x\n" * 20_001,
        b"#" + b"x" * 1024**2,
    ],
)
def test_what_is_no_text_or_endless_is_no_dockerfile(export: Path, content: bytes) -> None:
    (export / "sub" / "Dockerfile").write_bytes(content)
    with pytest.raises(AttemptError) as caught:
        locate(export, "sub", "sub/Dockerfile")
    assert caught.value.reason is Reason.DOCKERFILE_INVALID
