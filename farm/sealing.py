"""Sealing stored secrets: the key stays outside the database (FARM_SECRET_KEY)."""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken

from farm.errors import Unavailable


class Sealer:
    """Turns a value into text that only the holder of the key can open."""

    def __init__(self, secret_key: str) -> None:
        digest = hashlib.sha256(b"farm sealing\0" + secret_key.encode()).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))

    def seal(self, value: str) -> str:
        """The sealed form of a value."""
        return self._fernet.encrypt(value.encode()).decode()

    def open(self, sealed: str) -> str:
        """The value again; Unavailable when it was sealed with another key."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as exc:
            raise Unavailable(
                "A stored secret was sealed with another FARM_SECRET_KEY.",
                code="wrong_secret_key",
            ) from exc
