"""Five tongues, one desk: what any surface writes, every other one reads, rotates and deletes.

A gateway serves from the same store all the while: after every step the provider must have got the
key that was written last, and nothing once it is gone. Latin square over surfaces and scopes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest

from admin.configure import configs, keys
from admin.configure.keys import NewKey
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway import app, catalog
from gateway.app import Gateway
from gateway.store.compile import compile_snapshot
from tests.admin_serve import CANARY, Admin, admin
from tests.backends import Backend
from tests.serve import serving
from tests.tongues import SCOPES, TONGUES, Config, Read

KEYS = [f"sk-tongue-{CANARY}-{number:02d}-abcdefgh-K{number:03d}" for number in range(7)]


@dataclass
class Both:
    """The admin app and a gateway over one store, with a provider behind them."""

    admin: Admin
    gateway: Gateway
    http: httpx2.AsyncClient
    upstream: Upstream

    async def serve(self) -> None:
        """Let the gateway serve from what is stored now."""
        desk = self.admin.desk
        table = await compile_snapshot(
            desk.store, desk.ring, desk.catalog, desk.settings, desk.clock()
        )
        self.gateway.swap(table)

    async def ask(self, client_key: str) -> tuple[int, str]:
        """The status of one request, and the credential the provider got for it."""
        await self.serve()
        before = len(self.upstream.received)
        answer = await self.http.post(
            "/v1/chat/completions",
            json={"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi"}]},
            headers={"authorization": f"Bearer {client_key}"},
        )
        got = self.upstream.received[before:]
        sent = dict(got[-1].headers).get(b"authorization", b"").decode() if got else ""
        return answer.status_code, sent.removeprefix("Bearer ")


@contextlib.asynccontextmanager
async def both(backend: Backend, upstream: Upstream) -> AsyncIterator[Both]:
    given: dict[str, Any] = {
        "allowed_upstream_cidrs": (ip_network("127.0.0.0/8"),),
        "provider_base_urls": {"openai": f"{upstream.origin}/v1"},
    }
    async with admin(backend, **given) as running:
        desk = running.desk
        table = await compile_snapshot(
            desk.store, desk.ring, desk.catalog, desk.settings, desk.clock()
        )
        settings = backend.settings(**given)
        gateway = app.build(settings, desk.ring, catalog.load(), table)
        async with (
            serving(gateway, settings) as url,
            httpx2.AsyncClient(base_url=url, timeout=10) as http,
        ):
            yield Both(running, gateway, http, upstream)


SQUARE = [
    (maker, scope, (maker + scope) % len(TONGUES))
    for maker in range(len(TONGUES))
    for scope in range(len(SCOPES))
]


def test_the_square_covers_every_pair() -> None:
    assert len({(maker, eraser) for maker, _, eraser in SQUARE}) == len(TONGUES) ** 2
    assert len({(maker, scope) for maker, scope, _ in SQUARE}) == len(TONGUES) * len(SCOPES)


@pytest.mark.parametrize("maker", range(len(TONGUES)))
async def test_what_one_surface_writes_all_read_rotate_and_delete(
    maker: int, backend: Backend, upstream: Upstream
) -> None:
    async with both(backend, upstream) as world:
        for made_by, place, erased_by in SQUARE:
            if made_by == maker:
                await _walk(world, maker, SCOPES[place], erased_by)
        assert CANARY.encode() not in backend.disk()


async def _walk(world: Both, maker: int, scope: str, eraser: int) -> None:
    await TONGUES[maker].create(world.admin, scope, KEYS[0])
    config = await _only(world, scope)
    _, client_key = await keys.create(world.admin.desk, LOCAL, NewKey(name="app", scope=scope))
    assert await world.ask(client_key) == (200, KEYS[0])
    await _read_by_all(world, config, KEYS[0])
    for number, tongue in enumerate(TONGUES, 1):
        await tongue.rotate(world.admin, config, KEYS[number])
        assert await world.ask(client_key) == (200, KEYS[number]), type(tongue).__name__
        await _read_by_all(world, config, KEYS[number])
    await _masks_change_nothing(world, config, client_key)
    await TONGUES[eraser].delete(world.admin, config)
    assert await world.ask(client_key) == (404, "")
    assert await configs.every(world.admin.desk, {scope}) == []


async def _only(world: Both, scope: str) -> Config:
    views = await configs.every(world.admin.desk, {scope})
    assert len(views) == 1
    return Config(views[0].id, views[0].scope, views[0].alias)


async def _read_by_all(world: Both, config: Config, key: str) -> None:
    """Every surface shows the same config, and a mask that fits the key."""
    views = [await tongue.read(world.admin, config) for tongue in TONGUES]
    preview = f"sk-...{key[-4:]}"
    assert views == [
        Read("openai", preview, None),
        Read("openai", "sk-***", config.id),
        Read("openai", preview, config.id),
        Read("openai", preview, config.id),
        Read("openai", preview, config.id),
    ]


async def _masks_change_nothing(world: Both, config: Config, client_key: str) -> None:
    """A masked key sent back, any surface's mask through any surface, keeps the stored one."""
    kept = KEYS[len(TONGUES)]
    masks = {view.mask for tongue in TONGUES for view in [await tongue.read(world.admin, config)]}
    for mask in sorted(masks):
        for tongue in TONGUES:
            await tongue.rotate(world.admin, config, mask)
    assert await world.ask(client_key) == (200, kept)
