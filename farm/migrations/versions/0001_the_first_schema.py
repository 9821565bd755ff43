"""The first schema

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "presences",
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("up_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_presences")),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("repository_key", sa.String(length=2048), nullable=False),
        sa.Column("trusted_host", sa.Boolean(), nullable=False),
        sa.Column("git_username", sa.String(length=255), nullable=True),
        sa.Column("git_token", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
        sa.UniqueConstraint("repository_key", name=op.f("uq_projects_repository_key")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column(
            "scopes", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column(
            "zone",
            sa.Enum(
                "trusted",
                "untrusted",
                name="zone",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "labels", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
    )
    op.create_table(
        "commits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("ref", sa.String(length=512), nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("commit_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("learnt_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_commits_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commits")),
    )
    with op.batch_alter_table("commits", schema=None) as batch_op:
        batch_op.create_index(
            "ix_commits_project_id_ref_learnt_at", ["project_id", "ref", "learnt_at"], unique=False
        )

    op.create_table(
        "registries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scope_id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_registries_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registries")),
        sa.UniqueConstraint("scope_id", "host", name=op.f("uq_registries_scope_id")),
    )
    op.create_table(
        "secrets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scope_id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_secrets_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secrets")),
        sa.UniqueConstraint("scope_id", "name", name=op.f("uq_secrets_scope_id")),
    )
    op.create_table(
        "sign_ins",
        sa.Column("cookie_hash", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["token_id"],
            ["tokens.id"],
            name=op.f("fk_sign_ins_token_id_tokens"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("cookie_hash", name=op.f("pk_sign_ins")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("instance", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("enrolment_id", sa.Integer(), nullable=False),
        sa.Column(
            "zone",
            sa.Enum(
                "trusted",
                "untrusted",
                name="zone",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "labels", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column(
            "platforms", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("containerd_store", sa.Boolean(), nullable=False),
        sa.Column(
            "engine", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("engine_ok", sa.Boolean(), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("disk_free", sa.BigInteger(), nullable=False),
        sa.Column("disk_total", sa.BigInteger(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("stopping", sa.Boolean(), nullable=False),
        sa.Column("enrolled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["enrolment_id"], ["tokens.id"], name=op.f("fk_workers_enrolment_id_tokens")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sa.UniqueConstraint("instance", name=op.f("uq_workers_instance")),
        sa.UniqueConstraint("name", name=op.f("uq_workers_name")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_workers_token_hash")),
    )
    op.create_table(
        "builds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "waiting_approval",
                "queued",
                "running",
                "succeeded",
                "failed",
                "errored",
                "cancelled",
                "skipped",
                name="status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "reason",
            sa.Enum(
                "step_failed",
                "check_failed",
                "timed_out",
                "out_of_memory",
                "no_space",
                "registry_unauthorized",
                "registry_rate_limited",
                "registry_unavailable",
                "repository_unauthorized",
                "repository_unavailable",
                "ref_not_found",
                "commit_moved",
                "source_refused",
                "dockerfile_invalid",
                "base_image_unavailable",
                "configuration_invalid",
                "secret_missing",
                "worker_lost",
                "engine_unavailable",
                "worker_stopped",
                "worker_fault",
                "unschedulable",
                "waited_too_long",
                "superseded",
                "requested",
                "unknown",
                name="reason",
                native_enum=False,
                length=64,
            ),
            nullable=True,
        ),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("spec", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("pull_request", sa.Integer(), nullable=True),
        sa.Column("ref", sa.String(length=512), nullable=True),
        sa.Column("sha", sa.String(length=64), nullable=True),
        sa.Column("commit_id", sa.Integer(), nullable=True),
        sa.Column(
            "trigger",
            sa.Enum(
                "api",
                "cli",
                "webhook",
                "retry",
                name="trigger",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "priority",
            sa.Enum(
                "high",
                "normal",
                "low",
                name="priority",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "zone",
            sa.Enum(
                "trusted",
                "untrusted",
                name="zone",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("group_key", sa.String(length=512), nullable=False),
        sa.Column("cache_key", sa.String(length=64), nullable=False),
        sa.Column("retry_of", sa.Integer(), nullable=True),
        sa.Column("root_id", sa.Integer(), nullable=True),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
        sa.Column(
            "cancel_reason",
            sa.Enum(
                "step_failed",
                "check_failed",
                "timed_out",
                "out_of_memory",
                "no_space",
                "registry_unauthorized",
                "registry_rate_limited",
                "registry_unavailable",
                "repository_unauthorized",
                "repository_unavailable",
                "ref_not_found",
                "commit_moved",
                "source_refused",
                "dockerfile_invalid",
                "base_image_unavailable",
                "configuration_invalid",
                "secret_missing",
                "worker_lost",
                "engine_unavailable",
                "worker_stopped",
                "worker_fault",
                "unschedulable",
                "waited_too_long",
                "superseded",
                "requested",
                "unknown",
                name="reason",
                native_enum=False,
                length=64,
            ),
            nullable=True,
        ),
        sa.Column("image_digest", sa.String(length=71), nullable=True),
        sa.Column("image_size", sa.BigInteger(), nullable=True),
        sa.Column(
            "image_tags", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("steps_total", sa.Integer(), nullable=False),
        sa.Column("steps_cached", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["commit_id"], ["commits.id"], name=op.f("fk_builds_commit_id_commits")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_builds_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["retry_of"], ["builds.id"], name=op.f("fk_builds_retry_of_builds")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_builds")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("builds", schema=None) as batch_op:
        batch_op.create_index("ix_builds_image_digest", ["image_digest"], unique=False)
        batch_op.create_index("ix_builds_project_id_id", ["project_id", "id"], unique=False)
        batch_op.create_index(
            "ix_builds_project_id_pull_request_id",
            ["project_id", "pull_request", "id"],
            unique=False,
        )
        batch_op.create_index(
            "ix_builds_project_id_status_id", ["project_id", "status", "id"], unique=False
        )
        batch_op.create_index("ix_builds_sha", ["sha"], unique=False)
        batch_op.create_index("ix_builds_status_id", ["status", "id"], unique=False)

    op.create_table(
        "cache_uses",
        sa.Column("cache_key", sa.String(length=64), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("warm_s", sa.Double(), nullable=True),
        sa.Column("cold_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["workers.id"],
            name=op.f("fk_cache_uses_worker_id_workers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("cache_key", "worker_id", name=op.f("pk_cache_uses")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("part_id", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("from_status", sa.String(length=32), nullable=True),
        sa.Column("to_status", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column(
            "detail", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_events_build_id_builds"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index("ix_events_build_id_id", ["build_id", "id"], unique=False)

    op.create_table(
        "idempotency_keys",
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id"],
            ["builds.id"],
            name=op.f("fk_idempotency_keys_build_id_builds"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["token_id"],
            ["tokens.id"],
            name=op.f("fk_idempotency_keys_token_id_tokens"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "parts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=True),
        sa.Column(
            "status",
            sa.Enum(
                "waiting_approval",
                "queued",
                "running",
                "succeeded",
                "failed",
                "errored",
                "cancelled",
                "skipped",
                name="status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("burnt", sa.Integer(), nullable=False),
        sa.Column("placed_worker_id", sa.Integer(), nullable=True),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("digest", sa.String(length=71), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column(
            "phase",
            sa.Enum(
                "fetching",
                "building",
                "tagging",
                name="phase",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column(
            "waiting_reason",
            sa.Enum(
                "new",
                "reading_configuration",
                "retry_later",
                "no_worker",
                "unschedulable",
                "workers_offline",
                "workers_draining",
                "disk_low",
                "project_cap",
                "same_group",
                "slots_busy",
                "warm_worker_busy",
                "no_broker",
                "placed",
                name="waitreason",
                native_enum=False,
                length=64,
            ),
            nullable=True,
        ),
        sa.Column("waiting_position", sa.Integer(), nullable=True),
        sa.Column("eta_low_s", sa.Double(), nullable=True),
        sa.Column("eta_high_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_parts_build_id_builds"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["placed_worker_id"], ["workers.id"], name=op.f("fk_parts_placed_worker_id_workers")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parts")),
        sa.UniqueConstraint("build_id", "platform", name=op.f("uq_parts_build_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("parts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_parts_build_id"), ["build_id"], unique=False)
        batch_op.create_index(
            "ix_parts_open",
            ["status"],
            unique=False,
            sqlite_where=sa.text("status IN ('queued', 'running')"),
            postgresql_where=sa.text("status IN ('queued', 'running')"),
        )

    op.create_table(
        "tags",
        sa.Column("reference", sa.String(length=255), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("commit_learnt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("build_place", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["build_id"], ["builds.id"], name=op.f("fk_tags_build_id_builds")),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_tags")),
    )
    with op.batch_alter_table("tags", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tags_build_id"), ["build_id"], unique=False)

    op.create_table(
        "attempts",
        sa.Column("part_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=False),
        sa.Column("worker_name", sa.String(length=63), nullable=False),
        sa.Column("claim", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "outcome",
            sa.Enum(
                "succeeded",
                "failed",
                "errored",
                "cancelled",
                "lost",
                "handed_back",
                name="outcome",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column(
            "reason",
            sa.Enum(
                "step_failed",
                "check_failed",
                "timed_out",
                "out_of_memory",
                "no_space",
                "registry_unauthorized",
                "registry_rate_limited",
                "registry_unavailable",
                "repository_unauthorized",
                "repository_unavailable",
                "ref_not_found",
                "commit_moved",
                "source_refused",
                "dockerfile_invalid",
                "base_image_unavailable",
                "configuration_invalid",
                "secret_missing",
                "worker_lost",
                "engine_unavailable",
                "worker_stopped",
                "worker_fault",
                "unschedulable",
                "waited_too_long",
                "superseded",
                "requested",
                "unknown",
                name="reason",
                native_enum=False,
                length=64,
            ),
            nullable=True,
        ),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("log_size", sa.BigInteger(), nullable=False),
        sa.Column(
            "phases", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["part_id"], ["parts.id"], name=op.f("fk_attempts_part_id_parts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name=op.f("fk_attempts_worker_id_workers")
        ),
        sa.PrimaryKeyConstraint("part_id", "number", name=op.f("pk_attempts")),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index(
            "ix_attempts_worker_id_started_at", ["worker_id", "started_at"], unique=False
        )

    op.create_table(
        "steps",
        sa.Column("part_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "running",
                "succeeded",
                "failed",
                "cancelled",
                name="step_status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["part_id"], ["parts.id"], name=op.f("fk_steps_part_id_parts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("part_id", "attempt", "number", name=op.f("pk_steps")),
    )


def downgrade() -> None:

    op.drop_table("steps")
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_index("ix_attempts_worker_id_started_at")

    op.drop_table("attempts")
    with op.batch_alter_table("tags", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tags_build_id"))

    op.drop_table("tags")
    with op.batch_alter_table("parts", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_parts_open",
            sqlite_where=sa.text("status IN ('queued', 'running')"),
            postgresql_where=sa.text("status IN ('queued', 'running')"),
        )
        batch_op.drop_index(batch_op.f("ix_parts_build_id"))

    op.drop_table("parts")
    op.drop_table("idempotency_keys")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index("ix_events_build_id_id")

    op.drop_table("events")
    op.drop_table("cache_uses")
    with op.batch_alter_table("builds", schema=None) as batch_op:
        batch_op.drop_index("ix_builds_status_id")
        batch_op.drop_index("ix_builds_sha")
        batch_op.drop_index("ix_builds_project_id_status_id")
        batch_op.drop_index("ix_builds_project_id_pull_request_id")
        batch_op.drop_index("ix_builds_project_id_id")
        batch_op.drop_index("ix_builds_image_digest")

    op.drop_table("builds")
    op.drop_table("workers")
    op.drop_table("sign_ins")
    op.drop_table("secrets")
    op.drop_table("registries")
    with op.batch_alter_table("commits", schema=None) as batch_op:
        batch_op.drop_index("ix_commits_project_id_ref_learnt_at")

    op.drop_table("commits")
    op.drop_table("tokens")
    op.drop_table("projects")
    op.drop_table("presences")
