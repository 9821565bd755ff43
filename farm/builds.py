"""What people ask of builds: request one, cancel it, retry it.

Called by doors (a view, a control task) that open the transaction and commit it;
nothing here commits, and nothing here tells the queue.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from farm import lifecycle, projects, tags
from farm.errors import Conflict, Forbidden, Invalid, NotFound
from farm.model import Build, Event, Part, Project, Secret
from farm.reasons import Reason, WaitReason
from farm.spec import BuildRequest, BuildSpec
from farm.states import BuildStatus, Trigger, Zone


def request(
    session: Session,
    wanted: BuildRequest,
    *,
    trigger: Trigger,
    now: datetime,
    trust: Zone = Zone.TRUSTED,
) -> Build:
    """Ask for a build: it exists from now on, `queued`, or `failed` when it cannot start.

    A repository that is new makes its project. The build is as trusted as who asks,
    or less. Raises Invalid for what a build cannot be, NotFound for a project that does
    not exist, Forbidden for more trust than there is.
    """
    if wanted.zone is Zone.TRUSTED and trust is Zone.UNTRUSTED:
        raise Forbidden("The token's builds run in the untrusted zone.", code="zone_forbidden")
    if len(wanted.platforms) > 1:
        raise Invalid.field("platforms", "one platform per build for now", code="several_platforms")
    if wanted.project is not None:
        project = projects.find(session, wanted.project)
    else:
        assert wanted.repository is not None
        project = projects.ensure(session, wanted.repository, now=now)
    spec = wanted.compile(project.repository)
    build = _new_build(project, spec, trigger=trigger, now=now)
    build.priority = wanted.priority
    build.zone = wanted.zone or trust
    if wanted.sha is not None:
        _pin(session, build, spec, wanted.sha, now=now)
    return _start(session, build, spec, now=now)


def retry(session: Session, build_id: int, *, now: datetime) -> Build:
    """A new build of the same commit and spec, linked to the old one, in its place.

    Conflict while the old one is not over: terminal states never change, and what
    runs needs no retry.
    """
    old = find(session, build_id)
    if not old.status.terminal:
        raise Conflict("The build is not over: cancel it first.", code="build_not_over")
    project = session.get_one(Project, old.project_id)
    spec = BuildSpec.model_validate(old.spec)
    build = _new_build(project, spec, trigger=Trigger.RETRY, now=now)
    build.priority, build.zone = old.priority, old.zone
    build.sha, build.commit_id = old.sha, old.commit_id
    build.retry_of, build.root_id = old.id, old.root_id or old.id
    return _start(session, build, spec, now=now)


def cancel(
    session: Session, build_id: int, *, now: datetime, reason: Reason = Reason.REQUESTED
) -> list[Part]:
    """End a build that people no longer want.

    A waiting one ends here; a running one ends when its worker sees the request,
    at once or with its next heartbeat: those parts are returned, so that the door
    can wake their workers. Conflict when it is over, or has published its image.
    """
    build = lock(session, build_id)
    if build.status.terminal:
        raise Conflict("The build is over already.", code="build_over")
    parts = session.scalars(select(Part).where(Part.build_id == build.id)).all()
    if any(part.published_at for part in parts):
        raise Conflict("Too late: the image is published.", code="too_late")
    running = [part for part in parts if part.status is BuildStatus.RUNNING]
    for part in parts:
        if part.status in (BuildStatus.QUEUED, BuildStatus.WAITING_APPROVAL):
            lifecycle.move_part(
                session,
                part,
                part.status,
                BuildStatus.CANCELLED,
                now=now,
                reason=reason,
            )
    if running and build.cancel_reason is None:
        session.execute(update(Build).where(Build.id == build.id).values(cancel_reason=reason))
        session.add(
            Event(
                build_id=build.id,
                at=now,
                kind="cancel_requested",
                reason=reason,
                detail={},
            )
        )
    session.flush()
    return running


def find(session: Session, build_id: int) -> Build:
    """The build of that id, or NotFound."""
    build = session.get(Build, build_id)
    if build is None:
        raise NotFound("There is no such build.", code="build_not_found")
    return build


def lock(session: Session, build_id: int) -> Build:
    """The build, held against other writers until the transaction ends (Postgres).

    Every change to a build's parts takes this first, so that a cancel and a publish
    in the same moment are one before the other.
    """
    build = session.get(Build, build_id, with_for_update=True, populate_existing=True)
    if build is None:
        raise NotFound("There is no such build.", code="build_not_found")
    return build


def missing_secrets(session: Session, build: Build, spec: BuildSpec) -> list[str]:
    """The names that a spec asks for and nobody has stored for the project or for all."""
    if not spec.secrets:
        return []
    if build.zone is Zone.UNTRUSTED:
        return spec.secrets  # none is given to a build that anybody may have written
    known = set(
        session.scalars(
            select(Secret.name).where(
                Secret.name.in_(spec.secrets),
                Secret.scope_id.in_((0, build.project_id)),
            )
        )
    )
    return [name for name in spec.secrets if name not in known]


def fail_for_missing_secrets(
    session: Session, part: Part, missing: list[str], *, now: datetime
) -> None:
    """End a build that cannot start, naming what is missing."""
    lifecycle.move_part(
        session,
        part,
        BuildStatus.QUEUED,
        BuildStatus.FAILED,
        now=now,
        reason=Reason.SECRET_MISSING,
        message=f"Not stored: {', '.join(missing)}.",
    )


def _new_build(project: Project, spec: BuildSpec, *, trigger: Trigger, now: datetime) -> Build:
    return Build(
        project_id=project.id,
        status=BuildStatus.QUEUED,
        spec=spec.model_dump(mode="json"),
        pull_request=spec.pull_request,
        ref=spec.ref,
        trigger=trigger,
        group_key=_group_key(project, spec),
        cache_key=_cache_key(project, spec),
        timeout_s=spec.timeout_s,
        created_at=now,
    )


def _start(session: Session, build: Build, spec: BuildSpec, *, now: datetime) -> Build:
    platforms: list[str | None] = [*spec.platforms] or [None]
    parts = [Part(platform=platform, waiting_reason=WaitReason.NEW) for platform in platforms]
    lifecycle.begin(session, build, parts, now=now)
    missing = missing_secrets(session, build, spec)
    if missing:
        for part in parts:
            fail_for_missing_secrets(session, part, missing, now=now)
    return build


def _pin(session: Session, build: Build, spec: BuildSpec, sha: str, *, now: datetime) -> None:
    commit = tags.learn_named(
        session, project_id=build.project_id, ref=spec.git_ref, sha=sha, now=now
    )
    build.sha, build.commit_id = sha, commit.id


def _group_key(project: Project, spec: BuildSpec) -> str:
    """A pull request's image: one at a time, so that the newest is built last."""
    if spec.pull_request is None:
        return ""
    return f"{project.id}/{spec.git_ref}/{_image_key(spec)}"


def _cache_key(project: Project, spec: BuildSpec) -> str:
    digest = hashlib.sha256(f"{project.id}\0{_image_key(spec)}".encode()).hexdigest()
    return digest[:32]


def _image_key(spec: BuildSpec) -> str:
    return hashlib.sha256(
        "\0".join([spec.context, spec.file, spec.target or ""]).encode()
    ).hexdigest()[:16]
