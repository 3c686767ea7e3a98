"""The table of refusals, cell by cell: what each surface answers to the same thing gone wrong.

`STATUSES` is the table of the data model; `REQUESTS` is how each surface gets there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from admin.api.ai_provider_problems import AI_PROVIDERS
from tests.backends import Backend
from tests.places import CONNECTIONS, LLM, OPENAI, PROVIDERS, ROUTES, Place, group, key, world

# By surface, 1 to 5; None: nothing that can be sent to it leads there.
STATUSES: dict[str, tuple[int | None, ...]] = {
    "in use by a route": (409, 400, 400, 409, 409),
    "key must be sent again": (400, 400, 400, 422, 422),
    "alias taken": (None, 400, 400, None, None),
    "name taken": (None, None, None, 409, None),
    "bad key": (400, 400, 400, 400, 422),
    "bad settings": (400, 400, 400, 400, 422),
    "unknown provider": (404, 400, 400, 400, 422),
    "several configs meant": (409, None, None, None, None),
    "ambiguous alias": (None, 409, None, None, None),
    "choice exists": (None, None, None, None, 409),
}
BAD_KEY = f"{key('two')} words"
MOVED = "http://127.0.0.1:9/v1"
Sent = tuple[str, str, Any]


@dataclass(frozen=True)
class Ground:
    """What stands in the scope: `plain` and `routed` are ids of OpenAI configs."""

    at: Place
    plain: str
    routed: str


def ai_providers(on: Ground) -> dict[str, Sent]:
    return {
        "in use by a route": ("DELETE", f"{OPENAI}?alias=routed", None),
        "key must be sent again": ("PUT", OPENAI, {"baseUrl": MOVED}),
        "bad key": ("PUT", OPENAI, {"apiKey": BAD_KEY}),
        "bad settings": ("PUT", OPENAI, {"authConfig": {"region": "no region!"}}),
        "unknown provider": ("PUT", OPENAI.replace("openai", "nobody"), {"apiKey": key("new")}),
        "several configs meant": ("DELETE", OPENAI, None),
    }


def connections(on: Ground) -> dict[str, Sent]:
    new = {"alias": "new", "name": "New", "providerId": "openai"}
    one, good = f"{CONNECTIONS}/{on.plain}", {"settings": {"apiKey": key("new")}}
    return {
        "in use by a route": ("DELETE", f"{CONNECTIONS}/{on.routed}", None),
        "key must be sent again": ("PUT", one, {"settings": {"endpoint": MOVED}}),
        "alias taken": ("POST", CONNECTIONS, {**new, **good, "alias": "Default"}),
        "bad key": ("POST", CONNECTIONS, {**new, "settings": {"apiKey": BAD_KEY}}),
        "bad settings": ("PUT", one, {"settings": {"region": "no region!"}}),
        "unknown provider": ("POST", CONNECTIONS, {**new, **good, "providerId": "nobody"}),
        "ambiguous alias": ("GET", f"{CONNECTIONS}/default", None),
    }


def provider_configs(on: Ground) -> dict[str, Sent]:
    path = on.at.configs
    new = {"alias": "new", "provider_slug": "openai", "default_config": False}
    good = {**new, "secret": key("new")}
    return {
        "in use by a route": ("DELETE", f"{path}/{on.routed}", None),
        "key must be sent again": ("PUT", f"{path}/{on.plain}", {"base_url": MOVED}),
        "alias taken": ("POST", path, {**good, "alias": "Default"}),
        "bad key": ("POST", path, {**new, "secret": BAD_KEY}),
        "bad settings": ("POST", path, {**good, "base_url": "ftp://127.0.0.1/"}),
        "unknown provider": ("POST", path, {**good, "provider_slug": "nobody"}),
    }


def providers(on: Ground) -> dict[str, Sent]:
    new = {"vendor": "openai", "name": "New", "api_key": key("new")}
    one = f"{PROVIDERS}/{on.plain}"
    return {
        "in use by a route": ("DELETE", f"{PROVIDERS}/{on.routed}", None),
        "key must be sent again": ("PATCH", one, {"base_url": MOVED}),
        "name taken": ("POST", PROVIDERS, {**new, "vendor": "anthropic", "name": "Taken"}),
        "bad key": ("POST", PROVIDERS, {**new, "api_key": BAD_KEY}),
        "bad settings": ("PATCH", one, {"base_url": "ftp://127.0.0.1/"}),
        "unknown provider": ("POST", PROVIDERS, {**new, "vendor": "nobody"}),
    }


def llm_config(on: Ground) -> dict[str, Sent]:
    new = {"provider": "openai", "model": "gpt-4.1", "api_key": key("new")}
    return {
        "in use by a route": ("DELETE", f"{LLM}?id={on.routed}", None),
        "key must be sent again": ("PATCH", LLM, {"provider": "anthropic"}),
        "bad key": ("PATCH", LLM, {"api_key": BAD_KEY}),
        "bad settings": ("PATCH", LLM, {"model": "two words"}),
        "unknown provider": ("POST", LLM, {**new, "provider": "nobody"}),
        "choice exists": ("POST", LLM, new),
    }


REQUESTS = (ai_providers, connections, provider_configs, providers, llm_config)
CELLS = [
    pytest.param(case, surface, status, id=f"{case}-{surface + 1}")
    for case, row in STATUSES.items()
    for surface, status in enumerate(row)
    if status is not None
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(shared_backend: Backend) -> AsyncIterator[Ground]:
    """A scope with something to stumble over in each way; no refusal changed anything in it."""
    async with world(shared_backend) as running:
        at = Place(running, group(100))
        plain = await at.add("default")
        await at.add("default", "anthropic")
        routed = await at.add("routed")
        targets = [{"configId": routed["id"], "model": "gpt-4.1"}]
        await at.said(201, "POST", ROUTES, {"name": "fast", "targets": targets})
        named = {"vendor": "groq", "name": "Taken", "api_key": key("taken")}
        await at.said(201, "POST", PROVIDERS, named)
        chosen = {"provider": "groq", "model": "llama", "api_key": key("chosen")}
        await at.said(201, "POST", LLM, chosen)
        before = await _state(at)
        yield Ground(at, plain["id"], routed["id"])
        assert await _state(at) == before


async def _state(at: Place) -> tuple[Any, ...]:
    audit = await at.world.admin.call("GET", "/api/v1/audit?limit=1")
    return await at.views(), await at.said(200, "GET", LLM), audit.json()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("case", "surface", "status"), CELLS)
async def test_each_surface_refuses_with_its_own_status(
    ground: Ground, case: str, surface: int, status: int
) -> None:
    method, path, body = REQUESTS[surface](ground)[case]
    answer = await ground.at.said(status, method, path, body)
    if case == "in use by a route":
        assert "fast" in str(answer)


@pytest.mark.asyncio(loop_scope="module")
async def test_every_cell_has_its_request(ground: Ground) -> None:
    for surface, requests in enumerate(REQUESTS):
        met = {case for case, row in STATUSES.items() if row[surface] is not None}
        assert set(requests(ground)) == met


def test_surface_1_would_say_409_to_a_taken_alias() -> None:
    """Its PUT edits whatever has the alias; should it ever rename, this is what it says."""
    assert AI_PROVIDERS.statuses["alias_taken"] == 409
