"""The six MCP tools, used by the official client: listed by permission, answered like surface 4."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from admin.demo.upstream import Received, Script, Upstream
from admin.registry import SURFACES
from tests.admin_serve import CANARY, KEY, PREVIEW, Admin, admin
from tests.backends import Backend

GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
NAMES = [
    "add_provider",
    "delete_provider",
    "get_provider",
    "get_provider_health",
    "list_providers",
    "update_provider",
]
REFUSED = f"sk-refused-{CANARY}-0123456789abcdef"


def provider(received: Received) -> Script:
    """Refuses one key, lists a model for any other."""
    sent = dict(received.headers).get(b"authorization", b"").decode()
    if sent in ("", f"Bearer {REFUSED}"):
        return Script(status=401, body=b'{"error":{"message":"Incorrect API key"}}')
    return Script(body=b'{"object":"list","data":[{"id":"gpt-4.1"}]}')


@pytest.fixture
async def app(backend: Backend) -> AsyncIterator[Admin]:
    """The admin app over a scripted OpenAI; no key lies in its store when it is left."""
    async with (
        Upstream(provider) as upstream,
        admin(backend, provider_base_urls={"openai": upstream.url}) as running,
    ):
        yield running
        assert CANARY.encode() not in backend.disk()


@contextlib.asynccontextmanager
async def session(
    app: Admin, token: str | None = None, path: str = "/mcp", **headers: str
) -> AsyncIterator[ClientSession]:
    sent = {"authorization": f"Bearer {token or app.root}", **headers}
    async with (
        httpx2.AsyncClient(headers=sent) as http,
        streamable_http_client(app.url + path, http_client=http) as (read, write, *_),
        ClientSession(read, write) as opened,
    ):
        await opened.initialize()
        yield opened


async def use(session: ClientSession, tool: str, **arguments: Any) -> Mapping[str, Any]:
    """What a tool answers when all is well."""
    result = await session.call_tool(tool, arguments)
    assert isinstance(result, types.CallToolResult)
    assert not result.is_error, result.content
    assert _said(result) == result.structured_content
    found: Mapping[str, Any] = result.structured_content
    return found


async def fail(session: ClientSession, tool: str, **arguments: Any) -> Mapping[str, Any]:
    """The error of a tool that refuses."""
    result = await session.call_tool(tool, arguments)
    assert isinstance(result, types.CallToolResult)
    assert result.is_error
    found: Mapping[str, Any] = _said(result)["error"]
    return found


def _said(result: types.CallToolResult) -> Any:
    [content] = result.content
    assert isinstance(content, types.TextContent)
    assert CANARY not in content.text
    return json.loads(content.text)


def test_every_tool_is_a_row_of_the_registry() -> None:
    assert sorted(row.tool for _, rows in SURFACES for row in rows if row.tool) == NAMES


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
async def test_a_key_is_added_rotated_and_deleted_by_tools(app: Admin, path: str) -> None:
    async with session(app, path=path) as client:
        made = await use(client, "add_provider", vendor="openai", name="Main", api_key=KEY)
        assert (made["status"], made["api_key_preview"]) == ("active", PREVIEW)
        listed = await use(client, "list_providers")
        assert [one["id"] for one in listed["data"]] == [made["id"]]
        assert await use(client, "get_provider", id=made["id"]) == listed["data"][0]
        renamed = await use(client, "update_provider", id=made["id"], name="Other")
        assert renamed["name"] == "Other"
        health = await use(client, "get_provider_health", id=made["id"], window="1h")
        assert [window["window"] for window in health["windows"]] == ["1h"]
        assert await use(client, "delete_provider", id=made["id"]) == {"deleted": True}
        assert (await use(client, "list_providers"))["data"] == []


async def test_what_a_tool_does_the_api_shows_and_the_other_way(app: Admin) -> None:
    async with session(app) as client:
        made = await use(client, "add_provider", vendor="openai", name="Main", api_key=KEY)
        answer = await app.call("GET", f"/manage/v1/providers/{made['id']}")
        assert answer.json() == made


async def test_refusals_are_those_of_the_api(app: Admin) -> None:
    async with session(app) as client:
        error = await fail(client, "add_provider", vendor="openai", name="M", api_key=REFUSED)
        assert (error["type"], error["code"]) == ("unprocessable", "key_verification_failed")
        error = await fail(client, "add_provider", vendor="nobody", name="M", api_key=KEY)
        assert error["code"] == "unknown_vendor"
        error = await fail(client, "get_provider", id="prov_01hz1f0kw36f82k9s4nzpc4s33")
        assert error["code"] == "provider_not_found"
        error = await fail(client, "add_provider", vendor="openai")
        assert error["type"] == "invalid_request"
        error = await fail(client, "list_providers", nonsense=1)
        assert error["code"] == "invalid_request"
        assert (await use(client, "list_providers"))["data"] == []


async def test_a_refused_key_leaves_the_old_one(app: Admin) -> None:
    async with session(app) as client:
        made = await use(client, "add_provider", vendor="openai", name="Main", api_key=KEY)
        error = await fail(client, "update_provider", id=made["id"], api_key=REFUSED)
        assert error["code"] == "key_verification_failed"
        assert (await use(client, "get_provider", id=made["id"]))["api_key_preview"] == PREVIEW


async def test_tools_one_may_not_call_are_not_listed(app: Admin) -> None:
    reader = await app.token(("AIProviders.Read", "global"))
    async with session(app, reader) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        assert tools == ["get_provider", "get_provider_health", "list_providers"]
        error = await fail(client, "add_provider", vendor="openai", name="M", api_key=KEY)
        assert error["code"] == "unknown_tool"
    stranger = await app.token(("AIModels.Manage", "global"))
    async with session(app, stranger) as client:
        assert (await client.list_tools()).tools == []


async def test_a_groups_token_sees_its_group_alone(app: Admin) -> None:
    owner = await app.token(("GroupAIProviders.Manage", GROUP))
    async with session(app) as root, session(app, owner) as client:
        made = await use(root, "add_provider", vendor="openai", name="Main", api_key=KEY)
        assert (await use(client, "list_providers"))["data"] == []
        assert (await fail(client, "get_provider", id=made["id"]))["code"] == "provider_not_found"
        own = {"vendor": "openai", "name": "Own", "api_key": KEY}
        assert (await fail(client, "add_provider", **own))["code"] == "provider_not_found"
        assert (await use(client, "add_provider", **own, scope=GROUP))["scope"] == GROUP


async def test_tools_are_described_in_full_and_in_order(app: Admin) -> None:
    async with session(app) as client:
        first, again = (await client.list_tools()).tools, (await client.list_tools()).tools
    assert first == again
    assert [tool.name for tool in first] == NAMES
    for tool in first:
        assert tool.title
        assert tool.description
        assert tool.annotations is not None
        assert tool.output_schema is not None
        assert tool.input_schema["additionalProperties"] is False
        reads = not tool.name.startswith(("add", "delete", "update"))
        assert tool.annotations.read_only_hint is reads
        assert tool.annotations.destructive_hint is tool.name.startswith(("delete", "update"))


@pytest.mark.parametrize("token", ["", "wga_nobody", "sk-test"])
async def test_without_a_token_nothing_is_said(app: Admin, token: str) -> None:
    answer = await app.call(
        "POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, token=token
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"host": "localhost:1"}, 200),
        ({"origin": "http://localhost:8081"}, 200),
    ],
)
async def test_only_known_names_may_be_spoken_to(
    app: Admin, header: dict[str, str], status: int
) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    sent = {"accept": "application/json, text/event-stream", **header}
    answer = await app.call("POST", "/mcp", asked, headers=sent)
    assert answer.status_code == status, answer.text


async def test_more_names_are_a_setting(backend: Backend) -> None:
    async with admin(backend, admin_hosts=("admin.example.com",)) as app:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        sent = {"accept": "application/json, text/event-stream", "host": "admin.example.com"}
        assert (await app.call("POST", "/mcp", asked, headers=sent)).status_code == 200


async def test_the_scope_header_of_a_connection_holds_for_its_calls(app: Admin) -> None:
    own = {"vendor": "openai", "name": "Main", "api_key": KEY}
    async with session(app) as everywhere, session(app, **{"wardgate-scope": GROUP}) as client:
        first = await use(everywhere, "add_provider", **own)
        made = await use(client, "add_provider", **own)
        assert (first["scope"], made["scope"]) == ("global", GROUP)
        assert [one["id"] for one in (await use(client, "list_providers"))["data"]] == [made["id"]]
        for tool, arguments in (
            ("add_provider", {**own, "scope": "global"}),
            ("list_providers", {"scope": "global"}),
            ("get_provider", {"id": first["id"]}),
            ("delete_provider", {"id": first["id"]}),
        ):
            error = await fail(client, tool, **arguments)
            assert (error["type"], error["param"]) == ("invalid_request", "wardgate-scope")
        assert len((await use(everywhere, "list_providers"))["data"]) == 2


async def test_null_is_an_argument_left_out(app: Admin) -> None:
    async with session(app) as client:
        own = {"vendor": "openai", "name": "Main", "api_key": KEY}
        made = await use(client, "add_provider", **own, base_url=None, scope=None)
        nothing = dict.fromkeys(("limit", "cursor", "scope"))
        assert len((await use(client, "list_providers", **nothing))["data"]) == 1
        health = await use(client, "get_provider_health", id=made["id"], window=None)
        assert len(health["windows"]) == 4
        same = await use(client, "update_provider", id=made["id"], name=None, api_key=None)
        assert same["name"] == "Main"


async def test_arguments_are_checked_like_the_apis(app: Admin) -> None:
    async with session(app) as client:
        for tool, arguments, param in (
            ("list_providers", {"limit": 0}, "limit"),
            ("list_providers", {"scope": {"a": KEY}}, "scope"),
            ("get_provider_health", {"id": "x", "window": "2m"}, "window"),
            ("add_provider", {"vendor": "openai", "name": "N", "api_key": [KEY]}, "api_key"),
        ):
            assert (await fail(client, tool, **arguments))["param"] == param
        for name in ({}, {"id": None}, {"id": 5}, {"id": "../../openapi.json"}, {"id": KEY}):
            error = await fail(client, "get_provider", **name)
            assert error["code"] == "provider_not_found"
