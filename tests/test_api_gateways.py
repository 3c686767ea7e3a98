"""Surface 3, gateways: CRUD as Cloudflare documents it, paging, search and who sees what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.admin_serve import ACCOUNT, CONFIGS, GATEWAYS, Admin, new

SETTINGS: dict[str, Any] = {
    "rate_limiting_limit": 100,
    "rate_limiting_interval": 60,
    "rate_limiting_technique": "sliding",
    "cache_ttl": 300,
    "cache_invalidate_on_update": True,
    "collect_logs": False,
    "authentication": True,
}
NOT_FOUND = {"success": False, "errors": [{"code": 7002, "message": "Not Found"}]}


in_module = pytest.mark.asyncio(loop_scope="module")


async def made(app: Admin, name: str = "gw", **settings: Any) -> dict[str, Any]:
    answer = await app.call("POST", GATEWAYS, {"id": name, **settings})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


@pytest.mark.parametrize("prefix", ["", "/client/v4"])
async def test_create_answers_the_gateway(app: Admin, prefix: str) -> None:
    answer = await app.call("POST", prefix + GATEWAYS, {"id": "gw", **SETTINGS})
    result = answer.json()["result"]
    assert answer.status_code == 200
    assert result["id"] == "gw"
    assert {name: result[name] for name in SETTINGS} == SETTINGS
    assert datetime.fromisoformat(result["created_at"]) == datetime.fromisoformat(
        result["modified_at"]
    )
    assert (await app.call("GET", f"{GATEWAYS}/gw")).json()["result"] == result


async def test_settings_without_use_here_are_kept_and_shown(app: Admin) -> None:
    extra: dict[str, Any] = {"retry_max_attempts": 3, "log_management": 1000, "zdr": True}
    result = await made(app, **extra)
    assert {name: result[name] for name in extra} == extra


@pytest.mark.parametrize("nothing", [0, None])
async def test_no_limit_is_spelled_zero_or_null(app: Admin, nothing: int | None) -> None:
    result = await made(app, rate_limiting_limit=nothing, rate_limiting_interval=nothing)
    assert result["rate_limiting_limit"] == nothing


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, ["body", "id"]),
        ({"id": "No"}, ["body", "id"]),
        ({"id": "gw", "rate_limiting_limit": 5}, ["body", "rate_limiting_interval"]),
        (
            {"id": "gw", "rate_limiting_technique": "leaky"},
            ["body", "rate_limiting_technique"],
        ),
        ({"id": "gw", "cache_ttl": -1}, ["body", "cache_ttl"]),
        ({"id": "gw", "otel": [{"url": "https://e.com"}]}, ["body", "otel"]),
        ({"id": "gw", "surprise": 1}, ["body", "surprise"]),
    ],
)
@in_module
async def test_create_names_the_field_when_it_is_wrong(
    shared: Admin, body: dict[str, Any], path: list[str]
) -> None:
    answer = await shared.call("POST", GATEWAYS, body)
    assert answer.status_code == 400
    error = answer.json()["errors"][0]
    assert (error["code"], error["path"]) == (7001, path)


async def test_create_refuses_when_the_gateway_is_there(app: Admin) -> None:
    await made(app)
    answer = await app.call("POST", GATEWAYS, {"id": "gw"})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, 7001)


async def test_put_changes_only_what_was_sent(app: Admin) -> None:
    before = await made(app, **SETTINGS)
    after = (await app.call("PUT", f"{GATEWAYS}/gw", {"cache_ttl": 5})).json()["result"]
    assert {name for name in after if after[name] != before[name]} == {"cache_ttl", "modified_at"}


async def test_delete_answers_the_gateway_and_takes_its_configs_along(app: Admin) -> None:
    before = await made(app)
    await app.call("POST", CONFIGS, new())
    answer = await app.call("DELETE", f"{GATEWAYS}/gw")
    assert (answer.status_code, answer.json()["result"]["id"]) == (200, before["id"])
    assert (await app.call("GET", CONFIGS)).json()["result"] == []
    for method in ("GET", "PUT", "DELETE"):
        answer = await app.call(method, f"{GATEWAYS}/gw", {})
        assert (answer.status_code, answer.json()) == (404, NOT_FOUND)


async def test_list_pages_and_searches_within_the_account(app: Admin) -> None:
    for name in ("one", "two", "three"):
        await made(app, name)
    await app.call("POST", GATEWAYS.replace(ACCOUNT, "other"), {"id": "four"})
    first = (await app.call("GET", f"{GATEWAYS}?per_page=2")).json()
    second = (await app.call("GET", f"{GATEWAYS}?per_page=2&page=2")).json()
    names = [row["id"] for page in (first, second) for row in page["result"]]
    assert sorted(names) == ["one", "three", "two"]
    assert second["result_info"] == {
        "page": 2,
        "per_page": 2,
        "count": 1,
        "total_count": 3,
        "total_pages": 2,
    }
    assert (await app.call("GET", f"{GATEWAYS}?page=3&per_page=2")).json()["result"] == []
    for asked, names in (("thr", ["three"]), ("", ["one", "two", "three"]), ("%25", [])):
        found = (await app.call("GET", f"{GATEWAYS}?search={asked}")).json()["result"]
        assert [row["id"] for row in found] == names


async def test_a_group_token_sees_its_own_gateway_only(app: Admin) -> None:
    for name in ("mine", "theirs"):
        await made(app, name)
    held = await app.token(
        ("GroupAIProviders.Manage", f"gateway:{ACCOUNT}/mine"),
        ("GroupAIProviders.Manage", f"gateway:{ACCOUNT}/later"),
    )
    rows = (await app.call("GET", GATEWAYS, token=held)).json()
    assert [row["id"] for row in rows["result"]] == ["mine"]
    assert rows["result_info"]["total_count"] == 1
    assert (await app.call("PUT", f"{GATEWAYS}/mine", SETTINGS, token=held)).status_code == 200
    for method, path, body in (
        ("GET", f"{GATEWAYS}/theirs", None),
        ("PUT", f"{GATEWAYS}/theirs", SETTINGS),
        ("DELETE", f"{GATEWAYS}/theirs", None),
        ("POST", GATEWAYS, {"id": "new"}),
    ):
        answer = await app.call(method, path, body, token=held)
        assert (answer.status_code, answer.json()) == (404, NOT_FOUND)
    assert (await app.call("POST", GATEWAYS, {"id": "later"}, token=held)).status_code == 200


@in_module
async def test_the_reserved_account_has_no_gateways(shared: Admin) -> None:
    path = GATEWAYS.replace(ACCOUNT, "wardgate")
    assert (await shared.call("POST", path, {"id": "gw"})).status_code == 400
    assert (await shared.call("GET", f"{path}/global")).status_code == 404
    assert (await shared.call("DELETE", f"{path}/global")).status_code == 404
    assert (await shared.call("GET", path)).json()["result"] == []


async def test_if_match_guards_a_gateway(app: Admin) -> None:
    made = await app.call("POST", GATEWAYS, {"id": "tagged"})
    old, path = made.headers["etag"], f"{GATEWAYS}/tagged"
    assert (await app.call("GET", path)).headers["etag"] == old
    change = {"rate_limiting_limit": 5, "rate_limiting_interval": 60}
    changed = await app.call("PUT", path, change, headers={"if-match": old})
    assert changed.status_code == 200
    for method, body in (("PUT", change), ("DELETE", None)):
        stale = await app.call(method, path, body, headers={"if-match": old})
        assert (stale.status_code, stale.json()["success"]) == (412, False)
    now = {"if-match": changed.headers["etag"]}
    assert (await app.call("DELETE", path, headers=now)).status_code == 200
