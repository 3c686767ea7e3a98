"""Writes that leave together: in order, in the same turn of the loop, and never to a closed one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.outbox import Outbox
from tests.engines import soon


class Far(asyncio.Protocol):
    """The other end's transport is `near`; what came through is in `got`."""

    def __init__(self) -> None:
        self.got = bytearray()

    def data_received(self, data: bytes) -> None:
        self.got += data


class Written(asyncio.Transport):
    """Keeps what was written, all of them in one list in their order."""

    def __init__(self, log: list[tuple[str, bytes]], name: str) -> None:
        super().__init__()
        self.log, self.name, self.closed = log, name, False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.log.append((self.name, data))

    def is_closing(self) -> bool:
        return self.closed


class Clock:
    """A loop's time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1.0
        loop = asyncio.get_running_loop()
        self._real, self._loop = loop.time, loop

    @asynccontextmanager
    async def set(self) -> AsyncIterator[Clock]:
        self._loop.time = lambda: self.now  # type: ignore[method-assign] # what Outbox asks
        try:
            yield self
        finally:
            self._loop.time = self._real  # type: ignore[method-assign] # back as it was


def crowded(outbox: Outbox, log: list[tuple[str, bytes]]) -> None:
    """So many writes at one time that the next ones wait for each other."""
    for number in range(4):
        outbox.put(Written(log, "before"), b"%d" % number)
    outbox.flush()
    log.clear()


async def test_writes_without_company_leave_at_once() -> None:
    log: list[tuple[str, bytes]] = []
    outbox = Outbox()
    async with Clock().set() as clock:
        for number in range(10):
            clock.now += 0.001
            outbox.put(Written(log, "a"), b"%d" % number)
            assert len(log) == number + 1


async def test_writes_with_company_leave_when_the_turn_ends() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one, two = Outbox(), Written(log, "one"), Written(log, "two")
    async with Clock().set():
        crowded(outbox, log)
        outbox.put(one, b"1")
        outbox.put(two, b"2")
        outbox.put(one, b"3")
        assert log == []
        await asyncio.sleep(0)
        assert log == [("one", b"1"), ("two", b"2"), ("one", b"3")]


async def test_after_a_lonely_turn_they_leave_at_once_again() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one = Outbox(), Written(log, "one")
    async with Clock().set() as clock:
        crowded(outbox, log)
        outbox.put(one, b"1")
        await asyncio.sleep(0)
        clock.now += 0.001
        outbox.put(one, b"2")
        assert log == [("one", b"1"), ("one", b"2")]


async def test_the_thirty_second_and_a_large_one_do_not_wait() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one = Outbox(), Written(log, "one")
    async with Clock().set():
        crowded(outbox, log)
        for number in range(32):
            assert log == []
            outbox.put(one, b"%d" % number)
        assert [data for _, data in log] == [b"%d" % number for number in range(32)]
        outbox.put(one, b"small")
        outbox.put(one, b"x" * 16_385)
        assert [len(data) for _, data in log[32:]] == [5, 16_385]
        await asyncio.sleep(0)
        assert len(log) == 34


async def test_what_was_closed_meanwhile_is_passed_over() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one, two = Outbox(), Written(log, "one"), Written(log, "two")
    async with Clock().set():
        crowded(outbox, log)
        outbox.put(one, b"1")
        outbox.put(two, b"2")
        one.closed = True
        await asyncio.sleep(0)
        assert log == [("two", b"2")]


async def test_nothing_is_lost_on_real_sockets() -> None:
    """Forty of them, each with its own words, as fast as they come."""
    loop, outbox = asyncio.get_running_loop(), Outbox()
    near, far = list[asyncio.Transport](), list[Far]()
    ends: list[asyncio.Transport] = []
    for _ in range(40):
        here, there = socket.socketpair()
        near.append((await loop.create_connection(asyncio.Protocol, sock=here))[0])
        made, protocol = await loop.create_connection(Far, sock=there)
        ends.append(made)
        far.append(protocol)
    wanted = [b"".join(b"%d/%d " % (number, turn) for turn in range(50)) for number in range(40)]
    for turn in range(50):
        for number, transport in enumerate(near):
            outbox.put(transport, b"%d/%d " % (number, turn))
        await asyncio.sleep(0)
    await soon(lambda: [bytes(protocol.got) for protocol in far] == wanted, timeout=5)
    for transport in (*near, *ends):
        transport.close()
