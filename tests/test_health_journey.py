"""Health from a client's request to what is shown: workers, pipe, parent, store, /metrics."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import httpx2

from gateway.health import Health
from gateway.store.engine import open_store
from gateway.store.health import judged
from tests.backends import Backend
from tests.houses import PATIENCE, Running, house, until, wardgate

CHAT = "/v1/chat/completions"
SAMPLE = re.compile(r"(wardgate_provider_\w+)\{(.*)\} (\S+)")


async def client_key(backend: Backend, running: Running) -> str:
    """A new key that every worker takes."""
    _, key, _ = await wardgate(backend.folder, "keys", "create", "app", **backend.env)
    headers = {"authorization": f"Bearer {key.strip()}", "connection": "close"}
    async with asyncio.timeout(PATIENCE), httpx2.AsyncClient(base_url=running.gateway) as client:
        took = 0
        while took < 10:  # in a row, on connections of their own: workers take turns
            answer = await client.get("/v1/models", headers=headers)
            took = took + 1 if answer.status_code == 200 else 0
    return key.strip()


async def ask(running: Running, key: str, order: str, *, stream: bool = False) -> None:
    """One request on a connection of its own, so that workers take turns."""
    headers = {"authorization": f"Bearer {key}", "x-demo": order}
    body = {"model": "demo/hello", "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    async with httpx2.AsyncClient(base_url=running.gateway, timeout=30) as client:
        try:
            await client.post(CHAT, headers=headers, json=body)
        except httpx2.RemoteProtocolError:
            assert "cut_at" in order


async def health(backend: Backend) -> Health:
    """As it is stored at this moment; the demo upstream's config is the only one."""
    store = await open_store(backend.place)
    try:
        [one] = (await judged(store, time.time())).values()
    finally:
        await store.aclose()
    return one.health


async def counted(backend: Backend, number: int) -> Health:
    """Health once it tells of so many requests."""
    async with asyncio.timeout(PATIENCE):
        while (found := await health(backend)).windows[-1].requests < number:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


def metric(text: str, name: str, **labels: str) -> float | None:
    for found in SAMPLE.finditer(text):
        given = dict(re.findall(r'(\w+)="([^"]*)"', found[2]))
        if found[1] == name and labels.items() <= given.items():
            return float(found[3])
    return None


async def test_health_of_all_workers_is_one_and_metrics_show_the_same(tmp_path: Path) -> None:
    # Some store; the journey of both is below.
    backend = Backend(tmp_path)
    data = backend.folder
    async with house(data, "--demo", "--workers", "2") as running:
        key = await client_key(backend, running)
        orders = [*["delay=0.2"] * 12, *["status=503"] * 4, *["status=400"] * 2]
        await asyncio.gather(*(ask(running, key, order) for order in orders))
        await asyncio.gather(*(ask(running, key, "hold=0.1", stream=True) for _ in range(4)))
        await asyncio.gather(*(ask(running, key, "cut_at=60", stream=True) for _ in range(2)))
        ended = time.monotonic()
        shown = await counted(backend, 24)
        assert time.monotonic() - ended < 10  # two seconds, on a machine with nothing else to do
        async with httpx2.AsyncClient(base_url=running.admin) as client:
            text = (await client.get("/metrics")).text
        assert await running.stop() == 0
    minute = shown.windows[0]
    assert (minute.requests, minute.success_rate) == (24, 0.75)
    assert minute.error_codes == {"http_503": 4, "upstream_incomplete": 2}
    assert shown.state == "degraded"
    assert minute.p50_latency_ms is not None
    assert minute.p50_latency_ms >= 190  # twelve of sixteen took 200 ms, at most 5 % off
    assert minute.ttft_p50_ms is not None
    assert minute.ttft_p50_ms >= 95
    assert metric(text, "wardgate_provider_health", alias="demo") == 0.5
    assert metric(text, "wardgate_provider_success_ratio", window="1h") == 0.75
    assert metric(text, "wardgate_provider_errors", window="1m", error_type="http_503") == 4
    for quantile, value in (("0.5", minute.p50_latency_ms), ("0.99", minute.p99_latency_ms)):
        seconds = metric(text, "wardgate_provider_latency_seconds", window="1m", quantile=quantile)
        assert (seconds or 0) * 1000 == value


async def test_key_that_is_refused_shows_and_so_does_the_one_that_works(tmp_path: Path) -> None:
    # Some store; the journey of both is below.
    backend = Backend(tmp_path)
    data = backend.folder
    async with house(data, "--demo") as running:
        key = await client_key(backend, running)
        assert (await health(backend)).state == "unknown"
        await ask(running, key, "status=401")
        assert (await counted(backend, 1)).state == "unhealthy"
        for _ in range(20):
            await ask(running, key, "")
        shown = await counted(backend, 21)
    assert shown.state == "healthy"
    assert shown.windows[0].error_codes == {"http_401": 1}


async def test_nothing_is_lost_at_the_end_nor_while_the_store_is_away(backend: Backend) -> None:
    data, env = backend.folder, backend.env
    async with house(data, "--demo", "--workers", "2", **env) as running:
        key = await client_key(backend, running)
        await asyncio.gather(*(ask(running, key, "") for _ in range(10)))
        assert await running.stop() == 0
    assert (await health(backend)).windows[-1].requests == 10
    backend.take_away()
    async with house(data, "--demo", "--workers", "2", **env) as running:
        await asyncio.gather(*(ask(running, key, "") for _ in range(10)))
        backend.give_back()
        events = "store back"
        await until(lambda: events in [line["event"] for line in running.lines()], "the store")
        shown = await counted(backend, 20)
    assert shown.windows[-1].requests == 20
    assert shown.state == "healthy"
