"""Surface 3, provider configs: its documented shapes, codes and paging."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.admin_serve import (
    ACCOUNT,
    CANARY,
    CONFIGS,
    GATEWAYS,
    KEY,
    PREVIEW,
    Admin,
    new,
)

GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
SCOPE = f"gateway:{ACCOUNT}/gw"
RESERVED = "/accounts/wardgate/ai-gateway/gateways"
DOCUMENTED = {
    "account_id",
    "account_tag",
    "alias",
    "default_config",
    "gateway_id",
    "id",
    "modified_at",
    "provider_slug",
    "rate_limit",
    "rate_limit_period",
    "secret_id",
    "secret_preview",
}
NOT_FOUND = {"success": False, "errors": [{"code": 7002, "message": "Not Found"}]}

in_module = pytest.mark.asyncio(loop_scope="module")


async def made(app: Admin, path: str = CONFIGS, **fields: Any) -> dict[str, Any]:
    answer = await app.call("POST", path, new(**fields))
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


@pytest.mark.parametrize("prefix", ["", "/client/v4"])
async def test_create_answers_the_documented_object(app: Admin, prefix: str) -> None:
    answer = await app.call("POST", prefix + CONFIGS, new(rate_limit=10, secret_id="label"))
    assert answer.status_code == 200
    envelope = answer.json()
    result = envelope.pop("result")
    assert envelope == {"success": True, "errors": [], "messages": []}
    assert set(result) >= DOCUMENTED
    datetime.fromisoformat(result.pop("modified_at"))
    assert len(result.pop("id")) == 36
    assert {name: result[name] for name in DOCUMENTED - {"id", "modified_at"}} == {
        "account_id": ACCOUNT,
        "account_tag": ACCOUNT,
        "alias": "default",
        "default_config": True,
        "gateway_id": "gw",
        "provider_slug": "openai",
        "rate_limit": 10,
        "rate_limit_period": 60,
        "secret_id": "label",
        "secret_preview": PREVIEW,
    }


async def test_optional_fields_are_empty_when_not_sent(app: Admin) -> None:
    body = {"alias": "a", "default_config": False, "provider_slug": "openai"}
    result = (await app.call("POST", CONFIGS, body)).json()["result"]
    assert result["default_config"] is False
    assert (result["secret_id"], result["secret_preview"]) == ("", "")
    assert (result["rate_limit"], result["rate_limit_period"]) == (None, 60)
    assert result["base_url"] is None


async def test_list_pages_and_is_empty_past_the_end(app: Admin) -> None:
    for number in range(5):
        await made(app, alias=f"a{number}", default_config=False)
    pages = [(await app.call("GET", f"{CONFIGS}?page={n}&per_page=2")).json() for n in (1, 2, 3, 4)]
    assert [[row["alias"] for row in page["result"]] for page in pages] == [
        ["a0", "a1"],
        ["a2", "a3"],
        ["a4"],
        [],
    ]
    assert [page["result_info"] for page in pages] == [
        {"page": n, "per_page": 2, "count": count, "total_count": 5, "total_pages": 3}
        for n, count in ((1, 2), (2, 2), (3, 1), (4, 0))
    ]


@pytest.mark.parametrize("asked", ["page=0", "page=x", "per_page=101", "per_page=0", "page=-1"])
@in_module
async def test_list_refuses_when_paging_is_nonsense(shared: Admin, asked: str) -> None:
    answer = await shared.call("GET", f"{CONFIGS}?{asked}")
    assert answer.status_code == 400
    body = answer.json()
    assert (body["success"], body["result"]) == (False, {})
    assert body["errors"][0]["message"]


async def test_reads_make_no_gateway_and_the_first_write_does(app: Admin) -> None:
    assert (await app.call("GET", CONFIGS)).json()["result"] == []
    assert (await app.call("GET", f"{GATEWAYS}/gw")).status_code == 404
    await made(app)
    assert (await app.call("GET", f"{GATEWAYS}/gw")).json()["result"]["id"] == "gw"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"alias": None}, ["body", "alias"]),
        ({"alias": ""}, ["body", "alias"]),
        ({"alias": "no spaces"}, ["body", "alias"]),
        ({"alias": 7}, ["body", "alias"]),
        ({"default_config": "yes"}, ["body", "default_config"]),
        ({"provider_slug": "no-such-provider"}, ["body", "provider_slug"]),
        ({"secret": ""}, ["body", "secret"]),
        ({"secret": None}, ["body", "secret"]),
        ({"secret": "sk-...WXYZ"}, ["body", "secret"]),
        ({"rate_limit": -1}, ["body", "rate_limit"]),
        ({"rate_limit": 0}, ["body", "rate_limit"]),
        ({"rate_limit": 1.5}, ["body", "rate_limit"]),
        ({"rate_limit": 10**30}, ["body", "rate_limit"]),
        ({"rate_limit": 1, "rate_limit_period": 0}, ["body", "rate_limit_period"]),
        ({"base_url": "ftp://example.com"}, ["body", "base_url"]),
        ({"surprise": 1}, ["body", "surprise"]),
    ],
)
@in_module
async def test_create_names_the_field_when_it_is_wrong(
    shared: Admin, change: dict[str, Any], path: list[str]
) -> None:
    answer = await shared.call("POST", CONFIGS, new(**change))
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert body["success"] is False
    assert body["errors"][0]["code"] == 7001
    assert body["errors"][0]["path"] == path
    assert CANARY not in answer.text


@in_module
async def test_create_lists_every_field_when_all_are_missing(shared: Admin) -> None:
    errors = (await shared.call("POST", CONFIGS, {})).json()["errors"]
    assert {tuple(error["path"]) for error in errors} == {
        ("body", "alias"),
        ("body", "default_config"),
        ("body", "provider_slug"),
    }


async def test_create_refuses_when_the_alias_is_taken(app: Admin) -> None:
    await made(app)
    answer = await app.call("POST", CONFIGS, new("DEFAULT"))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == ["body", "alias"]


@in_module
async def test_a_label_without_a_secret_is_refused(shared: Admin) -> None:
    body = new(secret_id="label")
    del body["secret"]
    answer = await shared.call("POST", CONFIGS, body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == ["body", "secret"]


async def test_numbers_may_come_as_floats(app: Admin) -> None:
    result = await made(app, rate_limit=10.0, rate_limit_period=30.0)
    assert (result["rate_limit"], result["rate_limit_period"]) == (10, 30)


async def test_put_changes_only_what_was_sent(app: Admin) -> None:
    before = await made(app, rate_limit=10, secret_id="label")
    path = f"{CONFIGS}/{before['id']}"
    secret = f"sk-test-{CANARY}-0123456789abcdef-NEWK"
    after = (await app.call("PUT", path, {"secret": secret})).json()["result"]
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"secret_preview", "modified_at"}
    assert after["secret_preview"] == "sk-...NEWK"
    fields = {"alias": "other", "default_config": False, "rate_limit": None}
    after = (await app.call("PUT", path, fields)).json()["result"]
    assert {name: after[name] for name in fields} == fields
    assert after["secret_preview"] == "sk-...NEWK"


async def test_put_keeps_the_key_when_its_mask_comes_back(app: Admin) -> None:
    before = await made(app)
    answer = await app.call("PUT", f"{CONFIGS}/{before['id']}", {"secret": PREVIEW})
    assert answer.status_code == 200
    assert answer.json()["result"]["secret_preview"] == PREVIEW


async def test_put_wants_the_key_again_when_the_origin_moves(app: Admin) -> None:
    path = f"{CONFIGS}/{(await made(app))['id']}"
    moved = {"base_url": "https://llm.example.com/v1"}
    assert (await app.call("PUT", path, moved)).status_code == 400
    answer = await app.call("PUT", path, {**moved, "secret": KEY})
    assert answer.json()["result"]["base_url"] == "https://llm.example.com/v1"


async def test_delete_answers_the_deleted_object_once(app: Admin) -> None:
    before = await made(app)
    path = f"{CONFIGS}/{before['id']}"
    answer = await app.call("DELETE", path)
    assert (answer.status_code, answer.json()["result"]["id"]) == (200, before["id"])
    for method in ("GET", "PUT", "DELETE"):
        answer = await app.call(method, path, {})
        assert (answer.status_code, answer.json()) == (404, NOT_FOUND)


async def test_an_id_of_another_gateway_is_not_found(app: Admin) -> None:
    await made(app, CONFIGS.replace("/gw/", "/other/"))
    found = await made(app)
    elsewhere = f"{CONFIGS.replace('/gw/', '/other/')}/{found['id']}"
    for method in ("GET", "PUT", "DELETE"):
        answer = await app.call(method, elsewhere, {"alias": "moved"} if method == "PUT" else None)
        assert (answer.status_code, answer.json()) == (404, NOT_FOUND)
    assert (await app.call("GET", f"{CONFIGS}/{found['id']}")).status_code == 200


@pytest.mark.parametrize(
    "config_id", ["x", "%00", "a" * 500, "00000000-0000-0000-0000-000000000000"]
)
@in_module
async def test_an_id_that_cannot_be_is_not_found(shared: Admin, config_id: str) -> None:
    answer = await shared.call("DELETE", f"{CONFIGS}/{config_id}")
    assert (answer.status_code, answer.json()) == (404, NOT_FOUND)


async def test_setting_a_default_unsets_the_one_before(app: Admin) -> None:
    first = await made(app, alias="first")
    await made(app, alias="second")
    rows = (await app.call("GET", CONFIGS)).json()["result"]
    assert [row["default_config"] for row in rows] == [False, True]
    await app.call("PUT", f"{CONFIGS}/{first['id']}", {"default_config": True})
    rows = (await app.call("GET", CONFIGS)).json()["result"]
    assert [row["default_config"] for row in rows] == [True, False]


@pytest.mark.parametrize("slug", ["google-ai-studio", "google"])
async def test_a_provider_is_shown_by_cloudflares_name(app: Admin, slug: str) -> None:
    result = await made(app, provider_slug=slug)
    assert result["provider_slug"] == "google-ai-studio"


async def test_a_custom_provider_brings_dialect_and_base_url(app: Admin) -> None:
    more = {"base_url": "https://llm.example.com/v1", "dialect": "openai"}
    result = await made(app, provider_slug="custom:house", **more)
    assert result["provider_slug"] == "custom:house"
    assert {name: result[name] for name in more} == more


@pytest.mark.parametrize("gateway", ["global", GROUP, "instance:tenant-1"])
async def test_the_reserved_account_names_every_other_scope(app: Admin, gateway: str) -> None:
    path = f"{RESERVED}/{gateway}/provider_configs"
    result = await made(app, path)
    assert (result["account_id"], result["gateway_id"]) == ("wardgate", gateway)
    rows = (await app.call("GET", path)).json()["result"]
    assert [row["id"] for row in rows] == [result["id"]]


@pytest.mark.parametrize("gateway", ["gw", "group:", "group:x", "gateway:a", "global2"])
@in_module
async def test_the_reserved_account_has_nothing_else(shared: Admin, gateway: str) -> None:
    path = f"{RESERVED}/{gateway}/provider_configs"
    answer = await shared.call("POST", path, new())
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, 7001)
    assert (await shared.call("GET", path)).json()["result"] == []


async def test_lists_never_show_inherited_rows(app: Admin) -> None:
    await made(app, f"{RESERVED}/global/provider_configs")
    assert (await app.call("GET", CONFIGS)).json()["result"] == []


@pytest.mark.parametrize("gateway", ["-gw", "Gw", "g--w", "g" * 65, "g%20w"])
@in_module
async def test_a_gateway_id_that_cannot_be_is_refused(shared: Admin, gateway: str) -> None:
    answer = await shared.call("POST", f"{GATEWAYS}/{gateway}/provider_configs", new())
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == ["path", "gateway_id"]


async def test_wardgate_scope_must_agree_with_the_path(app: Admin) -> None:
    agreed = await app.call("POST", CONFIGS, new(), headers={"wardgate-scope": SCOPE})
    assert agreed.status_code == 200
    for method in ("GET", "POST"):
        answer = await app.call(method, CONFIGS, new("b"), headers={"wardgate-scope": "global"})
        assert (answer.status_code, answer.json()["success"]) == (400, False)
