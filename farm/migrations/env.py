"""Alembic's door: one connection, batch mode for SQLite's sake."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from farm.db import Instant
from farm.model import Base


def _render(kind: str, item: Any, _autogen: Any) -> str | Literal[False]:
    """Migrations keep to SQLAlchemy's own types, so that they outlive our code."""
    if kind == "type" and isinstance(item, Instant):
        return "sa.DateTime(timezone=True)"
    return False


def run() -> None:
    engine = create_engine(context.config.attributes["url"], poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA journal_mode = WAL"))
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            render_item=_render,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
