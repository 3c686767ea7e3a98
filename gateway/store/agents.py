"""Agents: named callers that own client keys. Statements only, the rules are the desk's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from gateway.shapes import Agent
from gateway.store.engine import Connection
from gateway.store.tables import agent, client_key

_ORDER = (agent.c.created_at, agent.c.id)


@dataclass(frozen=True, slots=True)
class AgentRow:
    """A stored agent; times are Unix seconds, `managed_by` the file that keeps it."""

    agent: Agent
    managed_by: str | None
    created_at: float
    updated_at: float


async def everyone(conn: Connection) -> list[AgentRow]:
    """Every agent, oldest first."""
    return [_shaped(row) for row in await conn.execute(select(agent).order_by(*_ORDER))]


async def find(conn: Connection, agent_id: str) -> AgentRow | None:
    row = (await conn.execute(select(agent).where(agent.c.id == agent_id))).first()
    return _shaped(row) if row is not None else None


async def page(
    conn: Connection, scopes: Collection[str] | None, offset: int, limit: int
) -> tuple[list[AgentRow], int]:
    """Oldest first, with the number there are in all; `scopes` None: of every scope."""
    count, rows = select(func.count()).select_from(agent), select(agent)
    if scopes is not None:
        meant = agent.c.scope_id.in_(scopes)
        count, rows = count.where(meant), rows.where(meant)
    total = await conn.scalar(count)
    found = await conn.execute(rows.order_by(*_ORDER).offset(offset).limit(limit))
    return [_shaped(row) for row in found], int(total or 0)


async def of_provider(conn: Connection, scope_id: str, provider_id: str) -> list[AgentRow]:
    """The agents of exactly this scope that are bound to a model of this provider."""
    meant = (agent.c.scope_id == scope_id, agent.c.provider_id == provider_id)
    rows = await conn.execute(select(agent).where(*meant).order_by(*_ORDER))
    return [_shaped(row) for row in rows]


async def keys_of(conn: Connection, agent_id: str) -> list[str]:
    """The ids of its client keys that are not revoked."""
    held = (client_key.c.agent_id == agent_id, client_key.c.revoked_at.is_(None))
    return list(await conn.scalars(select(client_key.c.id).where(*held).order_by(client_key.c.id)))


async def add(conn: Connection, values: Mapping[str, Any]) -> None:
    await conn.execute(insert(agent).values(**values))


async def alter(conn: Connection, agent_id: str, values: Mapping[str, Any]) -> None:
    await conn.execute(update(agent).where(agent.c.id == agent_id).values(**values))


async def remove(conn: Connection, agent_id: str) -> None:
    """Delete an agent; its revoked keys stay, as nobody's."""
    held = client_key.c.agent_id == agent_id
    await conn.execute(update(client_key).where(held).values(agent_id=None))
    await conn.execute(delete(agent).where(agent.c.id == agent_id))


def _shaped(row: Row[Any]) -> AgentRow:
    bound = f"{row.provider_id}/{row.model_id}" if row.model_id is not None else None
    shape = Agent(
        id=row.id,
        scope=row.scope_id,
        name=row.name,
        enabled=row.enabled,
        provider=row.provider_id,
        model=bound,
    )
    return AgentRow(shape, row.managed_by, row.created_at, row.updated_at)
