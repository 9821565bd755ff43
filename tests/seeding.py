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

from sqlalchemy.orm import Session

from farm import access, db, history
from farm.logs import LogStore
from farm.model import Attempt, Build, Part, Project, Step, Token, Worker
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

PROJECTS: Final = ("acme/model-serving", "acme/feature-store", "lab/trainer", "ops/edge-gateway")
STEPS: Final = (
    "[internal] load build definition from Dockerfile",
    "[internal] load metadata for registry.example.com/python:3.11-slim",
    "[internal] load .dockerignore",
    "[base 1/3] FROM registry.example.com/python:3.11-slim@sha256:0f2d8c1e",
    "[base 2/3] RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 curl",
    "[internal] load build context",
    "[deps 1/2] COPY requirements.txt .",
    "[deps 2/2] RUN pip install --no-cache-dir --require-hashes -r requirements.txt",
    "[base 3/3] COPY src/ /app/src/",
    "[final 1/2] RUN python -m compileall -q /app/src",
    "[final 2/2] RUN python -m app.selfcheck --model /app/model.onnx",
    "exporting to image",
)
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
        for name in PROJECTS:
            self.projects.append(
                Project(
                    name=name,
                    owner=name.split("/")[0],
                    repository=f"https://git.example.com/{name}",
                    repository_key=f"https://git.example.com/{name}",
                    created_at=self.now - timedelta(days=90),
                )
            )
        token = Token(
            name="enrolment",
            token_hash="0" * 64,
            scopes=["worker"],
            zone=Zone.TRUSTED,
            labels=[],
            created_at=self.now,
        )
        self.session.add_all([*self.projects, token])
        self.session.flush()
        for number, name in enumerate(("build-1", "build-2", "gpu-1", "forks-1", "old-1")):
            self.workers.append(self._worker(number, name, token.id))
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
        start = build.started_at or build.created_at
        weights = [1, 4, 1, 2, 30, 2, 1, 60, 3, 4, 9, 12][:count]
        unit = seconds / sum(weights)
        warm = self.random.random() < 0.7
        lines, at = [], start
        for number, (name, weight) in enumerate(zip(STEPS, weights, strict=False), start=1):
            last = number == count
            cached = warm and not last and number in (4, 5, 7, 8)
            took = 0.0 if cached else unit * weight
            status = StepStatus.SUCCEEDED
            if last and (open_end or failing):
                status = StepStatus.RUNNING if open_end else StepStatus.FAILED
            step = Step(
                part_id=part.id,
                attempt=part.attempt,
                number=number,
                name=name,
                status=status,
                cached=cached,
                started_at=at,
                duration_s=None if status is StepStatus.RUNNING else took,
            )
            self.session.add(step)
            lines += _log_of(number, name, took, cached=cached, status=status)
            at += timedelta(seconds=took)
            build.steps_total += 1
            build.steps_cached += cached
        if self.logs:
            text = "".join(line + "\n" for line in lines).encode()
            self.logs.append(part.id, part.attempt or 1, 0, text, now=self.now)

    def _worker(self, number: int, name: str, enrolment_id: int) -> Worker:
        seen = timedelta(hours=26) if name == "old-1" else timedelta(seconds=3 + number)
        return Worker(
            name=name,
            instance=f"{number:032d}",
            token_hash=f"{number:064d}",
            enrolment_id=enrolment_id,
            zone=Zone.UNTRUSTED if name.startswith("forks") else Zone.TRUSTED,
            labels=["gpu", "disk=nvme"] if name.startswith("gpu") else ["disk=nvme"],
            slots=4,
            platforms=["linux/amd64", "linux/386"],
            engine={"docker": "28.2.2", "buildx": "0.24.0"},
            engine_ok=name != "forks-1",
            version="0.1.0",
            disk_free=(210, 64, 380, 120, 0)[number] * 10**9 + 5 * 10**8,
            disk_total=500 * 10**9,
            draining=name == "build-2",
            enrolled_at=self.now - timedelta(days=40),
            last_seen_at=self.now - seen,
        )


def _outcome(status: BuildStatus) -> Outcome:
    return {
        BuildStatus.SUCCEEDED: Outcome.SUCCEEDED,
        BuildStatus.FAILED: Outcome.FAILED,
        BuildStatus.CANCELLED: Outcome.CANCELLED,
    }.get(status, Outcome.ERRORED)


def _log_of(number: int, name: str, took: float, *, cached: bool, status: StepStatus) -> list[str]:
    lines = [f"#{number} {name}"]
    if cached:
        return [*lines, f"#{number} CACHED"]
    lines += [
        f"#{number} {took * part / 12:.3f} Collecting wheel {part} of 12 (cp311, manylinux)"
        for part in range(12)
        if "pip install" in name
    ]
    if status is StepStatus.FAILED:
        lines.append(f"#{number} 0.811 Traceback (most recent call last):")
        lines.append(f"#{number} 0.812 AssertionError: model.onnx: 3 outputs, expected 2")
        return [*lines, f"#{number} ERROR: process did not complete: exit code: 1"]
    if status is StepStatus.RUNNING:
        return lines
    return [*lines, f"#{number} DONE {took:.1f}s"]


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
    db.upgrade(url)
    with db.Database(url).write() as session:
        sys.stdout.write(fill(session, count=count) + "\n")


if __name__ == "__main__":
    main()
