"""Who is asking the API: a bearer token, or the cookie of a signed-in browser."""

from __future__ import annotations

from flask import g, request

from farm import access, db
from farm.access import Principal
from farm.errors import Unauthenticated
from web import sessions
from web.context import services


def bearer() -> str | None:
    """The token of the Authorization header, if there is one."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def require(scope: str) -> Principal:
    """Who is asking, with the scope; Unauthenticated or Forbidden otherwise."""
    principal = _principal()
    principal.require(scope)
    g.principal = principal
    return principal


def _principal() -> Principal:
    token = bearer()
    if token is None:
        signed_in = sessions.api_principal()
        if signed_in is None:
            raise Unauthenticated("Send a token: Authorization: Bearer …", code="token_missing")
        return signed_in
    with services().database.read() as session:
        now = db.now(session)
        row = access.find_token(session, token, now=now)
        principal, stale = access.principal_of(row), access.use_is_stale(row, now=now)
    if stale:
        with services().database.write() as session:
            access.note_use(session, principal, now=now)
    return principal
