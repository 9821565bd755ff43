"""What makes a worker of a new Docker host: the install script, our own wheel, its requirements.

Public, without a token: all of it is open source, the script and the wheel hold no
secret, and what they lead to (enrolling) asks for one. The wheel is made of the very
files that this process runs, so that a worker is never of another version than its
farm, also where the farm was installed from a checkout.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import re
import shlex
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from farm.errors import NotFound
from farm.settings import Settings
from web.context import services

blueprint = Blueprint("dist", __name__, url_prefix="/worker")

DISTRIBUTION = "docker-build-farm"
PACKAGES = ("farm", "web", "workers")
REQUIREMENTS = "web/requirements.txt"
"""Where the locked requirements lie in a wheel (pyproject.toml); in a checkout they do not."""
_SCRIPT = "install.sh"
_METADATA = ("METADATA", "entry_points.txt")
_WHEEL = (
    "Wheel-Version: 1.0\nGenerator: docker-build-farm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Release:
    """The farm as a file to install."""

    name: str
    wheel: bytes
    requirements: bytes

    @property
    def wheel_sha256(self) -> str:
        """What the install script holds the wheel against."""
        return hashlib.sha256(self.wheel).hexdigest()

    @property
    def requirements_sha256(self) -> str:
        """The same of the requirements, each of which has its hash."""
        return hashlib.sha256(self.requirements).hexdigest()


@blueprint.get("/install.sh")
def install_script() -> Response:
    """The script that a new host runs, with this farm's address and hashes in it."""
    settings = services().settings
    server = server_address(settings, f"{request.scheme}://{request.host}")
    return _text(script(release(), server=server, insecure_ok=settings.insecure_ok))


@blueprint.get("/requirements.txt")
def requirements() -> Response:
    """The dependencies, locked with hashes."""
    return _text(release().requirements)


@blueprint.get("/dist/<name>")
def wheel(name: str) -> Response:
    """The farm's own wheel."""
    found = release()
    if name != found.name:
        raise NotFound(f"This farm's wheel is {found.name}.", code="wheel_not_found")
    return Response(found.wheel, mimetype="application/octet-stream")


@cache
def release() -> Release:
    """This farm's wheel and requirements; the same bytes from every process that runs it."""
    version = importlib.metadata.version(DISTRIBUTION)
    stem = f"{DISTRIBUTION.replace('-', '_')}-{version}"
    files = dict(package_files())
    files |= {f"{stem}.dist-info/{name}": text for name, text in _dist_info().items()}
    return Release(
        name=f"{stem}-py3-none-any.whl",
        wheel=make_wheel(files, record=f"{stem}.dist-info/RECORD"),
        requirements=files[REQUIREMENTS],
    )


def package_files() -> Iterator[tuple[str, bytes]]:
    """Every file of our packages by its path in a wheel, wherever they are installed."""
    for package in PACKAGES:
        folder = _folder_of(package)
        for path in folder.rglob("*"):
            name = path.relative_to(folder.parent)
            if path.is_file() and not any(_is_by_product(part) for part in name.parts):
                yield name.as_posix(), path.read_bytes()
    installed = _folder_of("web").parent / REQUIREMENTS
    if not installed.is_file():
        checkout = _folder_of("web").parent / "requirements" / "runtime.txt"
        yield REQUIREMENTS, checkout.read_bytes()


def make_wheel(files: Mapping[str, bytes], *, record: str) -> bytes:
    """A zip of the files and their RECORD, with nothing of the moment or the machine in it."""
    lines = [f"{name},{_digest(data)},{len(data)}" for name, data in sorted(files.items())]
    whole = {**files, record: "\n".join([*lines, f"{record},,", ""]).encode()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in sorted(whole.items()):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def script(found: Release, *, server: str, insecure_ok: bool) -> bytes:
    """The install script for one farm."""
    text = (_folder_of("web") / _SCRIPT).read_text(encoding="utf-8")
    head, mark, rest = text.partition("\nserver=@SERVER@\n")
    values = {
        "SERVER": server,
        "INSECURE_OK": "1" if insecure_ok else "0",
        "WHEEL": found.name,
        "WHEEL_SHA256": found.wheel_sha256,
        "REQUIREMENTS_SHA256": found.requirements_sha256,
    }
    body = mark + rest
    for name, value in values.items():
        body = body.replace(f"=@{name}@\n", f"={shlex.quote(value)}\n")
    return (head.replace("@SERVER@", server) + body).encode()


def server_address(settings: Settings, asked: str) -> str:
    """The farm's address for a new host: FARM_URL, or, where that is this machine's own
    loopback, the address under which the script was asked for.
    """
    public = settings.url.rstrip("/")
    asked_host = urlsplit(asked).netloc
    if _is_loopback(urlsplit(public).hostname or "") and _HOST.fullmatch(asked_host):
        return asked
    return public


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _folder_of(package: str) -> Path:
    """Where a package lies; found by its name, for web imports nothing of workers."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {package} is not installed")
    return Path(spec.origin).parent


def _is_by_product(part: str) -> bool:
    return part == "__pycache__" or part.startswith(".") or part.endswith((".pyc", "~"))


def _dist_info() -> dict[str, bytes]:
    """The metadata of what is installed; an editable installation has no wheel's own files."""
    distribution = importlib.metadata.distribution(DISTRIBUTION)
    found = {name: (distribution.read_text(name) or "").encode() for name in _METADATA}
    return {**found, "WHEEL": _WHEEL.encode()}


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def _text(content: bytes) -> Response:
    return Response(content, mimetype="text/plain")
