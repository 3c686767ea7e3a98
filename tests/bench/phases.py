"""The phases, in order: start, requests, streams, latency, memory. Each returns figures.

A phase that meets a wrong answer, or sees a caller's key reach the provider, has no figure.
Used by __main__.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

from tests.bench import processes, wire
from tests.bench.load import BenchFailed, Caller, Closed, Stream, Tally, Timed, connect, crowd
from tests.bench.peers import Peer


@dataclass(frozen=True)
class Sizes:
    """How long and how much. Seconds, counts."""

    closed: float = 7.5
    streams: int = 200
    pause: float = 0.1
    streaming: float = 8.0
    timed: int = 400
    idle: int = 1000


QUICK = Sizes(closed=1.0, streams=100, streaming=2.0, timed=100, idle=200)
CONNECTIONS = (1, 32, 256)
# What else the machine does adds to a figure and never takes away: the best slice is nearest.
SLICES = 5


@dataclass
class Bench:
    """One peer between the callers and the provider (`plan`, listening on `upstream`)."""

    peer: Peer
    plan: wire.Plan
    upstream: int
    sizes: Sizes

    async def figures(self, say: Callable[[str], None]) -> dict[str, float]:
        """All figures of this peer, by the names the table and the bounds use."""
        self.plan.client_key = self.peer.client_key.encode()
        taken = {}
        say("starting")
        taken["ready"] = await self._ready()
        await self._settle()
        for count in CONNECTIONS:
            say(f"{count} connection{'s' if count > 1 else ''}, one request after another")
            taken[f"request-{count}"] = await self._requests(count)
        say(f"{self.sizes.streams} streams, an event every {self.sizes.pause:g} s in each")
        taken["chunk"] = await self._chunks()
        say("time to the first event")
        taken["first-byte"] = await self._first_byte()
        say(f"{self.sizes.idle} open streams in which nothing happens")
        taken["stream-memory"] = await self._stream_memory()
        return taken

    def _request(self, stream: bool) -> bytes:
        return wire.request(self.peer.client_key, stream=stream)

    async def _ready(self) -> float:
        """Seconds from the start of the process to its first good answer."""
        self.plan.stream = False
        begin = perf_counter()
        self.peer.start()
        while perf_counter() - begin < 60:
            if await self._answers():
                return perf_counter() - begin
            self._check(Tally())
            await asyncio.sleep(0.01)
            assert self.peer.pids
        raise BenchFailed(f"{self.peer.name} never gave an answer: {self.peer.last_words()}")

    async def _settle(self) -> None:
        """Waits until what still starts (or empties its buffers) in the background is done."""
        for _ in range(50):
            before = processes.cpu_seconds(self.peer.pids)
            await asyncio.sleep(0.4)
            if processes.cpu_seconds(self.peer.pids) - before < 0.03:
                return
        raise BenchFailed(f"{self.peer.name} does not come to rest")

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.peer.port)
        except ConnectionError:
            return False
        writer.write(self._request(stream=False))
        try:
            head = await asyncio.wait_for(reader.read(65_536), 10)
        except ConnectionError:
            return False
        finally:
            writer.close()
        return head.startswith(b"HTTP/1.1 200")

    async def _measure(self, tally: Tally, seconds: float) -> float:
        """Processor seconds the peer uses while the callers go on for `seconds`."""
        pids = self.peer.pids
        before = processes.cpu_seconds(pids)
        tally.answers = tally.chunks = 0
        await _until(lambda: bool(tally.wrong), seconds)
        used = processes.cpu_seconds(pids) - before
        self._check(tally)
        return used

    def _check(self, tally: Tally) -> None:
        if tally.wrong:
            raise BenchFailed(f"{self.peer.name} gave a wrong answer: {tally.wrong}")
        if self.plan.leaked:
            raise BenchFailed(f"{self.peer.name} sent the caller's key to the provider")
        if self.plan.refused:
            raise BenchFailed(f"{self.peer.name} did not send the provider's key")

    async def _requests(self, connections: int) -> float:
        """Processor microseconds per request."""
        tally = Tally()
        make = partial(Closed, tally, self._request(stream=False))
        callers = await crowd(make, self.peer.port, connections, 0.2)
        await asyncio.sleep(self.sizes.closed / 8)
        found = []
        for _ in range(SLICES):
            used = await self._measure(tally, self.sizes.closed / SLICES)
            found.append(used / tally.answers * 1e6)
        await self._leave(tally, callers)
        return min(found)

    async def _chunks(self) -> float:
        """Processor microseconds per event, while all streams run."""
        self.plan.stream, self.plan.pause, self.plan.chunks = True, self.sizes.pause, 1_000_000
        tally = Tally()
        make = partial(Stream, tally, self._request(stream=True))
        # Starts spread over the pause, so that events do not come in bursts.
        callers = await crowd(make, self.peer.port, self.sizes.streams, 20 * self.sizes.pause)
        await asyncio.sleep(self.sizes.pause * 5)
        before = self.plan.sent
        used = await self._measure(tally, self.sizes.streaming)
        chunks, sent = tally.chunks, self.plan.sent - before
        await self._leave(tally, callers)
        # At either end of the window every stream may have an event on its way.
        if abs(chunks - sent) > 2 * self.sizes.streams:
            raise BenchFailed(f"{chunks} events seen where {sent} were sent")
        return used / chunks * 1e6

    async def _first_byte(self) -> float:
        """Microseconds the peer adds to the median time to the first event.

        Direct and proxied requests alternate, so that both see the same machine.
        """
        self.plan.stream, self.plan.pause, self.plan.chunks = True, 0.0, 2
        tally = Tally()
        direct = await connect(
            partial(Timed, tally, wire.request(wire.UPSTREAM_KEY, stream=True)), self.upstream
        )
        proxied = await connect(partial(Timed, tally, self._request(stream=True)), self.peer.port)
        pairs = []
        for _ in range(self.sizes.timed):
            pairs.append((await direct.once(), await proxied.once()))
            self._check(tally)
            await asyncio.sleep(0.002)
        await self._leave(tally, [direct, proxied])
        return (median(p for _, p in pairs) - median(d for d, _ in pairs)) * 1e6

    async def _stream_memory(self) -> float:
        """KiB the peer grows by for every open stream."""
        self.plan.stream, self.plan.hold = True, True
        tally = Tally()
        await self._settle()
        before = processes.memory_kib(self.peer.pids)
        make = partial(Stream, tally, self._request(stream=True))
        callers = await crowd(make, self.peer.port, self.sizes.idle, self.sizes.idle / 500)
        await _until(lambda: tally.begun == self.sizes.idle or bool(tally.wrong), 10)
        await asyncio.sleep(0.5)
        after = processes.memory_kib(self.peer.pids)
        self._check(tally)
        if tally.begun < self.sizes.idle:
            raise BenchFailed(f"only {tally.begun} of {self.sizes.idle} streams opened")
        await self._leave(tally, callers)
        self.plan.hold = False
        return (after - before) / self.sizes.idle

    async def _leave(self, tally: Tally, callers: Sequence[Caller]) -> None:
        """Hangs up; a peer that leaves streams open at the provider has no figures."""
        tally.stop = True
        for caller in callers:
            caller.transport.abort()
        if not await _until(lambda: not any(one.left for one in self.plan.open), 5):
            raise BenchFailed(f"{self.peer.name} left streams open after the callers had gone")


async def _until(done: Callable[[], bool], seconds: float) -> bool:
    """Waits until `done`, at most `seconds`; says whether it is."""
    end = perf_counter() + seconds
    # Counters are polled: an event would cost the callers something on every answer.
    while not done() and perf_counter() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return done()
