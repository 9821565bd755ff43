"""Browser sessions: the cookie, who it stands for, and the defence against forged forms.

A session begins when somebody pastes a token at /sign-in. The cookie holds a random
value (`farm.access` keeps its hash); it is drawn anew at every sign-in, so a value
planted before is worth nothing after, and it ends on the server at sign-out.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import time
from typing import Final, cast
from urllib.parse import urlsplit

from flask import Response, current_app, g, request

from farm import access, db
from farm.access import Principal
from farm.errors import Forbidden, Unauthenticated, Unavailable
from web.context import services

COOKIE: Final = "farm_session"
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "Farm-CSRF"
MAX_AGE_S: Final = 30 * 24 * 3600
_NOTED: Final = "farm.sessions.noted"
_NOTED_EVERY_S: Final = 3600.0
_MOST_NOTED: Final = 10_000
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def current() -> Principal | None:
    """Who the session cookie of this request stands for; asked once per request."""
    if "session_principal" not in g:
        value = request.cookies.get(cookie_name(), "")
        g.session_principal = _look_up(value) if value else None
    return cast("Principal | None", g.session_principal)


def require(scope: str) -> Principal:
    """The signed-in principal; raises Unauthenticated, or Forbidden without the scope."""
    principal = current()
    if principal is None:
        raise Unauthenticated("Sign in to see this.")
    principal.require(scope)
    return principal


def api_principal() -> Principal | None:
    """For the API: the session's principal, where a cookie alone may be trusted.

    A safe method needs the cookie and no foreign page behind it; any other needs the
    session's CSRF token in the header `Farm-CSRF` as well.
    """
    if not request.cookies.get(cookie_name()):
        return None
    if request.method in _SAFE_METHODS:
        return current() if request.headers.get("Sec-Fetch-Site", "none") in _OWN else None
    check_form(request.headers.get(CSRF_HEADER, ""))
    return current()


def start(response: Response, token: str) -> None:
    """Begin a session for a token's holder; raises Unauthenticated for a wrong token."""
    with services().database.write() as session:
        now = db.now(session)
        principal = access.authenticate(session, token, now=now)
        principal.require("read")  # a worker's token opens no page
        old = request.cookies.get(cookie_name())
        if old:
            access.end_session(session, old)
        value = access.start_session(session, principal, now=now)
    response.set_cookie(
        cookie_name(),
        value,
        max_age=MAX_AGE_S,
        path="/",
        secure=is_https(),
        httponly=True,
        samesite="Lax",
    )


def end(response: Response) -> None:
    """End the session on the server and take its cookie away."""
    value = request.cookies.get(cookie_name())
    if value:
        with services().database.write() as session:
            access.end_session(session, value)
    response.delete_cookie(
        cookie_name(), path="/", secure=is_https(), httponly=True, samesite="Lax"
    )


def is_https() -> bool:
    """Whether people reach the farm over TLS: then the cookie is Secure and `__Host-`."""
    return request.is_secure or services().settings.url.startswith("https://")


def cookie_name() -> str:
    """`__Host-` under https: no neighbouring host and no plain-http answer can plant it."""
    return f"__Host-{COOKIE}" if is_https() else COOKIE


def csrf_token() -> str:
    """The token that every form of this session carries; empty without a session."""
    value = request.cookies.get(cookie_name(), "")
    return _csrf_token(value) if value else ""


def check_form(given: str | None = None) -> None:
    """Refuse an unsafe request that no page of this session has made."""
    check_same_origin()
    given = request.form.get(CSRF_FIELD, "") if given is None else given
    expected = csrf_token()
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        raise Forbidden(
            "This form belongs to an older session. Go back, reload the page and try again.",
            code="csrf",
        )


_OWN: Final = frozenset({"same-origin", "none"})
"""Fetch Metadata of our own pages, and of what a person does (the address bar)."""


def check_same_origin() -> None:
    """Refuse an unsafe request from another site: by Fetch Metadata, else by Origin.

    Browsers send the first only to https and loopback, the second with every form.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        allowed = site in _OWN
    else:
        allowed = origin is not None and _origin(origin) in (
            _origin(request.host_url),
            _origin(services().settings.url),
        )
    if not allowed:
        raise Forbidden("The request came from another site, so it was not done.", code="csrf")


def safe_next(target: str | None) -> str:
    """Where to go after sign-in: a path of this site, or the list of builds."""
    fallback = "/builds"
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return fallback
    if any(ord(c) < 33 or ord(c) == 127 or c == "\\" for c in target):
        return fallback
    try:
        parts = urlsplit(target)
    except ValueError:
        return fallback
    if parts.scheme or parts.netloc or parts.path == "/sign-in":
        return fallback
    return target


def _look_up(value: str) -> Principal | None:
    with services().database.read() as session:
        principal = access.session_principal(session, value, now=db.now(session))
    if principal is not None:
        _note_seen(value)
    return principal


def _note_seen(value: str) -> None:
    """Keep a session that is used from ending as idle: one write an hour, not one a page."""
    noted: dict[str, float] = current_app.extensions.setdefault(_NOTED, {})
    key, clock = access.hash_of(value), time.monotonic()
    if clock - noted.get(key, -_NOTED_EVERY_S) < _NOTED_EVERY_S:
        return
    if len(noted) >= _MOST_NOTED:
        noted.clear()
    noted[key] = clock
    with contextlib.suppress(Unavailable), services().database.write() as session:
        access.note_seen(session, value, now=db.now(session))


def _csrf_token(cookie: str) -> str:
    key = services().settings.secret_key.encode()
    return hmac.new(key, b"farm csrf\0" + cookie.encode(), hashlib.sha256).hexdigest()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, with the scheme's usual port filled in; `null` is like no other."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", None, None)
    return (parts.scheme, parts.hostname, port)
