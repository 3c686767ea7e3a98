"""Language models per scope: which are switched on or off where, and how one is named.

No record means on; an off anywhere on the chain wins. Called by the API, and by the files of the
desk that store a model's name.
"""

from __future__ import annotations

from collections.abc import Collection

from admin.configure import audit, scoping
from admin.configure.agents import AgentView, shown
from admin.configure.desk import Desk
from admin.configure.refusals import Refusal, check_owner
from admin.permit import Actor
from gateway.store import agents as agent_store
from gateway.store import enablement as store
from gateway.store.engine import Connection


async def set_enabled(
    desk: Desk,
    actor: Actor,
    scope: str,
    provider: str,
    model: str,
    enabled: bool,
    *,
    owner: str | None = None,
) -> None:
    """Switch a model of the catalog on or off in one scope; `owner` is the file that does it.

    Raises Refusal: bad_scope, reserved, not_found (the provider lists no such model), managed.
    """
    scoping.kind_of(scope)
    known = _listed(desk, provider, model)
    now = desk.clock()
    async with desk.store.write(scope) as conn:
        await _check_owner(conn, scope, known, model, owner)
        await scoping.ensure(conn, scope, now)
        await store.put(conn, scope, known, model, enabled=enabled, now=now, managed_by=owner)
        told = {"provider_id": known, "model_id": model, "enabled": enabled}
        await audit.record(conn, desk, actor, "model.put", scope, told)


async def forget(
    desk: Desk, actor: Actor, scope: str, provider: str, model: str, *, owner: str | None = None
) -> None:
    """Remove what is recorded of a model in one scope. Raises Refusal: not_found, managed."""
    known = desk.catalog.canonical(provider) or ""
    async with desk.store.write(scope) as conn:
        await _check_owner(conn, scope, known, model, owner)
        if await store.find(conn, scope, known, model) is None:
            raise Refusal("not_found", "nothing is recorded of that model in that scope")
        await store.forget(conn, scope, known, model)
        told = {"provider_id": known, "model_id": model}
        await audit.record(conn, desk, actor, "model.forget", scope, told)


async def chain(desk: Desk, scope: str) -> tuple[str, ...]:
    """The scope and those it inherits from, nearest first, whether it is stored or not."""
    async with desk.store.read() as conn:
        return await scoping.chain(conn, scope)


async def disabled(desk: Desk, scopes: Collection[str]) -> frozenset[tuple[str, str]]:
    """The (provider, model) pairs that are off in any of these scopes."""
    async with desk.store.read() as conn:
        groups = await store.disabled(conn)
    return frozenset[tuple[str, str]]().union(*(groups.get(name, ()) for name in scopes))


async def states(desk: Desk, scope: str, provider: str) -> dict[str, bool]:
    """What is recorded of a provider's models in this very scope: model -> on."""
    async with desk.store.read() as conn:
        return await store.states(conn, scope, _canonical(desk, provider))


async def effective(desk: Desk, scope: str, provider: str) -> dict[str, bool]:
    """The same along the chain: off where any scope of it says so. A model missing here is on."""
    known = _canonical(desk, provider)
    found: dict[str, bool] = {}
    async with desk.store.read() as conn:
        for name in await scoping.chain(conn, scope):
            for model, enabled in (await store.states(conn, name, known)).items():
                found[model] = enabled and found.get(model, True)
    return found


async def agents_of(desk: Desk, scope: str, provider: str) -> list[AgentView]:
    """The agents of exactly this scope that are bound to a model of this provider."""
    async with desk.store.read() as conn:
        rows = await agent_store.of_provider(conn, scope, _canonical(desk, provider))
    return [shown(row) for row in rows]


def _listed(desk: Desk, provider: str, model: str) -> str:
    known = _canonical(desk, provider)
    if not desk.catalog.lists(known, model):
        raise Refusal("not_found", "the catalog lists no such model of that provider")
    return known


def _canonical(desk: Desk, provider: str) -> str:
    return desk.catalog.canonical(provider) or provider


async def _check_owner(
    conn: Connection, scope: str, provider: str, model: str, owner: str | None
) -> None:
    row = await store.find(conn, scope, provider, model)
    check_owner(row.managed_by if row is not None else None, owner)
