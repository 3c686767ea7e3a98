"""Surface 1, what it shows: lists, scopes and their spellings, models, agents, health."""

from __future__ import annotations

import re
from typing import Any

import pytest

from admin.configure import models
from admin.permit import LOCAL
from gateway.store.proofs import PROVEN, REFUSED
from tests.admin_serve import CANARY, KEY, PREVIEW, Admin
from tests.providing import (
    CONFIGURE,
    GROUP,
    LIST,
    OPENAI,
    OTHER,
    TYPE_ID,
    agent,
    ask,
    config,
    counted,
    put,
    seen,
    view,
)

DOCUMENTED = {
    *("id", "name", "doc", "npm", "api", "env", "scope", "configured", "enabled", "hasApiKey"),
    *("apiKeyPreview", "authType", "baseUrl", "source", "modelCount", "enabledModelCount"),
    *("health", "createdAt", "updatedAt"),
}
OURS = {"alias", "managedBy"}
MODEL = {
    *("id", "providerId", "name", "family", "scope", "enabled", "agentCount", "cost", "limit"),
    *("modalities", "reasoning", "tool_call", "attachment", "status"),
}
BAD_SCOPES = ("", "nonsense", "gr_", "gr_01HZ1F0KW36F82K9S4NZPC4S33", "group:x", "instance:")
SLASHED = "/models/openai/gpt-4o"  # as OpenRouter lists it
in_module = pytest.mark.asyncio(loop_scope="module")


async def names(app: Admin, query: str = "", **more: Any) -> list[str]:
    """The ids of a list, in its order."""
    return [row["id"] for row in (await ask(app, 200, "GET", f"{LIST}{query}", **more)).json()]


async def custom(app: Admin, name: str, scope: str = "global") -> None:
    place = {"base_url": f"https://{name}.example/v1", "dialect": "openai"}
    await config(app, provider=f"custom:{name}", scope=scope, **place)


@in_module
async def test_the_list_is_a_bare_array_of_the_whole_catalog(shared: Admin) -> None:
    rows = (await ask(shared, 200, "GET", LIST)).json()
    catalog = shared.desk.catalog.providers
    assert [row["id"] for row in rows] == sorted(catalog)
    assert len(rows) == 147
    assert all(set(row) == DOCUMENTED | OURS for row in rows)
    assert sum(row["modelCount"] for row in rows) == 5276
    [openai] = [row for row in rows if row["id"] == "openai"]
    assert openai == {
        **dict.fromkeys(DOCUMENTED | OURS),
        "id": "openai",
        "name": "OpenAI",
        "npm": "@ai-sdk/openai",
        "env": ["OPENAI_API_KEY"],
        "doc": "https://platform.openai.com/docs/models",
        "scope": "global",
        "source": "none",
        **dict.fromkeys(("configured", "enabled", "hasApiKey"), False),
        **dict.fromkeys(("modelCount", "enabledModelCount"), len(catalog["openai"].models)),
    }


async def walked(app: Admin, query: str) -> list[list[str]]:
    """The pages one sees who follows the Link headers."""
    pages, path = [], f"{LIST}{query}"
    while path:
        answer = await ask(app, 200, "GET", path)
        pages.append([row["id"] for row in answer.json()])
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", '<>; rel="next"'))
        path = link[1] if link else ""
        assert len(pages) < 200
    return pages


async def test_link_headers_lead_through_everything_exactly_once(app: Admin) -> None:
    await custom(app, "zeta")
    await custom(app, "alpha", GROUP)
    whole = await names(app, f"?scope={TYPE_ID}")
    assert whole == sorted([*app.desk.catalog.providers, "custom:alpha", "custom:zeta"])
    for limit in (10, 148, 149):
        pages = await walked(app, f"?scope={TYPE_ID}&limit={limit}")
        assert [name for page in pages for name in page] == whole
        assert {len(page) for page in pages[:-1]} <= {limit}
    assert sum(await walked(app, "?search=z&limit=2"), []) == await names(app, "?search=z")
    assert await walked(app, f"?configured=true&limit=1&scope={TYPE_ID}") == [
        ["custom:alpha"],
        ["custom:zeta"],
    ]


