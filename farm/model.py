"""The tables. No rules live here; the enums of their columns are in `farm.states`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from farm.db import Instant
from farm.reasons import Reason, WaitReason
from farm.states import BuildStatus, Outcome, Phase, Priority, StepStatus, Trigger, Zone

Json = JSON().with_variant(JSONB(), "postgresql")


def _closed(enum: type[StrEnum], name: str) -> Enum:
    """Stored by value, with a CHECK: for enums whose members decide what may happen."""
    return Enum(
        enum,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )


def _open(enum: type[StrEnum]) -> Enum:
    """Stored by value without a CHECK: for enums that grow, such as reasons."""
    return Enum(
        enum,
        native_enum=False,
        create_constraint=False,
        length=64,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: Instant(),
        float: Double(),
        dict[str, Any]: Json,
        list[str]: Json,
        dict[str, str]: Json,
        BuildStatus: _closed(BuildStatus, "status"),
        Outcome: _closed(Outcome, "outcome"),
        StepStatus: _closed(StepStatus, "step_status"),
        Zone: _closed(Zone, "zone"),
        Trigger: _closed(Trigger, "trigger"),
        Priority: _closed(Priority, "priority"),
        Phase: _closed(Phase, "phase"),
        Reason: _open(Reason),
        WaitReason: _open(WaitReason),
    }


class Project(Base):
    """A git repository that we build."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    owner: Mapped[str] = mapped_column(String(255))
    repository: Mapped[str] = mapped_column(Text)
    repository_key: Mapped[str] = mapped_column(String(2048), unique=True)
    """The repository's normal form: two spellings of one URL are one project."""
    trusted_host: Mapped[bool] = mapped_column(default=False)
    """An admin registered it, so its host may be a private address."""
    git_username: Mapped[str | None] = mapped_column(String(255))
    git_token: Mapped[str | None] = mapped_column(Text)
    """Sealed."""
    created_at: Mapped[datetime]


