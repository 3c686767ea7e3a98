"""A scope's choice: made, changed, replaced and removed together with the config made for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from admin.configure import choices, configs, scoping
from admin.configure.choices import MADE_BY, ChoiceView, NewChoice, Rechoice
from admin.configure.desk import Desk
from admin.configure.refusals import Refusal
from admin.permit import LOCAL
from gateway.shapes import GLOBAL, Target
from gateway.store import routes
from tests.backends import Backend
from tests.desks import KEY, add, key_of, later, opened, refused, secret, stored, table

INSTANCE = "instance:tenant-1"
OTHER = "sk-ant-canary-9876543210abcdefghij"


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with opened(backend) as desk:
        yield desk


async def choose(desk: Desk, scope: str = GLOBAL, **more: str) -> ChoiceView:
    given = {"provider": "openai", "model": "gpt-4.1", "key": KEY, **more}
    new = NewChoice(provider=given["provider"], model=given["model"], secret=secret(given["key"]))
    return await choices.choose(desk, LOCAL, scope, new)


async def rechoose(
    desk: Desk, scope: str = GLOBAL, at: str | None = None, **more: str
) -> ChoiceView:
    key = more.pop("key", None)
    change = Rechoice(**more, secret=secret(key) if key else None)
    return await choices.rechoose(desk, LOCAL, scope, change, at)


async def test_a_choice_makes_its_config_and_the_table_says_so(desk: Desk) -> None:
    view = await choose(desk, INSTANCE)
    assert (view.config.alias, view.config.name) == (MADE_BY, "OpenAI llm-config")
    assert (view.model, view.config.made_by) == ("gpt-4.1", MADE_BY)
    served = (await table(desk)).choices[INSTANCE]
    assert (served.config_id, served.model) == (view.config.id, "gpt-4.1")
    assert await choices.current(desk, INSTANCE) == view


async def test_reading_does_not_fall_through_to_the_parent(desk: Desk) -> None:
    await choose(desk)
    assert await choices.current(desk, INSTANCE) is None


async def test_a_second_choice_is_refused_and_stores_nothing(desk: Desk) -> None:
    await choose(desk)
    assert (await refused(choose(desk, provider="anthropic")))[0] == "choice_exists"
    assert (await configs.page(desk, GLOBAL, 0, 9))[1] == 1


async def test_a_taken_alias_gets_a_number(desk: Desk) -> None:
    await add(desk, MADE_BY, provider="groq")
    assert (await choose(desk)).config.alias == "llm-config-2"


async def test_model_and_key_change_in_place(desk: Desk) -> None:
    view = await choose(desk)
    later(desk)
    after = await rechoose(desk, model="gpt-5", key=OTHER)
    assert (after.config.id, after.model) == (view.config.id, "gpt-5")
    assert await key_of(desk, view.config.id) == OTHER
    assert (after.created_at, after.updated_at) == (view.created_at, view.updated_at + 1)


async def test_a_masked_key_keeps_the_stored_one(desk: Desk) -> None:
    view = await choose(desk)
    await rechoose(desk, key=view.config.secret_preview)
    assert await key_of(desk, view.config.id) == KEY


async def test_another_provider_is_another_config(desk: Desk) -> None:
    view = await choose(desk)
    assert await refused(rechoose(desk, provider="anthropic")) == ("rebind", "secret")
    after = await rechoose(desk, provider="anthropic", model="claude-sonnet-4-5", key=OTHER)
    assert after.config.provider == "anthropic"
    assert after.config.id != view.config.id
    with pytest.raises(Refusal, match="no such"):
        await configs.get(desk, view.config.id)


async def test_the_old_config_stays_while_a_route_leads_to_it(desk: Desk) -> None:
    view = await choose(desk)
    await lead_to(desk, view.config.id)
    await rechoose(desk, provider="anthropic", model="claude-sonnet-4-5", key=OTHER)
    assert (await configs.get(desk, view.config.id)).id == view.config.id


async def test_a_config_made_elsewhere_is_adopted_and_outlives_the_choice(desk: Desk) -> None:
    made = await add(desk)
    assert await refused(rechoose(desk, at=made.id)) == ("bad_model", "model")
    view = await rechoose(desk, at=made.id, model="gpt-4.1")
    assert (view.config.id, view.config.made_by) == (made.id, None)
    await choices.unchoose(desk, LOCAL, GLOBAL)
    assert await choices.current(desk, GLOBAL) is None
    assert (await configs.get(desk, made.id)).id == made.id


async def test_deleting_the_choice_deletes_the_config_made_for_it(desk: Desk) -> None:
    view = await choose(desk)
    await choices.unchoose(desk, LOCAL, GLOBAL)
    assert await choices.current(desk, GLOBAL) is None
    assert (await configs.page(desk, GLOBAL, 0, 9))[1] == 0
    assert await choices.current(desk, GLOBAL, view.config.id) is None


async def test_deleting_by_id_is_refused_in_use_and_otherwise_takes_the_config(desk: Desk) -> None:
    made = await add(desk)
    await lead_to(desk, made.id)
    work = choices.unchoose(desk, LOCAL, GLOBAL, made.id)
    assert (await refused(work))[0] == "in_use"
    other = await add(desk, "other")
    await choices.unchoose(desk, LOCAL, GLOBAL, other.id)
    assert (await configs.page(desk, GLOBAL, 0, 9))[1] == 1


async def test_nothing_there_is_not_found(desk: Desk) -> None:
    assert (await refused(rechoose(desk, model="m")))[0] == "not_found"
    assert (await refused(choices.unchoose(desk, LOCAL, GLOBAL)))[0] == "not_found"
    made = await add(desk)
    assert (await refused(rechoose(desk, INSTANCE, at=made.id, model="m")))[0] == "not_found"


async def test_deleting_the_config_elsewhere_takes_the_choice_along(desk: Desk) -> None:
    view = await choose(desk)
    await configs.delete(desk, LOCAL, view.config.id, GLOBAL)
    assert await choices.current(desk, GLOBAL) is None
    assert not (await table(desk)).choices


async def test_a_choice_without_a_usable_model_name_is_refused(desk: Desk) -> None:
    for model in ("", "two words", "x" * 301, "tab\t"):
        assert await refused(choose(desk, model=model)) == ("bad_model", "model")
    assert (await refused(choose(desk, key="sk-...abcd")))[0] == "masked_key"


async def lead_to(desk: Desk, config_id: str) -> None:
    """A route in the global scope that leads to a config."""
    async with desk.store.write(GLOBAL) as conn:
        await scoping.ensure(conn, GLOBAL, desk.clock())
        now = desk.clock()
        values: dict[str, object] = {"id": config_id, "scope_id": GLOBAL, "name": "fast"}
        values |= {"created_at": now, "updated_at": now}
        await routes.add(conn, values, [Target(config_id, "m")])
    assert (await stored(desk, config_id)).id == config_id
