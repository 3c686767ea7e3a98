"""Scopes at the desk: where they hang, what they inherit, and what keeps them from going."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from admin.configure import agents, audit, configs, gateways, keys, models, routes, scopes, scoping
from admin.configure.agents import NewAgent
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from admin.configure.refusals import Refusal
from admin.configure.routes import NewRoute
from admin.configure.scopes import ScopeChange, ScopeView
from admin.permit import LOCAL
from gateway.errors import NotFound
from gateway.resolve import resolve
from gateway.shapes import GLOBAL, Target
from gateway.store.compile import revision
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, add, later, refused
from tests.routing import CHAT, ask

GATEWAY = "gateway:acc/gw"
INSTANCE = "instance:i"


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def make(desk: Desk, scope: str, parent: str = GLOBAL, *, inherit: bool = True) -> ScopeView:
    return await scopes.create(desk, LOCAL, scope, parent, inherit=inherit)


async def line(desk: Desk, length: int) -> list[str]:
    """Instances hanging one below the other, the first below global."""
    above = GLOBAL
    names = []
    for number in range(length):
        names.append((await make(desk, f"instance:{number}", above)).id)
        above = names[-1]
    return names


async def names_of(work: Awaitable[object]) -> tuple[str, ...]:
    with pytest.raises(Refusal) as caught:
        await work
    assert caught.value.kind == "in_use"
    return caught.value.names


@pytest.mark.parametrize(
    ("scope", "kind"), [(GROUP, "group"), (GATEWAY, "gateway"), (INSTANCE, "instance")]
)
async def test_create_makes_a_scope_below_global(desk: Desk, scope: str, kind: str) -> None:
    view = await make(desk, scope)
    assert (view.id, view.kind, view.parent, view.inherit) == (scope, kind, GLOBAL, True)
    assert view.created_at == desk.clock()
    assert await scopes.get(desk, scope) == view
    assert (await desks.table(desk)).chain(scope) == (scope, GLOBAL)


async def test_a_gateways_scope_has_its_gateway(desk: Desk) -> None:
    await make(desk, GROUP)
    await make(desk, GATEWAY, GROUP)
    assert (await gateways.get(desk, "acc", "gw")).account == "acc"
    assert (await desks.table(desk)).chain(GATEWAY) == (GATEWAY, GROUP, GLOBAL)


@pytest.mark.parametrize(
    ("scope", "parent", "expected"),
    [
        ("nowhere", GLOBAL, ("bad_scope", "id")),
        ("group:gr_short", GLOBAL, ("bad_scope", "id")),
        ("gateway:wardgate/gw", GLOBAL, ("reserved", "id")),
        (GLOBAL, GLOBAL, ("scope_exists", "id")),
        (GROUP, "instance:none", ("bad_scope", "parent")),
        (GROUP, GROUP, ("bad_scope", "parent")),
        (GROUP, "nonsense", ("bad_scope", "parent")),
    ],
)
async def test_create_refuses(
    desk: Desk, scope: str, parent: str, expected: tuple[str, str]
) -> None:
    before = await revision(desk.store)
    assert await refused(make(desk, scope, parent)) == expected
    assert await revision(desk.store) == before


async def test_create_refuses_what_a_write_has_made_already(desk: Desk) -> None:
    await add(desk, scope=GROUP)
    assert await refused(make(desk, GROUP)) == ("scope_exists", "id")
    assert (await scopes.get(desk, GROUP)).parent == GLOBAL


async def test_four_scopes_hang_below_global_and_no_more(desk: Desk) -> None:
    names = await line(desk, 4)
    assert (await desks.table(desk)).chain(names[-1]) == (*reversed(names), GLOBAL)
    assert await refused(make(desk, GROUP, names[-1])) == ("bad_scope", "parent")


async def test_a_move_counts_what_hangs_below(desk: Desk) -> None:
    names = await line(desk, 3)
    await make(desk, GROUP)
    await make(desk, INSTANCE, GROUP)
    too_deep = scopes.change(desk, LOCAL, names[0], ScopeChange(parent=INSTANCE))
    assert await refused(too_deep) == ("bad_scope", "parent")
    after = await scopes.change(desk, LOCAL, names[0], ScopeChange(parent=GROUP))
    assert after.parent == GROUP
    assert (await desks.table(desk)).chain(names[2]) == (*reversed(names), GROUP, GLOBAL)


@pytest.mark.parametrize("below", [0, 1, 2])
async def test_no_scope_hangs_below_itself(desk: Desk, below: int) -> None:
    names = await line(desk, 3)
    # Not even where the chain of inheritance is cut.
    await scopes.change(desk, LOCAL, names[1], ScopeChange(inherit=False))
    moved = scopes.change(desk, LOCAL, names[0], ScopeChange(parent=names[below]))
    assert await refused(moved) == ("bad_scope", "parent")


async def test_change_touches_what_it_names(desk: Desk) -> None:
    await make(desk, GROUP)
    made = await make(desk, INSTANCE, GROUP)
    after = await scopes.change(desk, LOCAL, INSTANCE, ScopeChange(inherit=False))
    assert (after.parent, after.inherit) == (GROUP, False)
    after = await scopes.change(desk, LOCAL, INSTANCE, ScopeChange(parent=GLOBAL))
    assert (after.parent, after.inherit, after.created_at) == (GLOBAL, False, made.created_at)


async def test_global_is_neither_changed_nor_deleted(desk: Desk) -> None:
    changed = scopes.change(desk, LOCAL, GLOBAL, ScopeChange(inherit=False))
    assert await refused(changed) == ("reserved", "id")
    assert await refused(scopes.delete(desk, LOCAL, GLOBAL)) == ("in_use", None)


async def test_not_found_when_nothing_is_stored(desk: Desk) -> None:
    for work in (
        scopes.get(desk, GROUP),
        scopes.change(desk, LOCAL, GROUP, ScopeChange()),
        scopes.delete(desk, LOCAL, GROUP),
    ):
        assert await refused(work) == ("not_found", None)
    assert set((await desks.table(desk)).scopes) == {GLOBAL}


async def test_a_scope_that_does_not_inherit_sees_its_own_configs_only(desk: Desk) -> None:
    await add(desk)
    await make(desk, INSTANCE)
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app", scope=INSTANCE))

    async def served() -> bool:
        table = await desks.table(desk)
        try:
            return bool(
                resolve(table, desk.catalog, ask(CHAT, "gpt-4o", client=table.clients[view.id]))
            )
        except NotFound:
            return False

    assert await served()
    await scopes.change(desk, LOCAL, INSTANCE, ScopeChange(inherit=False))
    assert not await served()
    assert await models.chain(desk, INSTANCE) == (INSTANCE,)
    await add(desk, scope=INSTANCE)
    assert await served()


async def test_the_desk_walks_the_chain_that_workers_walk(desk: Desk) -> None:
    names = await line(desk, 3)
    await scopes.change(desk, LOCAL, names[1], ScopeChange(inherit=False))
    table = await desks.table(desk)
    for scope in (*names, GLOBAL):
        assert await models.chain(desk, scope) == table.chain(scope)
    assert await models.chain(desk, GROUP) == (GROUP, GLOBAL), "as it will be once it is made"


USERS: dict[str, Callable[[Desk], Awaitable[object]]] = {
    "provider config": lambda desk: add(desk, scope=GROUP),
    "client key": lambda desk: keys.create(desk, LOCAL, NewKey(name="a", scope=GROUP)),
    "agent": lambda desk: agents.create(desk, LOCAL, NewAgent(name="a", scope=GROUP)),
    "scope": lambda desk: make(desk, INSTANCE, GROUP),
    "model kept by a file": lambda desk: models.set_enabled(
        desk, LOCAL, GROUP, "openai", "gpt-4o", False, owner="house"
    ),
}


@pytest.mark.parametrize("user", USERS)
async def test_delete_refuses_while_it_is_used(desk: Desk, user: str) -> None:
    await make(desk, GROUP)
    await USERS[user](desk)
    assert await names_of(scopes.delete(desk, LOCAL, GROUP)) == (user,)
    assert (await scopes.get(desk, GROUP)).id == GROUP


async def test_delete_refuses_while_a_route_stands_in_it(desk: Desk) -> None:
    config = await add(desk)
    new = NewRoute(name="fast", scope=GROUP, targets=[Target(config.id, "gpt-4o")])
    await routes.create(desk, LOCAL, new)
    assert await names_of(scopes.delete(desk, LOCAL, GROUP)) == ("route",)


async def test_a_gateways_scope_is_deleted_as_a_gateway(desk: Desk) -> None:
    await make(desk, GATEWAY)
    assert await names_of(scopes.delete(desk, LOCAL, GATEWAY)) == ("gateway",)
    await gateways.delete(desk, LOCAL, "acc", "gw")
    assert await refused(scopes.get(desk, GATEWAY)) == ("not_found", None)


async def test_delete_takes_revoked_keys_and_records_of_models_along(desk: Desk) -> None:
    view, _ = await keys.create(desk, LOCAL, NewKey(name="a", scope=GROUP))
    await keys.revoke(desk, LOCAL, view.id)
    await models.set_enabled(desk, LOCAL, GROUP, "openai", "gpt-4o", False)
    await scopes.delete(desk, LOCAL, GROUP)
    table = await desks.table(desk)
    assert (set(table.scopes), dict(table.disabled)) == ({GLOBAL}, {})


async def test_a_gateway_goes_with_its_routes(desk: Desk) -> None:
    config = await add(desk, scope=GATEWAY)
    new = NewRoute(name="fast", scope=GATEWAY, targets=[Target(config.id, "gpt-4o")])
    await routes.create(desk, LOCAL, new)
    await gateways.delete(desk, LOCAL, "acc", "gw")
    table = await desks.table(desk)
    assert (dict(table.routes), dict(table.configs)) == ({}, {})


@pytest.mark.parametrize("change", [ScopeChange(parent=GLOBAL), ScopeChange(inherit=False)])
@pytest.mark.parametrize("moved", [GATEWAY, INSTANCE])
async def test_a_scope_is_not_cut_off_from_what_its_routes_lead_to(
    desk: Desk, change: ScopeChange, moved: str
) -> None:
    config = await add(desk, scope=GROUP)
    await make(desk, GATEWAY, GROUP)
    await make(desk, INSTANCE, GATEWAY)
    new = NewRoute(name="fast", scope=INSTANCE, targets=[Target(config.id, "gpt-4o")])
    route = await routes.create(desk, LOCAL, new)
    before = await revision(desk.store)
    assert await names_of(scopes.change(desk, LOCAL, moved, change)) == ("fast",)
    assert await revision(desk.store) == before
    await routes.delete(desk, LOCAL, route.id)
    await scopes.change(desk, LOCAL, moved, change)


async def test_a_move_that_loses_nothing_is_made(desk: Desk) -> None:
    config = await add(desk)
    await make(desk, GROUP)
    new = NewRoute(name="fast", scope=INSTANCE, targets=[Target(config.id, "gpt-4o")])
    await routes.create(desk, LOCAL, new)
    assert (await scopes.change(desk, LOCAL, INSTANCE, ScopeChange(parent=GROUP))).parent == GROUP


async def test_page_shows_what_it_is_told_to(desk: Desk) -> None:
    for scope in (GROUP, INSTANCE):
        later(desk)
        await make(desk, scope)
    views, total = await scopes.page(desk, None, 1, 1)
    assert ([view.id for view in views], total) == ([GROUP], 3)
    views, total = await scopes.page(desk, {INSTANCE, "instance:none"}, 0, 10)
    assert ([view.id for view in views], total) == ([INSTANCE], 1)
    assert await scopes.page(desk, (), 0, 10) == ([], 0)


async def test_every_change_is_audited(desk: Desk) -> None:
    await make(desk, GROUP)
    await scopes.change(desk, LOCAL, GROUP, ScopeChange(inherit=False))
    await scopes.delete(desk, LOCAL, GROUP)
    rows, valid = await audit.page(desk, 10)
    assert valid
    assert [row.action for row in rows] == ["scope.delete", "scope.change", "scope.create"]
    assert rows[1].change == {"parent_id": GLOBAL, "inherits": False}
    assert {row.target for row in rows} == {GROUP}


async def test_nothing_is_changed_when_the_guard_refuses(desk: Desk) -> None:
    made = await make(desk, GROUP)
    seen: list[ScopeView] = []

    def guard(present: ScopeView) -> None:
        seen.append(present)
        raise Refusal("stale", "no")

    before = await revision(desk.store)
    for work in (
        scopes.change(desk, LOCAL, GROUP, ScopeChange(inherit=False), guard=guard),
        scopes.delete(desk, LOCAL, GROUP, guard=guard),
    ):
        assert await refused(work) == ("stale", None)
    assert seen == [made] * 2
    assert await revision(desk.store) == before


async def test_reading_makes_no_scope(desk: Desk) -> None:
    await models.chain(desk, GROUP)
    await configs.page(desk, GROUP, 0, 10)
    assert (await scopes.page(desk, None, 0, 10))[1] == 1
    assert scoping.inherited({}, GROUP) == (GROUP, GLOBAL)
