"""Agents: named callers that own client keys, may be bound to one model, and may be disabled.

A disabled agent's keys are refused by every worker within a second. Called by the API.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from admin.configure import audit, naming, rules, scoping
from admin.configure.desk import Desk
from admin.configure.identity import new_id
from admin.configure.orders import UNSET, Keep
from admin.configure.refusals import Refusal, check_owner
from admin.permit import Actor
from gateway.shapes import GLOBAL
from gateway.store import agents as store
from gateway.store.agents import AgentRow
from gateway.store.engine import Connection


@dataclass(frozen=True, kw_only=True)
class NewAgent:
    """`model` is `provider/model`; what its keys get that name none."""

    name: str
    scope: str = GLOBAL
    enabled: bool = True
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class AgentChange:
    """What to change; the scope stays. `model` None: bound to none any more."""

    name: str | Keep = UNSET
    enabled: bool | Keep = UNSET
    model: str | None | Keep = UNSET


@dataclass(frozen=True, kw_only=True)
class AgentView:
    """An agent as it may be shown; times are Unix seconds."""

    id: str
    name: str
    scope: str
    enabled: bool
    model: str | None
    managed_by: str | None
    created_at: float
    updated_at: float


Guard = Callable[[AgentView], None]


async def create(desk: Desk, actor: Actor, new: NewAgent, *, owner: str | None = None) -> AgentView:
    """Make an agent; `owner` is the file that keeps it.

    Raises Refusal: bad_name, bad_scope, reserved, bad_model, unknown_provider.
    """
    scoping.kind_of(new.scope)
    columns = _columns(desk, AgentChange(name=new.name, enabled=new.enabled, model=new.model))
    now = desk.clock()
    agent_id = new_id(now)
    async with desk.store.write(new.scope) as conn:
        await scoping.ensure(conn, new.scope, now)
        columns |= {"scope_id": new.scope, "managed_by": owner}
        stamps = {"id": agent_id, "created_at": now, "updated_at": now}
        await store.add(conn, {**columns, **stamps})
        await audit.record(conn, desk, actor, "agent.create", agent_id, columns)
        return shown(await _found(conn, agent_id))


async def change(
    desk: Desk,
    actor: Actor,
    agent_id: str,
    change: AgentChange,
    *,
    guard: Guard | None = None,
    owner: str | None = None,
) -> AgentView:
    """Change what `change` names. Raises Refusal: not_found, stale, managed, and as `create`."""
    scope = (await get(desk, agent_id)).scope
    async with desk.store.write(scope) as conn:
        await _free(conn, agent_id, guard, owner)
        columns = _columns(desk, change)
        if owner is not None:
            columns["managed_by"] = owner
        await store.alter(conn, agent_id, {**columns, "updated_at": desk.clock()})
        await audit.record(conn, desk, actor, "agent.change", agent_id, columns)
        return shown(await _found(conn, agent_id))


async def delete(
    desk: Desk,
    actor: Actor,
    agent_id: str,
    *,
    guard: Guard | None = None,
    owner: str | None = None,
) -> AgentView:
    """Delete an agent without client keys.

    Raises Refusal: not_found, stale, managed, in_use (its `names` are the ids of the keys).
    """
    scope = (await get(desk, agent_id)).scope
    async with desk.store.write(scope) as conn:
        row = await _free(conn, agent_id, guard, owner)
        held = await store.keys_of(conn, agent_id)
        if held:
            message = f"it owns the client key {held[0]}; revoke its keys or move them first"
            raise Refusal("in_use", message, names=tuple(held))
        await store.remove(conn, agent_id)
        told = {"scope_id": scope, "name": row.agent.name}
        await audit.record(conn, desk, actor, "agent.delete", agent_id, told)
        return shown(row)


async def get(desk: Desk, agent_id: str) -> AgentView:
    """One agent. Raises Refusal not_found."""
    async with desk.store.read() as conn:
        return shown(await _found(conn, agent_id))


async def page(
    desk: Desk, scopes: Collection[str] | None, offset: int, limit: int
) -> tuple[list[AgentView], int]:
    """Agents oldest first, and how many there are in all; `scopes` None: of every scope."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, scopes, offset, limit)
    return [shown(row) for row in rows], total


async def _found(conn: Connection, agent_id: str) -> AgentRow:
    row = await store.find(conn, agent_id)
    if row is None:
        raise Refusal("not_found", "no such agent")
    return row


async def _free(
    conn: Connection, agent_id: str, guard: Guard | None, owner: str | None
) -> AgentRow:
    row = await _found(conn, agent_id)
    if guard is not None:
        guard(shown(row))
    check_owner(row.managed_by, owner)
    return row


def _columns(desk: Desk, change: AgentChange) -> dict[str, Any]:
    """The columns of the fields that were named, checked."""
    columns: dict[str, Any] = {}
    if change.name is not UNSET:
        columns["name"] = rules.name(change.name)
    if change.enabled is not UNSET:
        columns["enabled"] = change.enabled
    if change.model is not UNSET:
        provider, model = None, None
        if change.model is not None:
            provider, model = naming.bound(change.model, desk.catalog, "model_id")
        columns |= {"provider_id": provider, "model_id": model}
    return columns


def shown(row: AgentRow) -> AgentView:
    """A row as it may be shown."""
    agent = row.agent
    return AgentView(
        id=agent.id,
        name=agent.name,
        scope=agent.scope,
        enabled=agent.enabled,
        model=agent.model,
        managed_by=row.managed_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
