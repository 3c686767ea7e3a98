"""Four clocks: connecting, the answer's head, its pieces, and what is written. Each ends a request
with its own words, closes the connection, and is patient with whoever makes progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.upstream.tls import tls_context
from tests import engines
from tests.engines import LARGE, PIECE, Stand, whole
from tests.test_disconnect import full_listener, until_half_open
from tests.test_engine_origin import HELLO, Origin, Wire, answering, in_turn

stand = engines.stand
UNSENT = "UpstreamTimeout upstream_timeout unsent"
LATE = "UpstreamTimeout upstream_timeout"
SHORT = 0.1
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.until(lambda: False)


async def deaf(wire: Wire) -> None:
    """Reads the head, then nothing more."""
    await wire.head()
    wire.stop_reading()
    await wire.until(lambda: False)


async def many(count: int, pause: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(pause)
        yield PIECE


async def test_connecting_takes_no_longer_than_it_may(stand: Stand) -> None:
    with full_listener() as port:
        engine = stand.engine(connect=SHORT)
        outbound = stand.outbound(body=b"x", method="POST")
        outbound.origin = f"http://127.0.0.1:{port}"
        assert await stand.outcome(engine, outbound) == UNSENT
        async with asyncio.timeout(1):
            await until_half_open(port, 0)
    await stand.empty(engine)


async def test_handshake_takes_no_longer_than_connecting_may(stand: Stand) -> None:
    async def never(wire: Wire) -> None:
        await wire.until(lambda: False)

    stand.origin.script = never
    engine = stand.engine(connect=SHORT, tls=tls_context())
    outbound = stand.outbound()
    outbound.origin = stand.origin.url.replace("http:", "https:")
    assert await stand.outcome(engine, outbound) == UNSENT
    assert stand.origin.wires[0].received.startswith(b"\x16\x03")
    await stand.empty(engine)


async def test_line_takes_no_longer_than_connecting_may(stand: Stand) -> None:
    stand.origin.script = silent
    engine = stand.engine(connect=SHORT * 2, most=1)
    held = asyncio.ensure_future(stand.get(engine, b"/held"))
    await stand.origin.until(lambda: bool(stand.origin.requests))
    assert await stand.get(engine, b"/waits") == UNSENT
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    assert stand.origin.targets == [b"/held"]
    await stand.empty(engine)


NO_HEAD = {
    "nothing": b"",
    "half a head": HELLO[:30],
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n",
    "nearly a head": HEAD[:-1],
}


@pytest.mark.parametrize("sent", NO_HEAD)
async def test_head_takes_no_longer_than_the_first_byte_may(stand: Stand, sent: str) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(NO_HEAD[sent])
        await wire.until(lambda: False)

    stand.origin.script = script
    engine = stand.engine(first_byte=SHORT)
    posted = stand.outbound(b"/", "POST", body=b"x")
    assert await stand.outcome(engine, posted, stand.patience) == stand.expect(LATE)
    await stand.empty(engine)


@pytest.mark.parametrize("sent", ["a head that trickles", "interim after interim"])
async def test_head_that_trickles_does_not_hold_a_request_for_ever(stand: Stand, sent: str) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\n" if sent.startswith("a head") else b"")
        while not wire.ended:
            wire.send(b"a: b\r\n" if sent.startswith("a head") else NO_HEAD["interim"])
            await asyncio.sleep(SHORT / 5)

    stand.origin.script = script
    engine = stand.engine(first_byte=SHORT)
    outcome = await stand.outcome(engine, stand.outbound(), stand.patience)
    assert outcome == stand.expect(LATE)
    await stand.empty(engine)


async def test_get_on_a_kept_connection_is_not_repeated_when_it_is_late(stand: Stand) -> None:
    """Late is not dead: the upstream may still be at it."""

    async def once(wire: Wire) -> None:
        await wire.request()
        wire.send(HELLO)
        await silent(wire)

    stand.origin.script = in_turn(once, answering(HELLO))
    engine = stand.engine(first_byte=SHORT)
    assert await stand.get(engine) == "200 b'hello'"
    assert await stand.get(engine) == LATE
    assert len(stand.origin.requests) == 2
    await stand.empty(engine)


STALLS = {
    "counted": (HEAD + b"he", "200 b'he' then "),
    "chunked": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n5\r\n",
        "200 b'he' then ",
    ),
    "no end": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n",
        "200 b'he' then ",
    ),
    "until close": (b"HTTP/1.1 200 OK\r\n\r\nhe", "200 b'he' then "),
    "head alone": (HEAD, "200 b'' then "),
}


@pytest.mark.parametrize("framing", STALLS)
async def test_pieces_come_no_further_apart_than_idle_allows(stand: Stand, framing: str) -> None:
    sent, got = STALLS[framing]
    stand.origin.script = answering(sent)
    engine = stand.engine(pause=SHORT)
    assert await stand.get(engine) == got + LATE
    await stand.empty(engine)


async def test_answer_that_trickles_is_waited_for(stand: Stand) -> None:
    """Longer in all than any single clock allows."""

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")
        for _ in range(12):
            await asyncio.sleep(SHORT / 3)
            wire.send(b"x")
        await wire.until(lambda: False)

    stand.origin.script = script
    engine = stand.engine(first_byte=SHORT * 3, pause=SHORT * 3, write=SHORT * 3)
    assert await stand.get(engine) == f"200 {b'x' * 12!r}"


async def test_slow_reader_is_not_a_slow_upstream(stand: Stand) -> None:
    """What waits for the reader has come in time, however late it is read."""
    size = 4_000_000
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    stand.origin.script = answering(head + b"x" * size)
    engine = stand.engine(pause=SHORT)
    answer = await engine.send(stand.outbound())
    await asyncio.sleep(SHORT * 3)
    assert len(await whole(answer)) == size


@LARGE
@pytest.mark.parametrize("body", ["bytes", "an iterator", "a counted iterator"])
async def test_writing_takes_no_longer_than_the_upstream_may_stop_reading(
    stand: Stand, body: str
) -> None:
    stand.origin.script = deaf
    engine = stand.engine(write=SHORT)
    length = [(b"content-length", b"%d" % (512 * len(PIECE)))] if body.startswith("a c") else []
    sent = 512 * PIECE if body == "bytes" else many(512)
    outbound = stand.outbound(b"/", "POST", length, sent)
    assert await stand.outcome(engine, outbound, stand.patience) == stand.expect(LATE)
    await stand.empty(engine)


@LARGE
@pytest.mark.parametrize("body", ["bytes", "an iterator"])
async def test_upstream_that_reads_slowly_is_waited_for(stand: Stand, body: str) -> None:
    """It takes some of the body all the time, but the whole only after several times `write`."""
    count, began = 96, asyncio.get_running_loop().time()

    async def slow(wire: Wire) -> None:
        await wire.head()
        while (had := len(wire.received)) < count * len(PIECE):
            wire.stop_reading()
            due = began + SHORT * 5 * had / (count * len(PIECE))
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            wire.transport.resume_reading()
            await wire.until(lambda: len(wire.received) > had)  # awaited right here
        wire.send(HELLO)

    origin = Origin(slow)
    origin.receive_buffer = 2 * len(PIECE)
    async with origin:
        engine = stand.engine(write=SHORT * 3)
        sent = count * PIECE if body == "bytes" else many(count)
        outbound = stand.outbound(b"/", "POST", body=sent)
        outbound.origin = origin.url
        assert await stand.outcome(engine, outbound) == "200 b'hello'"
    assert asyncio.get_running_loop().time() - began > SHORT * 4


async def test_body_that_is_slow_to_come_is_waited_for(stand: Stand) -> None:
    """The sender's time is not the upstream's: no clock of the upstream's runs meanwhile."""
    engine = stand.engine(first_byte=SHORT * 2, write=SHORT * 2, pause=SHORT * 2)
    outbound = stand.outbound(b"/", "POST", body=many(2, SHORT * 3))
    assert await stand.outcome(engine, outbound) == "200 b'hello'"
    assert len(stand.origin.requests[0].body) == 2 * len(PIECE)


async def test_clock_of_the_head_starts_when_the_body_is_sent(stand: Stand) -> None:
    async def later(wire: Wire) -> None:
        await wire.request()
        await asyncio.sleep(SHORT)
        wire.send(HELLO)

    stand.origin.script = later
    engine = stand.engine(first_byte=SHORT * 3)
    outbound = stand.outbound(b"/", "POST", body=many(2, SHORT * 2))
    assert await stand.outcome(engine, outbound) == "200 b'hello'"
