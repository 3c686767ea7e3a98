"""The admin app on a real socket over a fresh store, with a client that knows its tokens.

Called by the tests of admin/api, of admin/app.py and of the official client.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2

from admin import oidc
from admin.app import build
from admin.configure import tokens
from admin.configure.desk import Desk, open_desk
from admin.permit import LOCAL, Grant
from admin.probe import Prober
from gateway import catalog
from gateway.vault import KeyRing
from tests.backends import Backend
from tests.serve import serving

# Every stored key of the tests carries this; it must turn up nowhere.
CANARY = "c4n4ry7f3e"
KEY = f"sk-test-{CANARY}-0123456789abcdef-WXYZ"
RING = KeyRing([("test", bytes(range(32)))])
PREVIEW = "sk-...WXYZ"
METRICS = b"# TYPE wardgate_up gauge\nwardgate_up 1.0\n"
ACCOUNT = "0123456789abcdef0123456789abcdef"
GATEWAYS = f"/accounts/{ACCOUNT}/ai-gateway/gateways"
CONFIGS = f"{GATEWAYS}/gw/provider_configs"


@dataclass
class Admin:
    """A running admin app: its URL, its desk, and `call`, as superadmin unless told otherwise."""

    url: str
    desk: Desk
    http: httpx2.AsyncClient
    root: str

    async def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx2.Response:
        """One request; `token` "" sends none."""
        sent = dict(headers or {})
        if token != "":
            sent["authorization"] = f"Bearer {token or self.root}"
        body: dict[str, Any] = {"content": content} if content is not None else {"json": json}
        return await self.http.request(method, path, headers=sent, **body)

    async def token(self, *grants: tuple[str, str]) -> str:
        """A new admin token with these (permission, scope)."""
        held = tuple(Grant(permission, scope) for permission, scope in grants)
        _, text = await tokens.create(self.desk, LOCAL, "test", held)
        return text


@contextlib.asynccontextmanager
async def admin(
    backend: Backend, *, prober: Prober | None = None, **given: Any
) -> AsyncIterator[Admin]:
    """The admin app over the store there; `given` are settings."""
    await backend.lay(RING)
    settings = backend.settings(**given)
    desk = await open_desk(settings, RING, catalog.load())
    try:
        _, root = await tokens.create(desk, LOCAL, "root", (Grant("superadmin", "global"),))
        identities = oidc.identities(settings)
        app = build(desk, metrics=lambda: METRICS, prober=prober, identities=identities)
        async with serving(app) as url, httpx2.AsyncClient(base_url=url, timeout=10) as http:
            yield Admin(url, desk, http, root)
    finally:
        await desk.aclose()


def new(alias: str = "default", **more: Any) -> dict[str, Any]:
    """A body that creates an openai config."""
    body = {"alias": alias, "default_config": True, "provider_slug": "openai", "secret": KEY}
    return {**body, **more}