async def test_a_walk_goes_on_when_its_last_one_is_gone(app: Admin) -> None:
    await custom(app, "a")
    await custom(app, "b")
    [first, _] = await names(app, "?configured=true")
    await ask(app, 200, "DELETE", f"{LIST}/{first}/configure")
    assert await names(app, f"?configured=true&lastId={first}") == ["custom:b"]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("configured=maybe", "configured"),
        ("search=" + "x" * 201, "search"),
        ("lastId=", "lastId"),
        *((f"scope={scope}", "scope") for scope in BAD_SCOPES),
    ],
)
@in_module
async def test_a_query_that_will_not_do_is_named(shared: Admin, query: str, where: str) -> None:
    answer = await ask(shared, 400, "GET", f"{LIST}?{query}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["query"] == where


@in_module
async def test_search_reads_ids_and_names_in_any_case(shared: Admin) -> None:
    assert "amazon-bedrock" in await names(shared, "?search=BEDROCK")
    assert await names(shared, "?search=xAI") == await names(shared, "?search=XAI")
    assert await names(shared, "?search=no such provider") == []


async def test_configured_filters_by_what_the_scope_sees(app: Admin) -> None:
    await config(app)
    await config(app, provider="groq", scope=GROUP)
    assert await names(app, "?configured=true") == ["openai"]
    assert await names(app, f"?configured=true&scope={TYPE_ID}") == ["groq", "openai"]
    assert len(await names(app, f"?configured=false&scope={TYPE_ID}")) == 145


@pytest.mark.parametrize("scope", BAD_SCOPES)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/agents", None),
        ("GET", "/models", None),
        ("PUT", "/configure", {"apiKey": KEY}),
        ("DELETE", "/configure", None),
        ("PUT", "/models/gpt-4o", {"enabled": True}),
    ],
)
@in_module
async def test_a_bad_scope_is_400_everywhere(
    shared: Admin, method: str, path: str, body: Any, scope: str
) -> None:
    answer = await ask(shared, 400, method, f"{OPENAI}{path}?scope={scope}", body)
    assert answer.json()["errors"][0]["query"] == "scope"


@pytest.mark.parametrize(
    ("said", "stored", "shown"),
    [
        ("global", "global", "global"),
        (TYPE_ID, GROUP, TYPE_ID),
        (GROUP, GROUP, TYPE_ID),
        ("gateway:acc/gw", "gateway:acc/gw", "gateway:acc/gw"),
        ("instance:i.1", "instance:i.1", "instance:i.1"),
    ],
)
async def test_a_scope_is_named_in_query_body_or_header(
    app: Admin, said: str, stored: str, shown: str
) -> None:
    assert (await view(app, f"?scope={said}"))["source"] == "none"
    made = await put(app, scope=said)
    assert (made["scope"], made["source"]) == (shown, "scope")
    assert made == await view(app, f"?scope={said}")
    assert made == await view(app, headers={"wardgate-scope": said})
    assert made == await put(app, f"?scope={stored}", scope=said, keep=True) | {
        "updatedAt": made["updatedAt"]
    }
    answer = await ask(app, 200, "DELETE", CONFIGURE, headers={"wardgate-scope": said})
    assert answer.json() == {"disabledAgents": [], "removedModels": 0}


@pytest.mark.parametrize(
    ("query", "body", "header", "where"),
    [
        (TYPE_ID, None, "global", {"header": "wardgate-scope"}),
        ("global", None, TYPE_ID, {"header": "wardgate-scope"}),
        (None, TYPE_ID, OTHER, {"header": "wardgate-scope"}),
        (TYPE_ID, "global", None, {"query": "scope"}),
        (None, "nonsense", None, {"pointer": "/scope"}),
        (None, None, "nonsense", {"header": "wardgate-scope"}),
    ],
)
@in_module
async def test_scopes_that_disagree_or_are_none_are_400(
    shared: Admin, query: str | None, body: str | None, header: str | None, where: dict[str, str]
) -> None:
    sent = {"apiKey": KEY} | ({"scope": body} if body else {})
    headers = {"wardgate-scope": header} if header else {}
    path = f"{CONFIGURE}?scope={query}" if query else CONFIGURE
    answer = await ask(shared, 400, "PUT", path, sent, headers=headers)
    assert {**answer.json()["errors"][0], **where} == answer.json()["errors"][0]


