"""One peer between its callers and its provider: started, watched, asked, left.

A peer that gives a wrong answer, lets a caller's key through or leaves streams open has no
figures. Made by stages.py; measured by closed.py, streams.py and latency.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from tests.bench import processes, wire
from tests.bench.load import BenchFailed, Caller, Tally, hang_up
from tests.bench.peers import Peer
from tests.bench.provider import Plan

LONGEST = 10.0
_RESTLESS = 60.0
_AT_REST = 0.07  # of a core


@dataclass
class Side:
    """A peer, and the provider (`plan`, listening on `upstream`) behind it and no other."""

    peer: Peer
    plan: Plan
    upstream: int

    @property
    def name(self) -> str:
        return self.peer.name

    def request(self, *, stream: bool = False, sentences: int = wire.USUAL) -> bytes:
        return wire.request(self.peer.client_key, stream=stream, sentences=sentences)

    def failed(self, words: str) -> BenchFailed:
        return BenchFailed(f"{self.name} {words}")

    def check(self, tally: Tally) -> None:
        """Raises BenchFailed when something was not as it must be."""
        if tally.wrong:
            raise self.failed(f"gave a wrong answer: {tally.wrong}")
        if self.plan.leaked:
            raise self.failed("sent the caller's key to the provider")
        if self.plan.refused:
            raise self.failed("did not send the provider's key")

    async def start(self) -> float:
        """Seconds from the start of the process to its first good answer."""
        self.plan.client_key = self.peer.client_key.encode()
        self.plan.stream = False
        begin = perf_counter()
        self.peer.start()
        while perf_counter() - begin < 60:
            if await self._answers():
                return perf_counter() - begin
            self.check(Tally())
            await asyncio.sleep(0.005)
            assert self.peer.pids
        raise self.failed(f"never gave an answer: {self.peer.last_words()}")

    async def settle(self, calm: float) -> None:
        """Waits until what still starts (or ends) in the background has done nothing for `calm`
        seconds; not at all when that is 0."""
        end = perf_counter() + _RESTLESS
        while calm:
            if perf_counter() > end:
                raise self.failed("does not come to rest")
            before = self.cpu()
            await asyncio.sleep(calm)
            if self.cpu() - before <= _AT_REST * calm:
                return

    def cpu(self) -> float:
        """Processor seconds of the whole process tree so far."""
        return sum(map(processes.cpu_seconds, self.peer.pids))

    async def leave(self, tally: Tally, callers: Sequence[Caller]) -> None:
        """Hangs up; a peer that leaves streams open at the provider has no figures."""
        hang_up(tally, callers)
        if not await until(lambda: not self.plan.streams, LONGEST):
            raise self.failed("left streams open after the callers had gone")

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.peer.port)
        except ConnectionError:
            return False
        writer.write(self.request())
        try:
            head = await asyncio.wait_for(reader.read(65_536), 10)
        except ConnectionError:
            return False
        finally:
            writer.close()
        return head.startswith(b"HTTP/1.1 200")


async def until(done: Callable[[], bool], seconds: float) -> bool:
    """Waits until `done`, at most `seconds`; says whether it is."""
    end = perf_counter() + seconds
    # Counters are polled: an event would cost the callers something on every answer.
    while not done() and perf_counter() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return done()
