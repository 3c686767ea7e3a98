"""An answer while it is read: it knows its end with its last piece, may be given up at any time,
and may come before the request is whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.errors import UpstreamError
from tests import engines
from tests.engines import LARGE, PIECE, Sent, Stand, soon, whole
from tests.test_engine_origin import HELLO, Wire, answering, in_turn

stand = engines.stand
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
CUT = "UpstreamError upstream_incomplete"

# What comes at once, and with how many reads it is known to have ended.
ENDINGS = {
    "counted": ([HELLO], 1),
    "counted, in two": ([HELLO[:-3], HELLO[-3:]], 2),
    "chunked": ([CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], 1),
    "chunked, in two": ([CHUNKED + b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n"], 2),
    "nothing": ([OK + b"content-length: 0\r\n\r\n"], 0),
    "no content": ([b"HTTP/1.1 204 No Content\r\n\r\n"], 0),
}


@pytest.mark.parametrize("case", ENDINGS)
async def test_end_is_known_with_the_last_piece(stand: Stand, case: str) -> None:
    """Without another read, which would cost the gateway a write of its own; the connection is
    free by then, though nobody has read the empty piece that says so."""
    pieces, reads = ENDINGS[case]
    go_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            wire.send(pieces[0])
            for piece in pieces[1:]:
                await go_on.wait()
                wire.send(piece)

    stand.origin.script = script
    engine = stand.engine(most=1)
    answer = await engine.send(stand.outbound())
    for number in range(reads):
        assert not answer.ended
        assert await answer.read()
        assert answer.ended is (number == reads - 1)
        go_on.set()
    assert answer.ended
    again = await engine.send(stand.outbound())
    assert len(stand.origin.wires) == 1
    assert await answer.read() == b""
    await whole(again)


async def test_end_of_a_close_delimited_body_is_its_empty_piece(stand: Stand) -> None:
    stand.origin.script = answering(OK + b"\r\nhello", then="fin")
    answer = await stand.engine().send(stand.outbound())
    assert await whole(answer) == b"hello"
    assert answer.ended
    assert await answer.read() == b""


async def test_cut_answer_has_not_ended(stand: Stand) -> None:
    stand.origin.script = answering(HELLO[:-1], then="fin")
    answer = await stand.engine().send(stand.outbound())
    with pytest.raises(UpstreamError):
        await whole(answer)
    assert answer.ended == stand.expect(False)


async def test_answer_may_be_given_up_at_any_time_and_again(stand: Stand) -> None:
    stand.origin.script = answering(HELLO[:-1])
    engine = stand.engine()
    for reads in (0, 1):
        answer = await engine.send(stand.outbound())
        for _ in range(reads):
            await answer.read()
        answer.abort()
        answer.abort()
        await stand.empty(engine)
        answer.abort()


async def test_given_up_answer_never_ends_cleanly(stand: Stand) -> None:
    stand.origin.script = answering(HELLO[:-1])
    engine = stand.engine()
    answer = await engine.send(stand.outbound())
    assert await answer.read() == b"hell"
    answer.abort()
    with pytest.raises(UpstreamError, match="broke off"):
        await answer.read()


async def test_answer_that_is_over_keeps_its_connection_when_given_up(stand: Stand) -> None:
    engine = stand.engine()
    for _ in range(3):
        answer = await engine.send(stand.outbound())
        assert await whole(answer) == b"hello"
        assert await answer.read() == b""
        answer.abort()
        answer.abort()
    assert len(stand.origin.wires) == 1


async def test_old_answer_does_not_touch_the_connection_of_a_new_one(stand: Stand) -> None:
    engine = stand.engine(most=1)
    old = await engine.send(stand.outbound())
    assert await whole(old) == b"hello"
    new = await engine.send(stand.outbound())
    old.abort()
    assert await whole(new) == b"hello"
    assert len(stand.origin.wires) == 1


async def test_pieces_that_came_are_read_before_the_failure(stand: Stand) -> None:
    stand.origin.script = answering(CHUNKED + b"5\r\nhello\r\n", b"5\r\nworld\r\n5", then="fin")
    engine = stand.engine()
    answer = await engine.send(stand.outbound())
    await soon(lambda: bool(stand.origin.wires[0].ended))
    assert await stand.rest(answer) == stand.expect("200 b'helloworld' then " + CUT)


async def test_read_that_was_cancelled_loses_nothing(stand: Stand) -> None:
    go_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(HELLO[:-5])
        for piece in (b"he", b"llo"):
            await go_on.wait()
            go_on.clear()
            wire.send(piece)

    stand.origin.script = script
    answer = await stand.engine().send(stand.outbound())
    got = b""
    for _ in range(2):
        for _ in range(3):
            reading = asyncio.ensure_future(answer.read())
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
        go_on.set()
        got += await answer.read()
    assert got == b"hello"
    assert answer.ended


TOO_LARGE = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig"
EARLY = {
    "an error": (TOO_LARGE, "413 b'big'"),
    "an error, chunked": (
        b"HTTP/1.1 429 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n",
        "429 b'big'",
    ),
    "a success": (HELLO, "200 b'hello'"),
}


@pytest.mark.parametrize("reading", ["goes on reading", "reads no further"])
@pytest.mark.parametrize("case", EARLY)
async def test_early_answer_is_delivered_and_its_connection_closed(
    stand: Stand, case: str, reading: str
) -> None:
    """The rest of the body has nowhere to go: whoever sends it is told so."""
    sent = Sent(b"begun", *[PIECE] * 64, None)
    early, outcome = EARLY[case]

    async def script(wire: Wire) -> None:
        await wire.through(b"begun")
        if reading == "reads no further":
            wire.stop_reading()
        wire.send(early)
        await wire.until(lambda: False)

    stand.origin.script = in_turn(script, answering(HELLO))
    engine = stand.engine()
    outbound = stand.outbound(b"/", "POST", body=sent.stream())
    assert await stand.outcome(engine, outbound) == outcome
    await soon(lambda: sent.closed)
    await stand.empty(engine)
    assert await stand.get(engine) == "200 b'hello'"


@LARGE
async def test_early_answer_to_large_bytes_is_delivered(stand: Stand) -> None:
    async def script(wire: Wire) -> None:
        await wire.head()
        wire.stop_reading()
        wire.send(TOO_LARGE)
        await wire.until(lambda: False)

    stand.origin.script = script
    engine = stand.engine()
    outbound = stand.outbound(b"/", "POST", body=PIECE * 256)
    assert await stand.outcome(engine, outbound) == stand.expect("413 b'big'")
    await stand.empty(engine)


async def test_answer_may_flow_while_the_request_still_does(stand: Stand) -> None:
    """Both ways at once: each piece of the body is answered by one."""
    more = asyncio.Event()

    async def asks() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two", b"three"):
            yield piece
            await more.wait()
            more.clear()

    async def script(wire: Wire) -> None:
        await wire.head()
        wire.send(CHUNKED)
        for piece in (b"one", b"two", b"three"):
            await wire.through(piece + b"\r\n")
            wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        await wire.through(b"0\r\n\r\n")
        wire.send(b"0\r\n\r\n")

    stand.origin.script = in_turn(script, answering(HELLO))
    engine = stand.engine()
    answer = await engine.send(stand.outbound(b"/", "POST", body=asks()))
    got = []
    while piece := await answer.read():
        got.append(piece)
        more.set()
    assert got == [b"one", b"two", b"three"]


async def test_early_answer_ends_with_what_the_sender_of_the_body_does(stand: Stand) -> None:
    """An answer that has begun is not whole when its request could not be sent to its end."""

    async def fails() -> AsyncIterator[bytes]:
        yield b"begun"
        await failing.wait()
        raise Broken

    failing = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.through(b"begun")
        wire.send(HELLO[:-1])
        await wire.until(lambda: False)

    stand.origin.script = script
    engine = stand.engine()
    answer = await engine.send(stand.outbound(b"/", "POST", body=fails()))
    failing.set()
    try:
        async with asyncio.timeout(stand.patience):
            how = f"ended: {await whole(answer)!r}"
    except (Broken, UpstreamError):
        how = "failed"
    except TimeoutError:
        how = "hangs"
    assert how == stand.expect("failed")
    await stand.empty(engine)


class Broken(Exception):
    """What a client's body may end with."""
