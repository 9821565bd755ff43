"""The scheduler: a loop that places what waits and sweeps up what was lost.

Woken through Redis, and by itself every second: a lost wake-up costs a second,
never a build. One holder of a database lease is active, others stand by. Messages
go out after the commit; one that cannot be sent is placed anew when its time to be
claimed is over.
"""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import case, select, update
from sqlalchemy.orm import Session

from farm import db, sweep
from farm.broker import SEND_ERRORS
from farm.ending import FarmLimits, cache_key_of, placeable_again
from farm.errors import Unavailable
from farm.fleet import online, present
from farm.model import Attempt, Build, CacheUse, Part, Project, Worker
from farm.placement import Held, Plan, WaitingPart, Warmth, WorkerState, place
from farm.reasons import WaitReason
from farm.settings import Settings
from farm.spec import BuildSpec
from farm.states import BuildStatus, Outcome, Priority
from farm.wakeups import SCHEDULER_CHANNEL, Listener, Wakeups

TICK_S = 1.0
_ETA_DRIFT_S = 3.0
_MOST_WAITING = 5000
"""So many waiting parts are looked at in one round: by priority, then the oldest."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Message:
    """What is to be sent once the transaction is committed."""

    worker: str
    part_id: int
    attempt: int


class Sends(Protocol):
    """What carries messages to workers: Celery, or a fake that works."""

    def send(self, worker: str, part_id: int, attempt: int) -> None:
        """Tell a worker to claim; raises one of SEND_ERRORS when it cannot. Safe to repeat."""


class Scheduler:
    """The control process that decides who builds what."""

    def __init__(
        self,
        settings: Settings,
        database: db.Database,
        dispatcher: Sends,
        wakeups: Wakeups,
    ) -> None:
        self._settings = settings
        self._database = database
        self._dispatcher = dispatcher
        self._wakeups = wakeups
        self._holder = secrets.token_hex(8)
        self._wake = threading.Event()
        self._can_send: Callable[[], bool] = lambda: True
        self._stop = threading.Event()

    def run(self) -> None:
        """Loop until `stop`; an unreachable database is waited for."""
        listener = Listener(
            self._settings.redis_url,
            [SCHEDULER_CHANNEL],
            lambda _channel, _text: self._wake.set(),
        )
        self._can_send = listener.connected.is_set
        try:
            while not self._stop.is_set():
                self._wake.clear()
                try:
                    self.tick()
                except Unavailable as exc:
                    log.warning("database_unavailable", error=str(exc.__cause__)[:200])
                self._wake.wait(TICK_S)
            with self._database.write() as session:
                sweep.resign(session, self._holder, now=db.now(session))
        finally:
            listener.close()

    def stop(self) -> None:
        """End the loop after the round that is under way."""
        self._stop.set()
        self._wake.set()

    def tick(self) -> bool:
        """One round; returns whether this scheduler is the active one."""
        with self._database.write() as session:
            now = db.now(session)
            if not sweep.lead(session, self._holder, now=now):
                return False
            swept = sweep.sweep(
                session,
                now=now,
                limits=FarmLimits.of(self._settings),
                claim_within=timedelta(seconds=self._settings.claim_s),
            )
            if self._can_send():
                messages, changed = dispatch(session, self._settings, now=now)
            else:
                messages, changed = [], hold_back(session)
        for build_id in swept.lost:
            log.warning("worker_lost", build_id=build_id)
        for build_id in {*changed, *swept.lost, *swept.expired}:
            self._wakeups.build(build_id)
        self._send(messages)
        return True

    def _send(self, messages: Sequence[Message]) -> None:
        """Send what was placed; from the first failure on, take the rest back at once."""
        for number, message in enumerate(messages):
            try:
                self._dispatcher.send(message.worker, message.part_id, message.attempt)
            except SEND_ERRORS as exc:
                log.warning("messages_not_sent", count=len(messages), error=type(exc).__name__)
                with self._database.write() as session:
                    take_back(session, messages[number:])
                return


def dispatch(
    session: Session, settings: Settings, *, now: datetime
) -> tuple[list[Message], list[int]]:
    """Place what waits: returns the messages to send and the builds whose state changed."""
    rows = _waiting_rows(session)
    if not rows:
        return [], []
    workers = session.scalars(select(Worker).where(present())).all()
    plan = place(
        _waiting_parts(session, rows),
        [_state_of(worker, settings, now=now) for worker in workers],
        _held(session),
        _warmth(session, rows),
        now=now,
        project_cap=settings.project_cap,
    )
    names = {worker.id: worker.name for worker in workers}
    return _apply(session, rows, plan, names, now=now)


def hold_back(session: Session) -> list[int]:
    """Say of every waiting part that nothing can be sent; returns the builds that changed."""
    rows = session.execute(
        update(Part)
        .where(
            Part.status == BuildStatus.QUEUED,
            Part.placed_worker_id.is_(None),
            Part.waiting_reason.is_distinct_from(WaitReason.NO_BROKER),
        )
        .values(waiting_reason=WaitReason.NO_BROKER, waiting_position=None)
        .returning(Part.build_id)
    )
    return list(rows.scalars())


def take_back(session: Session, messages: Sequence[Message]) -> None:
    """Make parts placeable again whose message did not go out; a claimed one stays."""
    for message in messages:
        part = session.get_one(Part, message.part_id)
        session.execute(
            update(Part)
            .where(
                Part.id == message.part_id,
                Part.attempt == message.attempt,
                Part.status == BuildStatus.QUEUED,
            )
            .values(**placeable_again(part))
        )


_Row = tuple[Part, Build, Project]
_RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


def _waiting_rows(session: Session) -> Sequence[_Row]:
    return session.execute(
        select(Part, Build, Project)
        .join(Build, Build.id == Part.build_id)
        .join(Project, Project.id == Build.project_id)
        .where(Part.status == BuildStatus.QUEUED, Part.placed_worker_id.is_(None))
        .order_by(case(_RANK, value=Build.priority), Part.id)
        .limit(_MOST_WAITING)
    ).all()


def _waiting_parts(session: Session, rows: Sequence[_Row]) -> list[WaitingPart]:
    retried = [part.id for part, _, _ in rows if part.attempt > 1]
    avoid: dict[int, set[int]] = defaultdict(set)
    for part_id, worker_id in session.execute(
        select(Attempt.part_id, Attempt.worker_id).where(
            Attempt.part_id.in_(retried),
            Attempt.outcome.in_((Outcome.LOST, Outcome.ERRORED)),
        )
    ):
        avoid[part_id].add(worker_id)
    return [_waiting_part(row, frozenset(avoid[row[0].id])) for row in rows]


def _waiting_part(row: _Row, avoid: frozenset[int]) -> WaitingPart:
    part, build, project = row
    spec = BuildSpec.model_construct(**build.spec)
    return WaitingPart(
        part_id=part.id,
        project_id=project.id,
        owner=project.owner,
        group_key=build.group_key,
        cache_key=cache_key_of(build, part),
        platform=part.platform,
        zone=build.zone,
        labels=frozenset(spec.runs_on),
        priority=build.priority,
        since=build.created_at,
        not_before=part.not_before,
        needs_containerd_store=spec.needs_containerd_store,
        avoid=avoid,
    )


def _state_of(worker: Worker, settings: Settings, *, now: datetime) -> WorkerState:
    return WorkerState(
        worker_id=worker.id,
        name=worker.name,
        zone=worker.zone,
        labels=frozenset(worker.labels),
        slots=worker.slots,
        platforms=frozenset(worker.platforms),
        containerd_store=worker.containerd_store,
        online=worker.engine_ok and online(worker, now=now, heartbeat_s=settings.heartbeat_s),
        draining=worker.draining or worker.stopping,
        disk_ok=worker.disk_free >= settings.disk_watermark,
    )


def _held(session: Session) -> list[Held]:
    rows = session.execute(
        select(Part, Build, Project.owner)
        .join(Build, Build.id == Part.build_id)
        .join(Project, Project.id == Build.project_id)
        .where(
            Part.status.in_((BuildStatus.QUEUED, BuildStatus.RUNNING)),
            Part.placed_worker_id.is_not(None),
        )
    )
    return [
        Held(
            worker_id=part.placed_worker_id or 0,
            project_id=build.project_id,
            owner=owner,
            group_key=build.group_key,
            cache_key=cache_key_of(build, part),
            since=part.placed_at or build.created_at,
        )
        for part, build, owner in rows
    ]


def _warmth(session: Session, rows: Sequence[_Row]) -> dict[str, dict[int, Warmth]]:
    keys = {cache_key_of(build, part) for part, build, _ in rows}
    known: dict[str, dict[int, Warmth]] = defaultdict(dict)
    for use in session.scalars(select(CacheUse).where(CacheUse.cache_key.in_(keys))):
        known[use.cache_key][use.worker_id] = Warmth(use.warm_s, use.cold_s)
    return known


def _apply(
    session: Session,
    rows: Sequence[_Row],
    plan: Plan,
    names: dict[int, str],
    *,
    now: datetime,
) -> tuple[list[Message], list[int]]:
    messages: list[Message] = []
    changed: list[int] = []
    for part, build, _ in rows:
        worker_id = plan.assignments.get(part.id)
        if worker_id is None:
            if _explain(part, plan):
                changed.append(build.id)
            continue
        placed = session.execute(
            update(Part)
            .where(
                Part.id == part.id,
                Part.attempt == part.attempt,
                Part.status == BuildStatus.QUEUED,
                Part.placed_worker_id.is_(None),
            )
            .values(
                placed_worker_id=worker_id,
                placed_at=now,
                waiting_reason=WaitReason.PLACED,
                waiting_position=None,
                eta_low_s=None,
                eta_high_s=None,
            )
            .returning(Part.id)
        ).first()
        if placed:
            messages.append(Message(names[worker_id], part.id, part.attempt))
    session.flush()
    return messages, changed


def _explain(part: Part, plan: Plan) -> bool:
    """Write down why a part waits; returns whether the answer is a new one."""
    why = plan.waiting[part.id]
    low, high = why.eta_s or (None, None)
    before = (part.waiting_reason, part.waiting_position)
    drifted = abs((low or 0.0) - (part.eta_low_s or 0.0)) > max(_ETA_DRIFT_S, (low or 0.0) / 4)
    if before == (why.reason, why.position) and not drifted:
        return False  # a range that shrinks by the second is not worth a write
    part.waiting_reason, part.waiting_position = why.reason, why.position
    part.eta_low_s, part.eta_high_s = low, high
    return True
