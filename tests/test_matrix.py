"""Permissions × operations × tools: every cell, asked for real; what is expected is permit.py's.

A row added to the registry is in here at once; so is a permission added to the table.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from admin import openapi
from admin.api.operations import Operation
from admin.permit import ACTIONS, PERMISSIONS
from admin.registry import SURFACES, served
from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend, lent
from tests.databases import Databases

GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
MARK = "elsewhere"
ROWS = [(surface, row) for surface, rows in SURFACES for row in rows]
TOOLS = {row.tool: row for _, row in ROWS if row.tool}
# Asked about by other things than a row: /metrics, and a key that is a reference.
APART = {"metrics.read", "references.manage"}
MADE_UP = {"capability": "chat", "providerId": "openai", "modelId": "gpt-4o"}
in_module = pytest.mark.asyncio(loop_scope="module")
holders = pytest.mark.parametrize("permission", [*PERMISSIONS, ""], ids=[*PERMISSIONS, "nothing"])


def held(permission: str, row: Operation) -> bool:
    return permission in PERMISSIONS and row.action in PERMISSIONS[permission].actions


async def holder(app: Admin, permission: str) -> str:
    """A token with this permission, where it can be granted."""
    if not permission:
        return await app.token()
    everywhere = PERMISSIONS[permission].everywhere
    return await app.token((permission, "global" if everywhere else GROUP))


def filled(path: str, values: Mapping[str, str]) -> str:
    for name in openapi.parameters_of(path):
        path = path.replace(f"{{{name}:path}}", f"{{{name}}}")
        path = path.replace(f"{{{name}}}", values.get(name, "made-up"))
    return path


async def ask(app: Admin, token: str, row: Operation, path: str, **headers: str) -> httpx2.Response:
    body: dict[str, Any] | None = {} if row.body is not None else None
    return await app.call(row.method, path, body, token=token, headers=headers)


@holders
@in_module
async def test_every_operation_asks_for_its_action_and_no_other(
    shared: Admin, permission: str
) -> None:
    token = await holder(shared, permission)
    cells = [
        (surface, row, filled(path, MADE_UP))
        for surface, row in ROWS
        for path in served(surface, row)
    ]
    assert {row.name for _, row, _ in cells} == {row.name for _, row in ROWS}
    answers = await asyncio.gather(*(ask(shared, token, row, path) for _, row, path in cells))
    for (surface, row, path), answer in zip(cells, answers, strict=True):
        cell = f"{permission or 'nothing'}: {row.method} {path}: {answer.text[:200]}"
        if held(permission, row):
            assert answer.status_code in {*row.answers, *openapi.statuses(surface, row)}, cell
            assert answer.status_code not in (401, 403, 503), cell
        else:
            assert answer.status_code == 403, cell


@pytest.mark.parametrize("token", ["", "wga_not_one", "wg_AAAA_BBBB"])
@in_module
async def test_without_a_good_token_every_operation_answers_401(shared: Admin, token: str) -> None:
    cells = [(row, filled(path, MADE_UP)) for s, row in ROWS for path in served(s, row)]
    answers = await asyncio.gather(*(ask(shared, token, row, path) for row, path in cells))
    wrong = [path for (_, path), one in zip(cells, answers, strict=True) if one.status_code != 401]
    assert wrong == []
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)


@holders
@in_module
async def test_tools_are_listed_and_answer_where_the_action_is_held(
    shared: Admin, permission: str
) -> None:
    token = await holder(shared, permission)
    listed = {tool["name"] for tool in (await rpc(shared, token, "tools/list"))["tools"]}
    assert listed == {name for name, row in TOOLS.items() if held(permission, row)}
    for name, row in TOOLS.items():
        path = dict.fromkeys(openapi.parameters_of(row.path), "made-up")
        given = {"name": name, "arguments": path}
        result = await rpc(shared, token, "tools/call", **given)
        text = result["content"][0]["text"]
        if held(permission, row):
            assert not {"unknown_tool", "forbidden"} & set(text.split('"')), (name, text)
        else:
            assert result["isError"], name
            assert json.loads(text)["error"]["code"] == "unknown_tool"


async def rpc(app: Admin, token: str, method: str, **params: Any) -> Any:
    """The result of one JSON-RPC request to /mcp."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    accepted = {"accept": "application/json, text/event-stream"}
    answer = await app.call("POST", "/mcp", body, token=token, headers=accepted)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


