"""A registry's own API (the distribution spec): may we push, manifests by digest, tags.

BuildKit pushes the layers; the farm itself moves tags, because only the control
plane knows which names a build still owns.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

from farm import guard
from farm.errors import AttemptError, Invalid
from farm.protocol import DIGEST_PATTERN, RegistryCredential
from farm.reasons import Reason
from farm.references import DOCKER_HUB, ImageReference, parse_image_reference
from workers import bounded
from workers.challenge import LOOPBACK, Challenges

DOCKER_HUB_API = "registry-1.docker.io"
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
TRIES_AFTER_S = (0.2, 1.0)
SAID_CHARACTERS = 200


@dataclass(frozen=True)
class Manifest:
    """A manifest's exact bytes: its digest is their hash."""

    content: bytes
    media_type: str
    digest: str


def make_client() -> httpx.Client:
    """Connections to registries; one per process, because a TLS context is dear to make."""
    return httpx.Client(timeout=TIMEOUT, headers={"User-Agent": "farm-worker"})


class Registries:
    """Registries as one attempt may use them: with its logins, forgotten with it.

    Every method raises AttemptError: `registry_unauthorized`, `registry_rate_limited`,
    `registry_unavailable`, with the registry's name and what it said. All may be repeated.
    """

    def __init__(
        self, client: httpx.Client, logins: Iterable[RegistryCredential], *, insecure_ok: bool
    ) -> None:
        self._client = client
        known = {login.host: (login.username, login.password) for login in logins}
        self._challenges = Challenges(client, known, insecure_ok=insecure_ok)
        self._insecure_ok = insecure_ok
        self._authorization: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def check_push(self, reference: str) -> None:
        """Whether the login may push there: an upload is begun and given up again."""
        image = parse_image_reference(reference)
        self._check_address(image.registry)
        answer = self._call("POST", image, "blobs/uploads/", actions="pull,push")
        if answer.status_code != httpx.codes.ACCEPTED:
            raise _unexpected(image, answer)
        place = _place_of(answer)
        if place is not None:
            # Registries forget an upload by themselves, and not all know DELETE.
            self._call("DELETE", image, place, actions="pull,push")

    def manifest(self, image: ImageReference, digest: str) -> Manifest:
        """The manifest with that digest."""
        answer = self._call("GET", image, f"manifests/{digest}", headers={"Accept": MANIFEST_TYPES})
        if answer.status_code != httpx.codes.OK:
            raise _unexpected(image, answer)
        found = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if found != digest:
            raise AttemptError(
                Reason.REGISTRY_UNAVAILABLE, f"{image.name} answered with another manifest"
            )
        return Manifest(answer.content, answer.headers.get("Content-Type", ""), digest)

    def put_tag(self, image: ImageReference, manifest: Manifest) -> None:
        """Point the reference's tag to the manifest."""
        answer = self._call(
            "PUT",
            image,
            f"manifests/{image.tag}",
            actions="pull,push",
            headers={"Content-Type": manifest.media_type},
            content=manifest.content,
        )
        if not answer.is_success:
            raise _unexpected(image, answer)

    def tag_digest(self, image: ImageReference) -> str | None:
        """What the registry says that the tag points to now; None: there is no such tag."""
        path = f"manifests/{image.tag}"
        answer = self._call("HEAD", image, path, headers={"Accept": MANIFEST_TYPES})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        digest = answer.headers.get("Docker-Content-Digest", "")
        if answer.is_success and re.match(DIGEST_PATTERN, digest):
            return str(digest)
        answer = self._call("GET", image, path, headers={"Accept": MANIFEST_TYPES})
        if answer.status_code != httpx.codes.OK:
            raise _unexpected(image, answer)
        return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"

    def size(self, image: ImageReference, manifest: Manifest, platform: str | None) -> int:
        """Compressed bytes: config and layers; of an index, those of the platform's manifest."""
        body = json.loads(manifest.content)
        if "manifests" in body:
            chosen = _of_platform(body["manifests"], platform)
            return self.size(image, self.manifest(image, chosen), None) if chosen else 0
        return sum(int(blob.get("size", 0)) for blob in [body["config"], *body["layers"]])

    def _call(
        self,
        method: str,
        image: ImageReference,
        path: str,
        *,
        actions: str = "pull",
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """One call, with a login if the registry asks for one, tried again while it is ill."""
        url = urljoin(f"{self._base(image.registry)}/v2/{image.repository}/", path)
        scope = (image.registry, f"repository:{image.repository}:{actions}")
        for pause in (*TRIES_AFTER_S, None):
            try:
                answer = self._send(method, url, scope, headers or {}, content)
            except httpx.HTTPError as exc:
                if pause is None:
                    raise AttemptError(
                        Reason.REGISTRY_UNAVAILABLE,
                        f"{image.registry} does not answer ({type(exc).__name__})",
                    ) from exc
            else:
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR or pause is None:
                    _raise_common(image, answer)
                    return answer
            time.sleep(pause or 0)
        raise AssertionError("unreachable")

    def _send(
        self,
        method: str,
        url: str,
        scope: tuple[str, str],
        headers: dict[str, str],
        content: bytes | None,
    ) -> httpx.Response:
        known = self._authorization.get(scope)
        sent = {**headers, "Authorization": known} if known else headers
        answer = bounded.request(self._client, method, url, headers=sent, content=content)
        if answer.status_code != httpx.codes.UNAUTHORIZED:
            return answer
        authorization = self._challenges.answer(answer, *scope)
        if not isinstance(authorization, str):
            return answer if authorization is None else authorization
        with self._lock:
            self._authorization[scope] = authorization
        return bounded.request(
            self._client,
            method,
            url,
            headers={**headers, "Authorization": authorization},
            content=content,
        )

    def _check_address(self, registry: str) -> None:
        """Who submits a build names the registry: it must not lead to what is behind a firewall."""
        if self._challenges.is_trusted(registry):
            return
        host = urlsplit(f"//{registry}").hostname or registry
        try:
            guard.check_host(host, field="tags", insecure_ok=self._insecure_ok)
        except Invalid as exc:
            raise AttemptError(
                Reason.CONFIGURATION_INVALID,
                f"tags: {registry} has a private address; an admin can name it a registry of the"
                " farm (farm registry login)",
            ) from exc

    def _base(self, registry: str) -> str:
        if registry == DOCKER_HUB:
            return f"https://{DOCKER_HUB_API}"
        plain = self._insecure_ok and LOOPBACK.match(registry)
        return f"{'http' if plain else 'https'}://{registry}"


def _place_of(answer: httpx.Response) -> str | None:
    """Where an upload was begun, if that is at the registry itself."""
    asked = str(answer.request.url)
    try:
        place = urljoin(asked, answer.headers.get("Location", ""))
        return place if urlsplit(place).netloc == urlsplit(asked).netloc else None
    except ValueError:
        return None


def _raise_common(image: ImageReference, answer: httpx.Response) -> None:
    """The answers that mean the same to every call."""
    status = answer.status_code
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise AttemptError(Reason.REGISTRY_UNAUTHORIZED, _sentence(image, answer))
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise AttemptError(Reason.REGISTRY_RATE_LIMITED, _sentence(image, answer))
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise AttemptError(Reason.REGISTRY_UNAVAILABLE, _sentence(image, answer))


def _unexpected(image: ImageReference, answer: httpx.Response) -> AttemptError:
    if answer.status_code == httpx.codes.NOT_FOUND and answer.request.method == "POST":
        # A registry that hides what one may not see.
        return AttemptError(Reason.REGISTRY_UNAUTHORIZED, _sentence(image, answer))
    return AttemptError(Reason.UNKNOWN, _sentence(image, answer))


def _sentence(image: ImageReference, answer: httpx.Response) -> str:
    """Which registry and what it said, on one line."""
    said = ""
    try:
        errors = answer.json().get("errors") or [{}]
        said = f"{errors[0].get('code', '')} {errors[0].get('message', '')}"
    except (ValueError, AttributeError, LookupError, TypeError):
        said = answer.text if answer.headers.get("Content-Type", "").startswith("text/") else ""
    said = " ".join(said.split())[:SAID_CHARACTERS]
    url = answer.request.url
    asked = image.name
    if f"/v2/{image.repository}/" not in url.path:
        asked = f"{image.registry}: its token server {url.host}"
    return f"{asked} answered {answer.status_code}{': ' + said if said else ''}"


def _of_platform(manifests: list[dict[str, object]], platform: str | None) -> str | None:
    for entry in manifests:
        found = entry.get("platform")
        if not isinstance(found, dict) or found.get("os") == "unknown":
            continue
        parts = [found.get("os"), found.get("architecture"), found.get("variant")]
        if platform is None or "/".join(str(part) for part in parts if part) == platform:
            return str(entry.get("digest", "")) or None
    return None
