"""Scopes as rows: found, made by the first authorised write, moved, and who refers to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, exists, func, insert, select, update

from gateway.shapes import Scope
from gateway.store.engine import Connection
from gateway.store.tables import (
    agent,
    client_key,
    gateway,
    model_state,
    provider_config,
    route,
    scope,
    telemetry,
)

# What stands in the way of deleting a scope, in the words of a refusal.
_USERS = {
    "scope": scope.c.parent_id,
    "gateway": gateway.c.scope_id,
    "provider config": provider_config.c.scope_id,
    "route": route.c.scope_id,
    "agent": agent.c.scope_id,
    "client key": client_key.c.scope_id,
    "model kept by a file": model_state.c.scope_id,
}
_COUNTED = {
    "client key": client_key.c.revoked_at.is_(None),
    "model kept by a file": model_state.c.managed_by.is_not(None),
}


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """A stored scope and the Unix time it was made."""

    scope: Scope
    created_at: float


async def find(conn: Connection, scope_id: str) -> Scope | None:
    found = await find_row(conn, scope_id)
    return found.scope if found is not None else None


async def find_row(conn: Connection, scope_id: str) -> ScopeRow | None:
    row = (await conn.execute(select(scope).where(scope.c.id == scope_id))).first()
    return _shaped(row) if row is not None else None


async def everyone(conn: Connection) -> list[Scope]:
    """Every scope there is, in the order they were made."""
    rows = await conn.execute(select(scope).order_by(scope.c.created_at, scope.c.id))
    return [_shaped(row).scope for row in rows]


async def page(
    conn: Connection, within: Collection[str] | None, offset: int, limit: int
) -> tuple[list[ScopeRow], int]:
    """Oldest first, with the number there are in all; `within` None: of all scopes."""
    count, rows = select(func.count()).select_from(scope), select(scope)
    if within is not None:
        meant = scope.c.id.in_(within)
        count, rows = count.where(meant), rows.where(meant)
    ordered = rows.order_by(scope.c.created_at, scope.c.id).offset(offset).limit(limit)
    total = await conn.scalar(count)
    return [_shaped(row) for row in await conn.execute(ordered)], int(total or 0)


async def add(conn: Connection, new: Scope, now: float) -> None:
    values = {
        "id": new.id,
        "kind": new.kind,
        "parent_id": new.parent,
        "inherits": new.inherits,
        "created_at": now,
    }
    await conn.execute(insert(scope).values(values))


async def alter(conn: Connection, scope_id: str, values: Mapping[str, Any]) -> None:
    await conn.execute(update(scope).where(scope.c.id == scope_id).values(**values))


async def has_children(conn: Connection, scope_id: str) -> bool:
    return bool(await conn.scalar(select(exists().where(scope.c.parent_id == scope_id))))


async def users(conn: Connection, scope_id: str) -> list[str]:
    """What kinds of things refer to a scope; revoked keys do not count."""
    found = []
    for kind, column in _USERS.items():
        wanted = exists().where(column == scope_id)
        if kind in _COUNTED:
            wanted = wanted.where(_COUNTED[kind])
        if await conn.scalar(select(wanted)):
            found.append(kind)
    return found


async def remove(conn: Connection, scope_id: str) -> None:
    """Delete a scope that nothing uses; the keys revoked in it go along."""
    held = client_key.c.scope_id == scope_id
    gone = select(client_key.c.id).where(held)
    await conn.execute(delete(telemetry).where(telemetry.c.key_id.in_(gone)))
    await conn.execute(delete(client_key).where(held))
    await conn.execute(delete(scope).where(scope.c.id == scope_id))


def _shaped(row: Row[Any]) -> ScopeRow:
    return ScopeRow(Scope(row.id, row.kind, row.parent_id, row.inherits), row.created_at)
