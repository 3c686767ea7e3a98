"""The tables, their constraints and indexes. No statement runs here.

Times are Unix seconds as double precision; ids are text; JSON holds what is never searched.
Used by its neighbours; migrations/ repeats it step by step, and a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
    true,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

scope = Table(
    "scope",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("parent_id", String(200), ForeignKey("scope.id")),
    Column("created_at", Double, nullable=False),
    Column("inherits", Boolean, nullable=False, server_default=true()),
    CheckConstraint("(kind = 'global') = (parent_id IS NULL)", name="parent"),
    CheckConstraint("kind IN ('global', 'group', 'gateway', 'instance')", name="kind"),
)

gateway = Table(
    "gateway",
    metadata,
    Column("scope_id", String(200), ForeignKey("scope.id", ondelete="CASCADE"), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("gateway_id", String(64), nullable=False),
    Column("rate_limiting_limit", Integer),
    Column("rate_limiting_interval", Integer),
    Column("rate_limiting_technique", String(16), nullable=False),
    Column("cache_ttl", Integer),
    Column("cache_invalidate_on_update", Boolean, nullable=False),
    Column("collect_logs", Boolean, nullable=False),
    Column("authentication", Boolean, nullable=False),
    Column("extra", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("account", "gateway_id"),
    CheckConstraint("rate_limiting_technique IN ('fixed', 'sliding')", name="technique"),
    # 0 and NULL both stand for no limit: generated clients send either.
    CheckConstraint(
        "coalesce(rate_limiting_limit, 0) = 0"
        " OR (rate_limiting_limit > 0 AND coalesce(rate_limiting_interval, 0) > 0)",
        name="limit",
    ),
)

provider_config = Table(
    "provider_config",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("scope_id", String(200), ForeignKey("scope.id"), nullable=False),
    Column("provider_id", String(80), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("alias_key", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("dialect", String(16)),  # custom:<slug> only; the catalog knows the others'
    Column("base_url", String(500)),  # NULL: the catalog's
    Column("origin", String(300), nullable=False),  # frozen at write, part of the seal
    Column("auth_type", String(32), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("rate_limit", Integer),
    Column("rate_limit_period", Integer, nullable=False),
    Column("last_secret_version", Integer, nullable=False),
    Column("secret_label", String(200)),
    Column("managed_by", String(64)),
    Column("revision", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("allow_unlisted", Boolean, nullable=False, server_default=true()),
    Column("made_by", String(32)),  # the surface that made it, where that matters later
    UniqueConstraint("scope_id", "provider_id", "alias_key"),
    UniqueConstraint("scope_id", "id"),
    CheckConstraint("rate_limit > 0 AND rate_limit_period > 0", name="limit"),
    CheckConstraint("alias_key = lower(alias)", name="alias_key"),
    Index(
        "uq_provider_config_default",
        "scope_id",
        "provider_id",
        unique=True,
        sqlite_where=text("is_default"),
        postgresql_where=text("is_default"),
    ),
)

secret_version = Table(
    "secret_version",
    metadata,
    Column(
        "config_id",
        String(36),
        ForeignKey("provider_config.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("version", Integer, nullable=False),
    Column("sealed", LargeBinary),
    Column("reference", String(500)),
    Column("preview", String(520), nullable=False),
    Column("part_masks", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("retired_at", Double),
    PrimaryKeyConstraint("config_id", "version"),
    CheckConstraint("(sealed IS NULL) <> (reference IS NULL)", name="one_form"),
    Index(
        "uq_secret_version_live",
        "config_id",
        unique=True,
        sqlite_where=text("retired_at IS NULL"),
        postgresql_where=text("retired_at IS NULL"),
    ),
)

scope_choice = Table(
    "scope_choice",
    metadata,
    Column("scope_id", String(200), ForeignKey("scope.id", ondelete="CASCADE"), primary_key=True),
    Column("config_id", String(36), nullable=False),
    Column("model", String(300), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    ForeignKeyConstraint(
        ["scope_id", "config_id"],
        ["provider_config.scope_id", "provider_config.id"],
        ondelete="CASCADE",
    ),
)

agent = Table(
    "agent",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("scope_id", String(200), ForeignKey("scope.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("provider_id", String(80)),
    Column("model_id", String(300)),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("managed_by", String(64)),
    CheckConstraint("(provider_id IS NULL) = (model_id IS NULL)", name="binding"),
    Index(None, "scope_id"),
)

model_state = Table(
    "model_state",
    metadata,
    Column("scope_id", String(200), ForeignKey("scope.id", ondelete="CASCADE")),
    Column("provider_id", String(80), nullable=False),
    Column("model_id", String(300), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("managed_by", String(64)),
    Column("updated_at", Double, nullable=False),
    PrimaryKeyConstraint("scope_id", "provider_id", "model_id"),
)

route = Table(
    "route",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("scope_id", String(200), ForeignKey("scope.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("managed_by", String(64)),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("scope_id", "name"),
)

route_target = Table(
    "route_target",
    metadata,
    Column("route_id", String(36), ForeignKey("route.id", ondelete="CASCADE")),
    Column("position", Integer, nullable=False, autoincrement=False),
    Column(
        "config_id",
        String(36),
        ForeignKey("provider_config.id", ondelete="RESTRICT"),
        nullable=False,
    ),
    Column("model", String(300), nullable=False),
    PrimaryKeyConstraint("route_id", "position"),
    Index(None, "config_id"),
)

client_key = Table(
    "client_key",
    metadata,
    Column("id", String(12), primary_key=True),  # the public id inside wg_<id>_<secret>
    Column("scope_id", String(200), ForeignKey("scope.id"), nullable=False),
    Column("agent_id", String(36), ForeignKey("agent.id")),
    Column("name", String(200), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("allowed_models", JSON, nullable=False),
    Column("rate_limit", Integer),
    Column("rate_limit_period", Integer, nullable=False),
    Column("expires_at", Double),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    CheckConstraint("rate_limit > 0 AND rate_limit_period > 0", name="limit"),
    Index(None, "scope_id"),
)

admin_token = Table(
    "admin_token",
    metadata,
    Column("id", String(12), primary_key=True),  # the public id inside wga_<id>_<secret>
    Column("name", String(200), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

grant = Table(
    "grant",
    metadata,
    Column("token_id", String(12), ForeignKey("admin_token.id", ondelete="CASCADE")),
    Column("permission", String(64), nullable=False),
    Column("scope_id", String(200), nullable=False),  # may be granted before the scope is made
    PrimaryKeyConstraint("token_id", "permission", "scope_id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1, 2, 3 … without a gap
    Column("at", Double, nullable=False),
    Column("actor_id", String(64), nullable=False),
    Column("actor_name", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(400), nullable=False),
    Column("change", Text, nullable=False),  # the very JSON text the chain was computed over
    Column("mac", LargeBinary, nullable=False),
)

# One row: how long the chain is, under a seal of its own, so that cutting its end shows.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("last", Integer, nullable=False),
    Column("row_mac", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

telemetry = Table(
    "telemetry",
    metadata,
    Column("key_id", String(12), primary_key=True),
    Column("last_used_at", Double, nullable=False),
)

# One row per config, reporting parent (`source`), slot width in seconds and slot (time // width).
health = Table(
    "health",
    metadata,
    Column(
        "config_id",
        String(36),
        ForeignKey("provider_config.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("source", String(32), nullable=False),
    Column("width", Integer, nullable=False),
    Column("slot", BigInteger, nullable=False),
    Column("counts", LargeBinary, nullable=False),
    PrimaryKeyConstraint("config_id", "source", "width", "slot"),
    Index(None, "slot"),
)

# What the last look at a config's key showed, by probe or by traffic; it speaks of one version.
proof = Table(
    "proof",
    metadata,
    Column("config_id", String(36), ForeignKey("provider_config.id", ondelete="CASCADE")),
    Column("secret_version", Integer, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("checked_at", Double, nullable=False),
    PrimaryKeyConstraint("config_id"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("actor_id", String(64), nullable=False),
    Column("key", String(255), nullable=False),
    Column("digest", LargeBinary, nullable=False),  # keyed hash of method, path and body
    Column("status", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("actor_id", "key"),
    Index(None, "created_at"),
)

catalog = Table(
    "catalog",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("url", String(500), nullable=False),
    Column("etag", String(200)),
    Column("digest", String(64), nullable=False),  # SHA-256 of the uncompressed JSON
    Column("data", LargeBinary, nullable=False),  # JSON as the source has it, xz
    Column("synced_at", Double, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", Integer, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

sealed = Table(
    "sealed",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
