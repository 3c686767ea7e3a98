"""The awkward cases of the data model from 10 on, each by its number; test_cases.py has the others.

Each case has scopes of its own in one running installation. Its global scope has an OpenAI config.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from admin.configure.identity import as_prov, read_id
from gateway.providers import CLOUDFLARE, MODELUX
from gateway.shapes import GLOBAL
from tests import places
from tests.backends import Backend
from tests.connecting import ACCESS_KEY, AWS, SECRET_KEY, TOKEN
from tests.desks import key_of
from tests.places import (
    CONFIGURE,
    CONNECTIONS,
    LLM,
    OPENAI,
    PROVIDERS,
    ROUTES,
    Place,
    World,
    group,
    key,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
BEDROCK = CONFIGURE.format("amazon-bedrock")
BEARER = key("bedrock").replace("sk-", "ABSK-")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(shared_backend: Backend) -> AsyncIterator[World]:
    async with places.world(shared_backend) as running:
        await Place(running, GLOBAL).add("default", base_url=running.upstream.url)
        yield running


async def test_case_10_aws_credentials_are_sealed_together(world: World) -> None:
    at = Place(world, group(10))
    new = {"alias": "aws", "name": "AWS", "providerId": "bedrock"}
    made = await at.said(
        201, "POST", CONNECTIONS, {**new, "settings": {**AWS, "sessionToken": TOKEN}}
    )
    shown = made["settings"]
    masks = {"accessKeyId": "AKIA***", "secretAccessKey": "***", "sessionToken": "***"}
    assert shown == {**masks, "region": "eu-west-1", "endpoint": None}
    sealed = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "session_token": TOKEN}
    assert json.loads(await key_of(world.admin.desk, made["id"])) == sealed
    four = f"{PROVIDERS}/{made['id']}"
    assert (await at.said(200, "GET", four))["api_key_preview"] == f"AKIA...{ACCESS_KEY[-4:]}"
    one = f"{CONNECTIONS}/{made['id']}"
    for part in ("accessKeyId", "secretAccessKey"):
        await at.said(400, "PUT", one, {"settings": {part: "AKIAANOTHER987654321"}})
    await at.said(200, "PUT", one, {"settings": masks})
    for name in ("region", "sessionToken"):
        await at.said(400, "PUT", one, {"settings": {name: "us-east-1"}})
    assert json.loads(await key_of(world.admin.desk, made["id"])) == sealed
    moved = {**AWS, "region": "us-east-1"}
    assert (await at.said(200, "PUT", one, {"settings": moved}))["settings"][
        "region"
    ] == "us-east-1"


async def test_case_10_a_bedrock_api_key_needs_to_know_where(world: World) -> None:
    at = Place(world, group(110))
    two = {"alias": "b", "name": "B", "providerId": "bedrock", "settings": {"apiKey": BEARER}}
    three = {"alias": "b", "provider_slug": "aws-bedrock", "default_config": False}
    four = {"vendor": "bedrock", "name": "B", "api_key": BEARER}
    rows: tuple[tuple[int, str, str, dict[str, Any]], ...] = (
        (400, "PUT", BEDROCK, {"apiKey": BEARER}),
        (400, "POST", CONNECTIONS, two),
        (400, "POST", at.configs, {**three, "secret": BEARER}),
        (400, "POST", PROVIDERS, four),
        (422, "POST", LLM, {"provider": "bedrock", "model": "m", "api_key": BEARER}),
        (200, "PUT", BEDROCK, {"apiKey": BEARER, "authConfig": {"region": "eu-west-1"}}),
        (201, "POST", PROVIDERS, {**four, "base_url": world.upstream.origin}),
    )
    for row in rows:
        await at.said(*row)
    assert {view.auth_type for view in await at.views()} == {"bearer"}


async def test_case_11_surface_5_speaks_of_the_choice(world: World) -> None:
    at = Place(world, "instance:case-11")
    new = {"provider": "openai", "model": "gpt-4.1", "api_key": key("first")}
    other = await at.add("other")
    by_id = f"{LLM}?id={as_prov(other['id'])}"
    assert await at.said(200, "GET", LLM) is None, "no choice is made by itself"
    first = await at.said(201, "POST", LLM, new)
    await at.said(409, "POST", LLM, new)
    assert (await at.said(200, "GET", by_id))["model"] is None
    await at.said(200, "PATCH", by_id, {"model": "gpt-4o"})
    assert (await at.said(200, "GET", LLM))["id"] == other["id"]
    assert await _ids(at) == [other["id"], first["id"]], "adopting deletes nothing"
    await at.said(422, "PATCH", LLM, {"provider": "anthropic", "model": "claude-x"})
    moved = {"provider": "anthropic", "model": "claude-x", "api_key": key("moved")}
    second = await at.said(200, "PATCH", LLM, moved)
    assert await _ids(at) == [other["id"], first["id"], second["id"]], "other was not made here"
    third = await at.said(200, "PATCH", LLM, {**new, "api_key": key("third")})
    assert await _ids(at) == [other["id"], first["id"], third["id"]], "second was made here"
    await at.said(204, "DELETE", LLM)
    assert await _ids(at) == [other["id"], first["id"]]
    await at.said(404, "DELETE", LLM)
    assert await at.said(200, "GET", LLM) is None
    await at.said(200, "PATCH", by_id, {"model": "gpt-4o"})
    await at.said(204, "DELETE", LLM)
    assert await _ids(at) == [other["id"], first["id"]]
    await at.said(204, "DELETE", by_id)
    assert await _ids(at) == [first["id"]]


async def test_case_11_a_config_a_route_leads_to_outlives_its_choice(world: World) -> None:
    at = Place(world, "instance:case-11b")
    new = {"provider": "openai", "model": "gpt-4.1", "api_key": key("first")}
    made = await at.said(201, "POST", LLM, new)
    targets = [{"configId": made["id"], "model": "gpt-4.1"}]
    await at.said(201, "POST", ROUTES, {"name": "kept", "targets": targets})
    await at.said(204, "DELETE", LLM)
    assert await _ids(at) == [made["id"]]


async def _ids(at: Place) -> list[str]:
    return [view.id for view in await at.views()]


async def test_case_12_inactive_configs_stop_the_walk(world: World) -> None:
    at = Place(world, group(12))
    client = await at.client()
    assert await at.ask(client) == (200, key("default")), "the parent's, while there is none"
    await at.add("own")
    assert await at.ask(client) == (200, key("own"))
    await at.said(200, "PUT", OPENAI, {"enabled": False})
    assert await at.ask(client) == (403, "config_inactive")
    await at.said(200, "DELETE", OPENAI)
    assert await at.ask(client) == (200, key("default"))


async def test_case_13_an_inherited_view_shows_what_its_reader_may_see(world: World) -> None:
    at = Place(world, group(13))
    stranger = await world.admin.token(("GroupAIProviders.Manage", at.scope))
    reader = await world.admin.token(("AIProviders.Read", GLOBAL))
    path = OPENAI.removesuffix("/configure")
    preview = key("default")[-4:]
    for token, shown in ((stranger, False), (reader, True), (None, True)):
        view = await at.said(200, "GET", path, token=token)
        assert (view["source"], view["configured"]) == ("inherited", True)
        assert view["apiKeyPreview"] == (f"sk-...{preview}" if shown else None)
        assert view["baseUrl"] == (world.upstream.url if shown else None)
    await at.add("own", base_url=world.upstream.url)
    view = await at.said(200, "GET", path, token=stranger)
    assert (view["source"], view["baseUrl"]) == ("scope", world.upstream.url)


async def test_case_14_secret_id_is_a_label(world: World) -> None:
    at = Place(world, group(14))
    made = await at.add("own", secret_id="vault-7")
    assert (made["secret_id"], made["secret_preview"]) == ("vault-7", f"sk-...{key('own')[-4:]}")
    assert await key_of(world.admin.desk, made["id"]) == key("own")
    alone = {"alias": "a", "provider_slug": "openai", "default_config": False, "secret_id": "v"}
    for method, path, body in (
        ("POST", at.configs, alone),
        ("PUT", f"{at.configs}/{made['id']}", {"secret_id": "v"}),
    ):
        answer = await at.said(400, method, path, body)
        assert [error["path"] for error in answer["errors"]] == [["body", "secret"]]


@pytest.mark.parametrize("scope", [GLOBAL, group(15), "instance:case-15"])
async def test_case_15_surface_3_names_every_scope(world: World, scope: str) -> None:
    at, parent = Place(world, scope), Place(world, GLOBAL)
    made = await at.add("fifteen", "groq")
    assert (made["account_id"], made["gateway_id"]) == ("wardgate", scope)
    assert (await at.said(200, "GET", f"{CONNECTIONS}/{made['id']}"))["scope"] == scope
    listed = (await at.said(200, "GET", at.configs))["result"]
    assert [one["id"] for one in listed] == await _ids(at), "no inherited rows"
    if scope != GLOBAL:
        [other] = [view.id for view in await parent.views() if view.alias == "default"]
        for method, body in (("GET", None), ("PUT", {"secret": key("n")}), ("DELETE", None)):
            await at.said(404, method, f"{at.configs}/{other}", body)
    await at.said(200, "DELETE", f"{at.configs}/{made['id']}")


async def test_case_15_no_gateway_can_be_of_the_reserved_account(world: World) -> None:
    at = Place(world, "gateway:wardgate/mine")
    new = {"alias": "w", "name": "W", "providerId": "openai", "settings": {"apiKey": key("w")}}
    for status, method, path, body in (
        (400, "POST", CONNECTIONS, new),
        (400, "PUT", OPENAI, {"apiKey": key("w")}),
        (400, "POST", PROVIDERS, {"vendor": "openai", "name": "W", "api_key": key("w")}),
        (400, "POST", "/api/v1/scopes", {"id": at.scope}),
        (422, "POST", LLM, {"provider": "openai", "model": "m", "api_key": key("w")}),
    ):
        await at.said(status, method, path, body)
    path = "/accounts/wardgate/ai-gateway/gateways"
    answer = await world.admin.call("POST", path, {"id": "mine"})
    assert answer.status_code == 400, answer.text


async def test_case_16_lists_span_what_one_may_read(world: World) -> None:
    here, there, parent = (Place(world, scope) for scope in (group(16), group(116), GLOBAL))
    mine, other = (await here.add("mine"))["id"], (await there.add("other"))["id"]
    admin, [shared] = world.admin, await _ids(parent)
    owner = await admin.token(("GroupAIProviders.Manage", here.scope))

    async def listed(path: str, field: str, token: str | None = None) -> dict[str, str]:
        rows = (await admin.call("GET", path, token=token)).json()[field]
        return {read_id(row["id"]) or "": row["scope"] for row in rows}

    scopes = {mine: here.scope, other: there.scope, shared: GLOBAL}
    for path, field in ((CONNECTIONS, "items"), (PROVIDERS, "data")):
        assert scopes.items() <= (await listed(path, field)).items()
        assert await listed(f"{path}?scope={here.scope}", field) == {mine: here.scope}
        assert await listed(path, field, owner) == {mine: here.scope}
        assert await listed(f"{path}?scope={there.scope}", field, owner) == {}
        for found, status in ((mine, 200), (other, 404), (shared, 404)):
            answer = await admin.call("GET", f"{path}/{found}", token=owner)
            assert answer.status_code == status
    assert (await admin.call("GET", f"{CONNECTIONS}/default")).json()["id"] == shared
    assert (await admin.call("GET", f"{CONNECTIONS}/mine")).status_code == 404
    two = {"alias": "s", "name": "S", "providerId": "groq", "settings": {"apiKey": key("g")}}
    four = {"vendor": "groq", "name": "Sixteen", "api_key": key("g")}
    for path, body in ((CONNECTIONS, two), (PROVIDERS, four)):
        assert (await admin.call("POST", path, body)).json()["scope"] == GLOBAL


async def test_case_17_a_slash_in_a_models_name(world: World) -> None:
    at = Place(world, "instance:case-17")
    await at.said(201, "POST", "/api/v1/scopes", {"id": at.scope, "inherit": False})
    client = await at.client()

    async def meant(model: str) -> tuple[str, str]:
        await world.serve()
        answer = await world.http.post(
            "/v1/_explain", json={"model": model}, headers={"authorization": f"Bearer {client}"}
        )
        chosen = answer.json()["chosen"]
        return chosen["provider"], chosen["model"]

    both, theirs = "openai/gpt-4.1", "openai/gpt-oss-120b"
    await at.add("router", "openrouter")
    assert await meant(both) == ("openrouter", both), "nobody is there whose prefix it could be"
    await at.add("own")
    assert await meant(both) == ("openai", "gpt-4.1")
    assert await meant(theirs) == ("openrouter", theirs), "OpenAI does not list the rest"
    await at.said(200, "DELETE", CONFIGURE.format("openrouter"))
    assert await meant(theirs) == ("openai", "gpt-oss-120b"), "nobody lists the whole"


async def test_case_18_each_surface_has_its_own_names_and_takes_the_others(world: World) -> None:
    known = world.admin.desk.catalog
    foreign = [*CLOUDFLARE, *MODELUX]
    assert len({*foreign, *known.providers}) == len(foreign) + len(known.providers)
    for table, shown in ((CLOUDFLARE, known.cloudflare_slug), (MODELUX, known.modelux_slug)):
        assert {shown(provider): provider for provider in table.values()} == table
        assert all(known.canonical(slug) == provider for slug, provider in table.items())
    at = Place(world, group(18))
    for number, slug in enumerate(("grok", "xai")):
        made = await at.add(f"g{number}", slug)
        assert made["provider_slug"] == "grok"
        one = await at.said(200, "GET", f"{CONNECTIONS}/{made['id']}")
        four = await at.said(200, "GET", f"{PROVIDERS}/{made['id']}")
        assert (one["providerId"], four["vendor"]) == ("xai", "xai")
