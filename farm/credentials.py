"""What a worker gets with its claim: the spec, and credentials for this attempt only."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.attempts import Claimed
from farm.model import Project, Registry, Secret
from farm.protocol import (
    ClaimAnswer,
    Credentials,
    GitCredential,
    PublishedImage,
    RegistryCredential,
)
from farm.sealing import Sealer
from farm.settings import Settings
from farm.spec import BuildSpec

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
        credentials=credentials_for(session, build.project_id, claimed.spec, sealer),
        farm_labels={"farm.build.id": str(build.id)},
        timeout_s=claimed.remaining_s,
        log_limit=settings.log_limit,
        published=published,
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
    )


def credentials_for(
    session: Session, project_id: int, spec: BuildSpec, sealer: Sealer
) -> Credentials:
    """A project's own logins and secrets, and those for all where it has none of its own."""
    project = session.get_one(Project, project_id)
    git = None
    if project.git_token is not None:
        git = GitCredential(
            username=project.git_username or DEFAULT_GIT_USERNAME,
            password=sealer.open(project.git_token),
        )
    scopes = (0, project_id)
    registries = {
        row.host: RegistryCredential(
            host=row.host, username=row.username, password=sealer.open(row.sealed)
        )
        for row in session.scalars(
            select(Registry).where(Registry.scope_id.in_(scopes)).order_by(Registry.scope_id)
        )
    }
    secrets = {
        row.name: sealer.open(row.sealed)
        for row in session.scalars(
            select(Secret)
            .where(Secret.scope_id.in_(scopes), Secret.name.in_(spec.secrets))
            .order_by(Secret.scope_id)
        )
    }
    return Credentials(git=git, registries=list(registries.values()), secrets=secrets)
