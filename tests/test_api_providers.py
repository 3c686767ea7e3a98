"""Surface 4, what it stores: add, verify, rotate, rename, move, delete, and how it says no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from admin.api.manage import VENDORS
from admin.configure import configs
from admin.configure.identity import as_prov
from admin.demo.upstream import Upstream
from gateway.store.proofs import PROVEN
from tests.admin_serve import CANARY, KEY, PREVIEW, Admin
from tests.backends import Backend
from tests.desks import key_of, stored
from tests.providing import (
    ANOTHER,
    AWS,
    GROUP,
    MANAGE,
    NOWHERE,
    REFUSED,
    ask,
    config,
    openai,
    openai_house,
    route,
)
from tests.world import LOOPBACK

FIELDS = {
    *("id", "vendor", "name", "base_url", "status", "health", "api_key_preview", "created_at"),
    *("scope", "managed_by"),
}
CATALOG_IDS = {"bedrock": "amazon-bedrock", "fireworks": "fireworks-ai", "together": "togetherai"}
in_module = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
async def house(
    backend: Backend, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[tuple[Admin, Upstream]]:
    caplog.set_level("DEBUG")
    async with openai_house(backend) as running:
        yield running
    assert caplog.text
    assert CANARY not in caplog.text + "".join(capsys.readouterr())


@pytest.fixture
def app(house: tuple[Admin, Upstream]) -> Admin:
    return house[0]


def new(**more: Any) -> dict[str, Any]:
    return {"vendor": "openai", "name": "OpenAI Production", "api_key": KEY, **more}


async def made(app: Admin, **more: Any) -> dict[str, Any]:
    shown: dict[str, Any] = (await ask(app, 201, "POST", MANAGE, new(**more))).json()
    return shown


async def error(
    app: Admin, status: int, code: str, method: str, path: str, body: Any = None, **more: Any
) -> dict[str, Any]:
    """The error a request is refused with, in its documented envelope; nothing is changed by it."""
    before = await configs.every(app.desk, None)
    shown = (await ask(app, status, method, path, body, **more)).json()
    assert set(shown) == {"error"}
    said: dict[str, Any] = shown["error"]
    assert {"type", "message", "code", "resource", "id"} <= set(said)
    assert (said["code"], said["resource"]) == (code, "provider")
    assert await configs.every(app.desk, None) == before
    return said


async def test_add_answers_the_provider_and_proves_its_key(house: tuple[Admin, Upstream]) -> None:
    app, upstream = house
    answer = await ask(app, 201, "POST", MANAGE, new())
    shown = answer.json()
    assert set(shown) == FIELDS
    assert {name: shown[name] for name in FIELDS - {"id", "health", "created_at"}} == {
        "vendor": "openai",
        "name": "OpenAI Production",
        "base_url": None,
        "status": "active",
        "api_key_preview": PREVIEW,
        "scope": "global",
        "managed_by": None,
    }
    assert set(shown["health"]) == {"state", "p50_latency_ms", "last_check_at"}
    assert shown["health"]["state"] == "healthy"
    assert len(upstream.received) == 1
    again = await ask(app, 200, "GET", f"{MANAGE}/{shown['id']}")
    assert (again.json(), again.headers["etag"]) == (shown, answer.headers["etag"])
    [row] = await configs.every(app.desk, None)
    assert (row.alias, as_prov(row.id)) == ("openai-production", shown["id"])
    assert await key_of(app.desk, row.id) == KEY


async def test_an_id_goes_by_any_spelling(app: Admin) -> None:
    shown = await made(app)
    [row] = await configs.every(app.desk, None)
    for name in (row.id, row.id.upper(), row.id.replace("-", ""), shown["id"].lower()):
        assert (await ask(app, 200, "GET", f"{MANAGE}/{name}")).json() == shown


@pytest.mark.parametrize("vendor", VENDORS)
async def test_every_vendor_is_known_by_its_name(backend: Backend, vendor: str) -> None:
    provider = CATALOG_IDS.get(vendor, vendor)
    async with Upstream() as upstream:
        elsewhere = {provider: upstream.url}
        async with openai_house(backend, provider_base_urls=elsewhere) as (app, _):
            azure = {"base_url": "https://team.openai.azure.com/openai/v1"}
            key = AWS if vendor == "bedrock" else KEY
            more = azure if vendor == "azure" else {}
            shown = await made(app, vendor=vendor, api_key=key, **more)
            assert shown["vendor"] == vendor
            assert (await ask(app, 200, "GET", MANAGE)).json()["data"] == [shown]
            assert [row.provider for row in await configs.every(app.desk, None)] == [provider]


async def test_other_providers_of_the_catalog_go_by_their_ids(app: Admin) -> None:
    place = {"base_url": "https://vllm.example/v1", "dialect": "openai"}
    shown = await made(app, vendor="custom:vllm", **place, name="Own")
    assert (shown["vendor"], shown["base_url"]) == ("custom:vllm", place["base_url"])
    assert shown["status"] == "pending"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"vendor": "nobody"}, "unknown_vendor", "vendor"),
        ({"vendor": "google-vertex"}, "vendor_not_supported", "vendor"),
        ({"vendor": None}, "invalid_request", "vendor"),
        ({"name": ""}, "invalid_request", "name"),
        ({"name": "   "}, "bad_name", "name"),
        ({"name": "a\nb"}, "invalid_request", "name"),
        ({"name": "x" * 201}, "invalid_request", "name"),
        ({"api_key": ""}, "invalid_request", "api_key"),
        ({"api_key": 5}, "invalid_request", "api_key"),
        ({"api_key": "with space"}, "malformed_key", "api_key"),
        ({"api_key": "sk-...WXYZ"}, "malformed_key", "api_key"),
        ({"api_key": "$env:HOME"}, "malformed_key", "api_key"),
        ({"name": f"x {KEY}"}, "malformed_key", None),
        ({"base_url": "nonsense"}, "bad_base_url", "base_url"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "bad_base_url", "base_url"),
        ({"vendor": "azure"}, "bad_settings", "base_url"),
        ({"vendor": "bedrock", "api_key": "ABSK-plain-key"}, "bad_settings", "base_url"),
        ({"vendor": "bedrock", "api_key": "AKIA::x"}, "malformed_key", "api_key"),
        ({"vendor": "bedrock", "api_key": "AKIA::x::"}, "malformed_key", "api_key"),
        ({"vendor": "bedrock", "api_key": "AKIA::x::no such"}, "malformed_key", "api_key"),
        ({"vendor": "bedrock", "api_key": "A::b::eu-west-1::t::u"}, "malformed_key", "api_key"),
        ({"vendor": "custom:x", "base_url": "https://x.example"}, "bad_dialect", "dialect"),
        ({"dialect": "openai"}, "bad_dialect", "dialect"),
        ({"scope": "nonsense"}, "bad_scope", "scope"),
        ({"scope": "gateway:wardgate/x"}, "reserved", "scope"),
        ({"colour": "red"}, "invalid_request", "colour"),
    ],
)
@in_module
async def test_add_names_what_will_not_do(
    shared: Admin, body: Any, code: str, param: str | None
) -> None:
    said = await error(shared, 400, code, "POST", MANAGE, new(**body))
    assert (said["type"], said["param"], said["id"]) == ("invalid_request", param, None)


@in_module
async def test_an_unknown_vendor_is_told_the_known_ones(shared: Admin) -> None:
    said = await error(shared, 400, "unknown_vendor", "POST", MANAGE, new(vendor="nobody"))
    assert all(vendor in said["message"] for vendor in VENDORS)


@pytest.mark.parametrize("missing", ["vendor", "name", "api_key"])
@in_module
async def test_add_needs_vendor_name_and_key(shared: Admin, missing: str) -> None:
    body = {name: value for name, value in new().items() if name != missing}
    said = await error(shared, 400, "invalid_request", "POST", MANAGE, body)
    assert said["param"] == missing


async def test_a_refused_key_is_not_stored_and_an_absent_provider_leaves_it_pending(
    app: Admin,
) -> None:
    refused = new(api_key=REFUSED)
    said = await error(app, 422, "key_verification_failed", "POST", MANAGE, refused)
    assert (said["type"], said["param"]) == ("unprocessable", "api_key")
    assert "refused the key" in said["message"]
    pending = await made(app, api_key=f"sk-away-{CANARY}-0123456789")
    assert pending["status"] == "pending"
    assert pending["health"]["state"] == "unknown"


async def test_a_name_is_free_once_in_its_scope_whatever_the_vendor(app: Admin) -> None:
    await made(app)
    same = new(vendor="perplexity")
    said = await error(app, 409, "duplicate_name", "POST", MANAGE, same)
    assert (said["type"], said["param"]) == ("conflict", "name")
    elsewhere = await made(app, vendor="perplexity", scope=GROUP)
    assert elsewhere["scope"] == GROUP
    other = await made(app, vendor="perplexity", name="Other")
    path = f"{MANAGE}/{other['id']}"
    taken = {"name": "OpenAI Production"}
    await error(app, 409, "duplicate_name", "PATCH", path, taken)
    same = {"name": "Other"}
    assert (await ask(app, 200, "PATCH", path, same)).json()["name"] == "Other"


async def test_a_new_key_is_proved_and_swapped_under_the_same_id(app: Admin) -> None:
    shown = await made(app)
    path = f"{MANAGE}/{shown['id']}"
    answer = await ask(app, 200, "PATCH", path, {"api_key": ANOTHER})
    assert answer.json() == {
        **shown,
        "api_key_preview": "sk-...NEWK",
        "health": answer.json()["health"],
    }
    [row] = await configs.every(app.desk, None)
    assert (row.secret_version, await key_of(app.desk, row.id)) == (2, ANOTHER)
    proof = (await configs.proofs(app.desk))[row.id]
    assert (proof.secret_version, proof.outcome) == (2, PROVEN)


@pytest.mark.parametrize("key", [REFUSED, f"sk-away-{CANARY}-0123456789"])
async def test_a_key_that_is_not_proved_leaves_the_old_one(app: Admin, key: str) -> None:
    shown = await made(app)
    path = f"{MANAGE}/{shown['id']}"
    [before] = await configs.every(app.desk, None)
    sealed = (await stored(app.desk, before.id)).sealed
    body = {"api_key": key, "name": "New"}
    said = await error(app, 422, "key_verification_failed", "PATCH", path, body)
    assert said["id"] == shown["id"]
    now = await stored(app.desk, before.id)
    assert (now.sealed, now.secret_version) == (sealed, 1)
    assert await key_of(app.desk, before.id) == KEY
    assert (await ask(app, 200, "GET", path)).json() == shown


async def test_a_change_without_a_key_asks_nobody(house: tuple[Admin, Upstream]) -> None:
    app, upstream = house
    path = f"{MANAGE}/{(await made(app))['id']}"
    seen = len(upstream.received)
    for body in ({}, {"name": "New"}, {"api_key": PREVIEW}, {"api_key": "sk-***"}, {"name": None}):
        shown = (await ask(app, 200, "PATCH", path, body)).json()
        assert (shown["status"], shown["api_key_preview"]) == ("active", PREVIEW)
    assert (shown["name"], len(upstream.received)) == ("New", seen)
    [row] = await configs.every(app.desk, None)
    assert row.secret_version == 1


async def test_moving_needs_the_key_and_proves_it_there(backend: Backend) -> None:
    async with (
        Upstream(openai) as there,
        Upstream(openai) as moved,
        openai_house(backend, allowed_upstream_cidrs=LOOPBACK) as (app, _),
    ):
        custom = {"vendor": "custom:x", "dialect": "openai", "base_url": there.url}
        path = f"{MANAGE}/{(await made(app, **custom))['id']}"
        to = {"base_url": moved.url}
        said = await error(app, 422, "key_required", "PATCH", path, to)
        assert (said["type"], said["param"]) == ("unprocessable", "api_key")
        assert moved.received == []
        seen = len(there.received)
        shown = (await ask(app, 200, "PATCH", path, {**to, "api_key": ANOTHER})).json()
        assert (shown["base_url"], shown["status"]) == (moved.url, "active")
        assert moved.received[0].header(b"authorization") == f"Bearer {ANOTHER}".encode()
        assert len(there.received) == seen


async def test_a_base_url_is_dropped_with_null(app: Admin) -> None:
    shown = await made(app, vendor="perplexity", base_url="https://proxy.example")
    path = f"{MANAGE}/{shown['id']}"
    await error(app, 422, "key_required", "PATCH", path, {"base_url": None})
    answer = await ask(app, 200, "PATCH", path, {"base_url": None, "api_key": KEY})
    assert answer.json()["base_url"] is None


async def test_bedrocks_key_has_parts_and_a_region(backend: Backend) -> None:
    async with Upstream() as upstream:
        elsewhere = {"amazon-bedrock": upstream.origin}
        async with openai_house(backend, provider_base_urls=elsewhere) as (app, _):
            shown = await made(app, vendor="bedrock", api_key=AWS)
            assert shown["api_key_preview"] == "AKIA...6789"
            path = f"{MANAGE}/{shown['id']}"
            [row] = await configs.every(app.desk, None)
            assert (row.auth_type, row.settings) == ("aws_sigv4", {"region": "eu-west-1"})
            await ask(app, 200, "PATCH", path, {"api_key": "AKIA...6789"})
            await ask(app, 200, "PATCH", path, {"api_key": f"{AWS}::session-{CANARY}"})
            [row] = await configs.every(app.desk, None)
            assert (row.secret_version, sorted(row.part_masks)) == (
                2,
                ["accessKeyId", "secretAccessKey", "sessionToken"],
            )
            await ask(app, 200, "PATCH", path, {"api_key": AWS.replace("eu-west-1", "us-east-1")})
            [row] = await configs.every(app.desk, None)
            assert row.settings == {"region": "us-east-1"}


async def test_delete_answers_nothing_and_it_is_gone(app: Admin) -> None:
    path = f"{MANAGE}/{(await made(app))['id']}"
    answer = await ask(app, 204, "DELETE", path)
    assert answer.content == b""
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        await error(app, 404, "provider_not_found", method, path, body)
    await error(app, 404, "provider_not_found", "GET", f"{path}/health")


async def test_what_a_route_leads_to_is_not_deleted(app: Admin) -> None:
    kept = await config(app)
    await route(app, kept.id, "fast")
    await route(app, kept.id, "slow")
    path = f"{MANAGE}/{as_prov(kept.id)}"
    said = await error(app, 409, "provider_in_use", "DELETE", path)
    assert (said["type"], said["references"]) == ("conflict", ["fast", "slow"])


async def test_what_a_file_keeps_is_shown_and_not_changed(app: Admin) -> None:
    kept = await config(app, managed_by="fleet")
    path = f"{MANAGE}/{kept.id}"
    assert (await ask(app, 200, "GET", path)).json()["managed_by"] == "fleet"
    for method, body in (("PATCH", {"api_key": KEY}), ("PATCH", {"name": "x"}), ("DELETE", None)):
        said = await error(app, 409, "provider_managed", method, path, body)
        assert "fleet" in said["message"]


async def test_if_match_guards_changes_and_deletion(app: Admin) -> None:
    answer = await ask(app, 201, "POST", MANAGE, new())
    path, old = f"{MANAGE}/{answer.json()['id']}", {"if-match": answer.headers["etag"]}
    answer = await ask(app, 200, "PATCH", path, {"name": "New"}, headers=old)
    for method, body in (("PATCH", {"name": "x"}), ("PATCH", {"api_key": KEY}), ("DELETE", None)):
        await error(app, 412, "precondition_failed", method, path, body, headers=old)
    await ask(app, 204, "DELETE", path, headers={"if-match": answer.headers["etag"]})


@pytest.mark.parametrize("name", [NOWHERE, as_prov(NOWHERE), "nonsense", "prov_x", KEY, "%00"])
@pytest.mark.parametrize(
    ("method", "more", "body"),
    [("GET", "", None), ("GET", "/health", None), ("PATCH", "", {}), ("DELETE", "", None)],
)
@in_module
async def test_what_is_not_there_is_404(
    shared: Admin, method: str, more: str, body: Any, name: str
) -> None:
    said = await error(shared, 404, "provider_not_found", method, f"{MANAGE}/{name}{more}", body)
    assert (said["type"], said["message"]) == ("not_found", "Provider not found")
    assert said["id"] == (PREVIEW if name == KEY else httpx2.URL(f"http://x/{name}").path[1:])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"name": "\\ud800"}', b"[" * 9999]
)
@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("PATCH", "/")])
async def test_a_body_that_is_none_is_400(
    app: Admin, method: str, path: str, content: bytes
) -> None:
    where = MANAGE + (path and f"/{(await made(app))['id']}")
    await error(app, 400, "invalid_request", method, where, content=content)


@in_module
async def test_a_body_over_a_mebibyte_is_413(shared: Admin) -> None:
    await error(shared, 413, "invalid_request", "POST", MANAGE, content=b" " * (1024 * 1024 + 1))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", MANAGE, 405, "method_not_allowed"),
        ("POST", f"{MANAGE}/{NOWHERE}", 405, "method_not_allowed"),
        ("GET", "/manage/v1/nothing", 404, "provider_not_found"),
        ("GET", "/manage/v2/providers", 404, "provider_not_found"),
    ],
)
@in_module
async def test_paths_and_methods_nobody_serves(
    shared: Admin, method: str, path: str, status: int, code: str
) -> None:
    await error(shared, status, code, method, path)


@pytest.mark.parametrize(
    ("grants", "status", "code"),
    [
        (None, 401, "invalid_token"),
        ((), 403, "forbidden"),
        ((("AIModels.Manage", "global"),), 403, "forbidden"),
    ],
)
@in_module
async def test_tokens_that_will_not_do(shared: Admin, grants: Any, status: int, code: str) -> None:
    token = "" if grants is None else await shared.token(*grants)
    said = await error(shared, status, code, "POST", MANAGE, new(), token=token)
    assert said["type"] == {401: "unauthorized", 403: "permission_denied"}[status]
