"""Which models are switched on or off in which scope: statements only. No row means on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from gateway.store.engine import Connection
from gateway.store.tables import agent, model_state

_NAMES = ("scope_id", "provider_id", "model_id", "enabled", "managed_by")
_COLUMNS = [model_state.c[name] for name in _NAMES]


@dataclass(frozen=True, slots=True)
class StateRow:
    """What is recorded of one model in one scope; `managed_by` is the file that keeps it."""

    scope_id: str
    provider_id: str
    model_id: str
    enabled: bool
    managed_by: str | None


async def everyone(conn: Connection) -> list[StateRow]:
    """Every record, by scope, provider and model."""
    c = model_state.c
    wanted = select(*_COLUMNS).order_by(c.scope_id, c.provider_id, c.model_id)
    return [StateRow(*row) for row in await conn.execute(wanted)]


async def find(conn: Connection, scope_id: str, provider_id: str, model_id: str) -> StateRow | None:
    c = model_state.c
    here = (c.scope_id == scope_id, c.provider_id == provider_id, c.model_id == model_id)
    row = (await conn.execute(select(*_COLUMNS).where(*here))).first()
    return StateRow(*row) if row is not None else None


async def disabled(conn: Connection) -> dict[str, frozenset[tuple[str, str]]]:
    """By scope: the (provider, model) pairs switched off in it."""
    c = model_state.c
    groups: dict[str, set[tuple[str, str]]] = {}
    for row in await conn.execute(select(model_state).where(~c.enabled)):
        groups.setdefault(row.scope_id, set()).add((row.provider_id, row.model_id))
    return {scope: frozenset(pairs) for scope, pairs in groups.items()}


async def states(conn: Connection, scope_id: str, provider_id: str) -> dict[str, bool]:
    """What is recorded of a provider's models in one scope: model id -> enabled."""
    c = model_state.c
    held = select(c.model_id, c.enabled).where(c.scope_id == scope_id, c.provider_id == provider_id)
    return {row.model_id: row.enabled for row in await conn.execute(held)}


async def put(
    conn: Connection,
    scope_id: str,
    provider_id: str,
    model_id: str,
    *,
    enabled: bool,
    now: float,
    managed_by: str | None = None,
) -> None:
    """Record, whatever was recorded before; `managed_by` None leaves it to whom it belongs."""
    c = model_state.c
    here = (c.scope_id == scope_id, c.provider_id == provider_id, c.model_id == model_id)
    values: dict[str, Any] = {"enabled": enabled, "updated_at": now}
    if managed_by is not None:
        values["managed_by"] = managed_by
    changed = await conn.execute(update(model_state).where(*here).values(**values))
    if changed.rowcount == 0:
        names = {"scope_id": scope_id, "provider_id": provider_id, "model_id": model_id}
        await conn.execute(insert(model_state).values(**names, **values))


async def forget(conn: Connection, scope_id: str, provider_id: str, model_id: str) -> None:
    """Delete one record: no row means on."""
    c = model_state.c
    here = (c.scope_id == scope_id, c.provider_id == provider_id, c.model_id == model_id)
    await conn.execute(delete(model_state).where(*here))


async def remove(conn: Connection, scope_id: str, provider_id: str) -> int:
    """Forget a provider's records in one scope but those a file keeps; how many there were."""
    c = model_state.c
    held = (c.scope_id == scope_id, c.provider_id == provider_id, c.managed_by.is_(None))
    return int((await conn.execute(delete(model_state).where(*held))).rowcount)


async def disable_agents(
    conn: Connection, scope_id: str, provider_id: str, now: float
) -> list[str]:
    """Disable the agents of exactly this scope that are bound to a model of this provider.

    The ids of those that were enabled until now, in order.
    """
    c = agent.c
    meant = (c.scope_id == scope_id, c.provider_id == provider_id, c.enabled)
    ids = list(await conn.scalars(select(c.id).where(*meant).order_by(c.id)))
    await conn.execute(update(agent).where(*meant).values(enabled=False, updated_at=now))
    return ids
