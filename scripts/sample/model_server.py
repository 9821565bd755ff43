"""The sample project: a small model and its server, as a repository with an open pull request."""

import hashlib
import io
import json
import os
import re
import site
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

from scripts.sample.base_image import busybox_root, import_image, shared_libraries
from scripts.sample.engine import Engine
from scripts.sample.processes import ServiceError

NAME = "acme/flat-prices"
PULL_REQUEST = 1
BASE_IMAGE = "docker-build-farm/sample-python:3"
_APP = Path(__file__).with_name("app")
_WHEEL = "tinyfit-1.0-py3-none-any.whl"
_REVISION = re.compile('^REVISION = ".*"$', re.MULTILINE)
# Most of a Python's size is what no server needs.
_LEFT_OUT = re.compile(
    r"/(__pycache__|test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|pydoc_data|site-packages|dist-packages"
    r"|config-[^/]*)(/|$)|/EXTERNALLY-MANAGED$|\.a$"
)


def files() -> dict[str, str | bytes]:
    """The first commit: the app, with its dependency as a wheel in vendor/."""
    found: dict[str, str | bytes] = {
        str(path.relative_to(_APP)): path.read_bytes()
        for path in sorted(_APP.rglob("*"))
        if path.is_file() and path.parent.name not in {"tinyfit", "__pycache__"}
    }
    found[f"vendor/{_WHEEL}"] = _wheel((_APP / "tinyfit" / "__init__.py").read_bytes())
    return found


def pull_request(push: int) -> dict[str, str | bytes | None]:
    """What the pull request changes: the server alone, so the layers before it stay cached."""
    source = (_APP / "serve.py").read_text()
    return {
        "serve.py": _REVISION.sub(f'REVISION = "pull request {PULL_REQUEST}, push {push}"', source)
    }


def base_image(engine: Engine) -> str:
    """An image with this machine's own Python, a shell and pip: seconds, and nothing pulled."""
    if engine.has_image(BASE_IMAGE):
        return BASE_IMAGE
    return import_image(
        engine,
        _python_root(),
        BASE_IMAGE,
        'CMD ["python3"]',
        "ENV PATH=/usr/local/bin:/usr/bin:/bin",
    )


def _wheel(source: bytes) -> bytes:
    """The same bytes every time: they are part of what the farm caches by."""
    info = "tinyfit-1.0.dist-info"
    contents = {
        "tinyfit/__init__.py": source,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tinyfit\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: sample\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_record_hash(data)},{len(data)}" for path, data in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in contents.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return buffer.getvalue()


def _record_hash(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _python_root() -> bytes:
    """A tar of busybox and of the Python that .venv was made from, at the places it has here."""
    buffer = io.BytesIO(busybox_root())
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        binary = Path(os.path.realpath(sys.executable))
        library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
        modules = sorted(
            path
            for path in library.rglob("*")
            if path.is_file() and not _LEFT_OUT.search(str(path))
        )
        loaded = {binary}
        for path in modules:
            tar.add(path, filter=_plain)
            if path.suffix == ".so":
                loaded.add(path)
        tar.add(binary, filter=_plain)
        libraries = {needed for path in loaded for needed in shared_libraries(path)}
        for path in sorted(libraries):
            # At the name that the loader looks for, with the content that the name stands for here.
            tar.add(path.resolve(), arcname=str(path), filter=_plain)
        link = tarfile.TarInfo("usr/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, str(binary)
        if str(binary) != "/usr/bin/python3":
            tar.addfile(link)
        _add_pip(tar, binary)
    return buffer.getvalue()


def _add_pip(tar: tarfile.TarFile, binary: Path) -> None:
    """From .venv, to where the bare Python looks for packages."""
    asked = [
        str(binary),
        "-I",
        "-c",
        "import json, site; print(json.dumps(site.getsitepackages()))",
    ]
    places: list[str] = json.loads(
        subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    )
    here = [Path(place) for place in site.getsitepackages()]
    found = [
        path
        for place in here
        for path in [place / "pip", *place.glob("pip-*.dist-info")]
        if path.is_dir()
    ]
    if not found:
        message = "no pip in .venv: run scripts/setup"
        raise ServiceError(message)
    for path in found:
        tar.add(path, arcname=f"{places[0]}/{path.name}", filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nobody's files, of no date: the base must not differ from one making to the next."""
    if "__pycache__" in entry.name:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry
