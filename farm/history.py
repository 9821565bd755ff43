"""Looking at builds: one, a page of many, their steps. Reads only; no page counts rows.

Pages are keyset pages: a cursor is the id of the last build that was shown, so the
thousandth page costs what the first does.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from farm.errors import Invalid, NotFound
from farm.model import Attempt, Build, Part, Project, Step, Tag
from farm.reasons import Reason
from farm.states import BuildStatus
from farm.views import (
    AttemptView,
    BuildPage,
    BuildView,
    ImageView,
    PartView,
    StepCount,
    StepView,
    Waiting,
)

MAX_LIMIT = 100
MAX_ID = 2**53


@dataclass(frozen=True)
class BuildFilter:
    """Which builds a page shows; empty fields do not narrow it."""

    status: Sequence[BuildStatus] = field(default_factory=tuple)
    project: str | None = None
    pull_request: int | None = None
    q: str | None = None
    """What people have in hand: an id, #PR, the beginning of a commit or digest, a tag,
    a project's name."""


def get(session: Session, build_id: int, *, base_url: str) -> BuildView:
    """One build as people see it, or NotFound."""
    row = session.execute(
        select(Build, Project.name)
        .join(Project, Project.id == Build.project_id)
        .where(Build.id == build_id)
    ).first()
    if row is None:
        raise NotFound("There is no such build.", code="build_not_found")
    return _views(session, [(row[0], row[1])], base_url)[0]


def list_page(
    session: Session,
    wanted: BuildFilter,
    *,
    limit: int,
    cursor: str | None,
    base_url: str,
) -> BuildPage:
    """The builds that a filter lets through, newest first, from a cursor on."""
    query = select(Build, Project.name).join(Project, Project.id == Build.project_id)
    for condition in _conditions(wanted):
        query = query.where(condition)
    if cursor is not None:
        query = query.where(Build.id < _id_of(cursor))
    rows = session.execute(query.order_by(Build.id.desc()).limit(limit + 1)).all()
    shown = rows[:limit]
    return BuildPage(
        items=_views(session, shown, base_url),
        next_cursor=str(shown[-1][0].id) if len(rows) > limit else None,
    )


def steps(session: Session, build_id: int) -> list[StepView]:
    """The steps of the latest attempt of every part, in BuildKit's order."""
    if session.get(Build, build_id) is None:
        raise NotFound("There is no such build.", code="build_not_found")
    latest = _latest_attempts(session, build_id)
    views: list[StepView] = []
    for part, number in latest:
        rows = session.scalars(
            select(Step)
            .where(Step.part_id == part.id, Step.attempt == number)
            .order_by(Step.number)
        )
        views += [step_view(row, part) for row in rows]
    return views


def step_view(step: Step, part: Part) -> StepView:
    """A step as people see it."""
    return StepView(
        number=step.number,
        name=step.name,
        status=step.status,
        cached=step.cached,
        started_at=step.started_at,
        duration_s=step.duration_s,
        platform=part.platform,
        attempt=step.attempt,
    )


def log_of(
    session: Session,
    build_id: int,
    *,
    platform: str | None = None,
    attempt: int | None = None,
) -> tuple[int, int] | None:
    """The part and attempt whose log people mean: the latest, or the one they name.

    None while nothing has started yet; NotFound for one that never was.
    """
    if session.get(Build, build_id) is None:
        raise NotFound("There is no such build.", code="build_not_found")
    latest = _latest_attempts(session, build_id, platform=platform)
    if attempt is None:
        return (latest[0][0].id, latest[0][1]) if latest else None
    for part, _ in latest:
        if session.get(Attempt, (part.id, attempt)) is not None:
            return part.id, attempt
    raise NotFound("There is no such attempt.", code="attempt_not_found")


def _latest_attempts(
    session: Session, build_id: int, *, platform: str | None = None
) -> list[tuple[Part, int]]:
    query = (
        select(Part, Attempt.number)
        .join(Attempt, Attempt.part_id == Part.id)
        .where(Part.build_id == build_id)
        .order_by(Part.id, Attempt.number)
    )
    if platform is not None:
        query = query.where(Part.platform == platform)
    latest = {part.id: (part, number) for part, number in session.execute(query)}
    return list(latest.values())


