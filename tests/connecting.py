"""Connections as the tests of surface 2 make them, and an admin app whose providers are scripted.

Called by the tests of surfaces 2 and 5.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from admin.configure import configs, routes
from admin.configure.configs import ConfigView, NewConfig
from admin.configure.routes import NewRoute
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway.shapes import GLOBAL, Secret, Target
from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend
from tests.world import LOOPBACK

LIST = "/connections"
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
NOWHERE = "01977c2a-0000-7000-8000-000000000000"
ANOTHER = f"sk-test-{CANARY}-another-0123456789-NEWK"
ACCESS_KEY = "AKIACANARY0123456789"
SECRET_KEY = f"aws/{CANARY}+secret0123456789abcdefghijklm"
TOKEN = f"aws-session-{CANARY}/0123456789+abcdef=="
AWS = {"region": "eu-west-1", "accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY}


def connection(alias: str = "openai-prod", **more: Any) -> dict[str, Any]:
    """A body that creates a connection to OpenAI."""
    body = {"alias": alias, "name": "OpenAI Production", "providerId": "openai"}
    return {**body, "settings": {"apiKey": KEY}, **more}


async def made(app: Admin, alias: str = "openai-prod", **more: Any) -> dict[str, Any]:
    """A new connection as it is shown."""
    answer = await app.call("POST", LIST, connection(alias, **more))
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def config(
    app: Admin, alias: str, provider: str = "openai", scope: str = GLOBAL, **more: Any
) -> ConfigView:
    """A config made by the desk, which lets an alias stand under several providers."""
    given = {"secret": Secret(KEY.encode()), **more}
    new = NewConfig(scope=scope, provider=provider, alias=alias, **given)
    return await configs.create(app.desk, LOCAL, new)


async def route(app: Admin, config_id: str, name: str = "fast") -> None:
    target = Target(config_id, "gpt-4o")
    await routes.create(app.desk, LOCAL, NewRoute(name=name, targets=(target,)))


def problem(answer: httpx2.Response, status: int, title: str, detail: str) -> list[Any]:
    """The `errors` of a problem that is, but for them, the one expected; no key is in it."""
    assert CANARY not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    shown = answer.json()
    errors: list[Any] = shown.pop("errors", [])
    shown.pop("references", None)
    shown.pop("operationStatus", None)
    wanted = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    assert (answer.status_code, shown) == (status, wanted)
    return errors


@contextlib.asynccontextmanager
async def reaching(backend: Backend, upstream: Upstream, **more: Any) -> AsyncIterator[Admin]:
    """An admin app to which OpenAI, Anthropic and Perplexity are this upstream."""
    elsewhere = dict.fromkeys(("openai", "anthropic"), f"{upstream.origin}/v1")
    elsewhere |= {"perplexity": upstream.origin, "google": f"{upstream.origin}/v1beta"}
    given: dict[str, Any] = {"allowed_upstream_cidrs": LOOPBACK, "provider_base_urls": elsewhere}
    async with admin(backend, **{**given, **more}) as running:
        yield running
