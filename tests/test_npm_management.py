"""npm `cloudflare` and the MCP inspector, unmodified, against the running admin app."""

from __future__ import annotations

import json

import pytest

from admin.demo.upstream import Upstream
from tests import node
from tests.admin_serve import ACCOUNT, KEY, PREVIEW, Admin, admin
from tests.backends import Backend
from tests.test_mcp import NAMES, provider

pytestmark = pytest.mark.usefixtures("npm_clients")
NEW_KEY = KEY.replace("WXYZ", "ABCD")


async def test_npm_cloudflare_creates_pages_changes_and_deletes(app: Admin) -> None:
    seen = await node.drive_cloudflare(
        baseURL=f"{app.url}/client/v4",
        token=app.root,
        account=ACCOUNT,
        gateway="gw",
        secret=KEY,
        newSecret=NEW_KEY,
    )
    made = seen["made"]
    assert (made["alias"], made["gateway_id"], made["secret_preview"]) == ("main", "gw", PREVIEW)
    assert seen["aliases"] == ["main", "second", "third"]
    assert seen["changed"]["secret_preview"] == "sk-...ABCD"
    assert seen["deleted"]["id"] == made["id"]
    assert (seen["missing"]["name"], seen["missing"]["status"]) == ("NotFoundError", 404)
    assert seen["missing"]["errors"][0]["code"] == 7002
    assert (seen["duplicate"]["name"], seen["duplicate"]["status"]) == ("BadRequestError", 400)
    assert seen["duplicate"]["errors"][0]["path"] == ["body", "alias"]


async def test_the_inspector_lists_and_calls_tools(backend: Backend) -> None:
    async with (
        Upstream(provider) as upstream,
        admin(backend, provider_base_urls={"openai": upstream.url}) as app,
    ):
        listed = await node.inspect(f"{app.url}/mcp", app.root, "--method", "tools/list")
        assert [tool["name"] for tool in listed["tools"]] == NAMES
        arguments = [f"vendor={'openai'}", "name=Main", f"api_key={KEY}"]
        words = [word for argument in arguments for word in ("--tool-arg", argument)]
        call = ("--method", "tools/call", "--tool-name", "add_provider", *words)
        made = await node.inspect(f"{app.url}/mcp", app.root, *call)
        assert json.loads(made["content"][0]["text"])["api_key_preview"] == PREVIEW
