"""Closed loops: every caller asks again when it is answered; the cost of a request.

Peers are measured in slices by turns, so that they see the same machine; whose turn it is not has
nothing to do. Used by stages.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

from tests.bench import processes, wire
from tests.bench.load import Closed, Tally, crowd
from tests.bench.side import LONGEST, Side, until
from tests.bench.sizes import Sizes

# What a request leaves to be done in batches (log lines, counters) counts with its slice.
_AFTER = 0.1


@dataclass(frozen=True)
class Slice:
    """Processor seconds a request, the busiest worker's share of what workers used, and which
    share of the time the core had nothing to do."""

    cost: float
    busiest: float
    idle: float


def cost(found: Sequence[Slice]) -> float:
    """Microseconds. A machine that is busy, or for once is not, makes single slices untrue."""
    return median(one.cost for one in found) * 1e6


def idle(found: Sequence[Slice]) -> float:
    """Which share of the time the peer waited for its callers."""
    return median(one.idle for one in found)


def busiest(found: Sequence[Slice]) -> float:
    """Percent of the workers' time that was the busiest one's."""
    return median(one.busiest for one in found) * 100


async def slices(
    sides: Sequence[Side], sizes: Sizes, connections: int, sentences: int = wire.USUAL
) -> list[list[Slice]]:
    """Slices of each side over the same connections; those that warm it up are not kept."""
    rings = [await _ring(side, connections, sentences) for side in sides]
    for ring in rings:
        await ring.slice(sizes.slice / 2)
    found: list[list[Slice]] = [[] for _ in rings]
    for _ in range(sizes.slices):
        for ring, of_ring in zip(rings, found, strict=True):
            of_ring.append(await ring.slice(sizes.slice))
    for ring in rings:
        await ring.side.leave(ring.tally, ring.callers)
    return found


@dataclass
class _Ring:
    """The callers of one side, asleep between slices."""

    side: Side
    tally: Tally
    callers: list[Closed]

    async def slice(self, seconds: float) -> Slice:
        """All of them ask for `seconds`; the last answers and what they leave behind count."""
        tally, pids, workers = self.tally, self.side.peer.pids, self.side.peer.workers
        tally.answers, tally.resting, tally.stop = 0, 0, False
        before = {pid: processes.cpu_seconds(pid) for pid in pids}
        rested, begin = processes.idle_seconds(processes.PEER_CORE), perf_counter()
        for caller in self.callers:
            caller.call()
        await until(lambda: bool(tally.wrong), seconds)
        rested = processes.idle_seconds(processes.PEER_CORE) - rested
        took = perf_counter() - begin
        tally.stop = True
        if not await until(self._asleep, LONGEST):
            raise self.side.failed("left requests without an answer")
        await asyncio.sleep(_AFTER)
        used = {pid: processes.cpu_seconds(pid) - before[pid] for pid in pids}
        self.side.check(tally)
        work = [used[pid] for pid in workers]
        return Slice(sum(used.values()) / tally.answers, max(work) / sum(work), rested / took)

    def _asleep(self) -> bool:
        return self.tally.resting == len(self.callers) or bool(self.tally.wrong)


async def _ring(side: Side, connections: int, sentences: int) -> _Ring:
    side.plan.stream = False
    tally = Tally()
    make = partial(Closed, tally, side.request(sentences=sentences))
    return _Ring(side, tally, await crowd(make, side.peer.port, connections))
