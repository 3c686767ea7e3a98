"""The callers: closed loops, streams and single timed requests, as lean as Python allows.

They run in the process and on the core of the provider, never on the core that is measured.
Used by phases.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar, cast

from tests.bench.wire import DONE, ENDS

_OK = b"HTTP/1.1 200"


class BenchFailed(Exception):
    """A figure could not be taken; the message says why in one line."""


@dataclass
class Tally:
    """What the callers of one phase have counted. `first` are seconds to the first event."""

    answers: int = 0
    chunks: int = 0
    begun: int = 0
    ended: int = 0
    wrong: str = ""
    stop: bool = False
    first: list[float] = field(default_factory=list)


class Caller(asyncio.Protocol):
    """One connection to the peer, and what is the same for all kinds of callers."""

    def __init__(self, tally: Tally, request: bytes) -> None:
        self.tally = tally
        self.request = request
        self.rest = b""
        self.begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.call()

    def call(self) -> None:
        self.transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.tally.stop and not self.tally.wrong:
            self.tally.wrong = f"a connection was closed in the middle of a phase ({exc})"

    def refuse(self, data: bytes) -> None:
        self.tally.wrong = data[:200].decode("latin-1").replace("\r\n", " | ")
        self.transport.abort()


class Closed(Caller):
    """Sends the next request when the answer to the last one is complete."""

    def data_received(self, data: bytes) -> None:
        if not self.rest and not data.startswith(_OK):
            self.refuse(data)
            return
        if self.rest:
            data = self.rest + data
        if not data.endswith(ENDS):
            self.rest = data
            return
        self.rest = b""
        self.tally.answers += 1
        if not self.tally.stop:
            self.transport.write(self.request)


class Stream(Caller):
    """Counts the events of one stream after another on the same connection."""

    def data_received(self, data: bytes) -> None:
        if not self.begun:
            if not data.startswith(_OK):
                self.refuse(data)
                return
            self.begun = True
            self.tally.begun += 1
        self.tally.chunks += data.count(b"data: ")
        tail = self.rest + data
        self.rest = tail[-32:]
        if DONE in tail and tail.endswith(b"0\r\n\r\n"):
            self.tally.ended += 1
            self.begun = False
            self.rest = b""
            if not self.tally.stop:
                self.call()


class Timed(Caller):
    """One request when told; notes the time to the first event of its answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.done = asyncio.Event()

    async def once(self) -> float:
        """Seconds from the request written to the first event read; the answer read whole."""
        self.done.clear()
        self.rest = b""
        self.seen = 0.0
        start = perf_counter()
        self.call()
        await asyncio.wait_for(self.done.wait(), 10)
        return self.seen - start

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        self.rest += data
        if not self.rest.startswith(_OK):
            self.refuse(self.rest)
            self.done.set()
            return
        if not self.seen and b"data: " in self.rest:
            self.seen = now
        if self.rest.endswith(b"0\r\n\r\n"):
            self.done.set()


C = TypeVar("C", bound=Caller)


async def connect(make: Callable[[], C], port: int) -> C:
    """A caller on a connection of its own to the loopback `port`."""
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(make, "127.0.0.1", port)
    return caller


async def crowd(make: Callable[[], Caller], port: int, count: int, over: float) -> list[Caller]:
    """`count` callers whose starts are spread evenly over `over` seconds."""
    start = perf_counter()
    callers: list[Caller] = []
    for number in range(count):
        late = start + over * number / count - perf_counter()
        if late > 0:
            await asyncio.sleep(late)
        callers.append(await connect(make, port))
    return callers
