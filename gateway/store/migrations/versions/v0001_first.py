"""The first shape: scopes, gateways, provider configs, keys, tokens, audit, revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _scopes()
    _configs()
    _callers()
    _admins()
    _constants()
    _first_rows()


def _scopes() -> None:
    op.create_table(
        "scope",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("parent_id", sa.String(length=200)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("(kind = 'global') = (parent_id IS NULL)", name="ck_scope_parent"),
        sa.CheckConstraint(
            "kind IN ('global', 'group', 'gateway', 'instance')", name="ck_scope_kind"
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["scope.id"], name="fk_scope_parent_id"),
        sa.PrimaryKeyConstraint("id", name="pk_scope"),
    )
    op.create_table(
        "gateway",
        sa.Column("scope_id", sa.String(length=200), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("gateway_id", sa.String(length=64), nullable=False),
        sa.Column("rate_limiting_limit", sa.Integer()),
        sa.Column("rate_limiting_interval", sa.Integer()),
        sa.Column("rate_limiting_technique", sa.String(length=16), nullable=False),
        sa.Column("cache_ttl", sa.Integer()),
        sa.Column("cache_invalidate_on_update", sa.Boolean(), nullable=False),
        sa.Column("collect_logs", sa.Boolean(), nullable=False),
        sa.Column("authentication", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "rate_limiting_technique IN ('fixed', 'sliding')", name="ck_gateway_technique"
        ),
        sa.CheckConstraint(
            "coalesce(rate_limiting_limit, 0) = 0"
            " OR (rate_limiting_limit > 0 AND coalesce(rate_limiting_interval, 0) > 0)",
            name="ck_gateway_limit",
        ),
        sa.ForeignKeyConstraint(
            ["scope_id"], ["scope.id"], name="fk_gateway_scope_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("scope_id", name="pk_gateway"),
        sa.UniqueConstraint("account", "gateway_id", name="uq_gateway_account_gateway_id"),
    )


def _configs() -> None:
    op.create_table(
        "provider_config",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("scope_id", sa.String(length=200), nullable=False),
        sa.Column("provider_id", sa.String(length=80), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("alias_key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("dialect", sa.String(length=16)),
        sa.Column("base_url", sa.String(length=500)),
        sa.Column("origin", sa.String(length=300), nullable=False),
        sa.Column("auth_type", sa.String(length=32), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("rate_limit", sa.Integer()),
        sa.Column("rate_limit_period", sa.Integer(), nullable=False),
        sa.Column("last_secret_version", sa.Integer(), nullable=False),
        sa.Column("secret_label", sa.String(length=200)),
        sa.Column("managed_by", sa.String(length=64)),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.CheckConstraint("alias_key = lower(alias)", name="ck_provider_config_alias_key"),
        sa.CheckConstraint(
            "rate_limit > 0 AND rate_limit_period > 0", name="ck_provider_config_limit"
        ),
        sa.ForeignKeyConstraint(["scope_id"], ["scope.id"], name="fk_provider_config_scope_id"),
        sa.PrimaryKeyConstraint("id", name="pk_provider_config"),
        sa.UniqueConstraint("scope_id", "id", name="uq_provider_config_scope_id_id"),
        sa.UniqueConstraint(
            "scope_id",
            "provider_id",
            "alias_key",
            name="uq_provider_config_scope_id_provider_id_alias_key",
        ),
    )
    op.create_index(
        "uq_provider_config_default",
        "provider_config",
        ["scope_id", "provider_id"],
        unique=True,
        sqlite_where=sa.text("is_default"),
        postgresql_where=sa.text("is_default"),
    )
    op.create_table(
        "secret_version",
        sa.Column("config_id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("reference", sa.String(length=500)),
        sa.Column("preview", sa.String(length=520), nullable=False),
        sa.Column("part_masks", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("retired_at", sa.Double()),
        sa.CheckConstraint(
            "(sealed IS NULL) <> (reference IS NULL)", name="ck_secret_version_one_form"
        ),
        sa.ForeignKeyConstraint(
            ["config_id"],
            ["provider_config.id"],
            name="fk_secret_version_config_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("config_id", "version", name="pk_secret_version"),
    )
    op.create_index(
        "uq_secret_version_live",
        "secret_version",
        ["config_id"],
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    op.create_table(
        "scope_choice",
        sa.Column("scope_id", sa.String(length=200), nullable=False),
        sa.Column("config_id", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=300), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id", "config_id"],
            ["provider_config.scope_id", "provider_config.id"],
            name="fk_scope_choice_scope_id_config_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["scope_id"], ["scope.id"], name="fk_scope_choice_scope_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("scope_id", name="pk_scope_choice"),
    )


def _callers() -> None:
    op.create_table(
        "agent",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("scope_id", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("provider_id", sa.String(length=80)),
        sa.Column("model_id", sa.String(length=300)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.CheckConstraint("(provider_id IS NULL) = (model_id IS NULL)", name="ck_agent_binding"),
        sa.ForeignKeyConstraint(["scope_id"], ["scope.id"], name="fk_agent_scope_id"),
        sa.PrimaryKeyConstraint("id", name="pk_agent"),
    )
    op.create_table(
        "client_key",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("scope_id", sa.String(length=200), nullable=False),
        sa.Column("agent_id", sa.String(length=36)),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("allowed_models", sa.JSON(), nullable=False),
        sa.Column("rate_limit", sa.Integer()),
        sa.Column("rate_limit_period", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.CheckConstraint("rate_limit > 0 AND rate_limit_period > 0", name="ck_client_key_limit"),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_client_key_agent_id"),
        sa.ForeignKeyConstraint(["scope_id"], ["scope.id"], name="fk_client_key_scope_id"),
        sa.PrimaryKeyConstraint("id", name="pk_client_key"),
    )
    op.create_index("ix_client_key_scope_id", "client_key", ["scope_id"], unique=False)
    op.create_table(
        "telemetry",
        sa.Column("key_id", sa.String(length=12), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_telemetry"),
    )


def _admins() -> None:
    op.create_table(
        "admin_token",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_admin_token"),
    )
    op.create_table(
        "grant",
        sa.Column("token_id", sa.String(length=12), nullable=False),
        sa.Column("permission", sa.String(length=64), nullable=False),
        sa.Column("scope_id", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["token_id"], ["admin_token.id"], name="fk_grant_token_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_id", "permission", "scope_id", name="pk_grant"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor_id", sa.String(length=64), nullable=False),
        sa.Column("actor_name", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=400), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_audit_head_single"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )


def _constants() -> None:
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_revision_single"),
        sa.PrimaryKeyConstraint("id", name="pk_revision"),
    )
    op.create_table(
        "sealed",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sealed"),
    )


def _first_rows() -> None:
    op.execute("INSERT INTO scope (id, kind, created_at) VALUES ('global', 'global', 0)")
    op.execute("INSERT INTO revision (id, value) VALUES (1, 0)")


def downgrade() -> None:
    for table in (
        *("sealed", "revision", "audit_head", "audit", "grant", "admin_token", "telemetry"),
        *("client_key", "agent", "scope_choice", "secret_version", "provider_config"),
        *("gateway", "scope"),
    ):
        op.drop_table(table)
