"""The client of the farm's HTTP API, on the standard library alone: httpx costs 0.5 s at start.

    ApiError             the farm said no, in one sentence per field          exit code 2
    +- NotThere          404                                                            3
    +- NotAllowed        401, 403                                                       4
    +- Unreachable       no answer, one that is not a farm's, 408, 429, 5xx             5
       +- Disconnected   the connection ended before the answer: it may have been done

Redirects are not followed: they would carry the token to another address.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib import request as urllib_request
from urllib.parse import quote, urlencode

import click

from farm.cli.context import AUTH, Context, resolve

Json = dict[str, Any]
Query = Mapping[str, str | int | list[str] | None]

TIMEOUT_S = 30.0
PAGE = 100
_FIRST_REDIRECT, _FIRST_ERROR, _FIRST_SERVER_ERROR = 300, 400, 500


class ApiError(click.ClickException):
    """The farm refused a request: it is not as it should be, or comes at the wrong time."""

    exit_code = 2

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotThere(ApiError):
    """There is no such thing."""

    exit_code = 3


class NotAllowed(ApiError):
    """The token is not known, or may not do this."""

    exit_code = AUTH


class Unreachable(ApiError):
    """No answer, or not one that a farm gives when it is well: later it may be there."""

    exit_code = 5


class Disconnected(Unreachable):
    """The request was sent, the answer did not come."""


_KINDS = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotThere,
    408: Unreachable,
    429: Unreachable,
}


class Api:
    """One farm's API, under /api/v1."""

    def __init__(self, context: Context) -> None:
        self.server = context.server
        self._token = context.token
        self._opener = urllib_request.OpenerDirector()
        self._opener.add_handler(urllib_request.ProxyHandler())
        self._opener.add_handler(urllib_request.UnknownHandler())
        if context.server.startswith("https:"):
            self._opener.add_handler(urllib_request.HTTPSHandler())
        else:
            self._opener.add_handler(urllib_request.HTTPHandler())

    def get(self, path: str, query: Query | None = None) -> Json:
        """One thing, or one page of a list."""
        return self._json("GET", path, query)

    def items(
        self, path: str, query: Query | None = None, *, limit: int | None = None
    ) -> list[Json]:
        """A list across its pages, up to a limit."""
        found: list[Json] = []
        cursor = None
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = self.get(path, {**(query or {}), "limit": size, "cursor": cursor})
            found += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                break
        return found[:limit]

    def post(self, path: str, body: Json | None = None) -> Json:
        """Ask for something, once."""
        return self._json("POST", path, body=body or {})

    def post_keyed(self, path: str, body: Json) -> Json:
        """Ask for something with a key, so that it may be asked for again when no answer came."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        try:
            return self._json("POST", path, body=body, headers=key)
        except Disconnected:
            return self._json("POST", path, body=body, headers=key)

    def patch(self, path: str, body: Json) -> Json:
        """Change what is named in the body and leave the rest."""
        return self._json("PATCH", path, body=body)

    def delete(self, path: str, query: Query | None = None) -> None:
        """Remove something."""
        self.open("DELETE", path, query).close()

    def text(self, path: str, query: Query | None = None) -> Iterator[bytes]:
        """A text such as a log, piece by piece."""
        with self.open("GET", path, query) as response:
            try:
                while piece := response.read1(65536):
                    yield piece
            except (OSError, HTTPException) as exc:
                raise Unreachable(f"{self.server} broke off in the middle of its answer") from exc

    def open(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> HTTPResponse:
        """The open answer to one request; raises ApiError unless it is a success."""
        request = self._request(method, path, query, body)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            response: HTTPResponse = self._opener.open(request, timeout=timeout_s)
        except (OSError, HTTPException) as exc:
            why = getattr(exc, "reason", None) or exc
            lost = isinstance(why, ConnectionResetError | BrokenPipeError)  # RemoteDisconnected too
            raise (Disconnected if lost else Unreachable)(
                f"cannot reach {self.server} ({why})"
            ) from exc
        if response.status >= _FIRST_REDIRECT:
            with response:
                raise _refusal(response, self.server)
        return response

    def _request(
        self, method: str, path: str, query: Query | None, body: Json | None
    ) -> urllib_request.Request:
        wanted = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self.server}/api/v1{path}"
        if wanted:
            url += "?" + urlencode(wanted, doseq=True)
        data = None if body is None else json.dumps(body).encode()
        request = urllib_request.Request(url, data=data, method=method)  # noqa: S310, resolve() checks
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Farm-Client", "cli")  # the trigger of builds that it asks for
        if data is not None:
            request.add_header("Content-Type", "application/json")
        return request

    def _json(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        with self.open(method, path, query, body=body, headers=headers) as response:
            try:
                answer = json.loads(response.read() or b"{}")
            except (OSError, HTTPException, ValueError) as exc:
                raise Unreachable(f"{self.server} does not answer as a farm does") from exc
        if not isinstance(answer, dict):
            raise Unreachable(f"{self.server} does not answer as a farm does")
        return answer


def connect() -> Api:
    """The API of the farm that this command talks to."""
    return Api(resolve())


def path_of(*names: str) -> str:
    """A path of names; the slash within `owner/name` stays one."""
    return "/" + "/".join(quote(name, safe="/:") for name in names)


def _refusal(response: HTTPResponse, server: str) -> ApiError:
    status = response.status
    if status < _FIRST_ERROR:
        return Unreachable(f"{server} redirects elsewhere; set the server to its right address")
    kind = _KINDS.get(status, ApiError if status < _FIRST_SERVER_ERROR else Unreachable)
    try:
        problem = json.loads(response.read(1 << 20))
        lines = _sentences(problem)
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError):
        lines = [f"{server} answered {status} {response.reason}"]
    else:
        if kind is Unreachable and problem.get("request_id"):
            lines.append(f"The server's log knows it as request {problem['request_id']}.")
    return kind("\n".join(lines), status=status)


def _sentences(problem: Json) -> list[str]:
    """One sentence per field, each with the code that scripts and docs know it by."""
    fields = [
        f"{_field(error)}{error['message']} ({error['code']})"
        for error in problem.get("errors") or []
        if "message" in error and "code" in error
    ]
    return fields or [f"{problem.get('detail') or problem['title']} ({problem.get('code', '-')})"]


def _field(error: Json) -> str:
    pointer = str(error.get("pointer") or "").strip("/").replace("/", ".")
    return f"{pointer}: " if pointer else ""
