"""The published examples of surfaces 2, 3 and 5 as they stand: same fields, documented statuses.

Only the host, the token, ids and times are another's. Surfaces 1 and 4 have theirs in
test_published_examples_more.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from admin.demo.upstream import Upstream
from tests.admin_serve import ACCOUNT, Admin
from tests.backends import Backend
from tests.connecting import reaching
from tests.probing import models

CONNECTIONS = "/connections"
LLM_CONFIG = "/llm-config/"
MODEL = "claude-sonnet-4-20250514"
CONNECTION = {
    "id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "alias": "openai-prod",
    "name": "OpenAI Production",
    "providerId": "openai",
    "isActive": True,
    "dateCreated": "2024-01-15T10:30:00Z",
    "dateModified": "2024-01-15T10:30:00Z",
    "settings": {"apiKey": "sk-***", "organization": None},
}
CREATED = {
    "alias": "openai-prod",
    "name": "OpenAI Production",
    "providerId": "openai",
    "settings": {"apiKey": "sk-0123456789abcdefghij", "organization": None},
}
LLM = {
    "id": "...",
    "provider": "anthropic",
    "model": MODEL,
    "api_key_masked": "sk-ant-...XXXX",
    "instance_id": None,
    "created_at": "2026-02-27T10:00:00Z",
    "updated_at": "2026-02-27T15:00:00Z",
}


@pytest.fixture
async def house(backend: Backend) -> AsyncIterator[Admin]:
    """An admin app; its providers list what the documents name."""
    listed = models("gpt-4o", "text-embedding-3-small", MODEL)
    async with Upstream(listed) as upstream, reaching(backend, upstream) as running:
        yield running


def like(shown: dict[str, Any], published: dict[str, Any]) -> None:
    """The same fields with the same values, but for ids and times, which need only be some."""
    assert published.keys() <= shown.keys()
    for name, value in published.items():
        if name == "id":
            UUID(shown[name])
        elif name.startswith("date") or name.endswith("_at"):
            datetime.fromisoformat(shown[name])
        elif isinstance(value, dict):
            like(shown[name], value)
        else:
            assert shown[name] == value, name


async def test_connection_of_the_documents(house: Admin) -> None:
    created = await house.call("POST", CONNECTIONS, CREATED)
    assert created.status_code == 201
    like(created.json(), CONNECTION)
    config_id = created.json()["id"]
    assert created.headers["location"].endswith(f"{CONNECTIONS}/{config_id}")
    for name in (config_id, "openai-prod"):
        answer = await house.call("GET", f"{CONNECTIONS}/{name}")
        assert answer.status_code == 200
        like(answer.json(), CONNECTION)
    listed = await house.call("GET", f"{CONNECTIONS}?skip=0&take=100")
    assert (listed.status_code, listed.json()["total"]) == (200, 1)
    item = {name: value for name, value in CONNECTION.items() if name != "settings"}
    like(listed.json()["items"][0], item)
    assert "settings" not in listed.json()["items"][0]


async def test_every_endpoint_of_the_connections_document(house: Admin) -> None:
    one = f"{CONNECTIONS}/{(await house.call('POST', CONNECTIONS, CREATED)).json()['id']}"
    change = {"name": "Renamed", "isActive": False, "settings": {"apiKey": "sk-***"}}
    for method, path, body, wanted in (
        ("PUT", one, change, {"name": "Renamed", "isActive": False}),
        ("POST", f"{CONNECTIONS}/openai-prod/test", None, {"success": True, "errorMessage": None}),
        ("GET", f"{CONNECTIONS}/capabilities/Chat", None, {"total": 1}),
    ):
        answer = await house.call(method, path, body)
        assert answer.status_code == 200, answer.text
        like(answer.json(), wanted)
    answer = await house.call("GET", f"{CONNECTIONS}/capabilities")
    assert answer.json()["items"][:2] == ["Chat", "Embedding"]
    answer = await house.call("GET", f"{CONNECTIONS}/openai-prod/models")
    chat = {"id": "gpt-4o", "name": "GPT-4o", "capabilities": ["Chat"]}
    assert chat in answer.json()["items"]
    for status in (200, 404):
        assert (await house.call("DELETE", one)).status_code == status


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"providerId": "invalid-provider"}, "Provider not found"),
        ({"settings": {"apiKey": 1}}, "Invalid settings"),
        ({}, "Connection alias already exists"),
    ],
)
async def test_refusals_of_the_connections_document(
    house: Admin, change: dict[str, Any], detail: str
) -> None:
    await house.call("POST", CONNECTIONS, CREATED)
    answer = await house.call("POST", CONNECTIONS, {**CREATED, **change})
    assert answer.status_code == 400
    like(answer.json(), {"title": "Bad Request", "status": 400, "detail": detail})
    answer = await house.call("GET", f"{CONNECTIONS}/nobody")
    like(answer.json(), {"title": "Not Found", "status": 404, "detail": "Connection not found"})


async def test_llm_config_of_the_documents(house: Admin) -> None:
    key = "sk-ant-0123456789abcdefXXXX"
    assert (await house.call("GET", LLM_CONFIG)).json() is None
    created = await house.call(
        "POST", LLM_CONFIG, {"provider": "anthropic", "model": MODEL, "api_key": key}
    )
    assert created.status_code == 201
    like(created.json(), LLM)
    answer = await house.call("GET", LLM_CONFIG)
    assert answer.status_code == 200
    like(answer.json(), LLM)
    tested = await house.call("POST", f"{LLM_CONFIG}test-connection")
    assert (tested.status_code, tested.json()) == (
        200,
        {
            "success": True,
            "provider": "anthropic",
            "model": MODEL,
            "message": "Connection successful",
        },
    )


@pytest.mark.parametrize("headers", [{}, {"X-Instance-Id": "tenant-1"}])
async def test_the_literal_keys_of_the_llm_config_document_are_keys(
    house: Admin, headers: dict[str, str]
) -> None:
    literal = {"provider": "anthropic", "model": MODEL, "api_key": "sk-ant-..."}
    for method, path, body, status in (
        ("PATCH", "", {"model": MODEL}, 404),
        ("DELETE", "", None, 404),
        ("POST", "test-connection", None, 404),
        ("POST", "", literal, 201),
        ("POST", "", literal, 409),
        ("PATCH", "", {"model": MODEL, "api_key": "sk-ant-new-key..."}, 200),
        ("DELETE", "", None, 204),
    ):
        answer = await house.call(method, f"{LLM_CONFIG}{path}", body, headers=headers)
        assert answer.status_code == status, (method, path, answer.text)
    assert (await house.call("GET", LLM_CONFIG, headers=headers)).json() is None


CONFIGS = f"/accounts/{ACCOUNT}/ai-gateway/gateways/my-gateway/provider_configs"
TYPES = {
    "account_id": str,
    "account_tag": str,
    "alias": str,
    "default_config": bool,
    "gateway_id": str,
    "id": str,
    "modified_at": str,
    "provider_slug": str,
    "rate_limit": int,
    "rate_limit_period": int,
    "secret_id": str,
    "secret_preview": str,
}


def typed(shown: dict[str, Any]) -> None:
    assert {name: type(shown[name]) for name in TYPES} == TYPES


def invalid(answer: dict[str, Any]) -> None:
    [error] = answer["errors"]
    assert (answer["success"], type(error["code"]), type(error["message"])) == (False, int, str)
    assert all(type(part) is str for part in error["path"])
    assert error["path"]


@pytest.mark.parametrize("prefix", ["", "/client/v4"])
async def test_provider_config_of_the_documents(house: Admin, prefix: str) -> None:
    path = prefix + CONFIGS
    body = {"alias": "a", "default_config": True, "provider_slug": "openai", "rate_limit": 10}
    created = await house.call("POST", path, {**body, "secret": "sk-...", "secret_id": "label"})
    one = f"{path}/{created.json()['result']['id']}"
    listed = await house.call("GET", path)
    updated = await house.call("PUT", one, {"secret": "sk-new..."})
    deleted = await house.call("DELETE", one)
    for answer in (created, updated, deleted):
        assert (answer.status_code, answer.json()["success"]) == (200, True)
        typed(answer.json()["result"])
    assert listed.status_code == 200
    typed(listed.json()["result"][0])
    for method, sent in (("PUT", {"secret": "sk-new..."}), ("DELETE", None)):
        answer = await house.call(method, one, sent)
        said = {"success": False, "errors": [{"code": 7002, "message": "Not Found"}]}
        assert (answer.status_code, answer.json()) == (404, said)


async def test_refusals_of_the_provider_configs_document(house: Admin) -> None:
    body = {"alias": "a", "default_config": True, "provider_slug": "openai"}
    created = await house.call("POST", CONFIGS, body)
    one = f"{CONFIGS}/{created.json()['result']['id']}"
    for method, path, sent in (
        ("POST", CONFIGS, {**body, "alias": 5}),
        ("POST", CONFIGS, body),
        ("PUT", one, {"secret": 5}),
    ):
        answer = await house.call(method, path, sent)
        assert answer.status_code == 400
        invalid(answer.json())
    answer = await house.call("GET", f"{CONFIGS}?per_page=x")
    shown = answer.json()
    assert (answer.status_code, shown["success"], shown["result"]) == (400, False, {})
    assert [type(error["message"]) for error in shown["errors"]] == [str]
