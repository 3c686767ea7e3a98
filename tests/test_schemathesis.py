"""Whatever schemathesis makes of the OpenAPI document, only documented answers come back.

Every operation gets requests that fit the document and requests that do not, over a real socket;
in half of them names and ids are ones that exist, so that they get past the first check. Providers
are a demo on loopback, and a prober that goes nowhere else.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from admin import openapi
from admin.api.operations import Operation, Surface
from admin.demo.upstream import Upstream
from admin.probe import Prober
from admin.registry import SURFACES
from gateway import catalog
from gateway.errors import UpstreamError
from gateway.settings import Settings
from gateway.upstream.seam import Answer, Engine, Outbound
from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend

SOAK = os.environ.get("SOAK")
EXAMPLES = 500 if SOAK else 25
ROWS = [(surface, row) for surface, rows in SURFACES for row in rows]
# Credentials are the test's own: what becomes of wrong ones is in test_matrix.py.
CONFIG = {"generation": {"with-security-parameters": False, "database": "none"}}
DOCUMENT = schemathesis.openapi.from_dict(
    openapi.document(SURFACES), config=schemathesis.Config.from_dict(CONFIG)
)
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
_NUMBERS = itertools.count()
in_module = pytest.mark.asyncio(loop_scope="module")


class Tethered(Prober):
    """Asks nobody but this machine."""

    def __init__(self) -> None:
        super().__init__()
        self.strayed: list[str] = []

    def _way_out(self, settings: Settings) -> Engine:
        return _Leash(super()._way_out(settings), self.strayed)


@dataclass
class _Leash:
    engine: Engine
    strayed: list[str]

    async def send(self, outbound: Outbound) -> Answer:
        if not outbound.origin.startswith("http://127.0.0.1:"):
            self.strayed.append(outbound.origin)
            raise UpstreamError("nobody is asked but this machine")
        return await self.engine.send(outbound)

    async def aclose(self) -> None:
        await self.engine.aclose()


@dataclass
class World:
    """A running admin app, the only provider it can reach, and a client for its thread.

    `examined` is what every operation's examples were answered with.
    """

    app: Admin
    upstream: Upstream
    prober: Tethered
    http: requests.Session
    examined: dict[str, set[int]] = field(default_factory=dict)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(shared_backend: Backend) -> AsyncIterator[World]:
    async with Upstream() as upstream:
        elsewhere = dict.fromkeys(catalog.load().providers, f"{upstream.origin}/v1")
        given = {"provider_base_urls": elsewhere, "probe_timeout": 2.0}
        given["allowed_upstream_cidrs"] = (ip_network("127.0.0.0/8"),)
        prober = Tethered()
        async with admin(shared_backend, prober=prober, **given) as app:
            with requests.Session() as http:
                running = World(app, upstream, prober, http)
                yield running
    # Examples that never get past the first check prove little.
    done = [name for name, statuses in running.examined.items() if min(statuses) < 300]
    assert len(done) >= 0.9 * len(running.examined), set(running.examined) - set(done)


async def known(world: World) -> Mapping[str, list[Any]]:
    """One of everything, new, and the values by which a request can speak of it."""
    number = next(_NUMBERS)
    account, scope, alias = f"acc{number}", f"instance:i{number}", f"made-{number}"
    configs = f"/accounts/{account}/ai-gateway/gateways/gw/provider_configs"
    config = {"alias": "a", "default_config": True, "provider_slug": "openai", "secret": KEY}
    connection: dict[str, Any] = {"alias": alias, "name": alias, "providerId": "openai"}
    stored = await _made(world, configs, config)
    connected = await _made(world, "/connections", {**connection, "settings": {"apiKey": KEY}})
    connection |= {"alias": f"loose-{number}", "settings": {}}
    loose = await _made(world, "/connections", connection)
    chosen = {"provider": "openai", "model": "demo-chat", "api_key": KEY}
    await world.app.call("POST", "/llm-config", chosen)
    route = {"name": alias, "targets": [{"configId": connected, "model": "gpt-4o"}]}
    agent = await _made(world, "/api/v1/ai-agents", {"name": alias})
    keys, urls = [KEY, f"sk-refuse-{CANARY * 3}"], [world.upstream.url, None]
    return {
        "/connections": [loose, connected, alias],
        "/manage/v1/providers": [loose, connected],
        "/provider_configs": [stored],
        "/ai-agents": [agent],
        "/client-keys": [await _made(world, "/api/v1/client-keys", {"name": alias})],
        "/admin-tokens": [await _made(world, "/api/v1/admin-tokens", {"name": alias})],
        "/routes": [await _made(world, "/api/v1/routes", route)],
        "/scopes": [await _made(world, "/api/v1/scopes", {"id": scope})],
        "id": [f"instance:new{number}"],
        "account_id": [account],
        "gateway_id": ["gw", "another"],
        "agentId": [agent],
        "configId": [connected],
        "capability": ["chat", "Embedding"],
        "scope": ["global", scope, f"gateway:{account}/gw"],
        "parent": ["global", scope],
        "permission": ["AIProviders.Read", "superadmin"],
        **dict.fromkeys(("alias", "name"), [f"new-{number}", f"other-{number}"]),
        **dict.fromkeys(("apiKey", "api_key", "secret"), keys),
        **dict.fromkeys(("authType", "auth_type"), ["api_key", "bearer", "none"]),
        **dict.fromkeys(("baseUrl", "base_url", "endpoint"), urls),
        **dict.fromkeys(("model", "modelId"), ["gpt-4o", "openai/gpt-4o", "no/such"]),
        **dict.fromkeys(("provider", "providerId", "vendor"), ["openai", "anthropic", "custom:x"]),
        "provider_slug": ["openai", "anthropic"],
    }


async def _made(world: World, path: str, body: dict[str, Any]) -> str:
    answer = await world.app.call("POST", path, body)
    assert answer.status_code in (200, 201), answer.text
    shown = answer.json()
    return str(shown.get("result", shown)["id"])


def sensible(node: Any, values: Mapping[str, list[Any]], turn: int) -> Any:
    """The same with known values wherever a name says what is meant."""
    if isinstance(node, list):
        return [sensible(item, values, turn + at) for at, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    return {
        name: values[name][turn % len(values[name])]
        if name in values
        else sensible(value, values, turn)
        for name, value in node.items()
    }


def aimed(case: Case[Any], path: str, values: Mapping[str, list[Any]], turn: int) -> None:
    """Point a case at what is there."""
    ids = next((found for name, found in values.items() if name in path and "/" in name), [])
    named = {**values, "idOrAlias": ids, "id": ids} if ids else values
    case.path_parameters = sensible(case.path_parameters, named, turn)
    told = {name: found for name, found in values.items() if name != "id"}
    case.query = sensible(case.query, told, turn)
    if isinstance(case.body, dict):
        case.body = sensible(case.body, values, turn)
    for name in ("Wardgate-Scope", "If-Match"):
        case.headers.pop(name, None)


def examine(world: World, surface: Surface, row: Operation, values: Mapping[str, Any]) -> None:
    path = openapi.documented(surface, row)
    operation = DOCUMENT[path][row.method]
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @settings(
        max_examples=EXAMPLES,
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, known=st.booleans(), turn=st.integers(0, 5))
    def ask(case: Case[Any], known: bool, turn: int) -> None:
        if known:
            aimed(case, path, values, turn)
        token = {"Authorization": f"Bearer {world.app.root}"}
        response = case.call(world.app.url, world.http, token, timeout=10)
        assert response.status_code < 500 or response.status_code == 502, response.text
        assert response.status_code not in (401, 403), response.text
        assert CANARY not in response.text
        world.examined.setdefault(row.name, set()).add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()


@pytest.mark.parametrize(("surface", "row"), ROWS, ids=[row.name for _, row in ROWS])
@in_module
async def test_only_documented_answers_come_back(
    world: World, surface: Surface, row: Operation
) -> None:
    values = await known(world)
    await asyncio.to_thread(examine, world, surface, row, values)
    assert world.prober.strayed == []
