"""What must hold before real gateways whoever stands in front of them: streams pass event by event,
leaving is seen, a cut answer is no whole one, nothing is sent twice and no key is logged.

Each takes the fleet and the front's port, and leaves both as they were. Called by test_haproxy.py
and test_nginx.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic

from admin.demo.upstream import Script
from tests.fleet import CHAT, Fleet, Member, failure
from tests.serve import RawClient, request_bytes

SSE = ((b"content-type", b"text/event-stream"),)
JSON = ((b"content-type", b"application/json"),)
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
LAST = b"data: [DONE]\n\n"
END = b"\r\n0\r\n\r\n"
SEEN_WITHIN = 1.0


@contextlib.asynccontextmanager
async def answering(fleet: Fleet, script: Script) -> AsyncIterator[None]:
    """The provider answers everything with `script`."""
    upstream = fleet.upstream
    before = upstream.respond, upstream.early
    upstream.respond, upstream.early = (lambda _: script), (lambda _: None)
    upstream.received.clear()
    try:
        yield
    finally:
        upstream.respond, upstream.early = before


async def each_event_passes_before_the_next_is_sent(fleet: Fleet, port: int) -> None:
    words = [WORD % name for name in (b"one", b"two", b"three")]
    gates = [None, *(asyncio.Event() for _ in (*words[1:], LAST))]
    script = Script(headers=SSE, chunks=[*words, LAST], gates=gates, framing="chunked")
    async with answering(fleet, script), RawClient(port) as client:
        await client.send(fleet.request(stream=True))
        assert (await client.head()).status == 200
        for event, gate in zip(words, gates[1:], strict=True):
            await client.read_until(event)
            assert gate is not None
            gate.set()
        assert LAST in await client.read_until(END)


async def leaving_is_seen_at_the_provider(fleet: Fleet, port: int) -> None:
    """In a running stream, and before there is an answer; with a FIN, and with a RST."""
    never = asyncio.Event()
    stream = Script(headers=SSE, chunks=[WORD % b"one", LAST], gates=[None, never])
    silent = Script(before_head=never)
    for script in (stream, silent):
        for how in (RawClient.finish, RawClient.reset):
            async with answering(fleet, script), RawClient(port) as client:
                await client.send(fleet.request(stream=True))
                received = await fleet.upstream.wait_received()
                if script is stream:
                    await client.read_until(b"\n\n")
                how(client)
                async with asyncio.timeout(SEEN_WITHIN):
                    await received.closed.wait()


async def what_a_killed_gateway_had_is_cut_and_not_asked_for_again(
    fleet: Fleet, port: int, victim: Member
) -> None:
    """Of two streams and two requests without an answer, each gateway has one; all were sent once,
    and stay so.
    """
    gate, words = asyncio.Event(), [WORD % b"one", LAST]
    stream = Script(headers=SSE, chunks=words, gates=[None, gate], framing="chunked")
    silent = Script(headers=JSON, body=b"{}", before_head=gate)
    async with answering(fleet, stream), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient(port)) for _ in range(4)]
        for client in clients[:2]:
            await client.send(fleet.request(stream=True))
            await client.read_until(b"\n\n\r\n")
        fleet.upstream.respond = lambda _: silent
        for count, client in enumerate(clients[2:], 3):
            await client.send(fleet.request())
            await fleet.upstream.wait_received(count)
        await victim.kill()
        gate.set()
        ends = [await _rest(client) for client in clients[:2]]
        assert sorted(END in rest for rest in ends) == [False, True]
        statuses = [(await client.answer("POST")).status for client in clients[2:]]
        assert sorted(statuses) == [200, 502]
        assert len(fleet.upstream.received) == 4


async def _rest(client: RawClient) -> bytes:
    """What else comes, until the connection or the answer ends."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while END not in got and (piece := await client.read_some()):
            got += piece
    return got


async def requests_pass_whoever_is_refused(fleet: Fleet, port: int, seconds: float) -> None:
    """One after another for so long, each on a connection of its own."""
    end = monotonic() + seconds
    while monotonic() < end:
        wrong = await failure(fleet, port)
        assert not wrong, wrong


async def ids_are_kept_or_made(fleet: Fleet, port: int) -> list[str]:
    """The two ids, as the provider got them."""
    async with answering(fleet, Script(headers=JSON, body=b"{}")), RawClient(port) as client:
        for given in ({}, {"x-request-id": "the-callers-own"}):
            headers = {"authorization": f"Bearer {fleet.key}", **given}
            body = b'{"model":"demo/any","messages":[]}'
            await client.send(request_bytes("POST", CHAT, headers, body))
            answer = await client.answer("POST")
            assert answer.header(b"wardgate-request-id")
        ids = [received.header(b"x-request-id") for received in fleet.upstream.received]
    made, kept = [(value or b"").decode() for value in ids]
    assert len(made) >= 32
    assert kept == "the-callers-own"
    return [made, kept]


async def key_in_a_query_is_taken(fleet: Fleet, port: int) -> None:
    path = f"/v1beta/models?key={fleet.key}"
    async with RawClient(port) as client:
        assert (await client.request("GET", path)).status == 200


async def large_heads_and_bodies_pass(fleet: Fleet, port: int) -> None:
    script = Script(headers=JSON, body=b'{"choices":[]}')
    async with answering(fleet, script), RawClient(port) as client:
        headers = {"authorization": f"Bearer {fleet.key}", "x-long": "a" * 31_000}
        body = b'{"model":"demo/any","messages":[],"user":"%b"}' % (b"b" * 3_000_000)
        await client.send(request_bytes("POST", CHAT, headers, body))
        answer = await client.answer("POST")
        assert (answer.status, answer.body) == (200, script.body)
        assert len(fleet.upstream.received[0].body) > 3_000_000