async def test_whose_config_is_shown(app: Admin) -> None:
    assert (await view(app, f"?scope={TYPE_ID}"))["source"] == "none"
    await config(app, "up", base_url="https://up.example/v1")
    inherited = await view(app, f"?scope={TYPE_ID}")
    assert (inherited["source"], inherited["alias"]) == ("inherited", "up")
    assert (inherited["apiKeyPreview"], inherited["baseUrl"]) == (PREVIEW, "https://up.example/v1")
    await config(app, "own", scope=GROUP, active=False)
    own = await view(app, f"?scope={TYPE_ID}")
    assert (own["source"], own["alias"], own["enabled"]) == ("scope", "own", False)
    assert (await view(app))["alias"] == "up"


async def test_an_inherited_config_shows_nothing_of_a_parent_one_may_not_read(app: Admin) -> None:
    place = {"base_url": "https://secret-place.example/v1", "name": "Hush", "managed_by": "fleet"}
    await config(app, **place)
    await config(app, provider="custom:x", dialect="openai", **place)
    token = await app.token(("GroupAIProviders.Read", GROUP))
    for name in ("openai", "custom:x"):
        shown = await ask(app, 200, "GET", f"{LIST}/{name}?scope={TYPE_ID}", token=token)
        assert (shown.json()["source"], shown.json()["hasApiKey"]) == ("inherited", True)
        hidden = {n: shown.json()[n] for n in ("apiKeyPreview", "baseUrl", "managedBy")}
        assert hidden == dict.fromkeys(hidden)
        for text in ("WXYZ", "secret-place", "Hush", "fleet"):
            assert text not in shown.text
    everybody = await app.token(("GroupAIProviders.Read", GROUP), ("AIProviders.Read", "global"))
    full = await view(app, f"?scope={TYPE_ID}", token=everybody)
    assert (full["apiKeyPreview"], full["managedBy"]) == (PREVIEW, "fleet")


