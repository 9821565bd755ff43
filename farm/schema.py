"""The schema's revision: what this version needs, what is there, and the way between.

Alembic is imported only where the schema really changes: a running farm need not hold
it in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from farm.db import parse_url

if TYPE_CHECKING:
    from alembic.config import Config

NEWEST = "0001"
"""The revision that this version of the farm needs; a test compares it with the migrations."""


def ensure(url: str) -> None:
    """Bring the schema to the newest revision; quick when it is there already."""
    if current(url) != NEWEST:
        upgrade(url)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to a revision, by default the newest; makes the database if needed."""
    from alembic import command

    _make_folder(url)
    command.upgrade(configuration(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Bring the schema back to a revision (`base`: nothing)."""
    from alembic import command

    command.downgrade(configuration(url), revision)


def current(url: str) -> str | None:
    """The revision of the schema, None where there is none yet; makes nothing by looking."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        return None
    engine = create_engine(parsed, poolclass=NullPool)
    try:
        with Session(engine) as session:
            return revision_of(session)
    finally:
        engine.dispose()


def revision_of(session: Session) -> str | None:
    """The revision of the schema that a session sees, None where there is none yet."""
    if not inspect(session.connection()).has_table("alembic_version"):
        return None
    return session.scalars(text("SELECT version_num FROM alembic_version")).first()


def configuration(url: str) -> Config:
    """Alembic's configuration for a database."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "farm:migrations")
    config.attributes["url"] = parse_url(url)
    return config


def _make_folder(url: str) -> None:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
