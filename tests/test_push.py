"""Three gateways on one PostgreSQL: a revoked key is refused by all of them within a second.

With Redis, without, and with one that is ill. Alone on the machine: others beside it would be
measured, too.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from admin.configure import keys
from admin.configure.desk import Desk, open_desk
from admin.configure.keys import NewKey
from admin.permit import LOCAL
from gateway import catalog
from gateway.settings import Settings
from tests import servers
from tests.desks import RING
from tests.houses import Running, house
from tests.serve import free_port
from tests.servers import Server, redis_command

GATEWAYS = 3
ROUNDS = 40 if os.environ.get("SOAK") else 6
PASSWORD = "canary-of-the-redis"


@dataclass
class Three:
    """`metrics`: where each of them is scraped."""

    running: list[Running]
    metrics: list[str]
    settings: Settings
    http: httpx2.AsyncClient

    @contextlib.asynccontextmanager
    async def desk(self, redis: str | None = None) -> AsyncIterator[Desk]:
        """A desk on their store, as a command would open it; `redis`: another one than theirs."""
        given = self.settings if redis is None else replace(self.settings, redis_url=redis)
        desk = await open_desk(given, RING, catalog.load(), say=lambda _: None)
        try:
            yield desk
        finally:
            await desk.aclose()

    async def statuses(self, key: str) -> set[int]:
        headers = {"authorization": f"Bearer {key}", "connection": "close"}
        asked = (self.http.get(f"{one.gateway}/v1/models", headers=headers) for one in self.running)
        return {answer.status_code for answer in await asyncio.gather(*asked)}

    async def followed(self, desk: Desk) -> tuple[float, float]:
        """Seconds until a new key was taken by all of them, and until it was refused by all again;
        TimeoutError when either takes a second.
        """
        view, key = await keys.create(desk, LOCAL, NewKey(name="app"))
        taken = await self._until(key, {200})
        await keys.revoke(desk, LOCAL, view.id)
        return taken, await self._until(key, {401})

    async def _until(self, key: str, wanted: set[int]) -> float:
        began = time.monotonic()
        async with asyncio.timeout(1):
            while await self.statuses(key) != wanted:
                pass
        return time.monotonic() - began

    async def figures(self, name: str) -> list[float]:
        """What each of them shows for one metric; nothing for one that is not there."""
        shown = [(await self.http.get(url)).text for url in self.metrics]
        found = [re.search(rf"^{name} (\S+)$", text, re.MULTILINE) for text in shown]
        return [float(one[1]) for one in found if one]

    async def subscribed(self, wanted: float) -> None:
        async with asyncio.timeout(20):
            name = "wardgate_announcements_subscribed"
            while set(await self.figures(name)) != {wanted}:  # noqa: ASYNC110 # it is scraped
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def three(folder: Path, database: str, redis: str) -> AsyncIterator[Three]:
    settings = Settings(data_dir=folder / "desk", database_url=database, redis_url=redis)
    env = {"WARDGATE_DATABASE_URL": database, "WARDGATE_REDIS_URL": redis}
    env["WARDGATE_KEKS"] = ",".join(
        f"{name}:{base64.b64encode(kek).decode()}" for name, kek in RING.expose()
    )
    ports = [free_port() for _ in range(GATEWAYS)]
    await (await open_desk(settings, RING, catalog.load())).aclose()
    async with AsyncExitStack() as stack:
        words = [("gateway", "--metrics-port", str(port)) for port in ports]
        houses = [house(folder / f"data-{n}", *words[n], **env) for n in range(GATEWAYS)]
        running = await asyncio.gather(*(stack.enter_async_context(one) for one in houses))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=10))
        metrics = [f"http://127.0.0.1:{port}/metrics" for port in ports]
        yield Three(running, metrics, settings, http)


def logs(made: Three) -> str:
    return "".join(one.log.read_text() for one in made.running)


async def test_by_redis_and_whatever_becomes_of_it(tmp_path: Path, postgres_url: str) -> None:
    with servers.redis_server() as redis:
        async with three(tmp_path, postgres_url, servers.redis_url(redis)) as made:
            await made.subscribed(1)
            async with made.desk() as desk:
                times = [await made.followed(desk) for _ in range(ROUNDS)]
                assert statistics.median(one for pair in times for one in pair) < 0.3, times
                # Of two changes a round each gateway heard of most before it had seen them itself:
                # by chance its own look comes first, once in a while.
                heard = await made.figures("wardgate_announcements_total")
                assert min(heard) > 0
                assert sum(heard) >= len(heard) * ROUNDS * 2 / 3, heard
                await _in_trouble(made, desk, redis)
            # Nobody announces it: a command without WARDGATE_REDIS_URL.
            async with made.desk(redis="") as desk:
                await made.followed(desk)
        said = "".join(one.log.read_text() for one in made.running)
    assert PASSWORD not in said
    # Not for each failure: once in half a minute.
    assert GATEWAYS <= said.count("gateways look for themselves") <= 3 * GATEWAYS


async def _in_trouble(made: Three, desk: Desk, redis: Server) -> None:
    redis.freeze()
    await made.followed(desk)
    await made.subscribed(0)
    await made.followed(desk)
    redis.kill()
    await made.followed(desk)
    redis.start()
    await made.subscribed(1)
    await made.followed(desk)
    redis_command(redis.port, "REPLICAOF 127.0.0.1 1")
    await made.followed(desk)
    redis_command(redis.port, f"CONFIG SET requirepass {PASSWORD}")
    redis_command(
        redis.port, f"AUTH {PASSWORD}\r\nCLIENT KILL TYPE pubsub\r\nCLIENT KILL TYPE normal"
    )
    await made.followed(desk)
    await made.subscribed(0)


async def test_without_redis(tmp_path: Path, postgres_url: str) -> None:
    async with three(tmp_path, postgres_url, "") as made, made.desk() as desk:
        for _ in range(2):
            await made.followed(desk)
        assert await made.figures("wardgate_announcements_subscribed") == []
        assert len(await made.figures("wardgate_snapshot_unconfirmed_seconds")) == GATEWAYS
