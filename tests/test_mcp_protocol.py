"""What /mcp answers to messages that no client of the protocol would send, and to odd moments."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from admin import openapi
from admin.configure import configs
from admin.registry import SURFACES
from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend
from tests.docs_tables import ROOT
from tests.serve import RawClient
from tests.test_mcp import NAMES, fail, session

SUPERADMIN = {"permission": "superadmin", "scope": "global"}
in_module = pytest.mark.asyncio(loop_scope="module")


async def rpc(app: Admin, method: str = "tools/list", **more: Any) -> httpx2.Response:
    """One message without a client of the protocol's."""
    content = more.pop("content", None)
    token, params = more.pop("token", None), more.pop("params", {})
    sent = {"accept": "application/json, text/event-stream", **more}
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    if content is not None:
        sent = {"content-type": "application/json", **sent}
    answer = await app.call("POST", "/mcp", asked, content=content, token=token, headers=sent)
    assert CANARY not in answer.text
    return answer


async def call(app: Admin, name: str, arguments: Any, **more: Any) -> httpx2.Response:
    return await rpc(app, "tools/call", params={"name": name, "arguments": arguments}, **more)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "OPTIONS"])
@in_module
async def test_there_is_nothing_to_listen_to_and_no_session_to_end(
    shared: Admin, method: str
) -> None:
    sent = {"accept": "text/event-stream"}
    answer = await shared.call(method, "/mcp", headers=sent)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await shared.call(method, "/mcp", headers=sent, token="")).status_code == 401


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", -32700),
        (b"{" + KEY.encode(), -32700),
        (b"\xff", -32700),
        (b"[" * 9999, -32700),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}', -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "\\ud800"}', -32700),
        (b"5", -32600),
        (b"[]", -32600),
        (json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "ping"}]).encode(), -32600),
        (json.dumps({"method": "tools/call", "params": {"api_key": KEY}}).encode(), -32600),
        (json.dumps({"jsonrpc": "2.0", "id": 1, "method": "x", "params": KEY}).encode(), -32600),
    ],
)
@in_module
async def test_what_is_no_message_is_400_and_quoted_nowhere(
    shared: Admin, content: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await rpc(shared, content=content)
    assert answer.status_code == 400
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (None, code)
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nothing", {}, -32601),
        ("tools/call", {}, -32602),
        ("tools/call", {"name": 5, "arguments": {"api_key": KEY}}, -32602),
        ("tools/call", {"name": "add_provider", "arguments": KEY}, -32602),
        ("tools/call", {"name": "add_provider", "arguments": [KEY]}, -32602),
        ("resources/list", {}, -32601),
        ("subscriptions/listen", {}, -32601),
    ],
)
@in_module
async def test_requests_of_no_use_get_the_protocols_own_errors(
    shared: Admin, method: str, params: Any, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await rpc(shared, method, params=params)
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, code)
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"content-type": "text/plain"}, 400),
        ({"accept": "text/html"}, 406),
        ({"accept": "*/*"}, 200),
        ({"mcp-protocol-version": "1999-01-01"}, 400),
        ({"mcp-protocol-version": "2025-06-18"}, 200),
    ],
)
@in_module
async def test_headers_of_the_protocol_are_checked(
    shared: Admin, header: dict[str, str], status: int
) -> None:
    assert (await rpc(shared, **header)).status_code == status


@in_module
async def test_a_message_of_the_newest_protocol_is_understood(shared: Admin) -> None:
    version = "2026-07-28"
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": dict[str, str](),
    }
    sent = {"mcp-protocol-version": version, "mcp-method": "tools/list"}
    answer = await rpc(shared, params={"_meta": meta}, **sent)
    assert [tool["name"] for tool in answer.json()["result"]["tools"]] == NAMES


@in_module
async def test_a_message_over_a_mebibyte_is_413(shared: Admin) -> None:
    answer = await rpc(shared, content=b" " * (1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, -32600)


async def test_a_message_that_does_not_arrive_is_408(backend: Backend) -> None:
    async with admin(backend, body_timeout=0.1) as app, RawClient.to(app.url) as client:
        head = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {app.root}\r\n"
        await client.send(f"{head}content-length: 9\r\n\r\n{{".encode())
        assert (await client.answer()).status == 408


async def test_a_token_revoked_between_two_calls_is_worth_nothing(app: Admin) -> None:
    made = await app.call("POST", "/api/v1/admin-tokens", {"name": "t", "grants": [SUPERADMIN]})
    token = made.json()["key"]
    assert (await rpc(app, token=token)).status_code == 200
    await app.call("DELETE", f"/api/v1/admin-tokens/{made.json()['id']}")
    own = {"vendor": "openai", "name": "Main", "api_key": KEY}
    for answer in (await rpc(app, token=token), await call(app, "add_provider", own, token=token)):
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert await configs.every(app.desk, None) == []


async def test_a_defect_is_told_to_nobody(
    app: Admin,
    backend: Backend,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with app.desk.store.write("global") as conn:
        await conn.execute(text("DROP TABLE proof"))
    async with session(app) as client:
        error = await fail(client, "list_providers")
    assert (error["type"], error["message"]) == (
        "internal",
        "the request could not be completed",
    )
    kind = "OperationalError" if backend.databases is None else "ProgrammingError"
    assert kind in capsys.readouterr().out
    assert "proof" not in caplog.text


def test_the_page_names_every_tool_with_its_operation() -> None:
    page = (ROOT / "docs/mcp.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| `([^|]+)` \|", page, re.MULTILINE))
    wanted = {
        row.tool: f"{row.method} {openapi.documented(surface, row)}"
        for surface, rows in SURFACES
        for row in rows
        if row.tool
    }
    assert told == wanted
