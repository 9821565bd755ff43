"""How an attempt ends, and what becomes of its part: over, or queued for the next one.

The policy of retries in one place: whose fault it was decides (farm.reasons.Fault).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from farm import db, lifecycle
from farm.model import Attempt, Build, CacheUse, Part
from farm.protocol import Finish
from farm.reasons import Fault, Reason, WaitReason
from farm.settings import Settings
from farm.states import BuildStatus, Outcome, Phase

RETRY_AFTER = timedelta(seconds=5)
WAIT_FIRST = timedelta(seconds=10)
WAIT_MOST = timedelta(minutes=5)
_SMOOTHING = 0.3
_CACHED_IS_WARM = 0.5


@dataclass(frozen=True)
class FarmLimits:
    """The settings that decide when an attempt is over."""

    lease: timedelta
    max_attempts: int
    longest_wait: timedelta = timedelta(days=1)

    @classmethod
    def of(cls, settings: Settings) -> FarmLimits:
        """From the farm's settings."""
        return cls(
            timedelta(seconds=settings.lease_s),
            settings.max_attempts,
            timedelta(seconds=settings.longest_wait_s),
        )


def end_attempt(
    session: Session,
    build: Build,
    part: Part,
    report: Finish,
    *,
    now: datetime,
    limits: FarmLimits,
) -> BuildStatus:
    """Close the current attempt of a running part and move the part on.

    A build that somebody asked to cancel is cancelled whatever its worker says,
    unless its image was published or it came to its own end.
    """
    number = part.attempt
    _close(session, part, number, report, now=now)
    if report.outcome is Outcome.SUCCEEDED:
        if "build" in report.phases:  # an attempt that only moved tags filled no cache
            _learn_warmth(session, build, part, number, now=now)
        return _end(session, part, BuildStatus.SUCCEEDED, None, "", now=now)
    reason = report.reason or Reason.UNKNOWN
    cancelled = build.cancel_reason is not None and part.published_at is None
    if cancelled and report.outcome is not Outcome.FAILED:
        return _end(session, part, BuildStatus.CANCELLED, build.cancel_reason, "", now=now)
    if report.outcome is Outcome.FAILED:
        return _end(session, part, BuildStatus.FAILED, reason, report.message, now=now)
    burns = reason.fault is not Fault.WAIT and report.outcome is not Outcome.HANDED_BACK
    if burns and part.burnt + 1 >= limits.max_attempts:
        return _end(session, part, BuildStatus.ERRORED, reason, report.message, now=now)
    later = _not_before(build, part, reason, report.outcome, now=now)
    if later is None:
        return _end(session, part, BuildStatus.ERRORED, reason, report.message, now=now)
    return _queue_again(
        session, part, reason, report.message, burns=burns, not_before=later, now=now
    )


def _close(session: Session, part: Part, number: int, report: Finish, *, now: datetime) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.part_id == part.id, Attempt.number == number)
        .values(
            finished_at=now,
            outcome=report.outcome,
            reason=report.reason,
            message=report.message or None,
            log_size=report.log_size,
            phases=dict(report.phases),
        )
        .execution_options(synchronize_session=False)
    )


def _end(
    session: Session,
    part: Part,
    status: BuildStatus,
    reason: Reason | None,
    message: str,
    *,
    now: datetime,
) -> BuildStatus:
    return lifecycle.move_part(
        session,
        part,
        BuildStatus.RUNNING,
        status,
        now=now,
        fence=[Part.claim == part.claim],
        values={"lease_until": None, "phase": None},
        reason=reason,
        message=message or None,
    )


def _queue_again(
    session: Session,
    part: Part,
    reason: Reason,
    message: str,
    *,
    burns: bool,
    not_before: datetime,
    now: datetime,
) -> BuildStatus:
    return lifecycle.move_part(
        session,
        part,
        BuildStatus.RUNNING,
        BuildStatus.QUEUED,
        now=now,
        fence=[Part.claim == part.claim],
        values=placeable_again(part)
        | {
            "attempt": part.attempt + 1,
            "burnt": part.burnt + burns,
            "not_before": not_before if not_before > now else None,
        },
        reason=reason,
        message=message or None,
    )


def placeable_again(part: Part) -> dict[str, Any]:
    """The columns of a part that no worker holds any more."""
    return {
        "placed_worker_id": None,
        "placed_at": None,
        "claim": None,
        "lease_until": None,
        "phase": Phase.TAGGING if part.published_at else None,
        "waiting_reason": WaitReason.NEW,
        "waiting_position": None,
    }


def _not_before(
    build: Build, part: Part, reason: Reason, outcome: Outcome, *, now: datetime
) -> datetime | None:
    """When the next attempt may start; None when the build would wait past its time."""
    if outcome in (Outcome.HANDED_BACK, Outcome.LOST):
        return now
    if reason.fault is not Fault.WAIT:
        doublings: int = part.burnt
        return now + RETRY_AFTER * (1 << doublings)
    waited = now - (build.started_at or now)
    later: datetime = now + min(WAIT_MOST, max(WAIT_FIRST, waited / 2))
    end = (build.started_at or now) + timedelta(seconds=build.timeout_s)
    return later if later < end else None


def cache_key_of(build: Build, part: Part) -> str:
    """What a worker's cache is warm for: project, file, target and platform."""
    return f"{build.cache_key}/{part.platform}" if part.platform else build.cache_key


def _learn_warmth(
    session: Session, build: Build, part: Part, number: int, *, now: datetime
) -> None:
    """Remember that this worker now holds the build's cache, and what the build took."""
    attempt = session.get_one(Attempt, (part.id, number), populate_existing=True)
    took_s = (now - attempt.started_at).total_seconds()
    key = (cache_key_of(build, part), attempt.worker_id)
    use = session.get(CacheUse, key)
    if use is None:
        db.insert_if_new(session, CacheUse, cache_key=key[0], worker_id=key[1], used_at=now)
        use = session.get_one(CacheUse, key)
    use.used_at = now
    if build.steps_total and build.steps_cached / build.steps_total < _CACHED_IS_WARM:
        use.cold_s = _smooth(use.cold_s, took_s)
    else:
        use.warm_s = _smooth(use.warm_s, took_s)
    session.flush()


def _smooth(before: float | None, took_s: float) -> float:
    return took_s if before is None else before + _SMOOTHING * (took_s - before)
