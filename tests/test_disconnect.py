"""The client leaves: in every phase, streaming or not, the upstream is closed within a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from admin.demo.upstream import Received, Script, Upstream
from tests.serve import RawClient, request_bytes
from tests.world import Served, World, served

TIMES = 50 if os.environ.get("SOAK") else 20
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
SSE = ((b"content-type", b"text/event-stream"),)
JSON = ((b"content-type", b"application/json"),)
Respond = Callable[[Received], Script]


def chat(key: str, *, stream: bool, announce: int = 0) -> bytes:
    """A chat request; `announce` more bytes are promised than sent."""
    body = json.dumps({"model": "openai/gpt-4o", "stream": stream, "messages": []}).encode()
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "content-length": str(len(body) + announce),
    }
    return request_bytes("POST", "/v1/chat/completions", headers, body)


def held(phase: str, *, stream: bool) -> Respond:
    """An upstream that stops for good where the phase says."""
    never = asyncio.Event()
    headers = SSE if stream else JSON
    if phase == "waiting for headers":
        return lambda _: Script(before_head=never)
    if phase == "before the first byte":
        return lambda _: Script(
            headers=headers, chunks=[EVENT], framing="chunked", after_head=never
        )
    return lambda _: Script(
        headers=headers, chunks=[EVENT, EVENT], framing="chunked", gates=[None, never]
    )


async def all_is_well(house: Served, upstream: Upstream, key: str) -> None:
    """100 of 100 requests succeed, and nothing is under way upstream."""
    upstream.respond = lambda _: Script(headers=JSON, body=b'{"ok":true}')
    for _ in range(100):
        async with RawClient(house.port) as client:
            await client.send(chat(key, stream=False))
            assert (await client.answer("POST")).status == 200
    await upstream.wait_idle()
    assert upstream.active == 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("phase", ["waiting for headers", "before the first byte", "midway"])
async def test_upstream_is_closed_within_a_second_when_the_client_leaves(
    phase: str, stream: bool
) -> None:
    async with Upstream() as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        upstream.respond = held(phase, stream=stream)
        async with served(world) as house:
            for turn in range(TIMES):
                async with RawClient(house.port) as client:
                    await client.send(chat(key, stream=stream))
                    received = await upstream.wait_received(turn + 1)
                    if phase == "midway":
                        await client.read_until(b'"x"')
                    if turn % 2:
                        client.reset()
                async with asyncio.timeout(1):
                    await received.closed.wait()
            await all_is_well(house, upstream, key)


async def test_nothing_reaches_the_upstream_when_the_client_leaves_while_sending() -> None:
    async with Upstream() as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world) as house:
            for turn in range(TIMES):
                async with RawClient(house.port) as client:
                    await client.send(chat(key, stream=bool(turn % 2), announce=10))
            assert upstream.received == []
            await all_is_well(house, upstream, key)


async def test_upstream_is_closed_when_the_client_leaves_during_an_upload() -> None:
    async with Upstream() as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {
            "authorization": f"Bearer {world.key()}",
            "content-type": "application/octet-stream",
            "content-length": "1000000",
        }
        async with served(world) as house:
            for turn in range(TIMES):
                async with RawClient(house.port) as client:
                    await client.send(request_bytes("POST", "/v1/files", headers, b"x" * 1000))
                    received = await upstream.wait_received(turn + 1)
                async with asyncio.timeout(1):
                    await received.closed.wait()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_nothing_stays_behind_when_the_client_leaves_while_connecting(stream: bool) -> None:
    with full_listener() as port:
        world = World()
        world.config("openai", f"http://127.0.0.1:{port}/v1")
        key = world.key()
        async with served(world) as house:
            for _ in range(TIMES):
                async with RawClient(house.port) as client:
                    await client.send(chat(key, stream=stream))
                    async with asyncio.timeout(5):
                        await until_half_open(port, 1)
                async with asyncio.timeout(1):
                    await until_half_open(port, 0)


@contextlib.contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue of connections is full: one more stays in SYN-SENT."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        filler = fillers.enter_context(socket.socket())
        filler.connect(("127.0.0.1", port))
        yield port


def half_open(port: int) -> int:
    """Connections to `port` in state SYN-SENT, as the kernel tells."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    wanted = f":{port:04X}"
    return sum(1 for line in lines if line.split()[2].endswith(wanted) and line.split()[3] == "02")


async def until_half_open(port: int, wanted: int) -> None:
    # The kernel's table has no event to wait for: look once a turn of the loop.
    while half_open(port) != wanted:  # noqa: ASYNC110
        await asyncio.sleep(0)
