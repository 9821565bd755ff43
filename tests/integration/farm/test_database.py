"""The one truth: its clock, its transactions, and what happens when it does not answer."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from farm import db
from farm.db import Database
from farm.errors import Unavailable
from farm.model import Build, Project
from tests.factories import START, World


def test_the_clock_is_aware_and_goes_forward(world: World) -> None:
    with world.database.read() as session:
        first, second = db.now(session), db.now(session)
    assert first.tzinfo is UTC
    assert first <= second < first + timedelta(seconds=10)


def test_a_moment_comes_back_as_it_was_whatever_its_zone(world: World) -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    world.now = datetime(2026, 3, 1, 17, 30, 0, 123456, tzinfo=there)
    row = world.row(world.build())
    assert row.created_at == world.now
    assert row.created_at.tzinfo is UTC


def write_and_fail(world: World) -> float:
    with world.database.write() as session:
        session.add(
            Project(name="a/b", owner="a", repository="x", repository_key="x", created_at=START)
        )
        session.flush()
        return 1 / 0


def test_what_fails_in_the_middle_is_not_half_done(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        write_and_fail(world)
    with world.database.read() as session:
        assert session.scalars(select(Project)).all() == []


def test_a_reader_does_not_wait_for_a_writer(world: World) -> None:
    world.build()
    with world.database.write() as writing:
        writing.execute(text("UPDATE builds SET priority = 'high'"))
        with world.database.read() as reading:
            assert reading.scalars(select(Build.priority)).one() == "normal"


def test_a_read_only_session_of_sqlite_cannot_write(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'farm.db'}")
    try:
        with database.read() as session, pytest.raises(DBAPIError, match="readonly"):
            session.execute(text("CREATE TABLE x (y)"))
    finally:
        database.dispose()


def test_a_database_that_is_away_is_unavailable_and_not_a_bug() -> None:
    database = Database("postgresql://farm@127.0.0.1:9/none?connect_timeout=1")
    with pytest.raises(Unavailable) as refused, database.read() as session:
        session.execute(text("SELECT 1"))
    assert refused.value.code == "database_unavailable"
    database.dispose()


def test_a_wrong_statement_is_a_bug_and_not_an_outage(world: World) -> None:
    with pytest.raises(DBAPIError), world.database.read() as session:
        session.execute(text("SELECT nothing FROM nowhere"))


def test_a_status_that_does_not_exist_is_refused_by_the_database(world: World) -> None:
    world.build()
    with pytest.raises(DBAPIError), world.database.write() as session:
        session.execute(text("UPDATE builds SET status = 'passed'"))
