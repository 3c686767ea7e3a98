"""What every worker of a house does within a second of being changed.

Alone on the machine: others beside it would be measured, too.
"""

from __future__ import annotations

import asyncio

import httpx2

from admin.configure import configs, keys
from admin.configure.configs import NewConfig
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway.shapes import GLOBAL
from tests.backends import Backend
from tests.catalogs import TEN, Source, entry, synced
from tests.desks import of_house, secret
from tests.houses import house, wardgate

LOOPBACK = {"WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8"}
KEY = "sk-acme-canary-0123456789abcdef"


async def test_revoked_key_is_refused_by_every_worker_within_a_second(backend: Backend) -> None:
    data, env = backend.folder, backend.env
    async with house(data, "--workers", "3", **env) as running:
        _, key, noted = await wardgate(data, "keys", "create", "app", **env)
        headers = {"authorization": f"Bearer {key.strip()}"}
        async with httpx2.AsyncClient(base_url=running.gateway, headers=headers) as client:

            async def statuses() -> set[int]:
                # A connection each, so that workers take turns.
                answers = [
                    await client.get("/v1/models", headers={"connection": "close"})
                    for _ in range(12)
                ]
                return {answer.status_code for answer in answers}

            async with asyncio.timeout(10):
                while await statuses() != {200}:
                    pass
            code, _, _ = await wardgate(data, "keys", "revoke", noted.split()[1], **env)
            assert code == 0
            async with asyncio.timeout(1):
                while await statuses() != {401}:
                    pass


async def statuses(url: str, key: str, model: str) -> set[int]:
    """What the workers answer a request for `model`; a connection each, so that all take turns."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}", "connection": "close"}
    async with httpx2.AsyncClient(base_url=url, headers=headers) as client:
        answers = [await client.post("/v1/chat/completions", json=body) for _ in range(8)]
    return {answer.status_code for answer in answers}


async def prepared(desk: Desk, source: Upstream) -> str:
    """Sync, and configs and a key for what was synced; gives the key."""
    await synced(desk, source, force=True)
    # Of two, so that a name no catalog lists leads nowhere.
    for name in ("acme", "spare"):
        await configs.create(
            desk, LOCAL, NewConfig(scope=GLOBAL, provider=name, alias="main", secret=secret(KEY))
        )
    _, key = await keys.create(desk, LOCAL, NewKey(name="app"))
    return key


async def test_new_model_is_served_within_a_second_and_from_the_copy_when_the_store_is_away(
    backend: Backend, upstream: Upstream
) -> None:
    data, env = backend.folder, {**LOOPBACK, **backend.env}
    spare = entry("spare", ("other",), api=upstream.url)
    source = Source(entry("acme", TEN, api=upstream.url), spare)
    async with Upstream(source) as fetched:
        async with house(data, "--workers", "2", **env) as running:
            async with of_house(backend) as desk:
                key = await prepared(desk, fetched)
                async with asyncio.timeout(10):
                    while await statuses(running.gateway, key, "model-0") != {200}:
                        pass
                assert await statuses(running.gateway, key, "brand-new") == {404}
                source.put(entry("acme", (*TEN, "brand-new"), api=upstream.url), spare)
                done = await synced(desk, fetched)
                assert done.difference is not None
                assert done.difference.added == ["acme/brand-new"]
                async with asyncio.timeout(1):
                    while await statuses(running.gateway, key, "brand-new") != {200}:
                        pass
            assert await running.stop() == 0
        backend.take_away()
        async with house(data, "--workers", "2", **env) as running:
            assert "The store is away" in running.said
            assert await statuses(running.gateway, key, "brand-new") == {200}
    assert upstream.received[-1].header(b"authorization") == f"Bearer {KEY}".encode()
