"""Scopes as rows: found, and made by the first authorised write."""

from __future__ import annotations

from sqlalchemy import delete, exists, insert, select

from gateway.shapes import Scope
from gateway.store.engine import Connection
from gateway.store.tables import scope


async def find(conn: Connection, scope_id: str) -> Scope | None:
    row = (await conn.execute(select(scope).where(scope.c.id == scope_id))).first()
    return Scope(row.id, row.kind, row.parent_id) if row is not None else None


async def everyone(conn: Connection) -> list[Scope]:
    """Every scope there is, in the order they were made."""
    rows = await conn.execute(select(scope).order_by(scope.c.created_at, scope.c.id))
    return [Scope(row.id, row.kind, row.parent_id) for row in rows]


async def add(conn: Connection, new: Scope, now: float) -> None:
    values = {"id": new.id, "kind": new.kind, "parent_id": new.parent, "created_at": now}
    await conn.execute(insert(scope).values(values))


async def has_children(conn: Connection, scope_id: str) -> bool:
    return bool(await conn.scalar(select(exists().where(scope.c.parent_id == scope_id))))


async def remove(conn: Connection, scope_id: str) -> None:
    await conn.execute(delete(scope).where(scope.c.id == scope_id))
