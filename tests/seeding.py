"""A database full of believable builds: for screenshots, and to see how pages bear 10,000.

`python -m tests.seeding sqlite:///farm.db 10000` fills a database from the shell.
"""

from __future__ import annotations

import hashlib
import random
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm import access, db, history, schema
from farm.logs import LogStore
from farm.model import Attempt, Build, Part, Project, Step, Worker
from farm.reasons import Reason, WaitReason
from farm.states import (
    BuildStatus,
    Outcome,
    Phase,
    Priority,
    StepStatus,
    Trigger,
    Zone,
)
from tests import seeding_fleet
from tests.seeding_steps import plan

_ENDS: Final = (
    *((BuildStatus.SUCCEEDED, None, None),) * 12,
    (BuildStatus.FAILED, Reason.STEP_FAILED, "RUN python -m app.selfcheck: exit code 1"),
    (BuildStatus.FAILED, Reason.DOCKERFILE_INVALID, "Dockerfile:12: unknown instruction: RUNN"),
    (BuildStatus.FAILED, Reason.OUT_OF_MEMORY, "RUN pip install: killed at 4 GiB"),
    (BuildStatus.ERRORED, Reason.WORKER_LOST, "no heartbeat for 60 s"),
    (BuildStatus.CANCELLED, Reason.SUPERSEDED, None),
    (BuildStatus.CANCELLED, Reason.REQUESTED, None),
    (BuildStatus.SKIPPED, None, None),
)


