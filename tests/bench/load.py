"""The callers: closed loops, a fixed rate, streams, single timed requests; lean as Python allows.

They run in the process and on the core of the provider, never on the core that is measured.
Used by side.py and phases.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar, cast

from tests.bench.wire import CONTENT, ENDS, STREAM_END

_OK = b"HTTP/1.1 200"
# Streams asked for and not yet begun, while many are opened.
_AHEAD = 100


class BenchFailed(Exception):
    """A figure could not be taken; the message says why in one line."""


@dataclass
class Tally:
    """What the callers of one phase have counted. `took` are seconds."""

    answers: int = 0
    chunks: int = 0
    begun: int = 0
    resting: int = 0
    wrong: str = ""
    stop: bool = False
    over: bool = False
    took: list[float] = field(default_factory=list)


class Caller(asyncio.Protocol):
    """One connection to the peer, and what is the same for all kinds of callers."""

    def __init__(self, tally: Tally, request: bytes) -> None:
        self.tally = tally
        self.request = request
        self.rest = b""
        self.begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def call(self) -> None:
        self.transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.tally.over and not self.tally.wrong:
            self.tally.wrong = f"a connection was closed in the middle of a phase ({exc})"

    def refuse(self, data: bytes) -> None:
        self.tally.wrong = data[:200].decode("latin-1").replace("\r\n", " | ")
        self.transport.abort()

    def whole(self, data: bytes) -> bool:
        """Whether an answer is complete with `data`; a wrong one is refused."""
        data = self.rest + data
        if not data.startswith(_OK):
            self.refuse(data)
            return False
        complete = data.endswith(ENDS)
        self.rest = b"" if complete else data
        return complete


class Closed(Caller):
    """Sends the next request when the answer to the last one is complete, until told to stop."""

    def data_received(self, data: bytes) -> None:
        # The usual answer comes in one piece, and takes the shortest way.
        usual = not self.rest and data.endswith(ENDS) and data.startswith(_OK)
        if not usual and not self.whole(data):
            return
        tally = self.tally
        tally.answers += 1
        if tally.stop:
            tally.resting += 1
        else:
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
        self.tally.chunks += data.count(CONTENT)
        tail = data if len(data) >= len(STREAM_END) else self.rest + data
        self.rest = tail[1 - len(STREAM_END) :]
        if tail.endswith(STREAM_END):
            self.begun = False
            if not self.tally.stop:
                self.call()


class Timed(Caller):
    """One stream when told; notes the time to the first event."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
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
        if not self.seen and CONTENT in self.rest:
            self.seen = now
        if self.rest.endswith(STREAM_END):
            self.done.set()


class Line:
    """Requests at a fixed rate over a few connections, each used in turn.

    A request that finds no connection free waits, and the wait counts: what is slow does not slow
    down those who ask.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.free: deque[Paced] = deque()
        self.due: deque[float] = deque()

    async def run(self, rate: float, seconds: float) -> list[float]:
        """Seconds every request took, from when it was due to its complete answer."""
        tally, total, asked = self.tally, round(rate * seconds), 0
        tally.took = []
        start = perf_counter()
        while (asked < total or len(tally.took) < total) and not tally.wrong:
            now = perf_counter()
            if now > start + seconds + 10:
                raise BenchFailed(f"{rate:g} requests a second are too many: answers stay out")
            # Due is when this loop noticed: that it slept too long is not the peer's doing.
            new = min(total, int((now - start) * rate) + 1) - asked
            asked += new
            self.due.extend([now] * new)
            self.hand_out()
            await asyncio.sleep(max(0.0, start + asked / rate - perf_counter()))
        return tally.took

    def hand_out(self) -> None:
        while self.due and self.free:
            caller = self.free.popleft()
            caller.since = self.due.popleft()
            caller.call()


class Paced(Caller):
    """One connection of a line."""

    def __init__(self, line: Line, request: bytes) -> None:
        super().__init__(line.tally, request)
        self.line = line
        self.since = 0.0
        line.free.append(self)

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        if self.whole(data):
            self.tally.took.append(now - self.since)
            self.line.free.append(self)
            self.line.hand_out()


C = TypeVar("C", bound=Caller)


async def crowd(make: Callable[[], C], port: int, count: int) -> list[C]:
    """`count` callers, connected to the loopback `port` one after the other; they asked nothing
    yet."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(make, "127.0.0.1", port))[1] for _ in range(count)]


def hang_up(tally: Tally, callers: Sequence[Caller]) -> None:
    """The phase is over for all of them."""
    tally.stop = tally.over = True
    for caller in callers:
        caller.transport.abort()


async def ask_spread(callers: list[Stream], over: float) -> None:
    """All of them ask, spread evenly over `over` seconds."""
    start = perf_counter()
    for number, caller in enumerate(callers):
        late = start + over * number / len(callers) - perf_counter()
        if late > 0:
            await asyncio.sleep(late)
        caller.call()


async def ask_all(callers: list[Stream], tally: Tally) -> None:
    """All of them ask, as fast as streams begin; returns when the last one has begun.

    Raises BenchFailed when no stream begins for ten seconds.
    """
    before, asked = tally.begun, 0
    begun, since = 0, perf_counter()
    while begun < len(callers) and not tally.wrong:
        ahead = min(len(callers), begun + _AHEAD)
        for caller in callers[asked:ahead]:
            caller.call()
        asked = ahead
        await asyncio.sleep(0.005)
        if tally.begun - before > begun:
            begun, since = tally.begun - before, perf_counter()
        elif perf_counter() - since > 10:
            raise BenchFailed(f"only {begun} of {len(callers)} streams opened")
