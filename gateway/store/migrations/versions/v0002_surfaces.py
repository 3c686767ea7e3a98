"""The second shape: model states, routes, health, proofs, idempotent answers, a synced catalog.

Scopes learn not to inherit, configs whether they serve models no catalog lists.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _columns()
    _models_and_routes()
    _observed()
    _answers_and_catalog()


def _columns() -> None:
    yes = sa.true()
    op.add_column("scope", sa.Column("inherits", sa.Boolean(), nullable=False, server_default=yes))
    op.add_column(
        "provider_config",
        sa.Column("allow_unlisted", sa.Boolean(), nullable=False, server_default=yes),
    )
    op.add_column("provider_config", sa.Column("made_by", sa.String(length=32)))
    op.add_column("agent", sa.Column("managed_by", sa.String(length=64)))
    op.create_index("ix_agent_scope_id", "agent", ["scope_id"])


def _models_and_routes() -> None:
    op.create_table(
        "model_state",
        sa.Column("scope_id", sa.String(length=200), nullable=False),
        sa.Column("provider_id", sa.String(length=80), nullable=False),
        sa.Column("model_id", sa.String(length=300), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("managed_by", sa.String(length=64)),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id"], ["scope.id"], name="fk_model_state_scope_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("scope_id", "provider_id", "model_id", name="pk_model_state"),
    )
    op.create_table(
        "route",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("scope_id", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("managed_by", sa.String(length=64)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["scope_id"], ["scope.id"], name="fk_route_scope_id"),
        sa.PrimaryKeyConstraint("id", name="pk_route"),
        sa.UniqueConstraint("scope_id", "name", name="uq_route_scope_id_name"),
    )
    op.create_table(
        "route_target",
        sa.Column("route_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("config_id", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(
            ["route_id"], ["route.id"], name="fk_route_target_route_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["config_id"],
            ["provider_config.id"],
            name="fk_route_target_config_id",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("route_id", "position", name="pk_route_target"),
    )
    op.create_index("ix_route_target_config_id", "route_target", ["config_id"])


def _observed() -> None:
    op.create_table(
        "health",
        sa.Column("config_id", sa.String(length=36), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["config_id"], ["provider_config.id"], name="fk_health_config_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("config_id", "source", "width", "slot", name="pk_health"),
    )
    op.create_index("ix_health_slot", "health", ["slot"])
    op.create_table(
        "proof",
        sa.Column("config_id", sa.String(length=36), nullable=False),
        sa.Column("secret_version", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("checked_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["config_id"], ["provider_config.id"], name="fk_proof_config_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("config_id", name="pk_proof"),
    )


def _answers_and_catalog() -> None:
    op.create_table(
        "idempotency",
        sa.Column("actor_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("actor_id", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
    op.create_table(
        "catalog",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("url", sa.String(length=500), nullable=False),
        sa.Column("etag", sa.String(length=200)),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("synced_at", sa.Double(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_catalog_single"),
        sa.PrimaryKeyConstraint("id", name="pk_catalog"),
    )


def downgrade() -> None:
    for table in (
        *("catalog", "idempotency", "proof", "health"),
        *("route_target", "route", "model_state"),
    ):
        op.drop_table(table)
    op.drop_index("ix_agent_scope_id", "agent")
    op.drop_column("agent", "managed_by")
    op.drop_column("provider_config", "made_by")
    op.drop_column("provider_config", "allow_unlisted")
    op.drop_column("scope", "inherits")
