"""One scope of a running installation as all five surfaces speak of it, with a gateway beside it.

`ask` says which key a provider got. Called by test_cases.py and test_statuses.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2

from admin.configure import configs
from admin.configure.configs import ConfigView
from admin.demo.upstream import Upstream
from gateway import app, catalog
from gateway.app import Gateway
from gateway.store.compile import compile_snapshot
from tests.admin_serve import CANARY, Admin, admin
from tests.backends import Backend
from tests.serve import serving
from tests.world import LOOPBACK

CONFIGURE = "/api/v1/ai-providers/{}/configure"
AGENTS = "/api/v1/ai-agents"
ROUTES = "/api/v1/routes"
CONNECTIONS = "/connections"
PROVIDERS = "/manage/v1/providers"
LLM = "/llm-config/"
OPENAI = CONFIGURE.format("openai")


def key(name: str) -> str:
    """A provider key with a name at its end."""
    return f"sk-case-{CANARY}-{name:0>20}"


def group(number: int) -> str:
    return f"group:gr_01hz1f0kw36f82k9s4nzpc4{number:03d}"


@dataclass
class World:
    """The admin app and a gateway over one store, and a provider behind both."""

    admin: Admin
    gateway: Gateway
    http: httpx2.AsyncClient
    upstream: Upstream

    async def serve(self) -> None:
        """Let the gateway serve from what is stored now."""
        desk = self.admin.desk
        self.gateway.swap(
            await compile_snapshot(desk.store, desk.ring, desk.catalog, desk.settings, desk.clock())
        )


@contextlib.asynccontextmanager
async def world(backend: Backend) -> AsyncIterator[World]:
    """OpenAI, Anthropic and Groq are one upstream; no key lies in the store when it is left."""
    async with Upstream() as upstream:
        elsewhere = dict.fromkeys(("openai", "anthropic", "groq"), upstream.url)
        given: dict[str, Any] = {
            "allowed_upstream_cidrs": LOOPBACK,
            "provider_base_urls": elsewhere,
        }
        async with admin(backend, **given) as running:
            desk, settings = running.desk, backend.settings(**given)
            table = await compile_snapshot(
                desk.store, desk.ring, desk.catalog, desk.settings, desk.clock()
            )
            gateway = app.build(settings, desk.ring, catalog.load(), table)
            async with (
                serving(gateway, settings) as url,
                httpx2.AsyncClient(base_url=url, timeout=10) as http,
            ):
                yield World(running, gateway, http, upstream)
    assert CANARY.encode() not in backend.disk()


@dataclass
class Place:
    """A scope. Every surface is told of it by Wardgate-Scope, surface 3 by its path as well."""

    world: World
    scope: str

    @property
    def configs(self) -> str:
        """Surface 3's path of this scope."""
        return f"/client/v4/accounts/wardgate/ai-gateway/gateways/{self.scope}/provider_configs"

    async def said(
        self, status: int, method: str, path: str, body: Any = None, token: str | None = None
    ) -> Any:
        """The answer's JSON, when it has the status it must have; no key is in it."""
        headers = {"wardgate-scope": self.scope}
        answer = await self.world.admin.call(method, path, body, token=token, headers=headers)
        assert CANARY not in answer.text
        assert answer.status_code == status, (method, path, body, answer.text)
        return answer.json() if answer.content else None

    async def add(self, alias: str, provider: str = "openai", **more: Any) -> dict[str, Any]:
        """A config made by surface 3, which can name most."""
        body = {"alias": alias, "provider_slug": provider, "default_config": False}
        sent = {**body, "secret": key(alias), **more}
        if sent["secret"] is None:
            del sent["secret"]
        made: dict[str, Any] = (await self.said(200, "POST", self.configs, sent))["result"]
        return made

    async def views(self) -> list[ConfigView]:
        """The scope's configs as the desk has them, oldest first."""
        return await configs.every(self.world.admin.desk, {self.scope})

    async def client(self, **more: Any) -> str:
        """A client key of the scope."""
        made = await self.said(201, "POST", "/api/v1/client-keys", {"name": "app", **more})
        text: str = made["key"]
        return text

    async def ask(self, client: str, model: str = "gpt-4.1") -> tuple[int, str]:
        """A request's status, and the key the provider got, or the code where it got none."""
        await self.world.serve()
        before = len(self.world.upstream.received)
        answer = await self.world.http.post(
            "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "hi"}]},
            headers={"authorization": f"Bearer {client}"},
        )
        got = self.world.upstream.received[before:]
        if not got:
            return answer.status_code, str(answer.json()["error"]["code"])
        sent = got[-1].header(b"authorization") or b""
        return answer.status_code, sent.decode().removeprefix("Bearer ")
