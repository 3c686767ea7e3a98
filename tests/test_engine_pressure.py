"""Backpressure: what the reader does not take stays with the upstream, and then comes in order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
import struct
import termios
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from gateway.upstream.seam import Answer
from tests import engines
from tests.engines import Stand
from tests.test_engine_origin import Script, Wire

stand = engines.stand
SIZE = 64 * 1024 * 1024
BLOCK = 256 * 1024
MOST_HELD = 1024 * 1024
FRAMINGS = {
    "counted": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE,
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\n",
}
PATTERN = bytes(range(256)) * (BLOCK // 256 + 1)


def block(number: int) -> bytes:
    """Every block begins elsewhere, so that one lost, doubled or moved is seen."""
    return PATTERN[number % 251 : number % 251 + BLOCK]


def big(framing: str, sent: list[int]) -> Script:
    """64 MiB; `sent` counts what was handed to the kernel for good."""

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(FRAMINGS[framing])
        for number in range(SIZE // BLOCK):
            piece = block(number)
            wire.send(b"%x\r\n%s\r\n" % (BLOCK, piece) if framing == "chunked" else piece)
            await wire.flushed()
            sent[0] += BLOCK
        wire.send(b"0\r\n\r\n" if framing == "chunked" else b"")
        if framing == "until close":
            wire.fin()

    return script


def queued(port: int, *, down: bool) -> int:
    """Bytes between origin and engine, either way: what the kernel holds on both sides."""
    return sum(
        struct.unpack("i", fcntl.ioctl(sock, out if down is (local == port) else come, b"    "))[0]
        for out, come in [(termios.TIOCOUTQ, termios.FIONREAD)]
        for sock, local, remote in connections()
        if port in (local, remote)
    )


def connections() -> Iterator[tuple[socket.socket, int, int]]:
    """Every connected socket of this process, with its port here and there."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError, IndexError, TypeError):  # not connected, or gone by now
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    yield sock, sock.getsockname()[1], sock.getpeername()[1]


async def standing_still(count: Callable[[], int]) -> int:
    """The count, once it grows no more: kernels on both sides take some, then nothing."""
    had = -1
    while had != count() or not had:
        had = count()
        await asyncio.sleep(0.05)
    return had


async def in_order(answer: Answer, *, pausing: int = 0) -> None:
    """All blocks come, whole and in their order; every `pausing` reads the reader rests."""
    reads, rest, number = 0, b"", 0
    while piece := await answer.read():
        reads += 1
        rest += piece
        while len(rest) >= BLOCK:
            assert rest[:BLOCK] == block(number)
            rest, number = rest[BLOCK:], number + 1
        if pausing and reads % pausing == 0:
            await asyncio.sleep(0.005)
    assert (number, rest) == (SIZE // BLOCK, b"")


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_reader_that_does_not_read_stops_the_upstream(stand: Stand, framing: str) -> None:
    sent = [0]
    stand.origin.script = big(framing, sent)
    answer = await stand.engine().send(stand.outbound())
    handed = await standing_still(lambda: sent[0])
    [wire] = stand.origin.wires
    assert wire.full
    assert handed < SIZE // 2
    handed += BLOCK - wire.transport.get_write_buffer_size()
    assert handed - queued(stand.origin.port, down=True) < MOST_HELD
    await in_order(answer)


async def test_reader_that_stops_now_and_then_gets_everything_in_order(stand: Stand) -> None:
    stand.origin.script = big("chunked", [0])
    answer = await stand.engine(pause=0.2).send(stand.outbound())
    await in_order(answer, pausing=40)


async def test_sender_is_not_asked_for_more_than_the_upstream_takes(stand: Stand) -> None:
    given = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal given
        for number in range(SIZE // BLOCK):
            given += BLOCK
            yield block(number)

    async def deaf(wire: Wire) -> None:
        await wire.head()
        wire.stop_reading()

    stand.origin.script = deaf
    engine = stand.engine()
    outbound = stand.outbound(b"/", "POST", body=pieces())
    task = asyncio.ensure_future(stand.outcome(engine, outbound))
    taken = await standing_still(lambda: given)
    [wire] = stand.origin.wires
    assert taken - len(wire.received) - queued(stand.origin.port, down=False) < MOST_HELD
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await stand.empty(engine)
