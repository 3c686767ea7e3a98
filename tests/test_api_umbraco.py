"""Surface 2 under the upstream's prefix: the shapes that its generated client reads."""

from __future__ import annotations

from typing import Any

import pytest

from admin.demo.upstream import Script, Upstream
from tests.admin_serve import KEY, Admin
from tests.backends import Backend
from tests.connecting import (
    GROUP,
    LIST,
    NOWHERE,
    OTHER,
    config,
    connection,
    made,
    problem,
    reaching,
    route,
)
from tests.desks import key_of
from tests.probing import models

UMBRACO = f"/umbraco/ai/management/api/v1{LIST}"
in_module = pytest.mark.asyncio(loop_scope="module")


def body(**more: Any) -> dict[str, Any]:
    """What the generated client sends with an update: all of it, the key as it was shown."""
    return {
        "alias": "openai-prod",
        "name": "OpenAI Production",
        "settings": {"apiKey": "sk-***", "organization": None},
        "isActive": True,
        **more,
    }


async def test_create_answers_the_guid_alone(app: Admin) -> None:
    answer = await app.call("POST", UMBRACO, connection())
    config_id = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"{UMBRACO}/{config_id}")
    shown = await app.call("GET", f"{UMBRACO}/{config_id}")
    assert shown.json() == (await app.call("GET", f"{LIST}/openai-prod")).json()
    assert shown.json()["id"] == config_id


@pytest.mark.parametrize("by", ["id", "alias"])
async def test_update_takes_the_whole_object_and_answers_nothing(app: Admin, by: str) -> None:
    before = await made(app)
    sent = body(alias="renamed", name="Renamed", isActive=False)
    answer = await app.call("PUT", f"{UMBRACO}/{before[by]}", sent)
    assert (answer.status_code, answer.content) == (200, b"")
    after = (await app.call("GET", f"{UMBRACO}/renamed")).json()
    assert (after["id"], after["name"], after["isActive"]) == (before["id"], "Renamed", False)
    assert await key_of(app.desk, before["id"]) == KEY


async def test_update_changes_the_case_of_an_alias(app: Admin) -> None:
    before = await made(app)
    await app.call("PUT", f"{UMBRACO}/{before['id']}", body(alias="OpenAI-Prod"))
    after = (await app.call("GET", f"{UMBRACO}/{before['id']}")).json()
    assert after["alias"] == "OpenAI-Prod"


async def test_update_refuses_a_taken_alias_and_another_provider(app: Admin) -> None:
    await made(app, "taken")
    path = f"{UMBRACO}/{(await made(app))['id']}"
    answer = await app.call("PUT", path, body(alias="Taken"))
    problem(answer, 400, "Bad Request", "Connection alias already exists")
    assert answer.json()["operationStatus"] == "DuplicateAlias"
    answer = await app.call("PUT", path, body(providerId="anthropic"))
    assert answer.json()["errors"][0]["pointer"] == "/providerId"
    assert (answer.status_code, answer.json()["operationStatus"]) == (400, "BadRequest")


