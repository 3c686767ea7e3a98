"""/api/v1/client-keys: shown once, listed without secrets, revoked for good, scope by scope."""

from __future__ import annotations

from typing import Any

import pytest

from admin.api.client_keys import KeyBody
from gateway import credential
from gateway.store.telemetry import record_used
from tests.admin_serve import CONFIGS, GATEWAYS, Admin, new
from tests.backends import Backend
from tests.desks import table

KEYS = "/api/v1/client-keys"
AGENTS = "/api/v1/ai-agents"
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"


in_module = pytest.mark.asyncio(loop_scope="module")


async def made(app: Admin, **fields: Any) -> dict[str, Any]:
    answer = await app.call("POST", KEYS, {"name": "app", **fields})
    assert answer.status_code == 201, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_create_shows_the_key_this_once(app: Admin, backend: Backend) -> None:
    shown = await made(app)
    read = credential.read(shown["key"])
    assert read is not None
    assert (read.prefix, read.public_id) == ("wg", shown["id"])
    assert (shown["name"], shown["scope"]) == ("app", "global")
    for path in (KEYS, f"{KEYS}/{shown['id']}", "/api/v1/audit"):
        answer = await app.call("GET", path)
        assert answer.status_code == 200
        assert shown["key"] not in answer.text
    assert shown["key"].encode() not in backend.disk()


