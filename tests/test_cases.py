"""One test per awkward case of the data model, 1 to 9, by its number, over HTTP.

Each case has scopes of its own in one running installation. Its global scope has an OpenAI config.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest
import pytest_asyncio

from admin.configure.identity import as_prov
from gateway.shapes import GLOBAL
from tests import places
from tests.backends import Backend
from tests.desks import key_of
from tests.places import (
    AGENTS,
    CONFIGURE,
    CONNECTIONS,
    LLM,
    OPENAI,
    PROVIDERS,
    Place,
    World,
    group,
    key,
)
from tests.tongues import TONGUES, Config

pytestmark = pytest.mark.asyncio(loop_scope="module")
FOUR = "AAAA"
PARENT = key("parent")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(shared_backend: Backend) -> AsyncIterator[World]:
    async with places.world(shared_backend) as running:
        await Place(running, GLOBAL).add("default", secret=PARENT, base_url=running.upstream.url)
        yield running


async def test_case_01_an_alias_of_two_providers_is_asked_back_about(world: World) -> None:
    at = Place(world, group(1))
    for provider in ("openai", "anthropic"):
        await at.said(200, "PUT", CONFIGURE.format(provider), {"apiKey": key(provider)})
    problem = await at.said(409, "GET", f"{CONNECTIONS}/default")
    assert sorted(problem["references"]) == ["anthropic:default", "openai:default"]
    for name in problem["references"]:
        assert name in str(problem["errors"])
        one = await at.said(200, "GET", f"{CONNECTIONS}/{name}")
        assert f"{one['providerId']}:{one['alias']}" == name
    body = {"alias": "DEFAULT", "name": "G", "providerId": "groq", "settings": {"apiKey": key("g")}}
    await at.said(400, "POST", CONNECTIONS, body)
    assert (await at.add("default", "groq"))["alias"] == "default"


async def test_case_02_the_pick_is_the_default_then_its_alias_then_the_oldest(world: World) -> None:
    at = Place(world, group(2))
    client = await at.client()
    assert not (await at.add("first"))["default_config"]
    assert await at.ask(client) == (200, key("first"))
    plain = await at.add("default")
    assert await at.ask(client) == (200, key("default"))
    third = await at.add("third", default_config=True)
    assert await at.ask(client) == (200, key("third"))
    await at.said(200, "DELETE", f"{at.configs}/{third['id']}")
    assert [view.default for view in await at.views()] == [False, False], "nobody is promoted"
    assert await at.ask(client) == (200, key("default"))
    await at.said(200, "PUT", f"{CONNECTIONS}/{plain['id']}", {"isActive": False})
    assert await at.ask(client) == (200, key("first"))
    await at.said(200, "PUT", CONFIGURE.format("groq"), {"apiKey": key("g")})
    unsaid = [view for view in await at.views() if view.provider == "groq"]
    assert [view.default for view in unsaid] == [True], "the first one, when nothing is said"


async def test_case_03_names_are_unique_to_surface_4_across_vendors(world: World) -> None:
    at, other = Place(world, group(3)), Place(world, group(103))

    def new(vendor: str, name: str) -> dict[str, str]:
        return {"vendor": vendor, "name": name, "api_key": key("four")}

    async def post(vendor: str) -> int:
        headers = {"wardgate-scope": at.scope}
        body = new(vendor, "Twin")
        return (await world.admin.call("POST", PROVIDERS, body, headers=headers)).status_code

    vendors = ("openai", "anthropic", "groq", "openai")
    statuses = await asyncio.gather(*(post(vendor) for vendor in vendors))
    assert sorted(statuses) == [201, 409, 409, 409]
    [twin] = await at.views()
    plain = await at.said(201, "POST", PROVIDERS, new("openai", "Plain"))
    path = f"{PROVIDERS}/{plain['id']}"
    assert (await at.said(409, "PATCH", path, {"name": "Twin"}))["error"]["code"] == (
        "duplicate_name"
    )
    await at.said(200, "PATCH", f"{PROVIDERS}/{as_prov(twin.id)}", {"name": "Twin"})
    two = {"alias": "t", "name": "Twin", "providerId": "groq", "settings": {"apiKey": key("t")}}
    await at.said(201, "POST", CONNECTIONS, two)
    await other.said(201, "POST", PROVIDERS, new("openai", "Twin"))


async def test_case_04_configure_edits_the_pick_and_detach_takes_what_hung_on_it(
    world: World,
) -> None:
    at, elsewhere = Place(world, group(4)), Place(world, group(104))
    await at.said(200, "PUT", OPENAI, {"apiKey": key("one")})
    await at.said(200, "PUT", OPENAI, {"alias": "second", "apiKey": key("two")})
    await at.said(200, "PUT", OPENAI, {"enabled": False})
    await at.said(200, "PUT", OPENAI, {"authConfig": {"project": "p"}})
    edited, second = await at.views()
    assert (edited.alias, edited.active, edited.settings) == ("default", False, {"project": "p"})
    await at.said(200, "PUT", f"{OPENAI}?alias=second", {"enabled": False})
    await at.said(400, "PUT", f"{OPENAI}?alias=second", {"alias": "default"})
    assert [view.active for view in await at.views()] == [False, False]
    hit, missed = await _agents(at, elsewhere)
    await at.said(200, "PUT", "/api/v1/ai-providers/openai/models/gpt-4o", {"enabled": False})
    assert (await at.said(409, "DELETE", OPENAI))["references"] == ["default", "second"]
    gone = await at.said(200, "DELETE", f"{OPENAI}?alias={second.alias}")
    assert gone == {"disabledAgents": [], "removedModels": 0}
    gone = await at.said(200, "DELETE", OPENAI)
    assert gone == {"disabledAgents": [hit["id"]], "removedModels": 1}
    assert await at.ask(hit["key"]) == (403, "agent_disabled")
    assert await at.ask(missed["key"]) == (200, PARENT), "the parent serves the scope as before"
    await at.said(200, "PUT", OPENAI, {"apiKey": key("new")})
    assert await at.ask(hit["key"]) == (403, "agent_disabled"), "never enabled by itself"
    await at.add("fourth")
    await at.said(200, "DELETE", f"{OPENAI}?alias=*")
    assert await at.views() == []


async def _agents(at: Place, elsewhere: Place) -> tuple[dict[str, Any], dict[str, Any]]:
    """An agent bound to the scope's OpenAI, and one of the scope that is not; with their keys."""
    rows = ((at, "openai/gpt-4.1"), (at, "anthropic/claude-sonnet-4-5"), (elsewhere, "openai/o3"))
    made = []
    for place, model in rows:
        agent = await place.said(201, "POST", AGENTS, {"name": "bot", "modelId": model})
        made.append({**agent, "key": await place.client(agentId=agent["id"])})
    return made[0], made[1]