@pytest.mark.parametrize("by", ["id", "alias"])
async def test_delete_answers_nothing(app: Admin, by: str) -> None:
    shown = await made(app)
    answer = await app.call("DELETE", f"{UMBRACO}/{shown[by]}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await app.call("GET", f"{UMBRACO}/{shown['id']}")).status_code == 404


async def test_lists_are_the_same(app: Admin) -> None:
    await made(app)
    for path in ("", "?take=1&filter=prod&providerId=openai", "/openai-prod", "/capabilities/chat"):
        ours, theirs = [await app.call("GET", f"{at}{path}") for at in (LIST, UMBRACO)]
        assert (ours.status_code, theirs.json()) == (200, ours.json())


async def test_capabilities_are_a_bare_array(app: Admin) -> None:
    assert (await app.call("GET", f"{UMBRACO}/capabilities")).json() == []
    await made(app)
    answer = await app.call("GET", f"{UMBRACO}/capabilities")
    assert answer.json() == ["Chat", "Embedding", "Media"]
    answer = await app.call("GET", f"{UMBRACO}/capabilities?scope={GROUP}")
    assert answer.json() == []


async def test_models_are_a_bare_array_of_references(backend: Backend) -> None:
    listed = models("gpt-4o", "text-embedding-3-small")
    async with Upstream(listed) as upstream, reaching(backend, upstream) as app:
        await made(app)
        answer = await app.call("GET", f"{UMBRACO}/openai-prod/models?capability=chat")
        named = {"model": {"providerId": "openai", "modelId": "gpt-4o"}, "name": "GPT-4o"}
        assert (answer.status_code, answer.json()) == (200, [named])


async def test_a_test_and_a_provider_that_is_away(backend: Backend) -> None:
    async with Upstream(Script(status=500)) as upstream, reaching(backend, upstream) as app:
        await made(app)
        answer = await app.call("POST", f"{UMBRACO}/openai-prod/test")
        assert (answer.status_code, answer.json()["success"]) == (200, False)
        answer = await app.call("GET", f"{UMBRACO}/openai-prod/models")
        assert (answer.status_code, answer.json()["operationStatus"]) == (502, "BadGateway")


async def test_whether_an_alias_is_taken_is_a_bare_boolean(app: Admin) -> None:
    shown = await made(app)
    for alias in ("default", "default"):
        await config(app, alias, "openai" if await _free(app, alias) else "anthropic")
    for alias, query, taken in (
        ("openai-prod", "", True),
        ("OPENAI-PROD", "", True),
        ("default", "", True),
        ("free", "", False),
        (shown["id"], "", False),
        ("openai-prod", f"?scope={GROUP}", False),
        ("openai-prod", f"?excludeId={shown['id']}", False),
        ("default", f"?excludeId={shown['id']}", True),
        ("openai-prod", f"?excludeId={NOWHERE}", True),
    ):
        answer = await app.call("GET", f"{UMBRACO}/{alias}/exists{query}")
        assert (answer.status_code, answer.json()) == (200, taken), (alias, query)


async def _free(app: Admin, alias: str) -> bool:
    return (await app.call("GET", f"{UMBRACO}/{alias}/exists")).json() is False


async def test_of_a_scope_one_may_not_read_no_alias_is_taken(app: Admin) -> None:
    await made(app)
    token = await app.token(("GroupAIProviders.Read", OTHER))
    answer = await app.call("GET", f"{UMBRACO}/openai-prod/exists", token=token)
    assert (answer.status_code, answer.json()) == (200, False)


async def test_problems_carry_the_upstreams_status(app: Admin) -> None:
    shown = await made(app)
    await route(app, shown["id"])
    await config(app, "default", "openai")
    await config(app, "default", "anthropic")
    stale = {"if-match": '"stale"'}
    one = f"{UMBRACO}/{shown['id']}"
    for method, path, sent, headers, status, word in (
        ("GET", f"{UMBRACO}/nope", None, {}, 404, "NotFound"),
        ("POST", UMBRACO, connection("b", providerId="nope"), {}, 400, "ProviderNotFound"),
        ("POST", UMBRACO, connection("b", settings={"x": 1}), {}, 400, "InvalidSettings"),
        ("POST", UMBRACO, connection("b", settings={"apiKey": "***"}), {}, 400, "InvalidSettings"),
        ("POST", UMBRACO, connection(), {}, 400, "DuplicateAlias"),
        ("POST", UMBRACO, {}, {}, 400, "BadRequest"),
        ("DELETE", one, None, {}, 400, "InUse"),
        ("GET", f"{UMBRACO}/default", None, {}, 409, "AmbiguousAlias"),
        ("PUT", one, body(), stale, 412, "PreconditionFailed"),
        ("GET", "/umbraco/ai/management/api/v1/profiles", None, {}, 404, "NotFound"),
    ):
        answer = await app.call(method, path, sent, headers=headers)
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["operationStatus"]) == (status, word), path


@in_module
async def test_credentials_and_permissions_are_the_same(shared: Admin) -> None:
    reader = await shared.token(("AIProviders.Read", "global"))
    for token, status, word in (("", 401, "Unauthorized"), (reader, 403, "Forbidden")):
        answer = await shared.call("POST", UMBRACO, connection(), token=token)
        assert (answer.status_code, answer.json()["operationStatus"]) == (status, word)
