"""A registry: Debian's docker-registry (the CNCF distribution) on the loopback interface."""

import ctypes
import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.sample.processes import Process, answers, free_port, program

# Whatever a tag may name; a registry answers 404 for a kind that the client does not list.
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class Login:
    """A user of a registry."""

    username: str
    password: str


def htpasswd_line(login: Login) -> str:
    """The only kind of password hash that the registry takes is bcrypt: libxcrypt makes it."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    # The 22nd character has two bits that count; a "." leaves the others zero.
    salt = "".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(21)) + "."
    hashed: bytes | None = library.crypt(login.password.encode(), f"$2b$05${salt}".encode())
    if hashed is None or not hashed.startswith(b"$2b$"):
        message = "this system's libcrypt makes no bcrypt hashes"
        raise RuntimeError(message)
    return f"{login.username}:{hashed.decode()}\n"


def write_configuration(folder: Path, *, port: int, login: Login | None = None) -> Path:
    """The configuration file of a registry that keeps all it has under `folder`."""
    # JSON is YAML, and needs no library to write.
    configuration: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": secrets.token_hex(16)},
    }
    if login is not None:
        (folder / "htpasswd").write_text(htpasswd_line(login))
        configuration["auth"] = {
            "htpasswd": {"realm": "registry", "path": str(folder / "htpasswd")}
        }
    path = folder / "config.yml"
    path.write_text(json.dumps(configuration))
    return path


def manifest_digest(host: str, name: str, tag: str, *, login: Login | None = None) -> str | None:
    """What the registry itself says that a tag names (HEAD), or None if there is no such tag."""
    answer = httpx.head(
        f"http://{host}/v2/{name}/manifests/{tag}",
        headers={"Accept": _MANIFESTS},
        auth=_auth(login),
        timeout=10,
    )
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    answer.raise_for_status()
    return answer.headers["Docker-Content-Digest"]


def _auth(login: Login | None) -> tuple[str, str] | None:
    return (login.username, login.password) if login else None


class Registry:
    """A registry of our own in `folder`, with or without a login."""

    def __init__(self, folder: Path, *, login: Login | None = None) -> None:
        self.folder = folder
        self.login = login
        self.port = free_port()
        self.access_log = folder / "registry.log"
        self._process: Process | None = None

    @property
    def host(self) -> str:
        """As it stands in front of an image's name; engines speak http to localhost."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """The address for HTTP."""
        return f"http://{self.host}"

    def start(self) -> None:
        """Starts it, also again after a stop: with all that it had."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = write_configuration(self.folder, port=self.port, login=self.login)
        self._process = Process(
            [program("docker-registry"), "serve", str(configuration)], log=self.access_log
        )
        self._process.wait_ready(lambda: answers(self.port))

    def stop(self) -> None:
        """Ends it; what it has stays."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def clear(self) -> None:
        """Forgets every image."""
        self.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def digest(self, name: str, tag: str) -> str | None:
        """The digest of a tag, or None; `name` is the repository without the host."""
        return manifest_digest(self.host, name, tag, login=self.login)

    def tags(self, name: str) -> list[str]:
        """The tags of a repository, sorted; empty when there is no such repository."""
        answer = self._get(f"/v2/{name}/tags/list")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        answer.raise_for_status()
        # "tags" is null when every tag was deleted.
        return sorted(answer.json()["tags"] or [])

    def manifest(self, name: str, reference: str) -> dict[str, object]:
        """A manifest or index, by tag or digest."""
        answer = self._get(f"/v2/{name}/manifests/{reference}")
        answer.raise_for_status()
        document: dict[str, object] = json.loads(answer.content)
        return document

    def image_config(self, name: str, reference: str) -> dict[str, object]:
        """The configuration (labels, command, environment) of a single-platform image."""
        config = self.manifest(name, reference)["config"]
        if not isinstance(config, dict):
            message = f"{name}:{reference} is not an image manifest"
            raise TypeError(message)
        answer = self._get(f"/v2/{name}/blobs/{config['digest']}")
        answer.raise_for_status()
        document: dict[str, object] = json.loads(answer.content)
        return document

    def put_manifest(self, name: str, tag: str, *, of: str) -> None:
        """Moves a tag to what `of` (a tag or a digest) names: what somebody else might do."""
        source = self._get(f"/v2/{name}/manifests/{of}")
        source.raise_for_status()
        httpx.put(
            f"{self.url}/v2/{name}/manifests/{tag}",
            content=source.content,
            headers={"Content-Type": source.headers["Content-Type"]},
            auth=_auth(self.login),
            timeout=10,
        ).raise_for_status()

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(
            f"{self.url}{path}", headers={"Accept": _MANIFESTS}, auth=_auth(self.login), timeout=10
        )