@pytest.mark.parametrize("surface", [2, 3, 4, 5])
async def test_case_05_other_surfaces_delete_the_config_alone(world: World, surface: int) -> None:
    at = Place(world, group(50 + surface))
    [view] = [await at.add("only")]
    bound = {"name": "bot", "modelId": "openai/gpt-4.1"}
    agent = await at.said(201, "POST", AGENTS, bound)
    model = "/api/v1/ai-providers/openai/models/gpt-4o"
    await at.said(200, "PUT", model, {"enabled": False})
    await TONGUES[surface - 1].delete(world.admin, Config(view["id"], at.scope, "only"))
    assert await at.views() == []
    assert (await at.said(200, "GET", f"{AGENTS}/{agent['id']}"))["enabled"]
    off = await at.said(200, "GET", "/api/v1/ai-providers/openai/models?enabled=false")
    assert [one["id"] for one in off] == ["gpt-4o"]


async def test_case_06_a_config_without_a_key_is_never_asked(world: World) -> None:
    at = Place(world, group(6))
    client = await at.client()
    bare = await at.add("bare", secret=None)
    four, two = f"{PROVIDERS}/{bare['id']}", f"{CONNECTIONS}/{bare['id']}"

    async def state() -> tuple[str, str]:
        shown = await at.said(200, "GET", four)
        return shown["status"], shown["api_key_preview"]

    assert bare["secret_preview"] == ""
    assert await state() == ("pending", "")
    assert await at.ask(client) == (403, "config_inactive")
    await at.said(200, "PUT", OPENAI, {"authType": "none"})
    assert await at.ask(client) == (401, ""), "asked without a key, and told so by the provider"
    await at.said(200, "PUT", OPENAI, {"authType": "api_key"})
    for method, path, body, status, kept in (
        ("PUT", OPENAI, {"apiKey": None}, 200, False),
        ("PUT", two, {"settings": {"apiKey": None}}, 200, False),
        ("PUT", f"{at.configs}/{bare['id']}", {"secret": None}, 400, True),
        ("PATCH", four, {"api_key": None}, 200, True),
        ("PATCH", f"{LLM}?id={bare['id']}", {"api_key": None, "model": "gpt-4.1"}, 200, True),
    ):
        await at.said(200, "PUT", two, {"settings": {"apiKey": key(FOUR)}})
        await at.said(status, method, path, body)
        assert bool((await state())[1]) is kept, path