async def test_health_is_of_the_config_that_is_shown(app: Admin) -> None:
    made = await config(app)
    unknown = {"state": "unknown", "p50LatencyMs": None, "lastCheckAt": None}
    assert (await view(app))["health"] == unknown
    await seen(app, made.id, PROVEN)
    proven = (await view(app))["health"]
    assert (proven["state"], proven["p50LatencyMs"]) == ("healthy", None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", proven["lastCheckAt"])
    await counted(app, made.id, 5, ok=8, failed=2)
    busy = (await view(app, f"?scope={TYPE_ID}"))["health"]
    assert busy["state"] == "degraded"
    assert 285 <= busy["p50LatencyMs"] <= 315
    await seen(app, made.id, REFUSED)
    assert (await view(app))["health"]["state"] == "unhealthy"


@in_module
async def test_models_come_with_what_the_catalog_knows(shared: Admin) -> None:
    rows = await view(shared, "/models")
    assert [row["id"] for row in rows] == list(shared.desk.catalog.providers["openai"].models)
    assert all(set(row) == MODEL for row in rows)
    [shown] = [row for row in rows if row["id"] == "gpt-4o"]
    assert shown == {
        "id": "gpt-4o",
        "providerId": "openai",
        "name": "GPT-4o",
        "family": "gpt",
        "scope": "global",
        "enabled": True,
        "agentCount": 0,
        "status": None,
        "cost": {"input": 2.5, "output": 10, "cache_read": 1.25},
        "limit": {"context": 128000, "output": 16384},
        "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]},
        "reasoning": False,
        "tool_call": True,
        "attachment": True,
    }


async def test_models_are_switched_per_scope_and_off_above_wins(app: Admin) -> None:
    async def switch(enabled: bool, scope: str) -> Any:
        path = f"{OPENAI}/models/gpt-4o?scope={scope}"
        return (await ask(app, 200, "PUT", path, {"enabled": enabled})).json()

    count = len(app.desk.catalog.providers["openai"].models)
    off = await switch(False, TYPE_ID)
    assert (off["id"], off["enabled"], off["scope"]) == ("gpt-4o", False, TYPE_ID)
    for scope, enabled in ((TYPE_ID, count - 1), ("global", count)):
        assert (await view(app, f"?scope={scope}"))["enabledModelCount"] == enabled
        assert len(await view(app, f"/models?scope={scope}&enabled=true")) == enabled
    assert await view(app, f"/models?scope={TYPE_ID}&enabled=false") == [off]
    await switch(False, "global")
    assert (await switch(True, TYPE_ID))["enabled"] is False
    await switch(True, "global")
    assert await view(app, f"/models?scope={TYPE_ID}&enabled=false") == []


@pytest.mark.parametrize("slash", ["/", "%2F"])
async def test_a_models_id_may_contain_slashes(app: Admin, slash: str) -> None:
    path = f"{LIST}/openrouter{SLASHED[:14]}{slash}gpt-4o"
    assert (await ask(app, 200, "PUT", path, {"enabled": False})).json()["id"] == "openai/gpt-4o"
    assert await models.states(app.desk, "global", "openrouter") == {"openai/gpt-4o": False}


async def test_a_model_kept_by_a_file_is_409(app: Admin) -> None:
    given = ("global", "openai", "gpt-4o", False)
    await models.set_enabled(app.desk, LOCAL, *given, owner="fleet")
    await ask(app, 409, "PUT", f"{OPENAI}/models/gpt-4o", {"enabled": True})
    assert await models.states(app.desk, "global", "openai") == {"gpt-4o": False}


@pytest.mark.parametrize("body", [{}, {"enabled": None}, {"enabled": 1}, {"enabled": True, "x": 1}])
@in_module
async def test_a_switch_is_a_boolean_and_nothing_else(shared: Admin, body: Any) -> None:
    await ask(shared, 400, "PUT", f"{OPENAI}/models/gpt-4o", body)


async def test_agents_of_the_scope_and_provider(app: Admin) -> None:
    made = await agent(app, "one", "openai/gpt-4o", GROUP)
    await agent(app, "two", "anthropic/claude-haiku-4-5", GROUP)
    await agent(app, "three", "openai/gpt-4o")
    path = f"/agents?scope={TYPE_ID}"
    wanted = {"id": made.id, "name": "one", "scope": TYPE_ID, "enabled": True}
    assert await view(app, path) == [{**wanted, "modelId": "openai/gpt-4o"}]
    [shown] = [row for row in await view(app, "/models?scope=" + TYPE_ID) if row["agentCount"]]
    assert (shown["id"], shown["agentCount"]) == ("gpt-4o", 1)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/nobody", None),
        ("GET", "/nobody/agents", None),
        ("GET", "/nobody/models", None),
        ("PUT", "/nobody/configure", {"apiKey": KEY}),
        ("DELETE", "/nobody/configure", None),
        ("PUT", "/nobody/models/gpt-4o", {"enabled": True}),
        ("GET", "/custom:nobody", None),
        ("GET", "/custom:nobody/agents", None),
        ("GET", "/custom:nobody/models", None),
        ("DELETE", "/custom:nobody/configure", None),
        ("GET", "/openai?alias=none", None),
        ("DELETE", "/openai/configure", None),
        ("DELETE", "/openai/configure?alias=none", None),
        ("DELETE", "/openai/configure?alias=*", None),
        ("DELETE", "/google-vertex/configure", None),
        ("PUT", "/openai/models/no-such-model", {"enabled": True}),
        ("PUT", "/openai/models/", {"enabled": True}),
        ("PUT", "/openai/models/" + "x" * 301, {"enabled": True}),
        ("GET", "/openai%00", None),
        ("GET", f"/{CANARY * 30}", None),
        ("GET", "/openai/nothing", None),
    ],
)
@in_module
async def test_what_is_not_there_is_404(shared: Admin, method: str, path: str, body: Any) -> None:
    answer = await ask(shared, 404, method, f"{LIST}{path}", body)
    problem = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "Not Found"}
    assert answer.json() == problem


async def test_a_custom_provider_is_there_once_it_is_configured(app: Admin) -> None:
    await custom(app, "vllm")
    shown = await view(app, path=f"{LIST}/custom:vllm")
    assert (shown["source"], shown["modelCount"], shown["env"]) == ("scope", 0, [])
    assert await view(app, "/models", f"{LIST}/custom:vllm") == []
    assert await view(app, "/agents", f"{LIST}/custom:vllm") == []


async def test_a_provider_goes_by_its_foreign_names(app: Admin) -> None:
    assert (await view(app, path=f"{LIST}/bedrock"))["id"] == "amazon-bedrock"
