"""The desk's nouns from making to deleting, and writers that cross each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest

from admin.configure import agents, audit, configs, keys, models, routes, scopes, tokens
from admin.configure.agents import AgentChange, NewAgent
from admin.configure.desk import Desk
from admin.configure.keys import KeyChange, NewKey
from admin.configure.refusals import Refusal
from admin.configure.routes import NewRoute, RouteChange
from admin.configure.scopes import ScopeChange
from admin.configure.tokens import TokenChange
from admin.permit import LOCAL, SUPERADMIN, Actor, Grant
from gateway.shapes import GLOBAL, Target
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, add

ROOT = (Grant(SUPERADMIN, GLOBAL),)
SOMEBODY = Actor("a", "an admin", ROOT)


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def outcome(work: Awaitable[object]) -> str:
    try:
        await work
    except Refusal as refusal:
        return refusal.kind
    return "done"


async def test_everything_is_made_changed_and_deleted(desk: Desk) -> None:
    config = await add(desk)
    await scopes.create(desk, LOCAL, GROUP)
    agent = await agents.create(desk, LOCAL, NewAgent(name="bot", scope=GROUP))
    key, _ = await keys.create(desk, LOCAL, NewKey(name="app", scope=GROUP, agent=agent.id))
    targets = [Target(config.id, "gpt-4o")]
    route = await routes.create(desk, LOCAL, NewRoute(name="r", scope=GROUP, targets=targets))
    await models.set_enabled(desk, LOCAL, GROUP, "openai", "gpt-4o", False)
    token, _ = await tokens.create(desk, LOCAL, "ci", ROOT)
    await agents.change(desk, LOCAL, agent.id, AgentChange(model="openai/gpt-4o"))
    await keys.change(desk, LOCAL, key.id, KeyChange(rate_limit=5))
    await keys.rotate(desk, LOCAL, key.id)
    await routes.change(desk, LOCAL, route.id, RouteChange(name="s", targets=targets))
    await tokens.change(desk, LOCAL, token.id, TokenChange(name="cd", grants=()))
    assert await models.agents_of(desk, GROUP, "openai") == [await agents.get(desk, agent.id)]
    assert await models.effective(desk, GROUP, "openai") == {"gpt-4o": False}
    assert await outcome(scopes.delete(desk, LOCAL, GROUP)) == "in_use"
    assert await outcome(agents.delete(desk, LOCAL, agent.id)) == "in_use"
    await keys.revoke(desk, LOCAL, key.id)
    await routes.delete(desk, LOCAL, route.id)
    await agents.delete(desk, LOCAL, agent.id)
    await scopes.change(desk, LOCAL, GROUP, ScopeChange(inherit=False))
    await scopes.delete(desk, LOCAL, GROUP)
    table = await desks.table(desk)
    assert (set(table.scopes), dict(table.routes), dict(table.agents)) == ({GLOBAL}, {}, {})
    for nothing in (scopes.page, agents.page, routes.page, keys.page):
        assert await nothing(desk, frozenset(), 0, 10) == ([], 0)
    assert (await audit.page(desk, 1))[1]


async def test_two_scopes_do_not_end_up_below_each_other(desk: Desk) -> None:
    one, other = "instance:1", "instance:2"
    for scope in (one, other):
        await scopes.create(desk, LOCAL, scope)
    outcomes = await asyncio.gather(
        outcome(scopes.change(desk, LOCAL, one, ScopeChange(parent=other))),
        outcome(scopes.change(desk, LOCAL, other, ScopeChange(parent=one))),
    )
    assert sorted(outcomes) == ["bad_scope", "done"]


async def test_two_superadmins_do_not_revoke_each_other(desk: Desk) -> None:
    made = [(await tokens.create(desk, LOCAL, "root", ROOT))[0] for _ in range(2)]
    work = (outcome(tokens.revoke(desk, SOMEBODY, token.id)) for token in made)
    assert sorted(await asyncio.gather(*work)) == ["done", "in_use"]


async def test_a_name_is_given_once(desk: Desk) -> None:
    new = NewRoute(name="r", targets=[Target((await add(desk)).id, "gpt-4o")])
    work = (outcome(routes.create(desk, LOCAL, new)) for _ in range(4))
    assert sorted(await asyncio.gather(*work)) == ["done", *["name_taken"] * 3]


async def test_no_route_leads_to_a_config_that_went_meanwhile(desk: Desk) -> None:
    config = await add(desk)
    new = NewRoute(name="r", targets=[Target(config.id, "gpt-4o")])
    outcomes = await asyncio.gather(
        outcome(routes.create(desk, LOCAL, new)),
        outcome(configs.delete(desk, LOCAL, config.id, GLOBAL)),
    )
    assert sorted(outcomes) in (["done", "in_use"], ["done", "unknown_config"])
