"""Streams while they run: usage counted and hidden, heartbeats, backpressure, limits in front."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import cast

import pytest
from prometheus_client import REGISTRY

from admin.demo.upstream import Script, Upstream
from gateway import catalog
from gateway.client.back import Back
from gateway.client.turn import Turn
from gateway.exchange import Exchange
from gateway.paths import match
from gateway.shapes import Candidate, RateLimit
from gateway.stream import Heartbeats, _Flow, _Pulse, stream
from gateway.upstream.seam import Taker
from tests.serve import Answer, Pair, RawClient, request_bytes
from tests.world import World, served

SSE = ((b"content-type", b"text/event-stream"),)
CHAT = "/v1/chat/completions"
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


def chat(key: str, **fields: object) -> bytes:
    body = json.dumps({"model": "gpt-4o", "stream": True, "messages": [], **fields}).encode()
    return request_bytes("POST", CHAT, {"authorization": f"Bearer {key}"}, body)


async def stream_once(port: int, key: str, **fields: object) -> Answer:
    async with RawClient(port) as client:
        await client.send(chat(key, **fields))
        return await client.answer("POST")


def tokens(kind: str, provider: str) -> float:
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": provider,
        "gen_ai_request_model": "gpt-4o",
        "gen_ai_token_type": kind,
    }
    return REGISTRY.get_sample_value("gen_ai_client_token_usage_sum", labels) or 0.0


async def test_usage_is_asked_for_counted_and_hidden_where_a_setting_asks() -> None:
    script = Script(headers=SSE, chunks=[WORD, USAGE, DONE], framing="chunked")
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        before = tokens("input", "openai"), tokens("output", "openai")
        async with served(world, count_usage=True) as house:
            answer = await stream_once(house.port, key)
            sent = upstream.received[0].json()
    assert sent["stream_options"] == {"include_usage": True}
    assert (answer.body, answer.ending) == (WORD + DONE, "clean")
    assert (tokens("input", "openai"), tokens("output", "openai")) == (before[0] + 7, before[1] + 3)


async def test_cost_is_counted_by_the_catalogs_prices() -> None:
    labels = {"provider": "openai", "alias": "default", "scope": "global", "model": "gpt-4o"}

    def spent() -> float:
        name = "wardgate_cost_microdollars_total"
        return REGISTRY.get_sample_value(name, labels) or 0.0

    body = b'{"usage":{"prompt_tokens":1000,"completion_tokens":100}}'
    script = Script(headers=((b"content-type", b"application/json"),), body=body)
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        before, key = spent(), world.key()
        async with served(world) as house:
            await stream_once(house.port, key, stream=False)
    prices = catalog.load().providers["openai"].models["gpt-4o"]
    assert prices.input_price
    assert prices.output_price
    assert spent() - before == (1000 * prices.input_price + 100 * prices.output_price) / 1_000_000


async def test_usage_the_client_asked_for_is_left_alone() -> None:
    script = Script(headers=SSE, chunks=[WORD, USAGE, DONE], framing="chunked")
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world, count_usage=True) as house:
            answer = await stream_once(house.port, key, stream_options={"include_usage": True})
    assert answer.body == WORD + USAGE + DONE


async def test_usage_is_not_asked_for_otherwise() -> None:
    script = Script(headers=SSE, chunks=[WORD, DONE], framing="chunked")
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world) as house:
            await stream_once(house.port, key)
        assert "stream_options" not in upstream.received[0].json()


async def test_heartbeat_stands_between_events_while_the_upstream_is_silent() -> None:
    gate = asyncio.Event()
    half = len(WORD) // 2
    script = Script(
        headers=SSE,
        chunks=[WORD, WORD[:half], WORD[half:] + DONE],
        framing="chunked",
        gates=[None, gate, None],
    )
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world, heartbeat=0.02) as house, RawClient(house.port) as client:
            await client.send(chat(key))
            head = await client.head()
            await client.read_until(WORD + b"\r\n")
            beat = await client.read_until(b"\n\n\r\n")
            gate.set()
            answer = await client.body_of(head)
    assert beat.partition(b"\r\n")[2].startswith(b":")
    without_beats = b"".join(
        line + b"\n\n" for line in answer.body.split(b"\n\n") if line and not line.startswith(b":")
    )
    assert without_beats == WORD + DONE


class Pieces:
    """An upstream's answer whose pieces are all here already, but for the last."""

    status = 200

    def __init__(self, *pieces: bytes) -> None:
        self.fields = [b"%b: %b" % pair for pair in SSE]
        self._pieces = list(pieces)

    @property
    def ended(self) -> bool:
        return not self._pieces

    async def read(self, taker: Taker | None = None) -> bytes:
        if len(self._pieces) == 1:
            arrived = asyncio.Event()
            asyncio.get_running_loop().call_later(0.01, arrived.set)
            await arrived.wait()
        return self._pieces.pop(0) if self._pieces else b""

    def abort(self) -> None:
        """Nothing to close."""


