"""The life of a build: the only writer of a status.

`move_part` is one conditional UPDATE and its Event in the same transaction; the
build's own status follows its parts' there too. Zero rows means that somebody else
was first, and is a StaleAttempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from farm.errors import StaleAttempt
from farm.model import Build, Event, Part
from farm.reasons import Reason
from farm.states import MOVES, TERMINAL, BuildStatus, status_of_parts


def begin(session: Session, build: Build, parts: Sequence[Part], *, now: datetime) -> None:
    """Record a build that has just been asked for, in the status it was made with."""
    session.add(build)
    session.flush()
    for part in parts:
        part.build_id = build.id
        part.status = build.status
        session.add(part)
    session.add(Event(build_id=build.id, at=now, kind="build", to_status=build.status, detail={}))
    session.flush()


def move_part(
    session: Session,
    part: Part,
    source: BuildStatus,
    target: BuildStatus,
    *,
    now: datetime,
    fence: Sequence[ColumnElement[bool]] = (),
    values: dict[str, Any] | None = None,
    reason: Reason | None = None,
    message: str | None = None,
) -> BuildStatus:
    """Move one part and let its build follow; returns the build's status after it.

    `fence` are further conditions that must hold in the same UPDATE (the attempt,
    the claim token); StaleAttempt when the part is not, or no longer, as they say.
    """
    if target not in MOVES[source]:
        raise ValueError(f"no such move: {source} -> {target}")
    moved = session.execute(
        update(Part)
        .where(
            Part.id == part.id,
            Part.status == source,
            Part.attempt == part.attempt,
            *fence,
        )
        .values(status=target, **(values or {}))
        .returning(Part.id)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if moved is None:
        raise StaleAttempt("This attempt is no longer the current one.")
    attempt = part.attempt
    session.refresh(part)
    session.add(
        Event(
            build_id=part.build_id,
            part_id=part.id,
            attempt=attempt,
            at=now,
            kind="part",
            from_status=source,
            to_status=target,
            reason=reason,
            detail={"message": message} if message else {},
        )
    )
    return _follow(session, part.build_id, now=now, reason=reason, message=message)


def _follow(
    session: Session,
    build_id: int,
    *,
    now: datetime,
    reason: Reason | None,
    message: str | None,
) -> BuildStatus:
    """Bring a build's status to what its parts' say."""
    session.flush()
    build = session.get_one(Build, build_id, populate_existing=True)
    source = build.status
    statuses = session.scalars(select(Part.status).where(Part.build_id == build_id)).all()
    target = status_of_parts(statuses)
    if target is source:
        return source
    if target not in MOVES[source]:
        raise ValueError(f"no such move: {source} -> {target}")
    values: dict[str, Any] = {"status": target}
    if target is BuildStatus.RUNNING and build.started_at is None:
        values["started_at"] = now
    if target in TERMINAL:
        values["finished_at"] = now
        if target is not BuildStatus.SUCCEEDED:
            values |= {"reason": reason, "message": message}
    session.execute(
        update(Build)
        .where(Build.id == build_id, Build.status == source)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    session.refresh(build)
    session.add(
        Event(
            build_id=build_id,
            at=now,
            kind="build",
            from_status=source,
            to_status=target,
            reason=reason,
            detail={"message": message} if message else {},
        )
    )
    return target
