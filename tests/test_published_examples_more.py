"""The published documents of surfaces 1 and 4 as they stand, and the pages that tell more of them.

Only the host, the token, ids and times are another's; surfaces 2, 3 and 5 have theirs in
test_published_examples.py.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from admin.configure import models
from admin.configure.identity import read_id
from admin.demo.upstream import Upstream
from admin.permit import LOCAL, PERMISSIONS
from admin.registry import SURFACES
from tests.admin_serve import Admin, admin
from tests.backends import Backend
from tests.docs_tables import ROOT
from tests.probing import models as listing
from tests.providing import GROUP, LIST, MANAGE, OPENAI, TYPE_ID, agent, config, counted, route
from tests.test_surface_pages import exchanges
from tests.world import LOOPBACK

# As the documents have them: `like` compares the fields, and types where values are another's.
LISTED = {
    "data": [
        {
            "id": "prov_01HXY...",
            "vendor": "openai",
            "name": "OpenAI Production",
            "base_url": None,
            "status": "active",
            "health": {
                "state": "healthy",
                "p50_latency_ms": 320,
                "last_check_at": "2026-04-14T12:00:00Z",
            },
            "created_at": "2026-04-01T10:00:00Z",
        }
    ]
}
ADDED = {
    "vendor": "openai",
    "name": "OpenAI Production",
    "api_key": "sk-...",
    "base_url": None,
}
ROTATED = {"api_key": "sk-new..."}
BEDROCK = {
    "vendor": "bedrock",
    "name": "Bedrock US-West",
    "api_key": "AKIA...::wJalrXUtnFEMI...::us-west-2",
    "base_url": None,
}
VENDORS = ("openai", "anthropic", "google", "azure", "bedrock", "groq", "fireworks")
TOOLS = {
    "list_providers": ("GET", "/manage/v1/providers"),
    "get_provider": ("GET", "/manage/v1/providers/{id}"),
    "add_provider": ("POST", "/manage/v1/providers"),
    "update_provider": ("PATCH", "/manage/v1/providers/{id}"),
    "delete_provider": ("DELETE", "/manage/v1/providers/{id}"),
    "get_provider_health": ("GET", "/manage/v1/providers/{id}/health"),
}
READ = ("AIProviders.Read", "GroupAIProviders.Read")
MANAGED = ("AIProviders.Manage", "GroupAIProviders.Manage")
# Method, path and the permissions any of which is enough.
AI_PROVIDERS = (
    ("GET", "", READ),
    ("GET", "/{providerId}", READ),
    ("GET", "/{providerId}/agents", MANAGED),
    ("DELETE", "/{providerId}/configure", MANAGED),
    ("PUT", "/{providerId}/configure", MANAGED),
    ("GET", "/{providerId}/models", ("AIModels.Read", "GroupAIModels.Read")),
)


@pytest.fixture
async def house(backend: Backend) -> AsyncIterator[Admin]:
    """An admin app; every provider of the documents is one upstream that takes any key."""
    async with Upstream(listing("gpt-4o")) as upstream:
        elsewhere = dict.fromkeys(("openai", "anthropic", "groq", "fireworks-ai"), upstream.url)
        elsewhere |= {
            "google": f"{upstream.origin}/v1beta",
            "azure": f"{upstream.origin}/openai/v1",
        }
        elsewhere |= {"amazon-bedrock": upstream.origin}
        given: dict[str, Any] = {"allowed_upstream_cidrs": LOOPBACK}
        async with admin(backend, provider_base_urls=elsewhere, **given) as running:
            yield running


def like(shown: Any, published: Any, name: str = "") -> None:
    """Has the published fields with their values; ids, times and latencies only of their kind."""
    if isinstance(published, list):
        for one, wanted in zip(shown, published, strict=True):
            like(one, wanted)
    elif isinstance(published, dict):
        assert published.keys() <= shown.keys()
        for field, value in published.items():
            like(shown[field], value, field)
    elif name.endswith(("_at", "At")):
        datetime.fromisoformat(shown)
    elif name == "p50_latency_ms" or str(published).startswith("prov_"):
        assert type(shown) is type(published), name
    else:
        assert shown == published, name


async def test_providers_of_the_documents(house: Admin) -> None:
    added = await house.call("POST", MANAGE, ADDED)
    assert added.status_code == 201
    one = added.json()
    assert re.fullmatch(r"prov_[0-9A-HJKMNP-TV-Z]{26}", one["id"])
    path = f"{MANAGE}/{one['id']}"
    await counted(house, read_id(one["id"]) or "", 1, ok=9)
    listed = await house.call("GET", MANAGE)
    assert listed.status_code == 200
    like(listed.json(), LISTED)
    got = await house.call("GET", path)
    assert (got.status_code, got.json()) == (200, listed.json()["data"][0])
    rotated = await house.call("PATCH", path, ROTATED)
    assert (rotated.status_code, rotated.json()["id"]) == (200, one["id"])
    health = await house.call("GET", f"{path}/health")
    assert health.status_code == 200
    for window in health.json()["windows"]:
        assert {"success_rate", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms"} <= set(window)
    assert (await house.call("DELETE", path)).status_code == 204
    assert (await house.call("GET", MANAGE)).json()["data"] == []


async def test_bedrock_credentials_of_the_documents(house: Admin) -> None:
    added = await house.call("POST", MANAGE, BEDROCK)
    assert added.status_code == 201, added.text
    like(added.json(), {"vendor": "bedrock", "name": "Bedrock US-West", "base_url": None})
    session = {"api_key": f"{BEDROCK['api_key']}::FwoGZXIvYXdzE..."}
    path = f"{MANAGE}/{added.json()['id']}"
    assert (await house.call("PATCH", path, session)).status_code == 200


@pytest.mark.parametrize("vendor", VENDORS)
async def test_vendors_of_the_documents(house: Admin, vendor: str) -> None:
    body = {**(BEDROCK if vendor == "bedrock" else ADDED), "vendor": vendor}
    if vendor == "azure":
        body |= {"base_url": "https://my-resource.openai.azure.com/openai/v1"}
    added = await house.call("POST", MANAGE, body)
    assert (added.status_code, added.json()["vendor"]) == (201, vendor)


async def test_a_routing_config_keeps_what_it_references(house: Admin) -> None:
    path = f"{MANAGE}/{(await house.call('POST', MANAGE, ADDED)).json()['id']}"
    await route(house, read_id(path.rpartition("/")[2]) or "")
    refused = await house.call("DELETE", path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "provider_in_use")
    [made] = (await house.call("GET", "/api/v1/routes")).json()["data"]
    assert (await house.call("DELETE", f"/api/v1/routes/{made['id']}")).status_code == 204
    assert (await house.call("DELETE", path)).status_code == 204


def test_tools_of_the_documents() -> None:
    rows = {row.tool: (row.method, "/manage/v1" + row.path) for _, some in SURFACES for row in some}
    assert {tool: place for tool, place in rows.items() if tool} == TOOLS


@pytest.mark.parametrize(("method", "path", "permissions"), AI_PROVIDERS)
@pytest.mark.parametrize("scope", ["global", TYPE_ID])
async def test_ai_providers_of_the_documents(
    house: Admin, method: str, path: str, permissions: tuple[str, ...], scope: str
) -> None:
    await config(house, scope=GROUP if scope == TYPE_ID else "global")
    for permission in permissions:
        if PERMISSIONS[permission].everywhere or scope != "global":
            await config(house, f"for-{permission.lower()}", "groq")
            held = "global" if PERMISSIONS[permission].everywhere else GROUP
            token = await house.token((permission, held))
            body = {"apiKey": "sk-..."} if method == "PUT" else None
            where = LIST + path.replace("{providerId}", "openai")
            if method == "DELETE":
                await house.call("PUT", f"{where}?scope={scope}", {"apiKey": "sk-..."})
            answer = await house.call(method, f"{where}?scope={scope}", body, token=token)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", ["ai-providers", "providers"])
async def test_exchanges_go_as_the_page_says(name: str, house: Admin) -> None:
    kept = await config(house, "second", "groq", name="Groq second")
    await config(house, "third", "groq", name="Groq third")
    await route(house, kept.id)
    await agent(house, "helper", "openai/gpt-4o", GROUP)
    await models.set_enabled(house.desk, LOCAL, GROUP, "openai", "gpt-4o", False)
    known = {"{kept}": kept.id}
    for one in exchanges(ROOT / f"docs/surfaces/{name}.md"):
        path = one.path
        for placeholder, value in known.items():
            path = path.replace(placeholder, value)
        answer = await house.call(one.method, path, one.body, headers=one.headers)
        assert answer.status_code == one.status, answer.text
        shown: Any = answer.json()
        if isinstance(one.answer, dict):
            like(shown, one.answer)
            # A page shows every field of an object that it shows.
            assert set(shown) == set(one.answer), one.path
        else:
            assert shown == one.answer
        if isinstance(shown, dict) and "id" in shown:
            known["{id}"] = shown["id"]


def test_the_pages_name_every_vendor_and_field() -> None:
    page = (ROOT / "docs/surfaces/providers.md").read_text()
    assert all(f"`{vendor}`" in page for vendor in VENDORS)
    assert OPENAI in (ROOT / "docs/surfaces/ai-providers.md").read_text()