READ_PROVIDERS = {"AIProviders.Read", "GroupAIProviders.Read"}
MANAGE_PROVIDERS = {"AIProviders.Manage", "GroupAIProviders.Manage"}
READ_MODELS = {"AIModels.Read", "GroupAIModels.Read"}
MANAGE_MODELS = {"AIModels.Manage", "GroupAIModels.Manage"}
# Who may call what, as the published pages have it (superadmin may everything).
PUBLISHED: Mapping[str, set[str]] = {
    "listAiProviders": READ_PROVIDERS | MANAGE_PROVIDERS,
    "getAiProvider": READ_PROVIDERS | MANAGE_PROVIDERS,
    "listAiProviderAgents": MANAGE_PROVIDERS,
    "configureAiProvider": MANAGE_PROVIDERS,
    "removeAiProviderConfiguration": MANAGE_PROVIDERS,
    "listAiProviderModels": READ_MODELS | MANAGE_MODELS,
    "setAiProviderModel": MANAGE_MODELS,
    **{row.name: set() for surface, row in ROWS if surface.name == "LLM config"},
    **{row.name: set() for _, row in ROWS if "/admin-tokens" in row.path or "audit" in row.path},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_permissions_are_kept(name: str) -> None:
    row = next(row for _, row in ROWS if row.name == name)
    assert {one for one in PERMISSIONS if held(one, row)} == PUBLISHED[name] | {"superadmin"}


def test_every_action_is_asked_for_somewhere_and_every_tool_has_a_row() -> None:
    assert {row.action for _, row in ROWS} | APART == set(ACTIONS)
    assert len(TOOLS) == 6


@dataclass
class Elsewhere:
    """A running app with one of everything in a scope that the group's tokens do not hold."""

    app: Admin
    ids: Mapping[str, str]  # part of a path -> the id there


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def elsewhere(
    store_databases: Databases | None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Elsewhere]:
    folder = tmp_path_factory.mktemp("elsewhere")
    with lent(folder, store_databases) as backend:
        async with admin(backend) as app:
            yield Elsewhere(app, await one_of_everything(app))


async def one_of_everything(app: Admin) -> dict[str, str]:
    async def made(path: str, **body: Any) -> str:
        answer = await app.call("POST", path, body)
        assert answer.status_code in (200, 201), answer.text
        shown = answer.json()
        return str(shown.get("result", shown)["id"])

    place = {"scope": OTHER, "name": MARK}
    gateway = f"/accounts/{MARK}/ai-gateway/gateways/{MARK}/provider_configs"
    named = {"alias": MARK, "default_config": True, "provider_slug": "openai", "secret": KEY}
    stored = await made(gateway, **named)
    settings = {"apiKey": KEY}
    config = await made("/connections", **place, alias=MARK, providerId="openai", settings=settings)
    targets = [{"configId": config, "model": "gpt-4o"}]
    return {
        "/provider_configs/": stored,
        "/gateways/": MARK,
        "/connections/": config,
        "/manage/": config,
        "/routes/": await made("/api/v1/routes", **place, targets=targets),
        "/ai-agents/": await made("/api/v1/ai-agents", **place),
        "/client-keys/": await made("/api/v1/client-keys", **place),
        "/scopes/": OTHER,
    }


IN_ONE_SCOPE = [name for name, row in PERMISSIONS.items() if not row.everywhere]


@pytest.mark.parametrize("permission", IN_ONE_SCOPE)
@in_module
async def test_what_is_in_a_scope_one_does_not_hold_is_not_there(
    elsewhere: Elsewhere, permission: str
) -> None:
    app, token = elsewhere.app, await holder(elsewhere.app, permission)
    before = await everything(elsewhere)
    for surface, row in ROWS:
        if not held(permission, row):
            continue
        path = openapi.documented(surface, row)
        known = next((one for part, one in elsewhere.ids.items() if part in path), "made-up")
        ids = {"id": known, "idOrAlias": known, "account_id": MARK, "gateway_id": MARK}
        there = {} if "account_id" in path else {"Wardgate-Scope": OTHER}
        answer = await ask(app, token, row, filled(path, {**MADE_UP, **ids}), **there)
        cell = f"{permission}: {row.method} {path}: {answer.status_code} {answer.text[:200]}"
        assert MARK not in answer.text, cell
        assert CANARY not in answer.text, cell
        nothing = answer.status_code == 200 and row.method == "GET" and empty(answer.json())
        assert nothing or answer.status_code in (400, 404), cell
    assert await everything(elsewhere) == before


def empty(shown: Any) -> bool:
    """A list of nothing, or the word that there is nothing."""
    if isinstance(shown, dict):
        shown = next(shown[name] for name in ("data", "items", "result") if name in shown)
    return shown in ([], False)


async def everything(elsewhere: Elsewhere) -> list[Any]:
    """All of it, as the superadmin sees it."""
    ids, call = elsewhere.ids, elsewhere.app.call
    paths = [
        f"/accounts/{MARK}/ai-gateway/gateways/{MARK}",
        f"/accounts/{MARK}/ai-gateway/gateways/{MARK}/provider_configs",
        f"/connections/{ids['/connections/']}",
        *(f"/api/v1{part}{ids[part]}" for part in ("/routes/", "/ai-agents/", "/client-keys/")),
        f"/api/v1/scopes/{OTHER}",
        f"/llm-config/?scope={OTHER}",
        f"/api/v1/ai-providers/openai/models?scope={OTHER}",
    ]
    answers = [await call("GET", path) for path in paths]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return [answer.json() for answer in answers]


async def test_a_grant_elsewhere_and_no_grant_differ(backend: Backend) -> None:
    """404 where the action is held in another scope, 403 where it is held in none."""
    async with admin(backend) as app:
        await one_of_everything(app)
        manager = await app.token(("GroupAIProviders.Manage", GROUP))
        reader = await app.token(("GroupAIProviders.Read", OTHER))
        path = "/api/v1/scopes/" + OTHER
        assert (await app.call("GET", path, token=manager)).status_code == 404
        assert (await app.call("GET", path, token=reader)).status_code == 200
        assert (await app.call("DELETE", path, token=reader)).status_code == 403
