"""What a request leaves behind for its config's health: who was tried, at fault, and how long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from admin.demo.upstream import Received, Script, Upstream
from gateway.health import PROVEN, REFUSED, Counts, Report, percentile
from gateway.shapes import ProviderConfig, RateLimit
from tests.ports import dead_port
from tests.serve import RawClient, request_bytes
from tests.test_disconnect import EVENT, JSON, SSE, chat
from tests.world import Served, World, served

STREAM = EVENT + b"data: [DONE]\n\n"


@dataclass
class House:
    """A gateway with one config in its world, and the upstream behind it."""

    upstream: Upstream
    world: World
    config: ProviderConfig
    served: Served
    key: str

    async def ask(self, request: bytes) -> int:
        async with RawClient(self.served.port) as client:
            await client.send(request)
            return (await client.answer("POST")).status

    async def chat(self, script: Script, *, stream: bool = False) -> int:
        self.upstream.respond = lambda _: script
        return await self.ask(chat(self.key, stream=stream))

    def take(self) -> Report:
        return self.served.gateway.take_health()

    async def seen(self) -> Counts:
        """The config's counts, once its request has been recorded."""
        async with asyncio.timeout(5):
            while not (counts := self.take().counts):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        [one] = counts.values()
        return one


@contextlib.asynccontextmanager
async def opened(
    fill: Callable[[World], object] = lambda world: None, **settings: Any
) -> AsyncIterator[House]:
    async with Upstream() as upstream:
        world = World()
        config = world.config("openai", upstream.url)
        fill(world)
        key = world.key()
        async with served(world, idle_timeout=0.1, **settings) as running:
            yield House(upstream, world, config, running, key)


async def test_answer_is_timed_and_proves_the_key() -> None:
    async with opened() as house:
        script = Script(headers=JSON, body=b"{}", head_delay=0.05, body_delay=0.05)
        assert await house.chat(script) == 200
        report = house.take()
        assert house.take().counts == {}
    counts = report.counts[house.config.id]
    assert (counts.requests, counts.failures, counts.first) == (1, 0, {})
    assert (percentile(counts.took, 0.5) or 0) >= 95
    assert report.looks == {house.config.id: (1, PROVEN)}


async def test_stream_has_a_time_to_its_first_byte() -> None:
    async with opened() as house:
        chunks = [EVENT, STREAM]
        script = Script(headers=SSE, chunks=chunks, framing="chunked", body_delay=0.03, delay=0.05)
        assert await house.chat(script, stream=True) == 200
        counts = await house.seen()
    first, took = percentile(counts.first, 0.5) or 0, percentile(counts.took, 0.5) or 0
    assert 28 <= first < took
    assert took >= 75


async def test_stream_asked_for_by_path_has_one_too() -> None:
    async with Upstream() as upstream:
        world = World()
        world.config("google", f"{upstream.origin}/v1beta", dialect="gemini")
        key = world.key()
        async with served(world) as running, RawClient(running.port) as client:
            path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
            headers = {"x-goog-api-key": key, "content-type": "application/json"}
            await client.send(request_bytes("POST", path, headers, b'{"contents":[]}'))
            assert (await client.answer("POST")).status == 200
            [counts] = running.gateway.take_health().counts.values()
    assert (sum(counts.first.values()), sum(counts.took.values())) == (1, 1)


@pytest.mark.parametrize(
    ("status", "failures"),
    [(400, 0), (404, 0), (422, 0), (401, 1), (403, 1), (429, 1), (500, 1), (529, 1)],
)
async def test_error_answers_are_whoever_s_fault_they_are_and_not_timed(
    status: int, failures: int
) -> None:
    async with opened() as house:
        assert await house.chat(Script(status=status, headers=JSON, body=b"{}")) == status
        report = house.take()
    counts = report.counts[house.config.id]
    assert counts.errors == ({f"http_{status}": 1} if failures else {})
    assert (counts.requests, counts.took) == (1, {})
    outcome = REFUSED if status in (401, 403) else None
    assert report.looks.get(house.config.id, (1, None)) == (1, outcome)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(headers=SSE, chunks=[EVENT, STREAM], cut_at=len(EVENT)), "upstream_incomplete"),
        (Script(headers=SSE, chunks=[STREAM], cut_at=9, cut="stall"), "upstream_timeout"),
        (Script(status=307, headers=((b"location", b"http://x/"),)), "upstream_redirect"),
        (Script(raw=b"nonsense\r\n\r\n"), "upstream_failed"),
    ],
)
async def test_broken_answers_are_failures(script: Script, code: str) -> None:
    async with opened() as house:
        await house.chat(script, stream=True)
        counts = await house.seen()
    assert (counts.requests, counts.errors, counts.took) == (1, {code: 1}, {})


async def test_key_that_does_not_open_is_a_failure() -> None:
    def spoil(world: World) -> None:
        world.configs[0] = replace(world.configs[0], sealed=b"not a sealed key")

    async with opened(spoil) as house:
        assert await house.chat(Script()) >= 500
        counts = await house.seen()
    assert counts.errors == {"secret_unavailable": 1}


async def test_client_that_leaves_blames_nobody() -> None:
    never = asyncio.Event()
    async with opened() as house:
        house.upstream.respond = lambda _: Script(before_head=never)
        async with RawClient(house.served.port) as client:
            await client.send(chat(house.key, stream=True))
            await house.upstream.wait_received(1)
        await house.upstream.wait_disconnected()
        assert house.take().counts == {}
        house.upstream.respond = lambda _: Script(
            headers=SSE, chunks=[EVENT, EVENT], framing="chunked", gates=[None, never]
        )
        async with RawClient(house.served.port) as client:
            await client.send(chat(house.key, stream=True))
            await client.read_until(b'"x"')
        counts = await house.seen()
    assert (counts.requests, counts.failures, counts.took) == (1, 0, {})
    assert sum(counts.first.values()) == 1


async def test_what_the_gateway_refuses_says_nothing_of_the_provider(limits_url: str) -> None:
    def limit(world: World) -> None:
        world.configs[0] = replace(world.configs[0], limit=RateLimit(1, 60))

    async with opened(limit, redis_url=limits_url) as house:
        ok = Script(headers=JSON, body=b"{}")
        assert [await house.chat(ok), await house.chat(ok)] == [200, 429]
        assert await house.ask(chat("wg_nobody_x", stream=False)) == 401
        assert (await house.seen()).requests == 1


async def test_every_target_of_a_route_counts_for_itself() -> None:
    def fill(world: World) -> None:
        dead = world.config("groq", f"http://127.0.0.1:{dead_port()}/v1")
        busy = world.config("mistral", world.configs[0].base_url)
        targets = ((dead, "a"), (busy, "b"), (world.configs[0], "c"))
        world.route("openai/gpt-4o", *targets)

    def answer(received: Received) -> Script:
        busy = received.json()["model"] == "b"
        return Script(status=503 if busy else 200, headers=JSON, body=b"{}")

    async with opened(fill) as house:
        house.upstream.respond = answer
        assert await house.ask(chat(house.key, stream=False)) == 200
        counts = house.take().counts
        first, second, third = house.world.configs
    assert counts[second.id].errors == {"upstream_failed": 1}
    assert counts[third.id].errors == {"http_503": 1}
    assert (counts[first.id].requests, counts[first.id].errors) == (1, {})
