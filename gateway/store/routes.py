"""Routes and their targets: statements only, the rules are the desk's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from gateway.shapes import Route, Target
from gateway.store.engine import Connection
from gateway.store.tables import route, route_target


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A stored route with its targets, in their order."""

    route: Route
    managed_by: str | None
    created_at: float
    updated_at: float


async def everyone(conn: Connection, scope_id: str | None = None) -> list[RouteRow]:
    """Routes, oldest first; `scope_id` None: of every scope."""
    rows = select(route).order_by(route.c.created_at, route.c.id)
    if scope_id is not None:
        rows = rows.where(route.c.scope_id == scope_id)
    targets = select(route_target).order_by(route_target.c.route_id, route_target.c.position)
    held: dict[str, list[Target]] = {}
    for row in await conn.execute(targets):
        held.setdefault(row.route_id, []).append(Target(row.config_id, row.model))
    return [
        RouteRow(
            Route(row.id, row.scope_id, row.name, tuple(held.get(row.id, ()))),
            row.managed_by,
            row.created_at,
            row.updated_at,
        )
        for row in await conn.execute(rows)
    ]


async def find(conn: Connection, route_id: str) -> RouteRow | None:
    # A few dozen rows at most: one way of reading them is enough.
    return next((row for row in await everyone(conn) if row.route.id == route_id), None)


async def page(
    conn: Connection, scopes: Collection[str] | None, offset: int, limit: int
) -> tuple[list[RouteRow], int]:
    """Oldest first, with the number there are in all; `scopes` None: of every scope."""
    rows = [row for row in await everyone(conn) if scopes is None or row.route.scope in scopes]
    return rows[offset : offset + limit], len(rows)


async def holder(conn: Connection, scope_id: str, name: str) -> str | None:
    """The id of the scope's route of that name."""
    wanted = select(route.c.id).where(route.c.scope_id == scope_id, route.c.name == name)
    found: str | None = await conn.scalar(wanted)
    return found


async def naming(conn: Connection, config_id: str) -> list[Route]:
    """The routes that lead to a config."""
    return [
        row.route
        for row in await everyone(conn)
        if any(target.config_id == config_id for target in row.route.targets)
    ]


async def add(conn: Connection, values: Mapping[str, Any], targets: Sequence[Target]) -> None:
    await conn.execute(insert(route).values(**values))
    await _put_targets(conn, values["id"], targets)


async def alter(
    conn: Connection,
    route_id: str,
    values: Mapping[str, Any],
    targets: Sequence[Target] | None = None,
) -> None:
    """Change columns; `targets` None keeps them."""
    await conn.execute(update(route).where(route.c.id == route_id).values(**values))
    if targets is not None:
        await conn.execute(delete(route_target).where(route_target.c.route_id == route_id))
        await _put_targets(conn, route_id, targets)


async def remove(conn: Connection, route_id: str) -> None:
    await conn.execute(delete(route).where(route.c.id == route_id))


async def remove_all(conn: Connection, scope_id: str) -> None:
    """Every route of a scope."""
    await conn.execute(delete(route).where(route.c.scope_id == scope_id))


async def _put_targets(conn: Connection, route_id: str, targets: Sequence[Target]) -> None:
    for position, target in enumerate(targets):
        values = {"route_id": route_id, "position": position}
        values |= {"config_id": target.config_id, "model": target.model}
        await conn.execute(insert(route_target).values(**values))
