"""A farm's database with a clock in the test's hand, and short ways to fill it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import select

from farm import access, attempts, builds, fleet, projects, scheduler, schema
from farm.attempts import Claimed
from farm.broker import Dispatcher
from farm.db import Database
from farm.ending import FarmLimits
from farm.model import Attempt, Base, Build, Event, Part, Worker
from farm.protocol import PROTOCOL, CheckIn, Commit, Enrolment, Finish, Publish, PublishAnswer
from farm.reasons import Reason
from farm.scheduler import Message
from farm.sealing import Sealer
from farm.settings import Settings
from farm.spec import BuildRequest
from farm.states import BuildStatus, Outcome, Phase, Trigger
from tests.services.postgres import PostgresCluster

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = "k" * 32
REPOSITORY = "https://git.example/acme/app"
TAG = "registry.example/acme/app:1"
SHA, NEWER_SHA = "a" * 40, "b" * 40
DIGEST, OTHER_DIGEST = "sha256:" + "1" * 64, "sha256:" + "2" * 64
LEASE = timedelta(seconds=60)

_numbers = count(1)


def farm_settings(folder: Path, database_url: str = "", **values: Any) -> Settings:
    """Settings of a farm for tests: a trial farm whose files are in a folder."""
    plain: dict[str, Any] = {
        "database_url": database_url,
        "data_dir": folder,
        "secret_key": KEY,
        "insecure_ok": True,
        "disk_watermark": 0,
        "lease_s": LEASE.total_seconds(),
    }
    return Settings(**plain | values)


class Templates:
    """Databases with the newest schema and nothing in them, at little cost for each test.

    SQLite's file is copied. Making and dropping a database costs Postgres ten times what
    a test does, so there the same one is emptied again.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "template.db"
        self._postgres: str | None = None

    def sqlite(self, folder: Path) -> str:
        """A copy in a test's own folder."""
        if not self._file.exists():
            schema.upgrade(f"sqlite:///{self._file}")
        shutil.copyfile(self._file, folder / "farm.db")
        return f"sqlite:///{folder / 'farm.db'}"

    def postgres(self, cluster: PostgresCluster) -> str:
        """The session's database, emptied; made anew when a test has changed its schema."""
        if self._postgres is None or not _emptied(self._postgres):
            self._postgres = cluster.create_database()
            schema.upgrade(self._postgres)
        return self._postgres


def _emptied(url: str) -> bool:
    """Delete every row and end whoever is still connected; False when the schema is not ours."""
    tables = {table.name for table in Base.metadata.sorted_tables}
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        if {name for (name,) in found} != {*tables, "alembic_version"}:
            return False
        version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        names = sql.SQL(", ").join(sql.Identifier(name) for name in sorted(tables))
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(names))
        return version == (schema.NEWEST,)


class RecordingDispatcher(Dispatcher):
    """Remembers what was sent; calls back at the moment of sending."""

    def __init__(self, on_send: Callable[[Message], None] | None = None) -> None:
        self.sent: list[Message] = []
        self._on_send = on_send

    def send(self, worker: str, part_id: int, attempt: int) -> None:
        message = Message(worker, part_id, attempt)
        self.sent.append(message)
        if self._on_send is not None:
            self._on_send(message)

    def close(self) -> None:
        pass