async def test_case_07_masks_keep_the_key_and_make_none(world: World) -> None:
    at = Place(world, group(7))
    one = await at.add("one")
    two = {"alias": "m", "name": "M", "providerId": "openai"}
    three = {"alias": "m", "provider_slug": "openai", "default_config": False}
    four = {"vendor": "openai", "name": "M"}
    for mask in ("sk-***", "sk-...WXYZ", f"sk-...{FOUR}", "***"):
        for status, method, path, body in (
            (200, "PUT", OPENAI, {"apiKey": mask}),
            (200, "PUT", f"{CONNECTIONS}/{one['id']}", {"settings": {"apiKey": mask}}),
            (200, "PUT", f"{at.configs}/{one['id']}", {"secret": mask}),
            (200, "PATCH", f"{PROVIDERS}/{one['id']}", {"api_key": mask}),
            (200, "PATCH", f"{LLM}?id={one['id']}", {"api_key": mask, "model": "gpt-4.1"}),
            (400, "PUT", f"{OPENAI}?alias=m", {"apiKey": mask}),
            (400, "POST", CONNECTIONS, {**two, "settings": {"apiKey": mask}}),
            (400, "POST", at.configs, {**three, "secret": mask}),
            (400, "POST", PROVIDERS, {**four, "api_key": mask}),
        ):
            await at.said(status, method, path, body)
        assert await key_of(world.admin.desk, one["id"]) == key("one")
    chosen = {"provider": "openai", "model": "gpt-4.1", "api_key": "sk-***"}
    await Place(world, group(107)).said(422, "POST", LLM, chosen)
    for text in ("sk-...", "sk-new..."):
        await at.said(200, "PUT", f"{at.configs}/{one['id']}", {"secret": text})
        assert await key_of(world.admin.desk, one["id"]) == text
    aws = {"apiKey": "AKIA...::wJalrXUtnFEMI...::us-west-2"}
    await at.said(200, "PUT", CONFIGURE.format("amazon-bedrock"), aws)


