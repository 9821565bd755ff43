"""Who this worker is: its name and its own token, kept in one private file.

The instance number is drawn once; with it the same worker may enrol again under its
name, for example after its token was revoked.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """The content of `identity.json`."""

    name: str
    token: str
    """Empty: not enrolled yet."""
    instance: str
    """32 hex digits."""
    server: str
    """The farm that knows this worker, without a slash at the end."""

    @classmethod
    def read(cls, path: Path) -> Identity:
        """The identity on disk; raises OSError or ValueError if there is none to read."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def load(cls, path: Path, *, name: str, server: str) -> Identity:
        """The identity for this farm: the one on disk, or a new one that is not enrolled.

        A file that names another farm gives its instance and nothing else.
        """
        server = server.rstrip("/")
        try:
            found = cls.read(path)
        except (OSError, ValueError, TypeError):
            return cls(name=name, token="", instance=secrets.token_hex(16), server=server)
        if found.server != server:
            return replace(found, name=name, token="", server=server)
        return found

    def write(self, path: Path) -> None:
        """Replace the file in one step; only this user may read it."""
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        fresh.rename(path)
