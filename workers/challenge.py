"""A registry's challenge (401), answered: with a login, or with a token of its token server.

The registry names the token server, so where a login may go is checked here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from farm import guard
from farm.errors import AttemptError, Invalid
from farm.reasons import Reason
from farm.references import DOCKER_HUB
from workers import bounded

LOOPBACK = re.compile(r"^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$")
_FIELD = re.compile(r'(\w+)="([^"]*)"')
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Challenges:
    """For the logins of one attempt: host -> user name and password."""

    def __init__(
        self, client: httpx.Client, logins: Mapping[str, tuple[str, str]], *, insecure_ok: bool
    ) -> None:
        self._client = client
        self._logins = logins
        self._insecure_ok = insecure_ok

    def is_trusted(self, registry: str) -> bool:
        """Whether an admin named the registry, so that it may be at a private address."""
        return registry == DOCKER_HUB or registry in self._logins

    def answer(
        self, challenge: httpx.Response, registry: str, scope: str
    ) -> str | httpx.Response | None:
        """What to send in `Authorization`; None if there is nothing that could help.

        A Response is the token server's own, which asks to come later. Raises AttemptError
        for a token server that we may not call, or that sends something else than a token.
        """
        login = self._logins.get(registry)
        kind, _, rest = challenge.headers.get("WWW-Authenticate", "").partition(" ")
        if kind.lower() == "basic":
            return None if login is None else _basic(*login)
        fields = dict(_FIELD.findall(rest))
        realm = fields.get("realm", "")
        if kind.lower() != "bearer" or not realm:
            return None
        if not self._may_call(registry, realm):
            raise AttemptError(
                Reason.REGISTRY_UNAUTHORIZED,
                f"{registry} names a token server that this worker may not call: {realm[:100]}",
            )
        params = {"scope": scope, "service": fields.get("service", "")}
        try:
            token = bounded.request(self._client, "GET", realm, params=params, auth=login)
        except (httpx.InvalidURL, UnicodeError):
            return None
        if token.is_success:
            return f"Bearer {_token_in(token, registry)}"
        later = token.status_code == httpx.codes.TOO_MANY_REQUESTS or token.is_server_error
        return token if later else None

    def _may_call(self, registry: str, realm: str) -> bool:
        try:
            url = urlsplit(realm)
            host = url.hostname
        except ValueError:
            return False
        if url.scheme == "http":
            return self._insecure_ok and bool(LOOPBACK.match(url.netloc))
        if url.scheme != "https" or not host:
            return False
        if self._insecure_ok or self.is_trusted(registry):
            return True
        try:
            guard.check_host(host, field="registry", insecure_ok=False)
        except Invalid:
            return False
        return True


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _token_in(answer: httpx.Response, registry: str) -> str:
    try:
        body = answer.json()
    except ValueError:
        body = None
    found = (body.get("token") or body.get("access_token")) if isinstance(body, dict) else None
    if isinstance(found, str) and _TOKEN.fullmatch(found):
        return found
    # Not what it said: a token in another shape must not stand in a message.
    kind = answer.headers.get("Content-Type", "nothing")[:100]
    raise AttemptError(
        Reason.REGISTRY_UNAVAILABLE,
        f"{registry}: its token server {answer.request.url.host} answered"
        f" {answer.status_code} with {len(answer.content)} bytes of {kind}, which hold no token",
    )
