"""The sweep: what was lost is found again, from the database alone.

Leases that ended, placed parts that nobody claimed. After an outage of the control
plane no lease ends before the web has been up again for a whole lease: workers that
could not report must first have had the time to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from farm import builds, db, lifecycle
from farm.ending import FarmLimits, end_attempt, placeable_again
from farm.model import Build, Part, Presence
from farm.protocol import Finish
from farm.reasons import Reason, WaitReason
from farm.states import BuildStatus, Outcome

WEB = "web"
SCHEDULER = "scheduler"
WEB_GAP = timedelta(seconds=5)
"""Longer silence of every web process counts as an outage, and so do three quarters of a lease:
with a short one, leases would otherwise end before the outage is seen."""
SCHEDULER_LEASE = timedelta(seconds=10)


@dataclass(frozen=True)
class Swept:
    """What a sweep changed."""

    lost: list[int]
    """Builds whose worker fell silent."""
    unclaimed: list[int]
    """Parts that were placed and not claimed: to be placed anew."""
    expired: list[int]
    """Builds that waited past their time."""


def record_web_up(session: Session, holder: str, *, now: datetime, lease: timedelta) -> None:
    """A web process says that it is up; after a gap the farm counts from now."""
    row = _presence(session, WEB, holder, now=now)
    if now - row.seen_at > _web_gap(lease):
        row.up_since = now
    row.holder, row.seen_at = holder, now


def lead(session: Session, holder: str, *, now: datetime) -> bool:
    """Take or keep the scheduler's lease; False while somebody else holds it."""
    row = _presence(session, SCHEDULER, holder, now=now)
    if row.holder != holder:
        if now - row.seen_at <= SCHEDULER_LEASE:
            return False
        row.up_since = now
    row.holder, row.seen_at = holder, now
    return True


def _presence(session: Session, role: str, holder: str, *, now: datetime) -> Presence:
    """The row of a role, held until the transaction ends; made for the holder if it is new."""
    row = session.get(Presence, role, with_for_update=True)
    if row is not None:
        return row
    db.insert_if_new(session, Presence, role=role, holder=holder, up_since=now, seen_at=now)
    return session.get_one(Presence, role, with_for_update=True)


def resign(session: Session, holder: str, *, now: datetime) -> None:
    """Give the scheduler's lease back, so that another need not wait for its end."""
    session.execute(
        update(Presence)
        .where(Presence.role == SCHEDULER, Presence.holder == holder)
        .values(seen_at=now - 2 * SCHEDULER_LEASE)
    )


def sweep(session: Session, *, now: datetime, limits: FarmLimits, claim_within: timedelta) -> Swept:
    """End leases that are over, and free placed parts that nobody claimed."""
    return Swept(
        lost=_end_leases(session, now=now, limits=limits),
        unclaimed=_free_unclaimed(session, now=now, claim_within=claim_within),
        expired=_end_waits(session, now=now, longest=limits.longest_wait),
    )


def leases_may_end(session: Session, *, now: datetime, lease: timedelta) -> bool:
    """Whether workers have had the chance to report for a whole lease."""
    web = session.get(Presence, WEB)
    if web is None or now - web.seen_at > _web_gap(lease):
        return False
    return now - web.up_since >= lease


def _web_gap(lease: timedelta) -> timedelta:
    return min(WEB_GAP, lease * 3 / 4)


def _end_leases(session: Session, *, now: datetime, limits: FarmLimits) -> list[int]:
    if not leases_may_end(session, now=now, lease=limits.lease):
        return []
    over = session.execute(
        select(Part.id, Part.build_id).where(
            Part.status == BuildStatus.RUNNING, Part.lease_until < now
        )
    )
    lost = []
    for part_id, build_id in list(over):
        build = builds.lock(session, build_id)
        # Held from here: a heartbeat in this moment comes before this look, or finds it ended.
        part = session.get_one(Part, part_id, populate_existing=True, with_for_update=True)
        if part.status is BuildStatus.RUNNING and part.lease_until and part.lease_until < now:
            _end_lost(session, build, part, now=now, limits=limits)
            lost.append(build_id)
    return lost


def _end_lost(
    session: Session, build: Build, part: Part, *, now: datetime, limits: FarmLimits
) -> None:
    report = Finish(
        outcome=Outcome.LOST,
        reason=Reason.WORKER_LOST,
        message="Nothing was heard of the worker for longer than its lease.",
    )
    end_attempt(session, build, part, report, now=now, limits=limits)


def _end_waits(session: Session, *, now: datetime, longest: timedelta) -> list[int]:
    """End what has been queued too long, with what it waited for."""
    over = session.execute(
        select(Part.id, Part.build_id)
        .join(Build, Build.id == Part.build_id)
        .where(
            Part.status == BuildStatus.QUEUED,
            Part.placed_worker_id.is_(None),
            Build.created_at < now - longest,
        )
    )
    expired = []
    for part_id, build_id in list(over):
        builds.lock(session, build_id)
        part = session.get_one(Part, part_id, populate_existing=True, with_for_update=True)
        if part.status is not BuildStatus.QUEUED:
            continue
        never = part.waiting_reason in (WaitReason.UNSCHEDULABLE, WaitReason.NO_WORKER)
        lifecycle.move_part(
            session,
            part,
            BuildStatus.QUEUED,
            BuildStatus.ERRORED,
            now=now,
            reason=Reason.UNSCHEDULABLE if never else Reason.WAITED_TOO_LONG,
            message=part.waiting_reason.sentence if part.waiting_reason else None,
        )
        expired.append(build_id)
    return expired


def _free_unclaimed(session: Session, *, now: datetime, claim_within: timedelta) -> list[int]:
    parts = session.scalars(
        select(Part).where(
            Part.status == BuildStatus.QUEUED,
            Part.placed_at.is_not(None),
            Part.placed_at < now - claim_within,
        )
    ).all()
    freed = []
    for part in parts:
        done = session.execute(
            update(Part)
            .where(
                Part.id == part.id,
                Part.status == BuildStatus.QUEUED,
                Part.placed_at == part.placed_at,
            )
            .values(**placeable_again(part))
            .returning(Part.id)
        ).first()
        if done:
            freed.append(part.id)
    return freed
