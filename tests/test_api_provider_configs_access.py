"""Surface 3, provider configs: which credentials count, who may do what, and no key anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin_serve import (
    ACCOUNT,
    CANARY,
    CONFIGS,
    KEY,
    Admin,
    new,
)
from tests.backends import Backend

GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
SCOPE = f"gateway:{ACCOUNT}/gw"
RESERVED = "/accounts/wardgate/ai-gateway/gateways"
NOT_FOUND = {"success": False, "errors": [{"code": 7002, "message": "Not Found"}]}

in_module = pytest.mark.asyncio(loop_scope="module")


async def made(app: Admin, path: str = CONFIGS, **fields: Any) -> dict[str, Any]:
    answer = await app.call("POST", path, new(**fields))
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


@pytest.mark.parametrize("header", ["x-auth-key", "x-auth-user-service-key"])
async def test_cloudflares_own_headers_carry_the_token(app: Admin, header: str) -> None:
    headers = {header: app.root, "x-auth-email": "someone@example.com"}
    assert (await app.call("GET", CONFIGS, token="", headers=headers)).status_code == 200


@in_module
async def test_no_answer_when_the_credential_is_missing_or_wrong(shared: Admin) -> None:
    revoked = shared.root[:-1] + ("0" if shared.root[-1] != "0" else "1")
    other = await shared.token(("superadmin", "global"))
    answers = [
        await shared.call("GET", CONFIGS, token=""),
        await shared.call("GET", CONFIGS, token=revoked),
        await shared.call("GET", CONFIGS, token="Bearer"),
        await shared.call("GET", CONFIGS, headers={"x-auth-key": other}),
        await shared.call(
            "GET", CONFIGS, token="", headers={"authorization": f"Basic {shared.root}"}
        ),
        await shared.call("POST", CONFIGS, token="", content=b"not json"),
    ]
    for answer in answers:
        assert answer.status_code == 401
        error = answer.json()["errors"][0]
        assert (error["code"], error["message"]) == (10000, "Authentication error")


async def test_forbidden_when_the_action_is_held_nowhere(app: Admin) -> None:
    reader = await app.token(("AIProviders.Read", "global"))
    stranger = await app.token(("AIModels.Manage", "global"))
    assert (await app.call("GET", CONFIGS, token=reader)).status_code == 200
    for token, method in ((reader, "POST"), (stranger, "GET")):
        answer = await app.call(method, CONFIGS, new(), token=token)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, 10000)


async def test_not_found_when_the_action_is_held_elsewhere(app: Admin) -> None:
    found = await made(app)
    held = await app.token(("GroupAIProviders.Manage", GROUP))
    listed = await app.call("GET", CONFIGS, token=held)
    assert (listed.status_code, listed.json()["result"]) == (200, [])
    assert listed.json()["result_info"]["total_count"] == 0
    for method, path in (
        ("POST", CONFIGS),
        ("GET", f"{CONFIGS}/{found['id']}"),
        ("PUT", f"{CONFIGS}/{found['id']}"),
        ("DELETE", f"{CONFIGS}/{found['id']}"),
    ):
        answer = await app.call(method, path, {"secret": KEY}, token=held)
        assert (answer.status_code, answer.json()) == (404, NOT_FOUND)
    own = await app.call("POST", f"{RESERVED}/{GROUP}/provider_configs", new(), token=held)
    assert own.status_code == 200


async def test_a_base_url_off_the_catalog_needs_a_global_permission(app: Admin) -> None:
    held = await app.token(("GroupAIProviders.Manage", SCOPE))
    moved = new(base_url="https://llm.example.com/v1")
    custom = new(provider_slug="custom:x", base_url="https://llm.example.com/v1", dialect="openai")
    for body in (moved, custom):
        answer = await app.call("POST", CONFIGS, body, token=held)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, 10000)
    catalogs = app.desk.catalog.providers["openai"].base_url
    same = await app.call("POST", CONFIGS, new(base_url=catalogs), token=held)
    assert same.status_code == 200
    path = f"{CONFIGS}/{same.json()['result']['id']}"
    answer = await app.call(
        "PUT", path, {"secret": KEY, "base_url": "https://e.com/v1"}, token=held
    )
    assert answer.status_code == 403


async def test_a_reference_is_stored_by_superadmin_only(app: Admin) -> None:
    held = await app.token(("AIProviders.Manage", "global"))
    answer = await app.call("POST", CONFIGS, new(secret="$env:OPENAI_API_KEY"), token=held)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, 10000)


async def test_the_key_is_shown_and_kept_nowhere(app: Admin, backend: Backend) -> None:
    found = await made(app)
    path = f"{CONFIGS}/{found['id']}"
    answers = [
        await app.call("POST", CONFIGS, new("second")),
        await app.call("POST", CONFIGS, new("second")),
        await app.call("POST", CONFIGS, new("third", surprise=KEY)),
        await app.call("GET", CONFIGS),
        await app.call("GET", path),
        await app.call("PUT", path, {"secret": KEY}),
        await app.call("DELETE", path),
        await app.call("GET", "/api/v1/audit"),
    ]
    assert all(CANARY not in answer.text for answer in answers)
    assert CANARY.encode() not in backend.disk()
    assert b"second" in backend.disk()
