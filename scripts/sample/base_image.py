"""A base image made on the spot: where the farm is tried out, often nothing can be pulled."""

import io
import subprocess
import tarfile
from pathlib import Path

from scripts.sample.engine import Engine
from scripts.sample.processes import program

_FOLDERS = ["bin", "etc", "root", "tmp", "usr", "usr/bin", "var"]


def busybox_root() -> bytes:
    """A tar of a root with busybox under all its names, the same bytes every time."""
    busybox = Path(program("busybox")).resolve()
    names = subprocess.run(
        [str(busybox), "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in _FOLDERS:
            _add(tar, folder, mode=0o1777 if folder == "tmp" else 0o755)
        _add(
            tar,
            "etc/passwd",
            content=b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        )
        _add(tar, "etc/group", content=b"root:x:0:\nnogroup:x:65534:\n")
        _add(tar, "bin/busybox", content=busybox.read_bytes(), mode=0o755)
        for library in shared_libraries(busybox):
            _add(tar, str(library).lstrip("/"), content=library.read_bytes(), mode=0o755)
        for name in names:
            if name != "busybox":
                _add(tar, f"bin/{name}", link_to="bin/busybox", mode=0o755)
    return buffer.getvalue()


def import_image(engine: Engine, root: bytes, name: str, *changes: str) -> str:
    """Makes an image of a tar of a root, unless there is one of that name; returns the name."""
    if not engine.has_image(name):
        options = [word for change in changes for word in ("--change", change)]
        engine.docker("import", *options, "-", name, stdin=root)
    return name


def busybox_image(engine: Engine, name: str) -> str:
    """An image with a shell and the usual small tools."""
    return import_image(engine, busybox_root(), name, 'CMD ["sh"]', "ENV PATH=/bin:/usr/bin")


def shared_libraries(binary: Path) -> list[Path]:
    """What a program loads, as `ldd` tells; nothing for a static one."""
    done = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False)
    words = [
        word for line in done.stdout.splitlines() for word in line.split() if word.startswith("/")
    ]
    return sorted({Path(word) for word in words})


def _add(
    tar: tarfile.TarFile,
    name: str,
    *,
    content: bytes | None = None,
    link_to: str = "",
    mode: int = 0o644,
) -> None:
    """A file with `content`, another name for `link_to`, or else a folder."""
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if link_to:
        entry.type, entry.linkname = tarfile.LNKTYPE, link_to
    elif content is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content or b""))