async def test_case_08_an_update_changes_what_its_surface_names(world: World) -> None:
    at = Place(world, group(8))
    more: dict[str, Any] = {"rate_limit": 5, "rate_limit_period": 7, "secret_id": "label"}
    one = await at.add("one", **more)
    settings = {"organization": "o", "headers": {"x-a": "1"}}
    sent = {"name": "Full", "isActive": False, "settings": settings}
    await at.said(200, "PUT", f"{CONNECTIONS}/{one['id']}", sent)
    await at.said(200, "PUT", OPENAI, {"allowUnlisted": False})
    ever = ("revision", "modified_at")
    for method, path, body, changed in (
        ("PUT", OPENAI, {"authConfig": {"project": "p"}}, "settings"),
        ("PUT", f"{CONNECTIONS}/{one['id']}", {"name": "Two"}, "name"),
        ("PUT", f"{CONNECTIONS}/{one['id']}", {"settings": {"organization": "q"}}, "settings"),
        ("PUT", f"{at.configs}/{one['id']}", {"rate_limit": 6}, "rate_limit"),
        ("PATCH", f"{PROVIDERS}/{one['id']}", {"name": "Four"}, "name"),
        ("PATCH", f"{LLM}?id={one['id']}", {"model": "gpt-4.1"}, None),
    ):
        [before] = await at.views()
        await at.said(200, method, path, body)
        [after] = await at.views()
        old, new = asdict(before), asdict(after)
        moved = {name for name in old if old[name] != new[name]} - set(ever)
        assert moved == ({changed} if changed else set()), path
    assert after.settings == {**settings, "organization": "q", "project": "p"}
    assert not after.active


MOVES: tuple[tuple[str, int, dict[str, Any], dict[str, Any]], ...] = (
    # provider, surface, what moves the key, the key as this surface is sent it
    ("openai", 1, {"baseUrl": "http://127.0.0.1:9/v1"}, {"apiKey": key("n")}),
    ("openai", 2, {"settings": {"endpoint": "http://127.0.0.1:9/v1"}}, {"apiKey": key("n")}),
    ("openai", 3, {"base_url": "http://127.0.0.1:9/v1"}, {"secret": key("n")}),
    ("openai", 4, {"base_url": "http://127.0.0.1:9/v1"}, {"api_key": key("n")}),
    ("openai", 5, {"provider": "anthropic", "model": "m"}, {"api_key": key("n")}),
    ("openai", 1, {"authType": "bearer"}, {"apiKey": key("n")}),
    ("openai", 2, {"settings": {"authType": "bearer"}}, {"apiKey": key("n")}),
    ("openai", 3, {"auth_type": "bearer"}, {"secret": key("n")}),
    ("openai", 1, {"authConfig": {"location": "eu"}}, {"apiKey": key("n")}),
    ("openai", 2, {"settings": {"location": "eu"}}, {"apiKey": key("n")}),
    ("openai", 1, {"authConfig": {"region": "eu-1"}}, {"apiKey": key("n")}),
    ("openai", 2, {"settings": {"region": "eu-1"}}, {"apiKey": key("n")}),
    ("azure", 1, {"authConfig": {"resourceName": "other"}}, {"apiKey": key("n")}),
    ("azure", 2, {"settings": {"resourceName": "other"}}, {"apiKey": key("n")}),
)


@pytest.mark.parametrize("number", range(len(MOVES)))
async def test_case_09_a_key_that_moves_is_sent_again(world: World, number: int) -> None:
    provider, surface, moves, keyed = MOVES[number]
    at = Place(world, group(900 + number))
    body = {"apiKey": key("old"), "authConfig": {"resourceName": "mine"}}
    await at.said(200, "PUT", CONFIGURE.format(provider), body)
    [before] = await at.views()
    path = {
        1: CONFIGURE.format(provider),
        2: f"{CONNECTIONS}/{before.id}",
        3: f"{at.configs}/{before.id}",
        4: f"{PROVIDERS}/{before.id}",
        5: f"{LLM}?id={before.id}",
    }[surface]
    method = "PUT" if surface < 4 else "PATCH"
    status = 400 if surface < 4 else 422
    mask = dict.fromkeys(keyed, "sk-***")
    for without in (moves, _with(moves, mask)):
        await at.said(status, method, path, without)
        assert await at.views() == [before]
    await at.said(200, method, path, _with(moves, keyed))
    assert await key_of(world.admin.desk, (await at.views())[-1].id) == key("n")


def _with(moves: dict[str, Any], keyed: dict[str, Any]) -> dict[str, Any]:
    if "settings" in moves:
        return {"settings": {**moves["settings"], **keyed}}
    return {**moves, **keyed}
