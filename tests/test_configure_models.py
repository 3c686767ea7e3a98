"""Models per scope at the desk: on unless said otherwise, and off where any scope says so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from admin.configure import agents, audit, models, scopes
from admin.configure.agents import NewAgent
from admin.configure.desk import Desk
from admin.permit import LOCAL
from gateway.shapes import GLOBAL
from gateway.store import enablement
from gateway.store.compile import revision
from gateway.store.enablement import StateRow
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, refused

MODEL = "gpt-4o"
SLASHED = "openai/gpt-4o"  # as OpenRouter lists it


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def switch(
    desk: Desk, enabled: bool, scope: str = GROUP, model: str = MODEL, owner: str | None = None
) -> None:
    await models.set_enabled(desk, LOCAL, scope, "openai", model, enabled, owner=owner)


async def test_a_model_switched_off_reaches_the_table(desk: Desk) -> None:
    await switch(desk, False)
    assert (await desks.table(desk)).disabled == {GROUP: frozenset({("openai", MODEL)})}
    assert set((await desks.table(desk)).scopes) == {GLOBAL, GROUP}
    await switch(desk, True)
    assert (await desks.table(desk)).disabled == {}
    assert await models.states(desk, GROUP, "openai") == {MODEL: True}


async def test_a_models_provider_is_known_by_its_foreign_names(desk: Desk) -> None:
    await models.set_enabled(desk, LOCAL, GLOBAL, "grok", "grok-4.3", False)
    assert await models.states(desk, GLOBAL, "xai") == {"grok-4.3": False}
    assert await models.states(desk, GLOBAL, "grok") == {"grok-4.3": False}


async def test_a_models_id_may_contain_slashes(desk: Desk) -> None:
    await models.set_enabled(desk, LOCAL, GLOBAL, "openrouter", SLASHED, False)
    assert await models.states(desk, GLOBAL, "openrouter") == {SLASHED: False}


@pytest.mark.parametrize(
    ("scope", "provider", "model", "kind"),
    [
        (GROUP, "openai", "no-such-model", "not_found"),
        (GROUP, "anthropic", MODEL, "not_found"),
        (GROUP, "no-such-provider", MODEL, "not_found"),
        (GROUP, "custom:vllm", MODEL, "not_found"),
        ("nowhere", "openai", MODEL, "bad_scope"),
        ("gateway:wardgate/x", "openai", MODEL, "reserved"),
    ],
)
async def test_set_enabled_refuses(
    desk: Desk, scope: str, provider: str, model: str, kind: str
) -> None:
    before = await revision(desk.store)
    work = models.set_enabled(desk, LOCAL, scope, provider, model, False)
    assert (await refused(work))[0] == kind
    assert await revision(desk.store) == before


async def test_off_anywhere_on_the_chain_wins(desk: Desk) -> None:
    await switch(desk, False, GLOBAL)
    await switch(desk, True, GROUP)
    await switch(desk, False, GROUP, "gpt-4.1")
    await switch(desk, True, GLOBAL, "gpt-4.1")
    assert await models.states(desk, GROUP, "openai") == {MODEL: True, "gpt-4.1": False}
    assert await models.effective(desk, GROUP, "openai") == {MODEL: False, "gpt-4.1": False}
    assert await models.effective(desk, GLOBAL, "openai") == {MODEL: False, "gpt-4.1": True}
    assert await models.effective(desk, "instance:new", "openai") == {MODEL: False, "gpt-4.1": True}
    chain = await models.chain(desk, GROUP)
    off = {("openai", MODEL), ("openai", "gpt-4.1")}
    assert await models.disabled(desk, chain) == off
    assert await models.disabled(desk, [GLOBAL]) == {("openai", MODEL)}


async def test_a_scope_that_does_not_inherit_has_its_own_records_only(desk: Desk) -> None:
    await switch(desk, False, GLOBAL)
    await scopes.create(desk, LOCAL, "instance:i", inherit=False)
    assert await models.effective(desk, "instance:i", "openai") == {}


async def test_agents_of_exactly_this_scope_and_provider(desk: Desk) -> None:
    made = [
        await agents.create(desk, LOCAL, NewAgent(name="a", scope=scope, model=model))
        for scope, model in (
            (GROUP, "openai/gpt-4o"),
            (GROUP, "openai/unlisted"),
            (GROUP, "anthropic/claude"),
            (GROUP, None),
            (GLOBAL, "openai/gpt-4o"),
        )
    ]
    assert await models.agents_of(desk, GROUP, "openai") == made[:2]
    assert await models.agents_of(desk, GLOBAL, "openai") == made[4:]
    assert await models.agents_of(desk, "instance:none", "openai") == []


async def test_what_a_file_keeps_is_changed_by_that_file_alone(desk: Desk) -> None:
    await switch(desk, False)
    await switch(desk, False, owner="house")  # taken over: nobody kept it
    for owner in (None, "garden"):
        assert await refused(switch(desk, True, owner=owner)) == ("managed", None)
        forgotten = models.forget(desk, LOCAL, GROUP, "openai", MODEL, owner=owner)
        assert await refused(forgotten) == ("managed", None)
    await switch(desk, True, owner="house")
    async with desk.store.read() as conn:
        rows = await enablement.everyone(conn)
    assert rows == [StateRow(GROUP, "openai", MODEL, True, "house")]
    await models.forget(desk, LOCAL, GROUP, "openai", MODEL, owner="house")
    assert await models.states(desk, GROUP, "openai") == {}


async def test_forget_leaves_a_model_on(desk: Desk) -> None:
    await switch(desk, False)
    await switch(desk, False, GLOBAL)
    await models.forget(desk, LOCAL, GROUP, "openai", MODEL)
    assert set((await desks.table(desk)).disabled) == {GLOBAL}
    for model in (MODEL, "no-such-model"):
        forgotten = models.forget(desk, LOCAL, GROUP, "openai", model)
        assert await refused(forgotten) == ("not_found", None)


async def test_every_change_is_audited(desk: Desk) -> None:
    await switch(desk, False)
    await models.forget(desk, LOCAL, GROUP, "openai", MODEL)
    rows, valid = await audit.page(desk, 10)
    assert valid
    assert [row.action for row in rows] == ["model.forget", "model.put"]
    assert rows[1].target == GROUP
    assert rows[1].change == {"provider_id": "openai", "model_id": MODEL, "enabled": False}
