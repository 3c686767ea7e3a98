"""What a peer adds to the time an answer takes, at rest and at a fixed rate.

The provider is asked directly and through each peer by turns, so that all see the same machine.
Used by stages.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import quantiles

from tests.bench import wire
from tests.bench.load import BenchFailed, Caller, Line, Paced, Tally, Timed, crowd, hang_up
from tests.bench.side import Side
from tests.bench.sizes import Sizes

CONNECTIONS, RATE = 64, 1_000
_DIRECT = "the provider"


@dataclass
class _Way:
    """A way to the provider: through `side`, or past all of them."""

    name: str
    port: int
    request: bytes
    side: Side | None = None
    tally: Tally = field(default_factory=Tally)
    callers: list[Caller] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    def check(self) -> None:
        if self.side:
            self.side.check(self.tally)
        elif self.tally.wrong:
            raise BenchFailed(f"{self.name} gave a wrong answer: {self.tally.wrong}")


async def first_byte(sides: Sequence[Side], sizes: Sizes) -> dict[str, float]:
    """Microseconds added to the median time to the first event of a stream."""
    for side in sides:
        side.plan.stream, side.plan.pause, side.plan.chunks = True, 0.0, 3
    with _ways(sides, stream=True) as ways:
        timed = []
        for way in ways:
            timed += await crowd(partial(Timed, way.tally, way.request), way.port, 1)
            way.callers.append(timed[-1])
        for _ in range(sizes.timed):
            for way, caller in zip(ways, timed, strict=True):
                way.took.append(await caller.once())
                way.check()
                await asyncio.sleep(0.001)
    return _added(ways, 50)


async def at_rate(sides: Sequence[Side], sizes: Sizes) -> Mapping[int, dict[str, float]]:
    """Microseconds added at RATE requests a second: percentile -> peer -> figure."""
    for side in sides:
        side.plan.stream = False
    with _ways(sides, stream=False) as ways:
        lines = [Line(way.tally) for way in ways]
        for way, line in zip(ways, lines, strict=True):
            way.callers += await crowd(partial(Paced, line, way.request), way.port, CONNECTIONS)
            await line.run(RATE, 2 * CONNECTIONS / RATE)  # a request or two warm each connection
        for _ in range(sizes.rounds):
            for way, line in zip(ways, lines, strict=True):
                way.took += await line.run(RATE, sizes.round)
                way.check()
    return {percent: _added(ways, percent) for percent in (50, 90)}


@contextmanager
def _ways(sides: Sequence[Side], *, stream: bool) -> Iterator[list[_Way]]:
    """The ways there are; afterwards the callers have hung up."""
    request = wire.request(wire.UPSTREAM_KEY, stream=stream)
    ways = [
        _Way(_DIRECT, sides[0].upstream, request),
        *(_Way(one.name, one.peer.port, one.request(stream=stream), one) for one in sides),
    ]
    try:
        yield ways
    finally:
        for way in ways:
            hang_up(way.tally, way.callers)


def _added(ways: Sequence[_Way], percent: int) -> dict[str, float]:
    """Microseconds between a percentile of each peer and the same one of the direct way."""
    direct, *others = (quantiles(way.took, n=100)[percent - 1] for way in ways)
    return {way.name: (found - direct) * 1e6 for way, found in zip(ways[1:], others, strict=True)}