class Commit(Base):
    """A commit that a ref pointed to, and since when the farm knows: who owns a tag."""

    __tablename__ = "commits"
    __table_args__ = (
        Index("ix_commits_project_id_ref_learnt_at", "project_id", "ref", "learnt_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    ref: Mapped[str] = mapped_column(String(512))
    sha: Mapped[str] = mapped_column(String(64))
    commit_date: Mapped[datetime | None]
    learnt_at: Mapped[datetime]


class Build(Base):
    """One commit to become one image: what a user sees."""

    __tablename__ = "builds"
    __table_args__ = (
        Index("ix_builds_project_id_id", "project_id", "id"),
        Index("ix_builds_status_id", "status", "id"),
        Index("ix_builds_project_id_status_id", "project_id", "status", "id"),
        Index("ix_builds_project_id_pull_request_id", "project_id", "pull_request", "id"),
        Index("ix_builds_sha", "sha"),
        Index("ix_builds_image_digest", "image_digest"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    status: Mapped[BuildStatus]
    reason: Mapped[Reason | None]
    message: Mapped[str | None] = mapped_column(Text)
    spec: Mapped[dict[str, Any]]
    pull_request: Mapped[int | None]
    ref: Mapped[str | None] = mapped_column(String(512))
    sha: Mapped[str | None] = mapped_column(String(64))
    commit_id: Mapped[int | None] = mapped_column(ForeignKey("commits.id"))
    trigger: Mapped[Trigger]
    priority: Mapped[Priority]
    zone: Mapped[Zone]
    group_key: Mapped[str] = mapped_column(String(512))
    """Builds of one group run one at a time: those of a pull request's image. Empty: none."""
    cache_key: Mapped[str] = mapped_column(String(64))
    """What a worker's BuildKit cache is warm for, but the platform: project, file, target."""
    retry_of: Mapped[int | None] = mapped_column(ForeignKey("builds.id"))
    root_id: Mapped[int | None]
    """The first build of a chain of retries: a retry keeps its original's place."""
    timeout_s: Mapped[int]
    cancel_reason: Mapped[Reason | None]
    """Set while a running build is asked to stop."""
    image_digest: Mapped[str | None] = mapped_column(String(71))
    image_size: Mapped[int | None] = mapped_column(BigInteger)
    image_tags: Mapped[list[str]] = mapped_column(default=list)
    """The names that this build pointed to its digest; a newer build may own them now."""
    steps_total: Mapped[int] = mapped_column(default=0)
    steps_cached: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Part(Base):
    """One platform of a build: what is placed and attempted."""

    __tablename__ = "parts"
    __table_args__ = (
        UniqueConstraint("build_id", "platform"),
        # Never an id twice: a log is found by it.
        Index(
            "ix_parts_open",
            "status",
            sqlite_where=text("status IN ('queued', 'running')"),
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"), index=True)
    platform: Mapped[str | None] = mapped_column(String(32))
    status: Mapped[BuildStatus]
    attempt: Mapped[int] = mapped_column(default=1)
    """The number that the next claim, or the running attempt, has."""
    burnt: Mapped[int] = mapped_column(default=0)
    """Attempts used up by the farm's own faults."""
    placed_worker_id: Mapped[int | None] = mapped_column(ForeignKey("workers.id"))
    placed_at: Mapped[datetime | None]
    """A placed part holds a slot of its worker, and only that worker may claim it."""
    not_before: Mapped[datetime | None]
    claim: Mapped[str | None] = mapped_column(String(64))
    """Drawn by the worker: fences every verb of the attempt."""
    lease_until: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    """From here the build can no longer be cancelled."""
    digest: Mapped[str | None] = mapped_column(String(71))
    size: Mapped[int | None] = mapped_column(BigInteger)
    phase: Mapped[Phase | None]
    waiting_reason: Mapped[WaitReason | None]
    waiting_position: Mapped[int | None]
    eta_low_s: Mapped[float | None]
    eta_high_s: Mapped[float | None]


class Attempt(Base):
    """One execution of a part on one worker."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_worker_id_started_at", "worker_id", "started_at"),)

    part_id: Mapped[int] = mapped_column(
        ForeignKey("parts.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"))
    worker_name: Mapped[str] = mapped_column(String(63))
    claim: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[Outcome | None]
    reason: Mapped[Reason | None]
    message: Mapped[str | None] = mapped_column(Text)
    log_size: Mapped[int] = mapped_column(BigInteger, default=0)
    phases: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Step(Base):
    """One BuildKit vertex of an attempt."""

    __tablename__ = "steps"

    part_id: Mapped[int] = mapped_column(
        ForeignKey("parts.id", ondelete="CASCADE"), primary_key=True
    )
    attempt: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[StepStatus]
    cached: Mapped[bool]
    started_at: Mapped[datetime | None]
    duration_s: Mapped[float | None]


class Tag(Base):
    """What a name in a registry should point to: the desired state."""

    __tablename__ = "tags"

    reference: Mapped[str] = mapped_column(String(255), primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("builds.id"), index=True)
    commit_learnt_at: Mapped[datetime]
    """Since when the farm knows the commit: the one that it learnt of last owns the name."""
    build_place: Mapped[int]
    """Among builds of one commit, the original's id."""
    digest: Mapped[str] = mapped_column(String(71))
    moved_at: Mapped[datetime]


class Event(Base):
    """One recorded transition; written in the transaction of the change it tells of."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_build_id_id", "build_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"))
    part_id: Mapped[int | None]
    attempt: Mapped[int | None]
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    """`build` or `part` for a move, else the name of what was recorded."""
    from_status: Mapped[str | None] = mapped_column(String(32))
    to_status: Mapped[str | None] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Worker(Base):
    """The process that builds on a Docker host."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    instance: Mapped[str] = mapped_column(String(32), unique=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    enrolment_id: Mapped[int] = mapped_column(ForeignKey("tokens.id"))
    zone: Mapped[Zone]
    labels: Mapped[list[str]]
    slots: Mapped[int] = mapped_column(default=0)
    platforms: Mapped[list[str]]
    containerd_store: Mapped[bool] = mapped_column(default=False)
    engine: Mapped[dict[str, str]]
    engine_ok: Mapped[bool] = mapped_column(default=False)
    version: Mapped[str] = mapped_column(String(100), default="")
    disk_free: Mapped[int] = mapped_column(BigInteger, default=0)
    disk_total: Mapped[int] = mapped_column(BigInteger, default=0)
    draining: Mapped[bool] = mapped_column(default=False)
    """Somebody asked it to take no builds."""
    stopping: Mapped[bool] = mapped_column(default=False)
    """Its process ends: it takes none until it checks in again."""
    enrolled_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]
    """Set once it is removed: the row stays for the attempts that name it."""
    last_seen_at: Mapped[datetime | None]


class CacheUse(Base):
    """Which worker holds which cache, and how long builds take there cold and warm."""

    __tablename__ = "cache_uses"

    cache_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    worker_id: Mapped[int] = mapped_column(
        ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True
    )
    used_at: Mapped[datetime]
    warm_s: Mapped[float | None]
    """Smoothed seconds of a build that found its cache here."""
    cold_s: Mapped[float | None]
    """Seconds of the build that filled it."""


class Token(Base):
    """A bearer token: its hash, never itself. Scope `worker` enrols workers."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    zone: Mapped[Zone]
    labels: Mapped[list[str]]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class SignIn(Base):
    """A browser that has signed in with a token; the cookie holds a value, here is its hash."""

    __tablename__ = "sign_ins"

    cookie_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_id: Mapped[int] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"))
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class Secret(Base):
    """A named value, sealed; of one project or of all (scope_id 0: NULL is not unique)."""

    __tablename__ = "secrets"
    __table_args__ = (UniqueConstraint("scope_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    scope_id: Mapped[int] = mapped_column(default=0)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(128))
    sealed: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime]


class Registry(Base):
    """A login to a registry, its password sealed; of one project or of all."""

    __tablename__ = "registries"
    __table_args__ = (UniqueConstraint("scope_id", "host"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    scope_id: Mapped[int] = mapped_column(default=0)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    host: Mapped[str] = mapped_column(String(255))
    username: Mapped[str] = mapped_column(String(255))
    sealed: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime]


class IdempotencyKey(Base):
    """The answer that was given to a submission with a key, for 24 hours."""

    __tablename__ = "idempotency_keys"

    token_id: Mapped[int] = mapped_column(
        ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_hash: Mapped[str] = mapped_column(String(64))
    build_id: Mapped[int] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]


class Presence(Base):
    """Who holds a role and since when it is up: the scheduler's lease, the web's uptime."""

    __tablename__ = "presences"

    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    up_since: Mapped[datetime]
    seen_at: Mapped[datetime]
