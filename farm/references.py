"""What names may look like: repository URLs, git refs, image references, paths.

Pure checks of text. Each refuses by raising ValueError with a sentence that never
repeats the value. Hostile cases: docs/security.md; grammar of image references:
the distribution project's reference grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

MAX_URL = 2048
MAX_REF = 255
MAX_PATH = 1024
MAX_REFERENCE = 255

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"^(?:{_HOST_LABEL})(?:\.{_HOST_LABEL})*\.?$")

_DOMAIN = rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"^(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?$"
)
DOCKER_HUB = "docker.io"
_USUAL_PORTS = {"https": 443, "http": 80}


def check_text(value: str) -> str:
    """Refuse what no name may hold: control, invisible and half characters."""
    if _CONTROL.search(value) or _SURROGATE.search(value):
        raise ValueError("must not contain control or invisible characters")
    return value


def check_storable(value: str) -> str:
    """Refuse what a database or an argument list cannot hold: NUL and half characters."""
    if "\x00" in value or _SURROGATE.search(value):
        raise ValueError("must not contain NUL or half characters")
    return value


def parse_repository_url(value: str) -> SplitResult:
    """A clone URL over http(s), taken apart; no credentials, query or fragment in it."""
    url = _split_url(value)
    if url.scheme not in ("https", "http"):
        raise ValueError("must be a clone URL that begins with https://")
    if "@" in url.netloc:
        raise ValueError(
            "must not hold credentials: store them with the project (git_username, git_token)"
        )
    if url.query or url.fragment or "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    host = url.hostname or ""
    if not (_HOST.match(host) or (url.netloc.startswith("[") and ":" in host)):
        raise ValueError("must name a host")
    segments = url.path.strip("/").split("/")
    if not url.path.strip("/") or any(s in ("", ".", "..") for s in segments):
        raise ValueError("must have a path such as /owner/name")
    if any(segment.startswith("-") for segment in segments):
        raise ValueError("must not have a path segment that begins with a dash")
    return url


def _split_url(value: str) -> SplitResult:
    if len(value) > MAX_URL:
        raise ValueError(f"must not be longer than {MAX_URL} characters")
    check_text(value)
    if "\\" in value or " " in value or not value.isascii():
        raise ValueError("must be plain ASCII without spaces or backslashes")
    try:
        url = urlsplit(value)
        possible = url.port != 0
    except ValueError as exc:
        raise ValueError("is not a URL") from exc
    if not possible:
        raise ValueError("must name a possible port")
    return url


def project_name_of(repository: str) -> str:
    """`<owner>/<name>` from the last two segments of a clone URL's path."""
    path = urlsplit(repository).path.strip("/").removesuffix(".git")
    segments = path.split("/")
    return "/".join(segments[-2:])


def normal_repository(repository: str) -> str:
    """The form under which a repository is known, of a URL that was parsed above.

    Host in lower case without its end dot, no usual port, no `.git`, no slash too many.
    """
    url = urlsplit(repository)
    host = (url.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    port = f":{url.port}" if url.port not in (None, _USUAL_PORTS[url.scheme]) else ""
    return f"{url.scheme}://{host}{port}/{url.path.strip('/').removesuffix('.git')}"


def check_ref(value: str) -> str:
    """A branch, a tag or `refs/…` as `git check-ref-format` allows it."""
    check_text(value)
    if not value or len(value.encode()) > MAX_REF:
        raise ValueError(f"must be 1 to {MAX_REF} bytes long")
    if value.startswith(("-", "/", "+")) or value.endswith(("/", ".")) or value == "@":
        raise ValueError("is not a valid git ref")
    if re.search(r"[ ~^:?*\[\\]|\.\.|@\{|//", value):
        raise ValueError("is not a valid git ref")
    if any(part.startswith(".") or part.endswith(".lock") for part in value.split("/")):
        raise ValueError("is not a valid git ref")
    if re.search(r"[;$`'\"|&<>(){}!]", value):
        raise ValueError("must not contain characters that a shell would read")
    return value


def check_repository_path(value: str) -> str:
    """A path inside the repository, from its root, normalised; never outside it."""
    check_text(value)
    if not value or len(value.encode()) > MAX_PATH:
        raise ValueError(f"must be 1 to {MAX_PATH} bytes long")
    if value.startswith(("/", "-", "~")) or "\\" in value or "://" in value or ":" in value:
        raise ValueError("must be a path from the repository's root")
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("must not leave the repository")
    if any(part.lower() == ".git" or part.startswith("-") for part in parts):
        raise ValueError("must be a path from the repository's root")
    return "/".join(parts) or "."


@dataclass(frozen=True)
class ImageReference:
    """An image's name in a registry."""

    registry: str
    """Host and port; `docker.io` where the reference names none."""
    repository: str
    tag: str

    @property
    def name(self) -> str:
        """Registry and repository, without the tag."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"


def parse_image_reference(value: str) -> ImageReference:
    """A reference with a tag (`latest` where there is none) and no digest."""
    if len(value) > MAX_REFERENCE:
        raise ValueError(f"must not be longer than {MAX_REFERENCE} characters")
    if "@" in value:
        raise ValueError("must be a tag, not a digest")
    match = _IMAGE.match(value)
    if not match or value.endswith("\n"):
        raise ValueError("must be an image reference such as registry.example/owner/name:tag")
    domain, path, tag = match["domain"], match["path"], match["tag"] or "latest"
    if domain and not (("." in domain) or (":" in domain) or domain == "localhost"):
        domain, path = None, f"{domain}/{path}"
    if domain and ":" in domain.rpartition("]")[2]:
        port = int(domain.rpartition(":")[2])
        if not 0 < port < 65536:
            raise ValueError("must name a possible port")
    if not domain or domain == "index.docker.io":
        domain = DOCKER_HUB
    if domain == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    found = ImageReference(domain.lower(), path, tag)
    if len(str(found)) > MAX_REFERENCE:
        raise ValueError(f"must not be longer than {MAX_REFERENCE} characters")
    return found


def check_registry_host(value: str) -> str:
    """The host of a registry, with its port where it has one; Docker Hub is `docker.io`."""
    host = value.strip().lower()
    if host in (
        "",
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "hub.docker.com",
    ):
        return DOCKER_HUB
    if not re.fullmatch(_DOMAIN, host):
        raise ValueError("must be a registry's host, such as registry.example or localhost:5000")
    return host
