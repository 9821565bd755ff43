"""What workers report of an attempt: claim, resolved, heartbeat, steps, publish, finish.

Every verb is fenced by (part, attempt, claim token) and may be repeated. A verb of
an attempt that is not the current one raises StaleAttempt and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from farm import builds, lifecycle, tags
from farm.ending import FarmLimits, end_attempt
from farm.errors import Conflict, StaleAttempt
from farm.model import Attempt, Build, Part, Step, Worker
from farm.model import Commit as CommitRow
from farm.protocol import Commit, Finish, Publish, PublishAnswer, StepReport
from farm.reasons import Reason
from farm.spec import BuildSpec
from farm.states import BuildStatus, Outcome, Phase

STALE = "This attempt is no longer the current one."


@dataclass(frozen=True)
class Claimed:
    """A part that a worker holds from now on."""

    build: Build
    part: Part
    spec: BuildSpec
    timeout_s: float
    """How long this attempt may take: the whole timeout, as the farm's faults cost none of it."""


def claim(
    session: Session,
    worker: Worker,
    part_id: int,
    number: int,
    token: str,
    *,
    now: datetime,
    limits: FarmLimits,
) -> Claimed:
    """Take a part that was placed on this worker; repeated by the same token, the same answer."""
    part = _part(session, part_id)
    build = builds.lock(session, part.build_id)
    session.refresh(part)
    spec = BuildSpec.model_validate(build.spec)
    if _is_mine(part, number, token) and part.placed_worker_id == worker.id:
        return Claimed(build, part, spec, float(build.timeout_s))
    wanted = part.attempt == number and part.placed_worker_id == worker.id
    if not wanted or part.status is not BuildStatus.QUEUED:
        raise StaleAttempt(STALE)
    lifecycle.move_part(
        session,
        part,
        BuildStatus.QUEUED,
        BuildStatus.RUNNING,
        now=now,
        fence=[Part.placed_worker_id == worker.id],
        values={
            "claim": token,
            "lease_until": now + limits.lease,
            "phase": Phase.FETCHING,
            "waiting_reason": None,
            "waiting_position": None,
            "eta_low_s": None,
            "eta_high_s": None,
            "not_before": None,
        },
    )
    session.add(
        Attempt(
            part_id=part.id,
            number=number,
            worker_id=worker.id,
            worker_name=worker.name,
            claim=token,
            started_at=now,
        )
    )
    session.flush()
    return Claimed(build, part, spec, float(build.timeout_s))


def missing_at_claim(
    session: Session, worker: Worker, part_id: int, number: int, *, now: datetime
) -> int | None:
    """End a part whose secrets were taken away while it waited; returns its build then."""
    part = _part(session, part_id)
    build = builds.lock(session, part.build_id)
    session.refresh(part)
    if part.status is not BuildStatus.QUEUED or part.attempt != number:
        return None
    if part.placed_worker_id != worker.id:
        return None
    missing = builds.missing_secrets(session, build, BuildSpec.model_validate(build.spec))
    if not missing:
        return None
    builds.fail_for_missing_secrets(session, part, missing, now=now)
    return build.id


def require_worker(session: Session, worker_id: int, part_id: int, number: int) -> None:
    """Raise StaleAttempt unless this worker claimed that attempt."""
    attempt = session.get(Attempt, (part_id, number))
    if attempt is None or attempt.worker_id != worker_id:
        raise StaleAttempt(STALE)


def build_of(session: Session, part_id: int) -> int:
    """The build that a part belongs to."""
    return _part(session, part_id).build_id


def resolved(
    session: Session,
    part_id: int,
    number: int,
    token: str,
    found: Commit,
) -> Commit:
    """Record the build's commit: the first report wins, and every attempt builds that one."""
    part = _part(session, part_id)
    build = builds.lock(session, part.build_id)
    session.refresh(part)
    _require(part, number, token)
    if build.sha is None:
        commit = tags.learn_tip(
            session,
            project_id=build.project_id,
            ref=BuildSpec.model_validate(build.spec).git_ref,
            sha=found.sha,
            seen_from=session.get_one(Attempt, (part_id, number)).started_at,
        )
        build.sha, build.commit_id = commit.sha, commit.id
    else:
        commit = session.get_one(CommitRow, build.commit_id)
    if commit.sha == found.sha:
        commit.commit_date = found.commit_date
    session.flush()
    return Commit(sha=commit.sha, commit_date=commit.commit_date or found.commit_date)


def heartbeat(
    session: Session,
    part_id: int,
    number: int,
    token: str,
    *,
    phase: Phase | None,
    now: datetime,
    lease: timedelta,
) -> bool:
    """Renew the lease; returns whether somebody asked for the build to be cancelled."""
    values: dict[str, object] = {"lease_until": now + lease}
    if phase is not None:
        values["phase"] = phase
    build_id = session.execute(
        update(Part)
        .where(
            Part.id == part_id,
            Part.attempt == number,
            Part.claim == token,
            Part.status == BuildStatus.RUNNING,
        )
        .values(**values)
        .returning(Part.build_id)
    ).scalar_one_or_none()
    if build_id is None:
        raise StaleAttempt(STALE)
    return cancel_asked(session, build_id)


