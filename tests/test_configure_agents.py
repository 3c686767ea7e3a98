"""Agents at the desk: bound, disabled, owned by files, and not deleted under their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from admin.configure import agents, audit, keys
from admin.configure.agents import AgentChange, AgentView, NewAgent
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from admin.configure.refusals import Refusal
from admin.permit import LOCAL
from gateway.errors import Forbidden
from gateway.resolve import resolve
from gateway.shapes import GLOBAL, Agent
from gateway.store.compile import revision
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, add, later, refused
from tests.routing import CHAT, ask


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def make(desk: Desk, name: str = "bot", owner: str | None = None, **given: Any) -> AgentView:
    return await agents.create(desk, LOCAL, NewAgent(name=name, **given), owner=owner)


async def test_create_makes_an_agent_that_workers_know(desk: Desk) -> None:
    view = await make(desk, " bot ", scope=GROUP, model="openai/gpt-4o")
    assert (view.name, view.scope, view.enabled, view.model) == (
        "bot",
        GROUP,
        True,
        "openai/gpt-4o",
    )
    assert view.created_at == view.updated_at == desk.clock()
    assert await agents.get(desk, view.id) == view
    shape = Agent(id=view.id, scope=GROUP, name="bot", provider="openai", model="openai/gpt-4o")
    assert (await desks.table(desk)).agents == {view.id: shape}


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("aws-bedrock/anthropic.claude-v9", "amazon-bedrock/anthropic.claude-v9"),
        ("openrouter/openai/gpt-4o", "openrouter/openai/gpt-4o"),
        ("custom:vllm/my/model", "custom:vllm/my/model"),
        (None, None),
    ],
)
async def test_a_bound_model_need_not_be_listed(
    desk: Desk, written: str | None, stored: str | None
) -> None:
    assert (await make(desk, model=written)).model == stored


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": " "}, ("bad_name", "name")),
        ({"name": "x\x00"}, ("bad_name", "name")),
        ({"scope": "x"}, ("bad_scope", "scope")),
        ({"scope": "gateway:wardgate/x"}, ("reserved", "scope")),
        ({"model": "gpt-4o"}, ("bad_model", "model_id")),
        ({"model": "openai/"}, ("bad_model", "model_id")),
        ({"model": "openai/a b"}, ("bad_model", "model_id")),
        ({"model": "openai/" + "a" * 301}, ("bad_model", "model_id")),
        ({"model": "nobody/gpt-4o"}, ("unknown_provider", "model_id")),
        ({"model": "/gpt-4o"}, ("unknown_provider", "model_id")),
    ],
)
async def test_create_refuses(desk: Desk, given: dict[str, Any], expected: tuple[str, str]) -> None:
    before = await revision(desk.store)
    assert await refused(make(desk, **{"name": "bot", **given})) == expected
    assert await revision(desk.store) == before


@pytest.mark.parametrize(
    "named", [{"name": "other"}, {"enabled": False}, {"model": "anthropic/claude"}, {"model": None}]
)
async def test_change_touches_what_it_names(desk: Desk, named: dict[str, Any]) -> None:
    before = await make(desk, model="openai/gpt-4o")
    later(desk)
    after = await agents.change(desk, LOCAL, before.id, AgentChange(**named))
    expected = {"name": "bot", "enabled": True, "model": "openai/gpt-4o"} | named
    assert {field: getattr(after, field) for field in expected} == expected
    assert (after.created_at, after.updated_at) == (before.created_at, desk.clock())


async def test_a_disabled_agents_keys_are_refused_by_workers(desk: Desk) -> None:
    await add(desk)
    agent = await make(desk)
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app", agent=agent.id))

    async def ask_for_model() -> object:
        table = await desks.table(desk)
        return resolve(table, desk.catalog, ask(CHAT, "gpt-4o", client=table.clients[view.id]))

    assert await ask_for_model()
    await agents.change(desk, LOCAL, agent.id, AgentChange(enabled=False))
    with pytest.raises(Forbidden) as caught:
        await ask_for_model()
    assert caught.value.code == "agent_disabled"
    await agents.change(desk, LOCAL, agent.id, AgentChange(enabled=True))
    assert await ask_for_model()


async def test_delete_refuses_while_it_owns_keys(desk: Desk) -> None:
    agent = await make(desk)
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app", agent=agent.id))
    with pytest.raises(Refusal) as caught:
        await agents.delete(desk, LOCAL, agent.id)
    assert (caught.value.kind, caught.value.names) == ("in_use", (view.id,))
    await keys.revoke(desk, LOCAL, view.id)
    assert (await agents.delete(desk, LOCAL, agent.id)).id == agent.id
    assert (await desks.table(desk)).agents == {}
    for work in (
        agents.get(desk, agent.id),
        agents.change(desk, LOCAL, agent.id, AgentChange()),
        agents.delete(desk, LOCAL, agent.id),
    ):
        assert await refused(work) == ("not_found", None)


async def test_what_a_file_keeps_is_changed_by_that_file_alone(desk: Desk) -> None:
    kept = await make(desk, owner="house")
    assert kept.managed_by == "house"
    for owner in (None, "garden"):
        for work in (
            agents.change(desk, LOCAL, kept.id, AgentChange(name="x"), owner=owner),
            agents.delete(desk, LOCAL, kept.id, owner=owner),
        ):
            assert await refused(work) == ("managed", None)
    change = AgentChange(enabled=False)
    assert not (await agents.change(desk, LOCAL, kept.id, change, owner="house")).enabled
    await agents.delete(desk, LOCAL, kept.id, owner="house")


async def test_a_file_takes_over_what_nobody_keeps(desk: Desk) -> None:
    view = await make(desk)
    assert view.managed_by is None
    after = await agents.change(desk, LOCAL, view.id, AgentChange(), owner="house")
    assert after.managed_by == "house"


async def test_page_is_of_the_scopes_named(desk: Desk) -> None:
    made = []
    for scope in (GLOBAL, GROUP, GLOBAL):
        made.append((await make(desk, scope=scope)).id)
        later(desk)
    views, total = await agents.page(desk, {GLOBAL}, 1, 5)
    assert ([view.id for view in views], total) == (made[2:], 2)
    views, total = await agents.page(desk, None, 0, 2)
    assert ([view.id for view in views], total) == (made[:2], 3)
    assert await agents.page(desk, (), 0, 5) == ([], 0)


async def test_every_change_is_audited(desk: Desk) -> None:
    view = await make(desk)
    await agents.change(desk, LOCAL, view.id, AgentChange(enabled=False))
    await agents.delete(desk, LOCAL, view.id)
    rows, valid = await audit.page(desk, 10)
    assert valid
    assert [row.action for row in rows] == ["agent.delete", "agent.change", "agent.create"]
    assert rows[1].change == {"enabled": False}
    assert {row.target for row in rows} == {view.id}


async def test_nothing_is_changed_when_the_guard_refuses(desk: Desk) -> None:
    made = await make(desk)
    seen: list[AgentView] = []

    def guard(present: AgentView) -> None:
        seen.append(present)
        raise Refusal("stale", "no")

    before = await revision(desk.store)
    for work in (
        agents.change(desk, LOCAL, made.id, AgentChange(enabled=False), guard=guard),
        agents.delete(desk, LOCAL, made.id, guard=guard),
    ):
        assert await refused(work) == ("stale", None)
    assert seen == [made] * 2
    assert await revision(desk.store) == before
