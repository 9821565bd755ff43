"""Engines, sessions and the database's clock.

SQLite has one write connection per process (`BEGIN IMMEDIATE`, WAL) and a separate
read-only pool: a deferred transaction that turns into a write gets SQLITE_BUSY that
no timeout cures. Postgres has a normal pool. The door opens a session and commits;
`farm` functions take the session and never commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import DateTime, Dialect, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool
from sqlalchemy.types import TypeDecorator

from farm.errors import SettingsError, Unavailable

BUSY_TIMEOUT_MS = 15_000
_READERS = 8
_WANTED = "FARM_DATABASE_URL: must begin with sqlite:/// or postgresql://"


class Instant(TypeDecorator[datetime]):
    """A moment in UTC: aware in Python on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Naive UTC for SQLite, as it is for Postgres."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002  # SQLAlchemy's signature
    ) -> datetime | None:
        """Aware UTC, whatever the driver gives."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """The one truth. `write()` and `read()` open a transaction each."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        if self.url.get_backend_name() == "sqlite":
            self._writer = _sqlite_engine(self.url, readers=0)
            self._reader = _sqlite_engine(self.url, readers=_READERS)
        else:
            self._writer = self._reader = create_engine(
                self.url,
                pool_pre_ping=True,
                hide_parameters=True,
                pool_size=_READERS,
                max_overflow=_READERS,
            )

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits at the end, or rolls back on an error."""
        with (
            _translated(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only looks."""
        with _translated(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    def dispose(self) -> None:
        """Close every connection."""
        self._writer.dispose()
        self._reader.dispose()


def parse_url(url: str) -> URL:
    """SQLite or Postgres (psycopg 3); anything else is refused by name."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError(_WANTED) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise SettingsError("FARM_DATABASE_URL: SQLite needs a file, sqlite:///path")
        return parsed
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise SettingsError(_WANTED)


def now(session: Session) -> datetime:
    """The database's clock: the only one that decides anything. Read once per transaction."""
    if session.get_bind().dialect.name == "sqlite":
        moment = session.execute(text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")).scalar_one()
        return datetime.fromisoformat(str(moment)).replace(tzinfo=UTC)
    moment = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


def insert_if_new(session: Session, model: type[Any], **values: Any) -> None:
    """Insert a row unless one with its key is there, also one of this very moment.

    Postgres lets two transactions see that a row is missing; the second waits here for
    the first, and then finds its row. SQLite has one writer at a time.
    """
    dialect = session.get_bind().dialect.name
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    session.execute(insert(model).values(**values).on_conflict_do_nothing())


def _sqlite_engine(url: URL, *, readers: int) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=readers or 1,
        max_overflow=0,
        hide_parameters=True,
        pool_timeout=30,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        if readers:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if readers else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def _translated() -> Iterator[None]:
    """An unreachable or locked database is 503 to whoever asked, never a 500."""
    try:
        yield
    except (OperationalError, PoolTimeout) as exc:
        if isinstance(exc, OperationalError) and _is_a_bug(exc):
            raise
        raise Unavailable("The database does not answer.", code="database_unavailable") from exc


def _is_a_bug(error: OperationalError) -> bool:
    """SQLite calls a wrong statement operational too."""
    text_of = str(error.orig)
    return "no such" in text_of or "syntax error" in text_of or "has no column" in text_of
