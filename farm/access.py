"""Who may: tokens, scopes and the browsers that signed in with one.

A token is `farm_<30 letters and digits><6 of a checksum>`: found by secret scanners,
refused without a look into the database when mistyped. Only its SHA-256 is stored,
which is enough for 178 random bits.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from farm.errors import Forbidden, Invalid, NotFound, Unauthenticated
from farm.model import SignIn, Token
from farm.states import Zone
from farm.views import TokenView

SCOPES = ("read", "build", "admin", "worker")
_IMPLIED = {
    "admin": frozenset({"admin", "build", "read"}),
    "build": frozenset({"build", "read"}),
    "read": frozenset({"read"}),
    "worker": frozenset({"worker"}),
}
_ALPHABET = string.digits + string.ascii_letters
SIGN_IN_IDLE = timedelta(days=7)
SIGN_IN_LIMIT = timedelta(days=30)
_SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Principal:
    """Who is asking."""

    token_id: int
    name: str
    scopes: frozenset[str]
    zone: Zone = Zone.TRUSTED
    """How far its builds are trusted; a request may only lower it."""

    def may(self, scope: str) -> bool:
        """Whether a scope covers it; admin covers build, build covers read."""
        return scope in self.scopes

    def require(self, scope: str) -> None:
        """Raise Forbidden unless the scope is covered."""
        if not self.may(scope):
            raise Forbidden(f"This needs a token with the scope {scope}.", code="scope_missing")


def new_token() -> str:
    """A fresh random token."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(30))
    return f"farm_{body}{_checksum(body)}"


def hash_of(token: str) -> str:
    """What is stored of a token or cookie."""
    return hashlib.sha256(token.encode()).hexdigest()


def well_formed(token: str) -> bool:
    """Whether it could be one of ours."""
    body, checksum = token.removeprefix("farm_")[:30], token[-6:]
    return len(token) == 41 and token.startswith("farm_") and _checksum(body) == checksum


def create_token(
    session: Session,
    *,
    name: str,
    scopes: Iterable[str],
    now: datetime,
    zone: Zone = Zone.TRUSTED,
    labels: Iterable[str] = (),
    expires_in: timedelta | None = None,
) -> str:
    """Make a token and return it: the only time that it is seen."""
    wanted = sorted(set(scopes))
    if not wanted or not set(wanted) <= set(SCOPES):
        raise Invalid.field("scopes", f"must be some of {', '.join(SCOPES)}")
    if "worker" in wanted and len(wanted) > 1:
        raise Invalid.field("scopes", "worker goes with no other scope")
    token = new_token()
    session.add(
        Token(
            name=name,
            token_hash=hash_of(token),
            scopes=wanted,
            zone=zone,
            labels=sorted(set(labels)),
            created_at=now,
            expires_at=now + expires_in if expires_in else None,
        )
    )
    session.flush()
    return token


def find_token(session: Session, token: str, *, now: datetime) -> Token:
    """The row of a token that is valid now; Unauthenticated otherwise, always alike."""
    row = None
    if well_formed(token):
        row = session.scalars(select(Token).where(Token.token_hash == hash_of(token))).first()
    if row is None or row.revoked_at or (row.expires_at and row.expires_at <= now):
        raise Unauthenticated("The token is unknown, expired or revoked.", code="token_invalid")
    return row


def authenticate(session: Session, token: str, *, now: datetime) -> Principal:
    """Who holds this token."""
    return principal_of(find_token(session, token, now=now))


def note_use(session: Session, principal: Principal, *, now: datetime) -> None:
    """Remember when a token was last used, at most once a minute."""
    session.execute(
        update(Token)
        .where(
            Token.id == principal.token_id,
            (Token.last_used_at.is_(None)) | (Token.last_used_at < now - _SEEN_EVERY),
        )
        .values(last_used_at=now)
    )


def use_is_stale(token: Token, *, now: datetime) -> bool:
    """Whether its last use is worth writing down again."""
    return token.last_used_at is None or token.last_used_at < now - _SEEN_EVERY


def has_admin(session: Session, *, now: datetime) -> bool:
    """Whether anybody could administer the farm."""
    valid = Token.revoked_at.is_(None), (Token.expires_at.is_(None)) | (Token.expires_at > now)
    scopes = session.scalars(select(Token.scopes).where(*valid))
    return any("admin" in held for held in scopes)


def list_tokens(session: Session) -> list[TokenView]:
    """Every token, newest first, without its value."""
    rows = session.scalars(select(Token).order_by(Token.id.desc()))
    return [
        TokenView(
            id=str(row.id),
            name=row.name,
            scopes=row.scopes,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            expires_at=row.expires_at,
            revoked=row.revoked_at is not None,
        )
        for row in rows
    ]


def revoke_token(session: Session, token_id: int, *, now: datetime) -> None:
    """From now on the token opens nothing; browsers signed in with it are signed out."""
    done = session.execute(
        update(Token)
        .where(Token.id == token_id)
        .values(revoked_at=func.coalesce(Token.revoked_at, now))
        .returning(Token.id)
    ).first()
    if done is None:
        raise NotFound("There is no such token.")
    session.execute(delete(SignIn).where(SignIn.token_id == token_id))


def start_session(session: Session, principal: Principal, *, now: datetime) -> str:
    """Sign a browser in; returns the cookie's value, of which only the hash is kept."""
    cookie = secrets.token_urlsafe(32)
    session.add(
        SignIn(
            cookie_hash=hash_of(cookie),
            token_id=principal.token_id,
            started_at=now,
            seen_at=now,
        )
    )
    session.execute(delete(SignIn).where(SignIn.started_at < now - SIGN_IN_LIMIT))
    session.flush()
    return cookie


def session_principal(session: Session, cookie: str, *, now: datetime) -> Principal | None:
    """Who signed in with this cookie, or None when it is unknown, idle too long or too old."""
    row = session.execute(
        select(SignIn, Token)
        .join(Token, Token.id == SignIn.token_id)
        .where(SignIn.cookie_hash == hash_of(cookie), Token.revoked_at.is_(None))
    ).first()
    if row is None:
        return None
    sign_in, token = row
    too_old = sign_in.started_at < now - SIGN_IN_LIMIT or sign_in.seen_at < now - SIGN_IN_IDLE
    if too_old or (token.expires_at and token.expires_at <= now):
        return None
    return principal_of(token)


def note_seen(session: Session, cookie: str, *, now: datetime) -> None:
    """Remember that a signed-in browser was here, at most once a minute."""
    session.execute(
        update(SignIn)
        .where(SignIn.cookie_hash == hash_of(cookie), SignIn.seen_at < now - _SEEN_EVERY)
        .values(seen_at=now)
    )


def end_session(session: Session, cookie: str) -> None:
    """Sign a browser out; harmless when it is not signed in."""
    session.execute(delete(SignIn).where(SignIn.cookie_hash == hash_of(cookie)))


def principal_of(token: Token) -> Principal:
    """Who a token stands for, and what its scopes cover."""
    scopes = frozenset[str]().union(*(_IMPLIED[scope] for scope in token.scopes))
    return Principal(token.id, token.name, scopes, token.zone)


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), []
    for _ in range(6):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))
