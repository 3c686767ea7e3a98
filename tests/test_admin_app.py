"""The admin app around the surfaces: health, metrics, hostile requests, headers, its boundary."""

from __future__ import annotations

import json

import httpx2
import pytest

from admin.app import build
from admin.permit import ACTIONS
from admin.registry import SURFACES
from tests.admin_serve import CONFIGS, GATEWAYS, METRICS, Admin, admin, new
from tests.backends import Backend
from tests.serve import RawClient, serving

KEYS = "/api/v1/client-keys"
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


in_module = pytest.mark.asyncio(loop_scope="module")


@in_module
async def test_health_is_open_to_everybody(shared: Admin) -> None:
    for path in ("/livez", "/readyz"):
        assert (await shared.call("GET", path, token="")).status_code == 200


@in_module
async def test_every_answer_carries_the_headers(shared: Admin) -> None:
    for path in ("/livez", "/metrics", "/nowhere", CONFIGS, KEYS):
        answer = await shared.call("GET", path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "access-control-allow-origin" not in answer.headers


@in_module
async def test_no_cors_when_a_browser_asks(shared: Admin) -> None:
    asking = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await shared.call("OPTIONS", CONFIGS, headers=asking)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_metrics_are_open_from_this_machine_only(app: Admin) -> None:
    answer = await app.call("GET", "/metrics", token="")
    assert (answer.status_code, answer.content) == (200, METRICS)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    # A proxy beside us makes a stranger's address look like ours.
    proxied = {"x-forwarded-for": "127.0.0.1"}
    answer = await app.call("GET", "/metrics", token="", headers=proxied)
    assert answer.status_code == 401
    assert (await app.call("GET", "/metrics", headers=proxied)).content == METRICS
    stranger = await app.token(("GroupAIProviders.Read", "instance:x"))
    answer = await app.call("GET", "/metrics", token=stranger, headers=proxied)
    assert answer.status_code == 403


async def test_metrics_are_open_to_all_when_a_setting_says_so(backend: Backend) -> None:
    async with admin(backend, metrics_open=True) as app:
        answer = await app.call("GET", "/metrics", token="", headers={"forwarded": "for=1.2.3.4"})
        assert answer.content == METRICS


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/nowhere", "problem"),
        ("/", "problem"),
        ("/api/v1/nowhere", "problem"),
        ("/api/v1/client-keys/", "problem"),
        ("/client/v4/nowhere", "envelope"),
        ("/accounts/a/nowhere", "envelope"),
        ("/client/v4" + CONFIGS + "/", "envelope"),
    ],
)
@in_module
async def test_not_found_in_the_shape_the_path_asks_for(
    shared: Admin, path: str, shape: str
) -> None:
    answer = await shared.call("GET", path)
    assert answer.status_code == 404
    if shape == "envelope":
        assert answer.json()["errors"][0]["code"] == 7002
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", CONFIGS, "GET, HEAD, POST"),
        ("POST", f"{CONFIGS}/x", "DELETE, GET, HEAD, PUT"),
        ("PUT", GATEWAYS, "GET, HEAD, POST"),
        ("PUT", KEYS, "GET, HEAD, POST"),
        ("PROPFIND", "/api/v1/audit", "GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
        ("POST", "/connections/x", "DELETE, GET, HEAD, PUT"),
        ("PUT", "/llm-config", "DELETE, GET, HEAD, PATCH, POST"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
@in_module
async def test_wrong_method_names_the_right_ones(
    shared: Admin, method: str, path: str, allowed: str
) -> None:
    answer = await shared.call(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


BAD_BODIES = {
    "nothing": b"",
    "not json": b"alias=default",
    "cut": b'{"alias": "def',
    "not utf-8": b'{"alias": "\xff\xfe"}',
    "a list": b"[]",
    "null": b"null",
    "a number": b"1e999999",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "deep inside": b'{"otel":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "lone surrogate": b'{"name": "\\ud800", "alias": "\\ud800"}',
    "NUL": b'{"name": "a\\u0000", "alias": "a\\u0000", "id": "a\\u0000"}',
    "long integer": b'{"rate_limit": ' + b"9" * 5000 + b"}",
    "NaN": b'{"rate_limit": NaN, "rateLimit": NaN, "cache_ttl": NaN}',
    "many keys": b"{" + b",".join(b'"%d":1' % n for n in range(50_000)) + b"}",
}


@pytest.mark.parametrize("path", [CONFIGS, GATEWAYS, KEYS, "/api/v1/admin-tokens"])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
@in_module
async def test_a_body_that_is_none_is_refused_in_the_surfaces_shape(
    shared: Admin, path: str, body: bytes
) -> None:
    answer = await shared.call("POST", path, content=body)
    assert answer.status_code == 400, answer.text[:200]
    assert len(answer.content) < 10_000
    assert ("success" in answer.json()) == path.startswith("/accounts")


@in_module
async def test_a_body_of_more_than_a_mebibyte_is_refused(shared: Admin) -> None:
    huge = json.dumps(new(secret="s" * (1024 * 1024))).encode()
    for path, shape in ((CONFIGS, "success"), (KEYS, "title")):
        answer = await shared.call("POST", path, content=huge)
        assert answer.status_code == 413
        assert shape in answer.json()


async def test_a_slow_body_is_given_up(backend: Backend) -> None:
    async with admin(backend, body_timeout=0.05) as app, RawClient.to(app.url) as client:
        await client.send(
            b"POST /api/v1/client-keys HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n"
            b"authorization: Bearer " + app.root.encode() + b"\r\n\r\n{"
        )
        assert (await client.answer()).status == 408


async def test_nobody_is_the_wiser_when_the_client_leaves_in_the_middle(app: Admin) -> None:
    async with RawClient.to(app.url) as client:
        await client.send(
            b"POST /api/v1/client-keys HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n"
            b"authorization: Bearer " + app.root.encode() + b"\r\n\r\n{"
        )
        client.reset()
    assert (await app.call("GET", KEYS)).json()["data"] == []


@pytest.mark.parametrize(
    "target",
    [
        "/accounts/%00/ai-gateway/gateways/gw/provider_configs",
        "/accounts/a%2fb/ai-gateway/gateways/gw/provider_configs",
        "/accounts/%ff%fe/ai-gateway/gateways/gw/provider_configs",
        "/accounts/..%2f/ai-gateway/gateways",
        "/accounts/wardgate/ai-gateway/gateways/group:%00/provider_configs",
        "/api/v1/client-keys?scope=%00",
        "/api/v1/client-keys?scope=%ED%A0%80",
        "/api/v1/client-keys?after=99999999999999999999",
        "/accounts/a/ai-gateway/gateways?search=%00",
        "/api/v1/client-keys/%00",
        "/%00",
    ],
)
@in_module
async def test_nothing_in_a_path_gives_a_5xx(shared: Admin, target: str) -> None:
    async with RawClient.to(shared.url) as client:
        headers = {"authorization": f"Bearer {shared.root}"}
        answer = await client.request("GET", target, headers)
    assert 200 <= answer.status < 500
    assert json.loads(answer.body)


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "bearer \xff", "Basic x", "x" * 8000])
@in_module
async def test_no_header_value_gives_a_5xx(shared: Admin, value: str) -> None:
    sent = [(b"authorization", value.encode("latin-1")), (b"wardgate-scope", b"\xff")]
    async with RawClient.to(shared.url) as client:
        assert (await client.request("GET", KEYS, sent)).status == 401


async def test_503_when_the_store_is_away(backend: Backend) -> None:
    async with admin(backend) as app:
        await app.desk.aclose()
        backend.take_away()
        answer = await app.call("GET", "/readyz")
        assert answer.status_code == 503
        assert (await app.call("GET", "/livez")).status_code == 200
        answer = await app.call("GET", CONFIGS)
        assert (answer.status_code, answer.json()["success"]) == (503, False)
        answer = await app.call("GET", KEYS)
        assert (answer.status_code, answer.json()["title"]) == (503, "Service Unavailable")


async def test_a_fault_of_ours_ends_without_details(app: Admin) -> None:
    def broken() -> bytes:
        raise ZeroDivisionError("sk-in-a-message")

    async with serving(build(app.desk, metrics=broken)) as url, httpx2.AsyncClient() as http:
        answer = await http.get(f"{url}/metrics")
    assert answer.status_code == 500
    assert answer.json()["detail"] == "the request could not be completed"


def test_every_operation_has_an_action_of_the_table_and_writes_with_none_that_reads() -> None:
    rows = [row for _, operations in SURFACES for row in operations]
    assert len(rows) >= 30
    assert {row.action for row in rows} <= set(ACTIONS)
    assert not [row.name for row in rows if row.method != "GET" and row.action.endswith(".read")]


@pytest.mark.parametrize("path", ["/llm-config", "/llm-config/"])
@in_module
async def test_surface_five_is_served_with_and_without_the_slash(shared: Admin, path: str) -> None:
    answer = await shared.call("GET", path)
    assert (answer.status_code, answer.json()) == (200, None)
    answer = await shared.call("POST", path.rstrip("/") + "/test-connection" + path[11:])
    assert (answer.status_code, list(answer.json())) == (404, ["detail"])


@pytest.mark.parametrize("path", ["/connections", "/api/v1/audit", "/llm-config/", "/docs"])
@in_module
async def test_head_is_get_without_a_body(shared: Admin, path: str) -> None:
    got, head = await shared.call("GET", path), await shared.call("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
