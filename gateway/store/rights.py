"""What the database's role may do: a gateway needs to read its tables, and at most keep reports.

Asked of PostgreSQL, before anything is tried that it would refuse and log. In SQLite, who has the
file may do everything. docs/deploy.md has the statements that grant a gateway just this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from gateway.store.engine import Connection, Store

# What a gateway reads: to compile its table, prove its master key, and show everybody's health.
READ = (
    "agent",
    "alembic_version",
    "catalog",
    "client_key",
    "gateway",
    "health",
    "model_state",
    "proof",
    "provider_config",
    "revision",
    "route",
    "route_target",
    "scope",
    "scope_choice",
    "sealed",
    "secret_version",
    "telemetry",
)
# What it keeps there of what its workers report.
KEPT = (
    ("health", "DELETE"),
    ("health", "INSERT"),
    ("proof", "INSERT"),
    ("proof", "UPDATE"),
    ("telemetry", "INSERT"),
    ("telemetry", "UPDATE"),
)
_READ_ONLY = text("SELECT current_setting('transaction_read_only') = 'on'")
_LACKS = text(
    "SELECT name"
    " FROM unnest(CAST(:names AS text[]), CAST(:needed AS text[])) AS asked (name, needed)"
    " WHERE NOT has_table_privilege(name, needed)"
)


@dataclass(frozen=True, slots=True)
class Rights:
    """`unreadable`: tables a gateway needs and may not read. `changes`: may the role change
    configuration, as the admin app must?
    """

    unreadable: tuple[str, ...] = ()
    changes: bool = True


async def rights(conn: Connection) -> Rights:
    """Of the role that asks; of an up-to-date database."""
    if conn.dialect.name != "postgresql":
        return Rights()
    unreadable = await _lacking(conn, [(name, "SELECT") for name in READ])
    changes = not await _read_only(conn) and not await _lacking(conn, [("revision", "UPDATE")])
    return Rights(tuple(unreadable), changes)


async def keeps_reports(store: Store) -> bool:
    """Whether the role may keep all that workers report."""
    async with store.read() as conn:
        if conn.dialect.name != "postgresql":
            return True
        return not await _read_only(conn) and not await _lacking(conn, KEPT)


async def _read_only(conn: Connection) -> bool:
    """True on a standby, and for a role whose transactions only read."""
    return bool(await conn.scalar(_READ_ONLY))


async def _lacking(conn: Connection, wanted: Sequence[tuple[str, str]]) -> list[str]:
    """The tables, in their order, on which the role has not the right that is wanted."""
    names, needed = zip(*wanted, strict=True)
    found = await conn.scalars(_LACKS, {"names": list(names), "needed": list(needed)})
    return list(found)