@dataclass
class Seeder:
    """Writes rows as the farm would have, from one seed."""

    session: Session
    now: datetime
    logs: LogStore | None = None
    random: random.Random = field(default_factory=lambda: random.Random(7))
    projects: list[Project] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    def people(self) -> str:
        """A token that may do everything; returned once."""
        return access.create_token(self.session, name="ada", scopes=["admin"], now=self.now)

    def fleet(self) -> None:
        """Projects and workers in every state."""
        self.projects = seeding_fleet.projects(self.now)
        token = seeding_fleet.enrolment(self.now)
        self.session.add_all([*self.projects, token])
        self.session.flush()
        self.workers = seeding_fleet.workers(self.now, token.id)
        self.session.add_all(self.workers)
        self.session.flush()

    def history(self, count: int) -> None:
        """Builds that are over, the newest a minute ago; the newest ones with steps and logs."""
        for number in range(count):
            age = timedelta(minutes=1 + 7 * (count - number))
            status, reason, message = self.random.choice(_ENDS)
            self.build(
                status=status,
                reason=reason,
                message=message,
                created_at=self.now - age,
                detailed=number > count - 120,
            )

    def waiting(self, position: int, reason: WaitReason) -> Build:
        """A build in the line."""
        build = self._row(BuildStatus.QUEUED, self.now - timedelta(seconds=20 * position))
        self._part(
            build,
            waiting_reason=reason,
            waiting_position=position,
            eta_low_s=12.0 * position,
            eta_high_s=30.0 * position,
        )
        return build

    def running(self, seconds: float, *, steps: int = 8) -> Build:
        """A build that a worker is at."""
        build = self._row(BuildStatus.RUNNING, self.now - timedelta(seconds=seconds + 3))
        build.started_at = self.now - timedelta(seconds=seconds)
        part = self._part(build, phase=Phase.BUILDING)
        self._attempt(part, 1, build.started_at, None, None)
        self._steps(build, part, seconds=seconds, count=steps, open_end=True, failing=False)
        return build

    def start(self, build: Build, attempt: int) -> None:
        """A worker has claimed the build's part, for this attempt."""
        build.status, build.started_at = BuildStatus.RUNNING, build.started_at or self.now
        part = self.session.scalars(select(Part).where(Part.build_id == build.id)).one()
        part.status, part.phase, part.attempt = BuildStatus.RUNNING, Phase.BUILDING, attempt
        part.waiting_reason = part.waiting_position = part.eta_low_s = part.eta_high_s = None
        self._attempt(part, attempt, self.now, None, None)
        self.session.flush()

    def add_log(self, build: Build, text: str) -> None:
        """More output of a build's newest attempt."""
        source = history.log_of(self.session, build.id)
        assert source is not None, "the build has not started"
        assert self.logs is not None, "the seeder has no logs"
        self.logs.append(*source, self.logs.size(*source), text.encode(), now=self.now)

    def build(
        self,
        *,
        status: BuildStatus = BuildStatus.SUCCEEDED,
        reason: Reason | None = None,
        message: str | None = None,
        created_at: datetime,
        detailed: bool = True,
        **values: Any,
    ) -> Build:
        """A build that is over."""
        build = self._row(status, created_at)
        build.reason, build.message = reason, message
        for name, value in values.items():
            setattr(build, name, value)
        queue = self.random.choice((0.1, 0.2, 0.4, 1.5, 8.0, 40.0))
        took = self.random.lognormvariate(3.6, 0.8)
        part = self._part(build)
        if status is BuildStatus.SKIPPED or reason is Reason.REQUESTED:
            build.finished_at = created_at + timedelta(seconds=queue)
            return build
        start = created_at + timedelta(seconds=queue)
        build.started_at, build.finished_at = start, start + timedelta(seconds=took)
        if status is BuildStatus.SUCCEEDED:
            digest = hashlib.sha256(str(build.id).encode()).hexdigest()
            build.image_digest = f"sha256:{digest}"
            build.image_size = self.random.randrange(40_000_000, 900_000_000)
            name = self.projects[build.project_id - self.projects[0].id].name
            build.image_tags = [f"registry.example.com/{name}:pr-{build.pull_request}"]
        self._attempts(build, part, took)
        if detailed:
            failing = reason is Reason.STEP_FAILED
            self._steps(build, part, seconds=took, count=12, open_end=False, failing=failing)
        else:
            build.steps_total, build.steps_cached = 12, self.random.randrange(0, 12)
        return build

    def _row(self, status: BuildStatus, created_at: datetime) -> Build:
        project = self.random.choice(self.projects)
        number = self.random.randrange(1, 400)
        build = Build(
            project_id=project.id,
            status=status,
            spec={"repository": project.repository},
            pull_request=number,
            ref=None,
            sha=hashlib.sha1(str(self.random.random()).encode()).hexdigest(),
            trigger=self.random.choice(
                (Trigger.WEBHOOK, Trigger.WEBHOOK, Trigger.API, Trigger.CLI)
            ),
            priority=Priority.NORMAL,
            zone=Zone.TRUSTED,
            group_key="",
            cache_key=str(project.id),
            timeout_s=3600,
            created_at=created_at,
            image_tags=[],
        )
        if number % 5 == 0:
            build.pull_request, build.ref = None, "refs/heads/main"
        self.session.add(build)
        self.session.flush()
        return build

    def _part(self, build: Build, **values: Any) -> Part:
        part = Part(build_id=build.id, platform="linux/amd64", status=build.status, **values)
        self.session.add(part)
        self.session.flush()
        return part

    def _attempts(self, build: Build, part: Part, took: float) -> None:
        lost = build.reason is Reason.WORKER_LOST
        start = build.started_at or build.created_at
        count = 3 if lost else 1
        for number in range(1, count + 1):
            each = took / count
            begin = start + timedelta(seconds=each * (number - 1))
            outcome = Outcome.LOST if lost else _outcome(build.status)
            self._attempt(part, number, begin, begin + timedelta(seconds=each), outcome)
        part.attempt = count

    def _attempt(
        self,
        part: Part,
        number: int,
        start: datetime,
        end: datetime | None,
        outcome: Outcome | None,
    ) -> None:
        worker = self.random.choice(self.workers)
        lost = outcome is Outcome.LOST
        self.session.add(
            Attempt(
                part_id=part.id,
                number=number,
                worker_id=worker.id,
                worker_name=worker.name,
                claim=f"{part.id}.{number}",
                started_at=start,
                finished_at=end,
                outcome=outcome,
                reason=Reason.WORKER_LOST if lost else None,
                message="no heartbeat for 60 s" if lost else None,
            )
        )

    def _steps(
        self, build: Build, part: Part, *, seconds: float, count: int, open_end: bool, failing: bool
    ) -> None:
        last = StepStatus.SUCCEEDED
        if open_end or failing:
            last = StepStatus.RUNNING if open_end else StepStatus.FAILED
        warm = self.random.random() < 0.7
        planned = plan(seconds=seconds, count=count, warm=warm, last=last)
        at = build.started_at or build.created_at
        for one in planned:
            self.session.add(
                Step(
                    part_id=part.id,
                    attempt=part.attempt,
                    number=one.number,
                    name=one.name,
                    status=one.status,
                    cached=one.cached,
                    started_at=at,
                    duration_s=None if one.status is StepStatus.RUNNING else one.seconds,
                )
            )
            at += timedelta(seconds=one.seconds)
        build.steps_total = len(planned)
        build.steps_cached = sum(one.cached for one in planned)
        if self.logs:
            text = "".join(f"{line}\n" for one in planned for line in one.log())
            self.logs.append(part.id, part.attempt, 0, text.encode(), now=self.now)


def _outcome(status: BuildStatus) -> Outcome:
    return {
        BuildStatus.SUCCEEDED: Outcome.SUCCEEDED,
        BuildStatus.FAILED: Outcome.FAILED,
        BuildStatus.CANCELLED: Outcome.CANCELLED,
    }.get(status, Outcome.ERRORED)


def fill(session: Session, *, count: int, logs: LogStore | None = None) -> str:
    """A farm in the middle of its day with `count` finished builds; returns a token."""
    seeder = Seeder(session, db.now(session), logs)
    token = seeder.people()
    seeder.fleet()
    seeder.history(count)
    seeder.running(48)
    seeder.running(7, steps=5)
    seeder.waiting(1, WaitReason.WARM_WORKER_BUSY)
    seeder.waiting(2, WaitReason.SLOTS_BUSY)
    return token


def main() -> None:
    """Fill the database of the first argument with as many builds as the second says."""
    url, count = sys.argv[1], int(sys.argv[2])
    schema.upgrade(url)
    with db.Database(url).write() as session:
        sys.stdout.write(fill(session, count=count) + "\n")


if __name__ == "__main__":
    main()
