"""What a worker gets with its claim: the spec, and credentials for this attempt only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.attempts import Claimed
from farm.model import Build, Project, Registry, Secret
from farm.protocol import (
    ClaimAnswer,
    Credentials,
    GitCredential,
    PublishedImage,
    RegistryCredential,
)
from farm.references import parse_image_reference
from farm.sealing import Sealer
from farm.settings import Settings
from farm.spec import BuildSpec
from farm.states import Zone

DEFAULT_GIT_USERNAME = "git"
"""Forges that take a token as the password accept any name, but not an empty one."""


def claim_answer(
    session: Session, claimed: Claimed, sealer: Sealer, settings: Settings
) -> ClaimAnswer:
    """Everything that the claimed attempt needs."""
    build, part = claimed.build, claimed.part
    published = None
    if part.published_at is not None and part.digest is not None:
        published = PublishedImage(digest=part.digest, size=part.size)
    return ClaimAnswer(
        build_id=str(build.id),
        part_id=part.id,
        attempt=part.attempt,
        platform=part.platform,
        project_id=build.project_id,
        spec=claimed.spec,
        sha=build.sha,
        trusted_host=session.get_one(Project, build.project_id).trusted_host,
        credentials=credentials_for(session, build, claimed.spec, sealer),
        farm_labels={"farm.build.id": str(build.id)},
        timeout_s=claimed.timeout_s,
        log_limit=settings.log_limit,
        published=published,
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
    )


def credentials_for(session: Session, build: Build, spec: BuildSpec, sealer: Sealer) -> Credentials:
    """A project's own logins and secrets, and those for all where it has none of its own.

    A build of the untrusted zone gets no secrets, and of the logins only those of the
    registries that its tags name.
    """
    project = session.get_one(Project, build.project_id)
    git = None
    if project.git_token is not None:
        git = GitCredential(
            username=project.git_username or DEFAULT_GIT_USERNAME,
            password=sealer.open(project.git_token),
        )
    trusted = build.zone is Zone.TRUSTED
    pushed_to = {parse_image_reference(tag).registry for tag in spec.tags}
    registries = {
        row.host: RegistryCredential(
            host=row.host, username=row.username, password=sealer.open(row.sealed)
        )
        for row in _of_scopes(session, Registry, project.id)
        if trusted or row.host in pushed_to
    }
    secrets = {
        row.name: sealer.open(row.sealed)
        for row in _of_scopes(session, Secret, project.id)
        if trusted and row.name in spec.secrets
    }
    return Credentials(git=git, registries=list(registries.values()), secrets=secrets)


RowT = TypeVar("RowT", Registry, Secret)


def _of_scopes(session: Session, table: type[RowT], project_id: int) -> Sequence[RowT]:
    """The rows for all projects, then the project's own, which win."""
    return session.scalars(
        select(table).where(table.scope_id.in_((0, project_id))).order_by(table.scope_id)
    ).all()
