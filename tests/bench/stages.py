"""The stages of a run: which peers stand when, started how, and which figures are taken of them.

Each stage starts its peers anew: what one phase leaves behind in memory is no part of another.
Used by __main__.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from tests.bench import closed, latency, processes, streams, wire
from tests.bench.peers import PEERS, Job
from tests.bench.provider import Plan, listen
from tests.bench.side import LONGEST, Side, until
from tests.bench.sizes import Sizes
from tests.certificate import certificate, server_side

Figures = dict[str, dict[str, float]]
MANY = 32  # connections, where nothing else is said
MEMORY = ("stream-memory", "stream-memory-9000")
FRESH = ("ready", *MEMORY)
# Figure -> connections and sentences in the body.
LOOPS = {
    "request-1": (1, wire.USUAL),
    "request-32": (MANY, wire.USUAL),
    "request-256": (256, wire.USUAL),
    "large": (MANY, wire.LARGE),
}
RATED = ("rate-1000-p50", "rate-1000-p90")
TWO = {"workers-2": MANY, "workers-2-256": 256}  # figure -> connections


def three(figure: str) -> tuple[str, str, str]:
    """A figure of two workers, and what else is told of it."""
    return figure, f"{figure}-times", f"{figure}-share"


PLAIN = (
    "rest",
    *LOOPS,
    "chunk",
    "first-byte",
    *RATED,
    *(one for each in TWO for one in three(each)),
)


@dataclass
class Run:
    """One run: `figures` and, of closed loops, the share of the time each peer was `idle`."""

    names: Sequence[str]
    wanted: Collection[str]
    sizes: Sizes
    say: Callable[[str], None]
    folder: Path
    figures: Figures = field(default_factory=dict)
    idle: Figures = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _providers: dict[Path, tuple[Plan, int]] = field(default_factory=dict)

    async def take(self) -> None:
        """Takes all figures that are wanted."""
        async with self._stack:
            try:
                if self._wants(*FRESH):
                    await self._fresh()
                if self._wants(*PLAIN):
                    await self._plain()
                if self._wants("tls"):
                    await self._tls()
            finally:
                # The loop sees them close before it ends, also when something has failed.
                plans = [plan for plan, _ in self._providers.values()]
                await until(lambda: not any(plan.connections for plan in plans), LONGEST)

    def _wants(self, *figures: str) -> bool:
        return any(figure in self.wanted for figure in figures)

    def _note(self, figure: str, found: Mapping[str, float]) -> None:
        if figure in self.wanted:
            for name, value in found.items():
                self.figures.setdefault(name, {})[figure] = value

    async def _fresh(self) -> None:
        sizes = self.sizes
        async with self._sides(Job(streams=sizes.many)) as sides:
            for side in sides:
                self.say(f"{side.name}: start to first answer")
                starts = []
                for _ in range(sizes.starts):
                    side.peer.stop()
                    starts.append(await side.start())
                self._note("ready", {side.name: median(starts)})
                await side.settle(self.sizes.calm)
            for side in sides if self._wants(*MEMORY) else ():
                counts = [sizes.idle, sizes.many] if self._wants(MEMORY[1]) else [sizes.idle]
                self.say(f"{side.name}: {counts[-1]} open streams in which nothing happens")
                found = await streams.memory(side, *counts)
                for figure, kib in zip(MEMORY, found, strict=False):
                    self._note(figure, {side.name: kib})

    async def _plain(self) -> None:
        sizes = self.sizes
        async with self._sides(Job()) as sides:
            await self._start(sides)
            for side in sides:
                self._note("rest", {side.name: processes.memory_kib(side.peer.workers) / 1024})
            for figure in (figure for figure in LOOPS if self._wants(figure)):
                await self._loop(sides, figure, *LOOPS[figure])
            if self._wants("first-byte"):
                self.say("time to the first event")
                self._note("first-byte", await latency.first_byte(sides, sizes))
            if self._wants(*RATED):
                self.say(f"{latency.RATE} requests a second")
                at = await latency.at_rate(sides, sizes)
                for figure, percent in zip(RATED, (50, 90), strict=True):
                    self._note(figure, at[percent])
            for side in sides if self._wants("chunk") else ():
                self.say(f"{side.name}: {sizes.streams} streams of {sizes.chunks} events")
                self._note("chunk", {side.name: await streams.chunk(side, sizes)})
            wanted = [figure for figure in TWO if self._wants(*three(figure))]
            if wanted:
                await self._two(sides, wanted)

    async def _tls(self) -> None:
        async with self._sides(
            Job(authority=certificate(self.folder, "localhost", "127.0.0.1"))
        ) as sides:
            await self._start(sides)
            await self._loop(sides, "tls", MANY, wire.USUAL)

    async def _two(self, ones: Sequence[Side], figures: Sequence[str]) -> None:
        """Two workers beside `ones`, which have one."""
        async with self._sides(Job(workers=2)) as twos:
            await self._start(twos)
            for figure in figures:
                await self._beside(ones, twos, figure)

    async def _beside(self, ones: Sequence[Side], twos: Sequence[Side], figure: str) -> None:
        many = TWO[figure]
        self.say(f"{figure}: one request after another, {many} at once")
        found: list[list[closed.Slice]] = [[] for _ in (*ones, *twos)]
        # Who accepts a connection is settled when it is made: new ones for every slice.
        for _ in range(self.sizes.slices):
            once = replace(self.sizes, slices=1)
            for kept, new in zip(
                found, await closed.slices([*ones, *twos], once, many), strict=True
            ):
                kept += new
        for side, of_one, of_two in zip(ones, found, found[len(ones) :], strict=False):
            cost = closed.cost(of_two)
            taken = (cost, cost / closed.cost(of_one), closed.busiest(of_two))
            for name, value in zip(three(figure), taken, strict=True):
                self._note(name, {side.name: value})

    async def _loop(
        self, sides: Sequence[Side], figure: str, connections: int, sentences: int
    ) -> None:
        self.say(f"{figure}: one request after another, {connections} at once")
        found = await closed.slices(sides, self.sizes, connections, sentences)
        for side, of_side in zip(sides, found, strict=True):
            self._note(figure, {side.name: closed.cost(of_side)})
            self.idle.setdefault(side.name, {})[figure] = closed.idle(of_side)

    async def _start(self, sides: Sequence[Side]) -> None:
        for side in sides:
            self.say(f"{side.name}: starting")
            await side.start()
        await asyncio.gather(*(side.settle(self.sizes.calm) for side in sides))

    @asynccontextmanager
    async def _sides(self, job: Job) -> AsyncIterator[list[Side]]:
        """The peers, made for `job` and not started; none of them runs afterwards."""
        sides: list[Side] = []
        try:
            for name in self.names:
                sides.append(await self._side(name, job))
            yield sides
        finally:
            for side in sides:
                side.peer.stop()

    async def _side(self, name: str, job: Job) -> Side:
        folder = self.folder / f"{name}-{job.scheme}"
        folder.mkdir(exist_ok=True)
        if folder not in self._providers:
            plan = Plan()
            server, port = await listen(plan, server_side(job.authority) if job.authority else None)
            await self._stack.enter_async_context(server)
            self._providers[folder] = plan, port
        plan, port = self._providers[folder]
        return Side(PEERS[name](folder, port, job), plan, port)
