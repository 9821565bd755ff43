"""Workers: enrolling, checking in, draining, and what people see of them."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from farm.access import find_token, hash_of, new_token
from farm.errors import Conflict, Forbidden, NotFound, Unauthenticated, Unavailable
from farm.model import CacheUse, Part, Token, Worker
from farm.protocol import PROTOCOL, CheckIn, Enrolled, Enrolment
from farm.states import BuildStatus
from farm.views import WorkerView

ONLINE_BEATS = 3
"""A worker that missed so many check-ins in a row counts as offline."""
_ENROL_TRIES = 5
_NAME_ROOM = 56
"""Of the 63 characters of a name, so that a number fits behind it."""


def enrol(session: Session, bearer: str, wanted: Enrolment, *, now: datetime) -> Enrolled:
    """Exchange an enrolment token for a worker's own.

    The same instance gets its old name again (its lost token is void); a name that
    another instance has gets a number behind it.
    """
    token = find_token(session, bearer, now=now)
    if "worker" not in token.scopes:
        raise Forbidden("This needs an enrolment token (scope worker).", code="scope_missing")
    check_protocol(wanted.protocol)
    own = new_token()
    worker = session.scalars(select(Worker).where(Worker.instance == wanted.instance)).first()
    if worker is None:
        worker = _new_worker(session, wanted, hash_of(own), token, now=now)
    worker.token_hash, worker.enrolment_id = hash_of(own), token.id
    worker.zone, worker.labels = token.zone, token.labels
    token.last_used_at = now
    session.flush()
    return Enrolled(name=worker.name, token=own)


def authenticate(session: Session, bearer: str) -> Worker:
    """The worker that holds this token; Unauthenticated when there is none.

    Revoking an enrolment token shuts out the workers that came with it.
    """
    row = session.execute(
        select(Worker, Token.revoked_at)
        .join(Token, Token.id == Worker.enrolment_id)
        .where(Worker.token_hash == hash_of(bearer))
    ).first()
    if row is None or row[1] is not None:
        raise Unauthenticated("The worker's token is unknown or revoked.", code="token_invalid")
    worker: Worker = row[0]
    return worker


def check_protocol(protocol: int) -> None:
    """Refuse a worker that speaks another version, saying which is wanted."""
    if protocol != PROTOCOL:
        raise Conflict(
            f"This worker speaks protocol {protocol}, the farm speaks {PROTOCOL}: run the line that "
            "`farm worker token` prints on its host again, which installs the farm's own version.",
            code="protocol_mismatch",
        )


def check_in(session: Session, worker: Worker, report: CheckIn, *, now: datetime) -> bool:
    """Record what a worker says of itself; returns whether it may matter to placement."""
    check_protocol(report.protocol)
    before = (
        worker.slots,
        worker.engine_ok,
        worker.last_seen_at is None,
        worker.containerd_store,
        worker.stopping,
    )
    worker.slots, worker.platforms = report.slots, report.platforms
    worker.containerd_store, worker.engine = report.containerd_store, report.engine
    worker.engine_ok, worker.version = report.engine_ok, report.version
    worker.disk_free, worker.disk_total = report.disk_free, report.disk_total
    worker.last_seen_at, worker.stopping = now, report.stopping
    session.flush()
    return before != (
        report.slots,
        report.engine_ok,
        False,
        report.containerd_store,
        report.stopping,
    )


def online(worker: Worker, *, now: datetime, heartbeat_s: float) -> bool:
    """Whether it has been heard of lately."""
    if worker.last_seen_at is None:
        return False
    return now - worker.last_seen_at <= timedelta(seconds=ONLINE_BEATS * heartbeat_s)


def list_workers(session: Session, *, now: datetime, heartbeat_s: float) -> list[WorkerView]:
    """Every worker, by name, with how many of its slots are taken."""
    busy = dict(
        session.execute(
            select(Part.placed_worker_id, func.count())
            .where(Part.status.in_((BuildStatus.QUEUED, BuildStatus.RUNNING)))
            .where(Part.placed_worker_id.is_not(None))
            .group_by(Part.placed_worker_id)
        ).all()
    )
    rows = session.scalars(select(Worker).where(present()).order_by(Worker.name))
    return [
        WorkerView(
            id=str(row.id),
            name=row.name,
            zone=row.zone,
            labels=row.labels,
            slots=row.slots,
            busy=busy.get(row.id, 0),
            platforms=row.platforms,
            online=online(row, now=now, heartbeat_s=heartbeat_s),
            draining=row.draining or row.stopping,
            engine_ok=row.engine_ok,
            version=row.version,
            engine=row.engine,
            disk_free=row.disk_free,
            disk_total=row.disk_total,
            last_seen_at=row.last_seen_at,
        )
        for row in rows
    ]


def set_draining(session: Session, name: str, *, draining: bool) -> None:
    """Stop, or go on, giving builds to a worker; what it runs goes on to its end."""
    done = session.execute(
        update(Worker)
        .where(Worker.name == name, present())
        .values(draining=draining)
        .returning(Worker.id)
    ).first()
    if done is None:
        raise NotFound("There is no such worker.", code="worker_not_found")


def remove(session: Session, name: str, *, now: datetime) -> None:
    """Forget a worker: its token is void and its name free again.

    Conflict while it holds builds: drain it first. Builds of a worker that is gone for
    good end with their leases.
    """
    worker = session.scalars(select(Worker).where(Worker.name == name, present())).first()
    if worker is None:
        raise NotFound("There is no such worker.", code="worker_not_found")
    held = session.scalars(
        select(Part.id)
        .where(
            Part.placed_worker_id == worker.id,
            Part.status.in_((BuildStatus.QUEUED, BuildStatus.RUNNING)),
        )
        .limit(1)
    ).first()
    if held is not None:
        raise Conflict("It holds builds: drain it first.", code="worker_busy")
    worker.removed_at = now
    worker.name = f"{worker.name[:40]}~{worker.id}"
    worker.token_hash = f"removed {worker.id}"
    worker.instance = f"removed {worker.id}"
    session.execute(delete(CacheUse).where(CacheUse.worker_id == worker.id))
    session.flush()


def present() -> ColumnElement[bool]:
    """The condition that a worker has not been removed."""
    return Worker.removed_at.is_(None)


def _new_worker(
    session: Session, wanted: Enrolment, token_hash: str, token: Token, *, now: datetime
) -> Worker:
    for _ in range(_ENROL_TRIES):
        worker = Worker(
            name=_free_name(session, wanted.name),
            instance=wanted.instance,
            token_hash=token_hash,
            enrolment_id=token.id,
            zone=token.zone,
            labels=token.labels,
            platforms=[],
            engine={},
            enrolled_at=now,
        )
        try:
            with session.begin_nested():
                session.add(worker)
                session.flush()
        except IntegrityError:
            continue  # somebody took the name in this very moment
        return worker
    raise Unavailable("Other workers enrol under that name just now; try again.")


def _free_name(session: Session, wanted: str) -> str:
    wanted = wanted[:_NAME_ROOM]
    taken = set(
        session.scalars(
            select(Worker.name).where(
                or_(
                    Worker.name == wanted,
                    Worker.name.startswith(f"{wanted}-", autoescape=True),
                )
            )
        )
    )
    if wanted not in taken:
        return wanted
    return next(f"{wanted}-{n}" for n in range(2, len(taken) + 3) if f"{wanted}-{n}" not in taken)