async def test_create_takes_every_documented_field(app: Admin) -> None:
    fields = {
        "scope": GROUP,
        "allowedModels": ["gpt-4o", "openai/gpt-4o-mini"],
        "rateLimit": 5,
        "rateLimitPeriod": 10,
        "expiresAt": "2999-01-01T00:00:00.000Z",
    }
    shown = await made(app, **fields)
    assert {name: shown[name] for name in fields} == fields
    listed = (await app.call("GET", KEYS)).json()["data"]
    del shown["key"]
    assert listed == [shown]
    assert listed[0]["lastUsedAt"] is None
    assert listed[0]["keyPreview"].startswith("wg_")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "a\u0000b"}, "/name"),
        ({"name": "a", "scope": "planet:earth"}, "/scope"),
        ({"name": "a", "agentId": "nobody"}, "/agentId"),
        ({"name": "a", "allowedModels": "gpt"}, "/allowedModels"),
        ({"name": "a", "rateLimit": 0}, "/rateLimit"),
        ({"name": "a", "expiresAt": "tomorrow"}, "/expiresAt"),
        ({"name": "a", "expiresAt": "2030-01-01T00:00:00"}, "/expiresAt"),
        ({"name": "a", "expiresAt": "9999-12-31T23:59:59-12:00"}, "/expiresAt"),
        ({"name": "a", "expiresAt": "1999-01-01T00:00:00Z"}, "/expiresAt"),
        ({"name": "a", "rate_limit": 5}, "/rate_limit"),
    ],
)
@in_module
async def test_create_points_at_the_field_when_it_is_wrong(
    shared: Admin, body: dict[str, Any], pointer: str
) -> None:
    answer = await shared.call("POST", KEYS, body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (400, "Bad Request")
    assert problem["errors"][0]["pointer"] == pointer


async def test_list_goes_on_from_a_cursor(app: Admin) -> None:
    ids = [(await made(app, name=f"app {n}"))["id"] for n in range(5)]
    seen: list[str] = []
    after = ""
    for more in (True, True, False):
        page = (await app.call("GET", f"{KEYS}?limit=2{after}")).json()
        assert page["hasMore"] is more
        seen += [row["id"] for row in page["data"]]
        after = f"&after={page['next']}"
    assert page["next"] is None
    assert seen == ids


@pytest.mark.parametrize("asked", ["limit=0", "limit=101", "limit=x", "after=x", "after=-1"])
@in_module
async def test_list_refuses_when_paging_is_nonsense(shared: Admin, asked: str) -> None:
    answer = await shared.call("GET", f"{KEYS}?{asked}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["query"] == asked.partition("=")[0]


async def test_revoke_takes_the_key_off_the_list(app: Admin) -> None:
    shown = await made(app)
    answer = await app.call("DELETE", f"{KEYS}/{shown['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await app.call("GET", KEYS)).json() == {"data": [], "hasMore": False, "next": None}


@pytest.mark.parametrize("key_id", ["nope", "%00", "a" * 300])
@in_module
async def test_not_found_when_there_is_no_such_key(shared: Admin, key_id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await shared.call(method, f"{KEYS}/{key_id}")
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")


async def test_the_header_names_the_scope_when_the_body_does_not(app: Admin) -> None:
    answer = await app.call("POST", KEYS, {"name": "a"}, headers={"wardgate-scope": GROUP})
    assert answer.json()["scope"] == GROUP
    clash = {"name": "a", "scope": "global"}
    answer = await app.call("POST", KEYS, clash, headers={"wardgate-scope": GROUP})
    assert answer.status_code == 400
    answer = await app.call("GET", f"{KEYS}?scope=global", headers={"wardgate-scope": GROUP})
    assert answer.status_code == 400


async def test_a_group_token_manages_the_keys_of_its_scopes_only(app: Admin) -> None:
    theirs = await made(app)
    held = await app.token(("GroupAIProviders.Manage", GROUP), ("GroupAIProviders.Manage", OTHER))
    mine = []
    for scope in (GROUP, GROUP, OTHER, OTHER):
        answer = await app.call("POST", KEYS, {"name": "a", "scope": scope}, token=held)
        assert answer.status_code == 201
        mine.append(answer.json()["id"])
    seen = []
    for after in ("0", "3"):
        page = (await app.call("GET", f"{KEYS}?limit=3&after={after}", token=held)).json()
        seen += [row["id"] for row in page["data"]]
    assert (seen, page["hasMore"]) == (mine, False)
    one = (await app.call("GET", f"{KEYS}?scope={OTHER}", token=held)).json()["data"]
    assert [row["id"] for row in one] == mine[2:]
    assert (await app.call("GET", f"{KEYS}?scope=global", token=held)).json()["data"] == []
    for method, path, body in (
        ("POST", KEYS, {"name": "a"}),
        ("GET", f"{KEYS}/{theirs['id']}", None),
        ("DELETE", f"{KEYS}/{theirs['id']}", None),
    ):
        assert (await app.call(method, path, body, token=held)).status_code == 404


@in_module
async def test_only_bearer_tokens_count_here(shared: Admin) -> None:
    answer = await shared.call("GET", KEYS, token="", headers={"x-auth-key": shared.root})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    reader = await shared.token(("AIProviders.Read", "global"))
    assert (await shared.call("GET", KEYS, token=reader)).status_code == 200
    answer = await shared.call("POST", KEYS, {"name": "a"}, token=reader)
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")


async def test_keys_go_with_their_gateway(app: Admin) -> None:
    await app.call("POST", CONFIGS, new())
    scope = f"gateway:{GATEWAYS.split('/')[2]}/gw"
    await made(app, scope=scope)
    await app.call("DELETE", f"{GATEWAYS}/gw")
    assert (await app.call("GET", KEYS)).json()["data"] == []


async def test_change_keeps_what_is_left_out_and_null_clears(app: Admin) -> None:
    agent = (await app.call("POST", AGENTS, {"name": "bot"})).json()["id"]
    shown = await made(app, rateLimit=5, rateLimitPeriod=10, agentId=agent)
    del shown["key"]
    path = f"{KEYS}/{shown['id']}"
    changed = {"name": "new", "allowedModels": ["gpt-4o"], "expiresAt": "2999-01-01T00:00:00.000Z"}
    after = await app.call("PATCH", path, changed)
    assert (after.status_code, after.json()) == (200, {**shown, **changed})
    cleared: dict[str, Any] = {
        "agentId": None,
        "rateLimit": None,
        "expiresAt": None,
        "allowedModels": [],
    }
    after = await app.call("PATCH", path, cleared)
    assert after.json() == {**shown, **changed, **cleared}
    client = (await table(app.desk)).clients[shown["id"]]
    assert (client.name, client.agent, client.limit) == ("new", None, None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": " "}, "/name"),
        ({"allowedModels": None}, "/allowedModels"),
        ({"rateLimit": 0}, "/rateLimit"),
        ({"rateLimitPeriod": None}, "/rateLimitPeriod"),
        ({"expiresAt": "1999-01-01T00:00:00Z"}, "/expiresAt"),
        ({"agentId": "nobody"}, "/agentId"),
        ({"scope": "global"}, "/scope"),
        ({"key": "wg_x"}, "/key"),
    ],
)
async def test_change_points_at_the_field_when_it_is_wrong(
    app: Admin, body: dict[str, Any], pointer: str
) -> None:
    shown = await made(app)
    answer = await app.call("PATCH", f"{KEYS}/{shown['id']}", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_rotate_shows_a_new_key_of_the_same_id_this_once(
    app: Admin, backend: Backend
) -> None:
    shown = await made(app)
    path = f"{KEYS}/{shown['id']}"
    answer = await app.call("POST", f"{path}/rotate")
    rotated = answer.json()
    assert answer.status_code == 200
    read = credential.read(rotated["key"])
    assert read is not None
    assert (read.prefix, read.public_id) == ("wg", shown["id"])
    assert rotated["key"] != shown["key"]
    assert {**rotated, "key": shown["key"]} == shown
    digest = (await table(app.desk)).clients[shown["id"]].digest
    assert digest == credential.digest(app.desk.hash_key.expose(), rotated["key"])
    for where in (KEYS, path, "/api/v1/audit"):
        assert rotated["key"][16:] not in (await app.call("GET", where)).text
    assert rotated["key"][16:].encode() not in backend.disk()


async def test_if_match_names_the_present_state_and_using_a_key_is_no_change(app: Admin) -> None:
    shown = await made(app)
    path = f"{KEYS}/{shown['id']}"
    before = {"if-match": (await app.call("GET", path)).headers["etag"]}
    await record_used(app.desk.store, {shown["id"]: 5.0})
    changed = await app.call("PATCH", path, {"name": "new"}, headers=before)
    assert changed.status_code == 200
    for method, where, body in (
        ("PATCH", path, {"name": "newer"}),
        ("POST", f"{path}/rotate", None),
        ("DELETE", path, None),
    ):
        assert (await app.call(method, where, body, headers=before)).status_code == 412
    fresh = {"if-match": changed.headers["etag"]}
    rotated = await app.call("POST", f"{path}/rotate", headers=fresh)
    assert rotated.status_code == 200
    # Of two who rotate at once one must hear of the other.
    assert (await app.call("POST", f"{path}/rotate", headers=fresh)).status_code == 412
    assert (await app.call("DELETE", path, headers=fresh)).status_code == 412
    fresh = {"if-match": rotated.headers["etag"]}
    assert (await app.call("DELETE", path, headers=fresh)).status_code == 204


async def test_only_the_keys_of_ones_scopes_are_changed(app: Admin) -> None:
    theirs, mine = await made(app), await made(app, scope=GROUP)
    held = await app.token(("GroupAIProviders.Manage", GROUP))
    reader = await app.token(("AIProviders.Read", "global"))
    for method, rest, body in (("PATCH", "", {"name": "new"}), ("POST", "/rotate", None)):
        answer = await app.call(method, f"{KEYS}/{theirs['id']}{rest}", body, token=held)
        assert answer.status_code == 404
        for no_key in ("nope", theirs["id"]):
            answer = await app.call(method, f"{KEYS}/{no_key}{rest}", body, token=reader)
            assert answer.status_code == 403
        assert (await app.call(method, f"{KEYS}/nope{rest}", body)).status_code == 404
        answer = await app.call(method, f"{KEYS}/{mine['id']}{rest}", body, token=held)
        assert answer.status_code == 200


def test_no_field_of_a_change_has_a_default_that_a_client_might_send() -> None:
    fields = KeyBody.model_json_schema()["properties"]
    assert fields
    assert not [name for name, field in fields.items() if "default" in field]
