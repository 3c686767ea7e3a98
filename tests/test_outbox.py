"""Writes that leave together: in order, in the same turn of the loop, and never to a closed one."""

from __future__ import annotations

import asyncio
import socket

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


async def test_writes_of_one_turn_leave_when_it_ends() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one, two = Outbox(), Written(log, "one"), Written(log, "two")
    outbox.put(one, b"1")
    outbox.put(two, b"2")
    outbox.put(one, b"3")
    assert log == []
    await asyncio.sleep(0)
    assert log == [("one", b"1"), ("two", b"2"), ("one", b"3")]


async def lonely(outbox: Outbox, turns: int) -> None:
    """So many turns with one write each."""
    for _ in range(turns):
        outbox.put(Written([], "before"), b"")
        await asyncio.sleep(0)


async def test_writes_without_company_leave_at_once_until_it_is_looked_again() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one = Outbox(), Written(log, "one")
    await lonely(outbox, 4)
    for number in range(64):
        outbox.put(one, b"%d" % number)
        assert len(log) == number + 1
    outbox.put(one, b"waits")
    assert len(log) == 64
    await asyncio.sleep(0)
    assert log[64:] == [("one", b"waits")]
    outbox.put(one, b"at once")  # still alone
    assert log[65:] == [("one", b"at once")]


async def test_company_is_noticed_and_three_lonely_turns_are_not_enough() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one = Outbox(), Written(log, "one")
    await lonely(outbox, 4 + 64)
    for data in (b"1", b"2"):
        outbox.put(one, data)
    await asyncio.sleep(0)
    log.clear()
    await lonely(outbox, 3)
    outbox.put(one, b"waits")
    assert log == []
    await asyncio.sleep(0)
    assert log == [("one", b"waits")]


async def test_the_thirty_second_and_a_large_one_do_not_wait() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one = Outbox(), Written(log, "one")
    for number in range(32):
        assert log == []
        outbox.put(one, b"%d" % number)
    assert [data for _, data in log] == [b"%d" % number for number in range(32)]
    outbox.put(one, b"small")
    outbox.put(one, b"x" * 16_385)
    assert [len(data) for _, data in log[32:]] == [5, 16_385]
    await asyncio.sleep(0)
    assert len(log) == 34


async def test_who_closes_flushes_first() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one = Outbox(), Written(log, "one")
    outbox.put(one, b"last words")
    outbox.flush()
    assert log == [("one", b"last words")]


async def test_what_was_closed_meanwhile_is_passed_over() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one, two = Outbox(), Written(log, "one"), Written(log, "two")
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


async def test_what_is_relayed_leaves_at_once_and_overtakes_nothing() -> None:
    log: list[tuple[str, bytes]] = []
    outbox, one, two = Outbox(), Written(log, "one"), Written(log, "two")
    outbox.relay(one, b"1")
    assert log == [("one", b"1")]
    outbox.put(one, b"2")
    outbox.relay(two, b"3")
    outbox.relay(one, b"4")
    assert log == [("one", b"1")]
    await asyncio.sleep(0)
    assert log[1:] == [("one", b"2"), ("two", b"3"), ("one", b"4")]
