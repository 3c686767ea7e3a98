"""Pieces taken where they come: in order with those that are read, and nothing is lost by it.

aiohttp offers none, which the seam allows: to it these are tests of plain reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.upstream.answer import HttpAnswer
from gateway.upstream.seam import Answer
from tests import engines
from tests.engines import Stand, soon
from tests.test_engine_origin import Origin, Wire
from tests.test_engine_splits import SPLITS, Told, answers

stand = engines.stand
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Takes = Callable[[bytes], bool]


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class Reader:
    """Reads an answer and takes what `takes` says; `seen`: all pieces in order, and how."""

    def __init__(self, answer: Answer, takes: Takes) -> None:
        self.answer, self._takes = answer, takes
        self.seen: list[tuple[str, bytes]] = []

    def take(self, piece: bytes, wire: bytes | None, now: float) -> bool:
        assert wire is None or wire == chunk(piece)
        if not self._takes(piece):
            return False
        self.seen.append(("taken" if wire is None else "chunk", piece))
        return True

    async def run(self) -> bytes:
        """The whole body. Raises what reading raises."""
        async with asyncio.timeout(5):
            while piece := await self.answer.read(self.take):
                self.seen.append(("read", piece))
        return b"".join(piece for _, piece in self.seen)


class OnCue:
    """Sends what it is told when it is told."""

    def __init__(self) -> None:
        self.wire: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()

    async def script(self, wire: Wire) -> None:
        await wire.request()
        wire.send(CHUNKED)
        self.wire.set_result(wire)
        await wire.until(lambda: False)


async def begun(stand: Stand, takes: Takes) -> tuple[Wire, Reader, asyncio.Task[bytes]]:
    """An answer whose head is here, and a task that reads it."""
    cue = OnCue()
    stand.origin.script = cue.script
    answer = await stand.engine(pause=0.2).send(stand.outbound())
    reader = Reader(answer, takes)
    return await cue.wire, reader, asyncio.create_task(reader.run())


async def comes(wire: Wire, reader: Reader, *pieces: bytes) -> None:
    """All of `pieces` in one write, and wait until they were seen."""
    before = sum(len(piece) for _, piece in reader.seen)
    wire.send(b"".join(map(chunk, pieces)))
    wanted = before + sum(map(len, pieces))
    await soon(lambda: sum(len(piece) for _, piece in reader.seen) == wanted, lambda: reader.seen)


@SPLITS
@given(sent=answers(), refuses=st.sets(st.integers(0, 20)), data=st.data())
async def test_nothing_is_lost_between_taking_and_reading(
    stand: Stand, sent: Told, refuses: set[int], data: st.DataObject
) -> None:
    wire_bytes, status, _, body = sent
    places = sorted(data.draw(st.sets(st.integers(1, len(wire_bytes) - 1), max_size=12)))
    edges = [0, *places, len(wire_bytes)]
    count = 0

    async def script(at: Wire) -> None:
        await at.request()
        pieces = (wire_bytes[a:b] for a, b in zip(edges, edges[1:], strict=False))
        await at.send_pieces(*pieces)
        await at.until(lambda: False)

    def takes(piece: bytes) -> bool:
        nonlocal count
        count += 1
        return count not in refuses

    async with Origin(script) as origin:
        engine, outbound = stand.engine(), stand.outbound()
        outbound.origin = origin.url
        answer = await engine.send(outbound)
        assert (answer.status, await Reader(answer, takes).run()) == (status, body)
        await engine.aclose()


async def test_whole_chunks_are_offered_as_they_came(stand: Stand) -> None:
    """The first comes by the parser, which is at the head until then; two at once come as one."""
    wire, reader, task = await begun(stand, lambda piece: piece != b"not this")
    for piece in (b"first", b"second", b"not this", b"third"):
        await comes(wire, reader, piece)
    await comes(wire, reader, b"and ", b"more")
    await comes(wire, reader, b"fourth")
    wire.send(b"3;x\r\nend\r\n0\r\n\r\n")
    assert await task == b"firstsecondnot thisthirdand morefourthend"
    if stand.name == "ours":
        assert reader.seen == [
            ("taken", b"first"),
            ("chunk", b"second"),
            ("read", b"not this"),
            ("chunk", b"third"),
            ("taken", b"and more"),
            ("chunk", b"fourth"),
            ("read", b"end"),
        ]
        assert reader.answer.ended


@pytest.mark.parametrize("size", [b"1", b"15\r\n"])
async def test_what_only_looks_like_a_chunk_is_none(stand: Stand, size: bytes) -> None:
    """Behind a size, or a part of one: there it is a payload, or the end of the size."""
    wire, reader, task = await begun(stand, lambda _: True)
    await comes(wire, reader, b"first")
    wire.send(chunk(b"more") + size)
    await soon(lambda: b"more" in dict(reader.seen).values(), lambda: reader.seen)
    wire.send(chunk(b"hello"))
    await asyncio.sleep(0)
    # In both cases the size is 0x15.
    payload = b"hello\r\n0123456789abcd" if size == b"1" else chunk(b"hello") + b"0123456789a"
    wire.send(payload[7 if size == b"1" else 10 :] + b"\r\n0\r\n\r\n")
    assert await task == b"firstmore" + payload


async def test_a_defect_of_the_taker_is_raised_where_it_reads(stand: Stand) -> None:
    def takes(_: bytes) -> bool:
        raise RuntimeError("a defect")

    wire, _, task = await begun(stand, takes)
    wire.send(chunk(b"first"))
    if stand.name == "aiohttp":
        wire.send(b"0\r\n\r\n")
        assert await task == b"first"
    else:
        with pytest.raises(RuntimeError, match="a defect"):
            await task
        await stand.empty(stand.engines[0])


async def test_a_cut_behind_taken_pieces_is_an_error(stand: Stand) -> None:
    wire, reader, task = await begun(stand, lambda _: True)
    await comes(wire, reader, b"first")
    await comes(wire, reader, b"second")
    wire.fin()
    with pytest.raises(UpstreamError) as caught:
        await task
    assert caught.value.code == "upstream_incomplete"
    reader.answer.abort()


async def test_a_reader_that_is_cancelled_takes_nothing_more(stand: Stand) -> None:
    wire, reader, task = await begun(stand, lambda _: True)
    await comes(wire, reader, b"first")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    seen = list(reader.seen)
    wire.send(chunk(b"second"))
    rest = Reader(reader.answer, lambda _: False)
    reading = asyncio.create_task(rest.run())
    await soon(lambda: rest.seen == [("read", b"second")], lambda: rest.seen)
    assert reader.seen == seen
    wire.send(b"0\r\n\r\n")
    assert await reading == b"second"


async def test_what_was_refused_is_read_first_though_its_reader_wakes_late(stand: Stand) -> None:
    """Bytes that come while another task runs: the reader's turn is behind it."""
    wire, reader, task = await begun(stand, lambda piece: piece != b"not this")
    await comes(wire, reader, b"first")
    if stand.name == "ours":
        assert isinstance(reader.answer, HttpAnswer)
        assert reader.answer.connection is not None
        for piece in (b"not this", b"nor this"):
            reader.answer.connection.data_received(chunk(piece))
    else:
        await comes(wire, reader, b"not this", b"nor this")
    wire.send(b"0\r\n\r\n")
    assert await task == b"firstnot thisnor this"
