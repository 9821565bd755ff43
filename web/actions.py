"""What people do to builds, as the API and the pages do it: open, change, commit, tell."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from farm import builds, db, guard, history, projects
from farm.access import Principal
from farm.errors import Invalid
from farm.model import Build, IdempotencyKey, Registry, Worker
from farm.references import DOCKER_HUB, parse_image_reference
from farm.spec import BuildRequest, cached_images
from farm.states import Trigger
from farm.views import BuildView
from web.context import services

_KEY_KEPT = timedelta(hours=24)


def request_build(
    principal: Principal, wanted: BuildRequest, *, trigger: Trigger, key: str | None
) -> BuildView:
    """Ask for a build. The same idempotency key and body get the same build again."""
    _guard_addresses(wanted)
    try:
        view = _record(principal, wanted, trigger=trigger, key=key)
    except IntegrityError:  # the same key in this very moment: now it is there to be replayed
        view = _record(principal, wanted, trigger=trigger, key=key)
    _tell(int(view.id))
    return view


def retry_build(build_id: int) -> BuildView:
    """A new build of the same commit, linked to the old one."""
    with services().database.write() as session:
        build = builds.retry(session, build_id, now=db.now(session))
        view = history.get(session, build.id, base_url=services().settings.url)
    _tell(build.id)
    return view


def cancel_build(build_id: int) -> BuildView:
    """End a build that nobody wants any more; its worker is woken at once."""
    with services().database.write() as session:
        running = builds.cancel(session, build_id, now=db.now(session))
        wake = [
            (session.get_one(Worker, part.placed_worker_id).name, part.id, part.attempt)
            for part in running
        ]
        view = history.get(session, build_id, base_url=services().settings.url)
    for worker, part_id, attempt in wake:
        services().wakeups.cancel(worker, part_id, attempt)
    _tell(build_id)
    return view


def require_https(repository: str) -> None:
    """Refuse a clone URL over plain http, unless the farm is for a trial."""
    if urlsplit(repository).scheme != "https" and not services().settings.insecure_ok:
        raise Invalid.field("repository", "must begin with https://")


def _tell(build_id: int) -> None:
    services().wakeups.scheduler()
    services().wakeups.build(build_id)


def _record(
    principal: Principal, wanted: BuildRequest, *, trigger: Trigger, key: str | None
) -> BuildView:
    with services().database.write() as session:
        now = db.now(session)
        fingerprint = hashlib.sha256(wanted.model_dump_json().encode()).hexdigest()
        build = _replayed(session, principal, key, fingerprint, now=now) if key else None
        if build is None:
            build = builds.request(session, wanted, trigger=trigger, now=now, trust=principal.zone)
            if key:
                session.add(
                    IdempotencyKey(
                        token_id=principal.token_id,
                        key=key,
                        body_hash=fingerprint,
                        build_id=build.id,
                        created_at=now,
                    )
                )
                session.flush()
        return history.get(session, build.id, base_url=services().settings.url)


def _replayed(
    session: Session, principal: Principal, key: str, fingerprint: str, *, now: datetime
) -> Build | None:
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - _KEY_KEPT))
    known = session.get(IdempotencyKey, (principal.token_id, key))
    if known is None:
        return None
    if known.body_hash != fingerprint:
        raise Invalid(
            "The Idempotency-Key was used with another body.",
            code="idempotency_key_reused",
        )
    return builds.find(session, known.build_id)


def _guard_addresses(wanted: BuildRequest) -> None:
    """Refuse to send workers to addresses inside, unless an admin registered the host."""
    settings = services().settings
    with services().database.read() as session:
        registered = set(session.scalars(select(Registry.host)))
        trusted = wanted.repository is None
        if wanted.repository is not None:
            project = projects.of_repository(session, wanted.repository)
            trusted = project is not None and project.trusted_host
    if wanted.repository is not None:
        require_https(wanted.repository)
        if not trusted:
            host = urlsplit(wanted.repository).hostname or ""
            guard.check_host(host, field="repository", insecure_ok=settings.insecure_ok)
    images = {
        "tags": [parse_image_reference(tag) for tag in wanted.tags],
        "cache_from": cached_images(wanted.cache_from),
        "cache_to": cached_images(wanted.cache_to),
    }
    for field, named in images.items():
        for host in {image.registry for image in named} - registered - {DOCKER_HUB}:
            name = urlsplit(f"//{host}").hostname or ""
            guard.check_host(name, field=field, insecure_ok=settings.insecure_ok)