def _conditions(wanted: BuildFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.status:
        found.append(Build.status.in_(wanted.status))
    if wanted.project is not None:
        found.append(Project.name == wanted.project)
    if wanted.pull_request is not None:
        found.append(Build.pull_request == wanted.pull_request)
    if wanted.q:
        found.append(_search(wanted.q.strip()))
    return found


def _search(q: str) -> ColumnElement[bool]:
    """Exact or prefix matches only: each of them has an index."""
    ways: list[ColumnElement[bool]] = [
        Project.name == q,
        Project.name.startswith(q, autoescape=True),
        Build.ref == q,
        Build.id.in_(select(Tag.build_id).where(Tag.reference == q)),
    ]
    if re.fullmatch(r"#?[0-9]{1,15}", q):
        number = int(q.removeprefix("#"))
        if number < 2**31:
            ways.append(Build.pull_request == number)
        if not q.startswith("#"):
            ways.append(Build.id == number)
    if re.fullmatch(r"[0-9a-f]{4,64}", q):
        ways.append(Build.sha.between(q, q + "g"))
    if re.fullmatch(r"sha256:[0-9a-f]{4,64}", q):
        ways.append(Build.image_digest.between(q, q + "g"))
    return or_(*ways)


def _id_of(cursor: str) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", cursor) or int(cursor) > MAX_ID:
        raise Invalid("The cursor is not one that the farm gave.", code="cursor_invalid")
    return int(cursor)


def _views(session: Session, rows: Sequence[tuple[Build, str]], base_url: str) -> list[BuildView]:
    ids = [build.id for build, _ in rows]
    parts: dict[int, list[Part]] = defaultdict(list)
    for part in session.scalars(select(Part).where(Part.build_id.in_(ids)).order_by(Part.id)):
        parts[part.build_id].append(part)
    part_ids = [part.id for group in parts.values() for part in group]
    attempts: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in session.scalars(
        select(Attempt).where(Attempt.part_id.in_(part_ids)).order_by(Attempt.number)
    ):
        attempts[attempt.part_id].append(attempt)
    return [_view(build, project, parts[build.id], attempts, base_url) for build, project in rows]


def _view(
    build: Build,
    project: str,
    parts: Sequence[Part],
    attempts: dict[int, list[Attempt]],
    base_url: str,
) -> BuildView:
    reason, message = _why(build, parts, attempts)
    return BuildView(
        id=str(build.id),
        status=build.status,
        reason=reason,
        message=message,
        cure=reason.cure if reason else None,
        project=project,
        repository=build.spec["repository"],
        pull_request=build.pull_request,
        ref=build.ref,
        sha=build.sha,
        trigger=build.trigger,
        priority=build.priority,
        waiting=_waiting(build, parts),
        parts=[_part_view(part, attempts[part.id]) for part in parts],
        image=_image(build),
        steps=StepCount(total=build.steps_total, cached=build.steps_cached),
        retry_of=str(build.retry_of) if build.retry_of else None,
        created_at=build.created_at,
        started_at=build.started_at,
        finished_at=build.finished_at,
        queue_s=_between(build.created_at, build.started_at or build.finished_at),
        duration_s=_between(build.started_at, build.finished_at),
        url=f"{base_url.rstrip('/')}/builds/{build.id}",
    )


def _why(
    build: Build, parts: Sequence[Part], attempts: dict[int, list[Attempt]]
) -> tuple[Reason | None, str | None]:
    """Why it ended; of a build that waits for another attempt, how the last one ended."""
    if build.status is BuildStatus.QUEUED:
        for part in parts:
            tried = attempts.get(part.id)
            if tried and part.status is BuildStatus.QUEUED:
                return tried[-1].reason, tried[-1].message
    return build.reason, build.message


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None


def _waiting(build: Build, parts: Sequence[Part]) -> Waiting | None:
    if build.status is not BuildStatus.QUEUED:
        return None
    for part in parts:
        if part.status is BuildStatus.QUEUED and part.waiting_reason:
            eta = None
            if part.eta_low_s is not None and part.eta_high_s is not None:
                eta = (part.eta_low_s, part.eta_high_s)
            return Waiting(reason=part.waiting_reason, position=part.waiting_position, eta_s=eta)
    return None


def _part_view(part: Part, attempts: Sequence[Attempt]) -> PartView:
    return PartView(
        id=part.id,
        platform=part.platform,
        status=part.status,
        phase=part.phase if part.status is BuildStatus.RUNNING else None,
        attempts=[
            AttemptView(
                number=attempt.number,
                worker=attempt.worker_name,
                started_at=attempt.started_at,
                finished_at=attempt.finished_at,
                outcome=attempt.outcome,
                reason=attempt.reason,
                message=attempt.message,
            )
            for attempt in attempts
        ],
    )


def _image(build: Build) -> ImageView | None:
    if build.image_digest is None:
        return None
    return ImageView(digest=build.image_digest, tags=build.image_tags, size=build.image_size)