@dataclass
class World:
    """What people, workers and the scheduler do, each in a transaction of its own."""

    database: Database
    settings: Settings
    now: datetime = START
    limits: FarmLimits = field(default_factory=lambda: FarmLimits(LEASE, 3))
    sealer: Sealer = field(default_factory=lambda: Sealer(KEY))

    def later(self, seconds: float) -> datetime:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        return self.now

    def build(self, trigger: Trigger = Trigger.API, **body: Any) -> int:
        """Ask for a build; returns its id."""
        wanted = {"tags": [TAG], **body}
        if "project" not in wanted:
            wanted.setdefault("repository", REPOSITORY)
        with self.database.write() as session:
            request = BuildRequest.model_validate(wanted)
            return builds.request(session, request, trigger=trigger, now=self.now).id

    def retry(self, build_id: int) -> int:
        with self.database.write() as session:
            return builds.retry(session, build_id, now=self.now).id

    def cancel(self, build_id: int) -> list[Part]:
        with self.database.write() as session:
            return builds.cancel(session, build_id, now=self.now)

    def secret(self, name: str, value: str = "s3cret", project: str | None = None) -> None:
        with self.database.write() as session:
            projects.set_secret(
                session, name=name, value=value, project=project, sealer=self.sealer, now=self.now
            )

    def worker(self, name: str = "w1", **facts: Any) -> Worker:
        """Enrol a worker and check it in."""
        with self.database.write() as session:
            token = access.create_token(session, name="enrolment", scopes=["worker"], now=self.now)
            wanted = Enrolment(name=name, protocol=PROTOCOL, instance=f"{next(_numbers):032x}")
            own = fleet.enrol(session, token, wanted, now=self.now)
            worker = fleet.authenticate(session, own.token)
            fleet.check_in(session, worker, check_in(**facts), now=self.now)
            return worker

    def place(self) -> list[Message]:
        """One round of placement, every worker having just been heard of."""
        with self.database.write() as session:
            for worker in session.scalars(select(Worker)):
                worker.last_seen_at = self.now
            messages, _ = scheduler.dispatch(session, self.settings, now=self.now)
            return messages

    def claim(self, worker: Worker, build_id: int, token: str = "t" * 16) -> Claimed:
        """Claim a build's part as its worker does with the message it got."""
        part = self.part(build_id)
        with self.database.write() as session:
            return attempts.claim(
                session, worker, part.id, part.attempt, token, now=self.now, limits=self.limits
            )

    def start(self, worker: Worker, build_id: int, token: str = "t" * 16) -> Claimed:
        """Place a build and claim it."""
        self.place()
        return self.claim(worker, build_id, token)

    def resolve(self, part: Part, sha: str = SHA, token: str = "t" * 16) -> str:
        with self.database.write() as session:
            found = Commit(sha=sha, commit_date=START)
            return attempts.resolved(session, part.id, part.attempt, token, found).sha

    def beat(self, part: Part, token: str = "t" * 16) -> bool:
        with self.database.write() as session:
            return attempts.heartbeat(
                session,
                part.id,
                part.attempt,
                token,
                phase=Phase.BUILDING,
                now=self.now,
                lease=LEASE,
            )

    def publish(self, part: Part, digest: str = DIGEST, token: str = "t" * 16) -> PublishAnswer:
        with self.database.write() as session:
            image = Publish(digest=digest, size=1000)
            return attempts.publish(session, part.id, part.attempt, token, image, now=self.now)

    def finish(
        self,
        part: Part,
        outcome: Outcome = Outcome.SUCCEEDED,
        reason: Reason | None = None,
        token: str = "t" * 16,
    ) -> BuildStatus:
        report = Finish(outcome=outcome, reason=reason, phases={"build": 1.0})
        with self.database.write() as session:
            return attempts.finish(
                session, part.id, part.attempt, token, report, now=self.now, limits=self.limits
            )

    def hand_back(self, part: Part, token: str = "t" * 16) -> BuildStatus:
        with self.database.write() as session:
            return attempts.hand_back(
                session,
                part.id,
                part.attempt,
                token,
                message="drain",
                now=self.now,
                limits=self.limits,
            )

    def succeed(self, worker: Worker, build_id: int, sha: str = SHA, digest: str = DIGEST) -> Part:
        """A build's whole way."""
        part = self.start(worker, build_id).part
        self.resolve(part, sha)
        self.publish(part, digest)
        self.finish(part)
        return self.part(build_id)

    def part(self, build_id: int) -> Part:
        """The only part of a build, as it is now."""
        with self.database.read() as session:
            return session.scalars(select(Part).where(Part.build_id == build_id)).one()

    def row(self, build_id: int) -> Build:
        with self.database.read() as session:
            return session.get_one(Build, build_id)

    def attempts(self, build_id: int) -> list[Attempt]:
        with self.database.read() as session:
            query = select(Attempt).join(Part, Part.id == Attempt.part_id)
            return list(
                session.scalars(query.where(Part.build_id == build_id).order_by(Attempt.number))
            )

    def events(self, build_id: int) -> list[Event]:
        with self.database.read() as session:
            query = select(Event).where(Event.build_id == build_id).order_by(Event.id)
            return list(session.scalars(query))


def check_in(**facts: Any) -> CheckIn:
    """What a worker says of itself."""
    plain: dict[str, Any] = {
        "protocol": PROTOCOL,
        "version": "0.1",
        "slots": 4,
        "platforms": ["linux/amd64"],
        "containerd_store": False,
        "engine": {"docker": "26"},
        "disk_free": 10**12,
        "disk_total": 10**12,
    }
    return CheckIn.model_validate(plain | facts)


def wait_until(happened: Callable[[], bool], seconds: float = 10.0) -> None:
    """Look again and again for what no event announces, such as a lock in the database."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen within {seconds:.0f} s")
        time.sleep(0.01)