def check_fence(session: Session, part_id: int, number: int, token: str) -> int:
    """The build of a current attempt; StaleAttempt for any other."""
    part = _part(session, part_id)
    _require(part, number, token)
    return part.build_id


def cancel_asked(session: Session, build_id: int) -> bool:
    """Whether somebody asked for the build to be cancelled, and it is not too late."""
    return (
        session.scalars(select(Build.cancel_reason).where(Build.id == build_id)).one() is not None
    )


def record_steps(
    session: Session,
    part_id: int,
    number: int,
    token: str,
    reports: Sequence[StepReport],
) -> tuple[int, list[Step]]:
    """Store steps, each over its earlier report; returns the build and what is stored."""
    build_id = check_fence(session, part_id, number, token)
    if not reports:
        return build_id, []
    dialect = session.get_bind().dialect.name
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    latest = {report.number: report for report in reports}
    rows = [
        {"part_id": part_id, "attempt": number, **report.model_dump()} for report in latest.values()
    ]
    statement = insert(Step)
    changing = ("name", "status", "cached", "started_at", "duration_s")
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["part_id", "attempt", "number"],
            set_={name: getattr(statement.excluded, name) for name in changing},
        ),
        rows,
    )
    total, cached = session.execute(
        select(func.count(), func.coalesce(func.sum(case((Step.cached, 1), else_=0)), 0)).where(
            Step.part_id == part_id, Step.attempt == number
        )
    ).one()
    session.execute(
        update(Build).where(Build.id == build_id).values(steps_total=total, steps_cached=cached)
    )
    stored = session.scalars(
        select(Step)
        .where(Step.part_id == part_id, Step.attempt == number, Step.number.in_(latest))
        .order_by(Step.number)
    ).all()
    return build_id, list(stored)


def publish(
    session: Session,
    part_id: int,
    number: int,
    token: str,
    image: Publish,
    *,
    now: datetime,
) -> PublishAnswer:
    """Record the digest: from here the build cannot be cancelled, and its tags are desired.

    A stale attempt learns, in StaleAttempt.tags, what each of its names should point to.
    Conflict `cancel_requested` when a cancel came first.
    """
    part = _part(session, part_id)
    build = builds.lock(session, part.build_id)
    session.refresh(part)
    spec = BuildSpec.model_validate(build.spec)
    if not _is_mine(part, number, token):
        raise StaleAttempt(STALE, tags=tags.desired(session, spec.tags))
    if part.published_at is None:
        if build.cancel_reason is not None:
            raise Conflict("The build is to be cancelled.", code="cancel_requested")
        part.published_at, part.digest, part.size = now, image.digest, image.size
    elif part.digest != image.digest:
        raise Conflict("Another digest is published already.", code="already_published")
    part.phase = Phase.TAGGING
    names = spec.tags if spec.push else []  # what is not pushed is in no registry
    owned, others = tags.claim_tags(session, build, names, image.digest, now=now)
    build.image_tags = owned
    session.flush()
    return PublishAnswer(owned=owned, others=others)


def finish(
    session: Session,
    part_id: int,
    number: int,
    token: str,
    report: Finish,
    *,
    now: datetime,
    limits: FarmLimits,
) -> BuildStatus:
    """End an attempt; returns the build's status after it. Repeated: the same answer."""
    part = _part(session, part_id)
    build = builds.lock(session, part.build_id)
    session.refresh(part)
    if not _is_mine(part, number, token):
        if _was_mine(session, part_id, number, token, report.outcome):
            return build.status
        raise StaleAttempt(STALE)
    if report.outcome is Outcome.SUCCEEDED:
        spec = BuildSpec.model_validate(build.spec)
        if spec.push and part.published_at is None:
            raise Conflict("The image is not published yet.", code="not_published")
        part.digest = part.digest or report.digest
        part.size = part.size if part.size is not None else report.size
        build.image_digest, build.image_size = part.digest, part.size
        session.flush()
    return end_attempt(session, build, part, report, now=now, limits=limits)


def hand_back(
    session: Session,
    part_id: int,
    number: int,
    token: str,
    *,
    message: str,
    now: datetime,
    limits: FarmLimits,
) -> BuildStatus:
    """Queue a part again because its worker stops or drains; no attempt is burnt."""
    report = Finish(outcome=Outcome.HANDED_BACK, reason=Reason.WORKER_STOPPED, message=message)
    return finish(session, part_id, number, token, report, now=now, limits=limits)


def _part(session: Session, part_id: int) -> Part:
    part = session.get(Part, part_id)
    if part is None:
        raise StaleAttempt(STALE)
    return part


def _is_mine(part: Part, number: int, token: str) -> bool:
    return part.status is BuildStatus.RUNNING and part.attempt == number and part.claim == token


def _require(part: Part, number: int, token: str) -> None:
    if not _is_mine(part, number, token):
        raise StaleAttempt(STALE)


def _was_mine(session: Session, part_id: int, number: int, token: str, outcome: Outcome) -> bool:
    """Whether this very ending was recorded before: the answer was lost on its way."""
    attempt = session.get(Attempt, (part_id, number))
    return attempt is not None and attempt.claim == token and attempt.outcome is outcome