class SlowClient:
    """Takes one body piece, then none for a while, as a turn does when its connection is full."""

    def full(self) -> bool:
        return True

    def __init__(self, pause: float) -> None:
        self.taken: list[bytes] = []
        self._pause = pause
        self._reads = asyncio.Event()
        self._reads.set()

    def start(self, status: int, head: bytes, *, counted: bool) -> None:
        """The head leaves with the first piece."""

    async def write(self, piece: bytes, *, more: bool) -> None:
        await self._reads.wait()
        self.taken.append(piece)
        if len(self.taken) == 1:
            self._reads.clear()
            asyncio.get_running_loop().call_later(self._pause, self._reads.set)


class Door:
    """A client that takes all, and once it is `shut` nothing that would have to wait."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.shut = False
        self.opened = asyncio.Event()

    def start(self, status: int, head: bytes, *, counted: bool) -> None:
        """The head leaves with the first piece."""

    def relay(self, piece: bytes, chunk: bytes | None) -> bool:
        self.taken.append(piece)
        return True

    async def write(self, piece: bytes, *, more: bool) -> None:
        if self.shut:
            await self.opened.wait()
        self.taken.append(piece)


def asked_for_chat() -> Exchange:
    candidate = Candidate(World().config("openai", "http://127.0.0.1:1/v1"), "gpt-4o", "catalog")
    exchange = Exchange("req_1", "POST", CHAT.encode(), [], 0.0)
    exchange.match, exchange.candidate = match("POST", CHAT.encode()), candidate
    return exchange


async def under_way(door: Door) -> tuple[_Flow, _Pulse]:
    """A stream of which one event has passed at 90 s; it has a heartbeat after 10 s of silence."""
    answer = Pieces(WORD)
    flow = _Flow(answer, asked_for_chat(), cast(Turn, door), Back(answer.fields))
    pulse = _Pulse(flow, Heartbeats(10.0))
    await flow.write(WORD, more=True)
    flow.came = 90.0
    return flow, pulse


async def test_silence_begins_behind_the_last_piece_that_was_taken() -> None:
    door = Door()
    flow, pulse = await under_way(door)
    assert flow.take(WORD, None, 95.0)
    pulse.time = lambda: 100.0
    pulse.late()
    await asyncio.sleep(0)
    assert (pulse.deadline, door.taken) == (105.0, [WORD, WORD])
    pulse.time = lambda: 105.5
    pulse.late()
    await pulse.beaten()
    assert (pulse.deadline, door.taken) == (115.5, [WORD, WORD, b": keep-alive\n\n"])
    pulse.stop()


async def test_no_piece_overtakes_a_heartbeat_that_is_being_written() -> None:
    door = Door()
    flow, pulse = await under_way(door)
    door.shut = True
    pulse.time = lambda: 100.0
    pulse.late()
    await asyncio.sleep(0)
    assert not flow.take(WORD, None, 101.0)
    door.opened.set()
    await pulse.beaten()
    assert flow.take(WORD, None, 102.0)
    assert door.taken == [WORD, b": keep-alive\n\n", WORD]
    pulse.stop()


async def test_heartbeat_never_cuts_an_event_when_a_slow_client_reads_on() -> None:
    client, half = SlowClient(pause=0.02), len(WORD) // 2
    answer = Pieces(WORD, WORD, WORD[:half], WORD[half:] + DONE)
    await stream(answer, asked_for_chat(), cast(Turn, client), Heartbeats(0.001))
    # One before the cut event is in its place; none may stand between the halves.
    assert client.taken[-2:] == [WORD[:half], WORD[half:] + DONE]


async def test_a_stream_that_is_over_leaves_nothing_to_the_garbage_collector() -> None:
    exchange = asked_for_chat()
    gc.collect()
    gc.disable()
    try:
        answer = Pieces(WORD, WORD + DONE)
        await stream(answer, exchange, cast(Turn, SlowClient(pause=0.0)), Heartbeats(60.0))
        assert not [kind for kind in map(type, gc.get_objects()) if kind in (_Flow, _Pulse)]
    finally:
        gc.enable()


async def test_upstream_is_paused_while_the_client_does_not_read() -> None:
    # 64 MiB are on offer; what sockets and buffers hold is a few MiB.
    chunk = b"data: " + b"x" * 65_528 + b"\n\n"
    script = Script(headers=SSE, chunks=[chunk] * 1024, framing="chunked")
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world) as house, RawClient(house.port) as client:
            await client.send(chat(key))
            await client.head()
            received = await upstream.wait_received()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await received.done.wait()


async def test_limit_of_50_admits_exactly_50_of_500_at_once() -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url, limit=RateLimit(50, 60))
        key = world.key()
        async with served(world, clock=lambda: 1_000_000_020.0) as house:
            answers = await asyncio.gather(*(stream_once(house.port, key) for _ in range(500)))
        assert len(upstream.received) == 50
    assert sorted(answer.status for answer in answers) == [200] * 50 + [429] * 450
    refused = next(answer for answer in answers if answer.status == 429)
    assert_says_when_to_come_back(refused)


def assert_says_when_to_come_back(answer: Answer) -> None:
    """The window [960, 1020) of the clock ends … seconds after the request's time."""
    headers: dict[bytes, bytes] = dict(answer.headers)
    assert json.loads(answer.body)["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(headers[b"retry-after"]) <= 60
    assert int(headers[b"retry-after-ms"]) <= 60_000
    assert headers[b"x-should-retry"] == b"true"
    assert headers[b"x-ratelimit-limit-requests"] == b"50"
    assert headers[b"x-ratelimit-remaining-requests"] == b"0"
    assert headers[b"x-ratelimit-reset-requests"].endswith(b"ms")
    assert headers[b"ratelimit-policy"] == b'"config";q=50;w=60'
    assert headers[b"ratelimit"].startswith(b'"config";r=0;t=')


async def test_limit_is_told_in_anthropics_words(limits_url: str) -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("anthropic", upstream.url, dialect="anthropic")
        headers: list[Pair] = [
            (b"x-api-key", world.key(limit=RateLimit(1, 60)).encode()),
            (b"anthropic-version", b"2023-06-01"),
        ]
        body = b'{"model":"claude-sonnet-4-5","messages":[]}'
        async with (
            served(world, redis_url=limits_url) as house,
            RawClient(house.port) as client,
        ):
            assert (await client.request("POST", "/v1/messages", headers, body)).status == 200
            answer = await client.request("POST", "/v1/messages", headers, body)
        assert len(upstream.received) == 1
    told = json.loads(answer.body)
    assert (answer.status, told["type"]) == (429, "error")
    assert told["error"]["type"] == "rate_limit_error"
    assert answer.header(b"ratelimit-policy") == b'"client";q=1;w=60'
