"""Endurance: after any number of streams, broken and left ones among them, a worker is as before.

A real worker in a process of its own, looked at from outside; provider and callers are raw sockets
of this process. Small numbers here; under `make soak` those the project promises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter

import msgspec

from gateway.metrics import exposition
from gateway.process.pipe import Boot, Pipe, Serving, Stop, connect, spell
from gateway.snapshot import pack
from gateway.vault import KeyRing
from tests.bench import processes
from tests.caller import Caller
from tests.endurance import (
    PATIENCE,
    UPSTREAM_KEY,
    Book,
    Job,
    Mix,
    Provider,
    plain,
)
from tests.houses import environment, until
from tests.large_bodies import BODIES, posting
from tests.world import World, settings

SOAK = os.environ.get("SOAK")
STREAMS, CANCELLED = (20_000, 10_000) if SOAK else (1_500, 500)
CALLERS = 100
RATE, SECONDS = 200, 10.0 if SOAK else 1.0
MOST_DELAY = 50  # ms
SMALL = b'{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"Hello"}]}'
KEK = ("test", bytes(range(32)))
SAY = logging.getLogger("endurance").info


@dataclass
class Worker:
    """A worker that serves, and what can be seen of it without asking it to serve."""

    process: Process
    pipe: Pipe
    port: int
    folder: Path

    async def tasks(self) -> list[str]:
        """The names of its tasks; it says nothing else on stderr."""
        self.process.send_signal(signal.SIGUSR1)
        assert self.process.stderr is not None
        line = await asyncio.wait_for(self.process.stderr.readline(), PATIENCE)
        return msgspec.json.decode(line, type=list[str])

    @property
    def descriptors(self) -> int:
        """How many it has open, but for the files of its metrics: they come when first needed."""
        folder, count = f"/proc/{self.process.pid}/fd", 0
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed while we looked
                count += not os.readlink(f"{folder}/{name}").endswith(".db")
        return count

    @property
    def memory(self) -> int:
        """KiB of proportional set size."""
        return processes.memory_kib([self.process.pid])

    @property
    def inflight(self) -> float:
        """What it says, once a second, of requests being served."""
        shown = exposition(str(self.folder / "metrics")).decode()
        return float(shown.partition("\nwardgate_inflight ")[2].split()[0])

    @property
    def complaints(self) -> list[str]:
        """Lines of its log that are not about a request."""
        lines = (self.folder / "log").read_bytes().splitlines()
        return [line.decode() for line in lines if b'"event":"request"' not in line][:5]


@dataclass
class House:
    """A worker between callers and a provider, and what both of these have seen."""

    worker: Worker
    book: Book
    mix: Mix

    async def run(self, jobs: Iterator[Job], callers: int = CALLERS) -> None:
        """Play all jobs, so many at a time, on connections old and new."""
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._call(jobs))

    async def _call(self, jobs: Iterator[Job]) -> None:
        caller: Caller | None = None
        for job in jobs:
            if caller is None or not caller.usable or job.plan.number % 4 == 0:
                if caller is not None:
                    caller.transport.close()
                caller = await self.caller()
            await caller.play(job)
        if caller is not None:
            caller.transport.close()

    async def caller(self) -> Caller:
        loop = asyncio.get_running_loop()
        port = self.worker.port
        _, made = await loop.create_connection(partial(Caller, self.book), "127.0.0.1", port)
        return made

    async def rest(self, before: tuple[int, list[str]]) -> None:
        """All went as planned and, the provider's idle connections closed, nothing is left."""
        assert not self.book.wrong, f"{len(self.book.wrong)}: {self.book.wrong[:5]}"
        await until(lambda: not self.book.busy, "the provider to have nothing under way")
        self.book.hang_up()
        worker, (descriptors, tasks) = self.worker, before
        await until(lambda: worker.descriptors == descriptors, "descriptors to be as before")
        await until(lambda: worker.inflight == 0, "no request to be in flight")
        assert await worker.tasks() == tasks
        assert not worker.complaints

    async def state(self) -> tuple[int, list[str]]:
        return self.worker.descriptors, await self.worker.tasks()


@contextlib.asynccontextmanager
async def house(folder: Path, elsewhere: socket.socket | None = None) -> AsyncIterator[House]:
    """A worker with one key and two configs; OpenAI's provider may listen `elsewhere`."""
    loop = asyncio.get_running_loop()
    world = World(ring=KeyRing([KEK]))
    key = world.key().encode()
    book = Book(key)
    provider = await loop.create_server(partial(Provider, book), "127.0.0.1", 0, backlog=2048)
    url = f"http://127.0.0.1:{provider.sockets[0].getsockname()[1]}/v1"
    openai = url if elsewhere is None else f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1"
    world.config("openai", openai, secret=UPSTREAM_KEY.decode())
    world.config("anthropic", url, dialect="anthropic", secret=UPSTREAM_KEY.decode())
    (folder / "snapshot").write_bytes(pack(world.snapshot(), world.ring))
    async with provider, started(folder) as worker:
        yield House(worker, book, Mix(Random(int(SOAK or "1")), key))
        worker.pipe.send(Stop())
        assert await asyncio.wait_for(worker.process.wait(), PATIENCE) == 0


@contextlib.asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Worker]:
    (folder / "metrics").mkdir()
    env = environment(folder, PROMETHEUS_MULTIPROC_DIR=str(folder / "metrics"))
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    fds = [theirs.fileno(), listener.fileno()]
    with (folder / "log").open("wb") as log, listener, theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "tests.endurance", *map(str, fds)),
            pass_fds=fds, env=env, stdout=log, stderr=PIPE,
        )  # fmt: skip
        port = listener.getsockname()[1]
    worker = Worker(process, await connect(ours), port, folder)
    try:
        spelled = spell(settings(heartbeat=15.0))
        files = str(folder / "snapshot"), str(folder / "metrics")
        worker.pipe.send(Boot(spelled, [KEK], 0, 1, *files))
        assert await asyncio.wait_for(worker.pipe.receive(), PATIENCE) == Serving(1)
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await worker.pipe.aclose()
        await process.communicate()


async def test_nothing_is_left_of_streams_whole_left_or_cut(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        before = await at.state()
        await at.run(at.mix.streams(STREAMS // 5))
        await at.rest(before)
        warm = at.worker.memory
        began = perf_counter()
        await at.run(at.mix.streams(STREAMS))
        await at.rest(before)
        grown, ends = at.worker.memory - warm, at.book.ends
        SAY("%d KiB on top of %d, %s, %.1f s", grown, warm, ends, perf_counter() - began)
        assert grown < 10 * 1024
        assert min(ends[how] for how in ("whole", "left", "refused", "told", "broken")) >= 20


async def test_all_succeed_after_cancellations_at_random_moments(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        before, began = await at.state(), perf_counter()
        await at.run(at.mix.any(CANCELLED, "left"))
        SAY("%s, %.1f s", at.book.ends, perf_counter() - began)
        assert at.book.ends["left"] > CANCELLED * 0.8  # the others were answered before they left
        at.book.ends.clear()
        await at.run(at.mix.any(100, "whole"), callers=10)
        assert at.book.ends == {"whole": 100}
        await at.rest(before)


async def test_large_bodies_delay_nobody(tmp_path: Path) -> None:
    delays: dict[str, float] = {}
    async with contextlib.AsyncExitStack() as stack:
        elsewhere = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with processes.on_core(processes.PEER_CORE):
            at = await stack.enter_async_context(house(tmp_path, elsewhere))
        stack.enter_context(processes.on_core(processes.LOAD_CORE))
        await paced(at)
        quiet = p99(await paced(at))
        for name in BODIES:
            async with posting(at.worker.port, elsewhere, at.book.key, name):
                for _ in range(3):  # what else the machine does adds to it, and takes nothing away
                    more = p99(await paced(at)) - quiet
                    delays[name] = min(more, delays.get(name, more))
                    if delays[name] < MOST_DELAY:
                        break
        assert not at.book.wrong, at.book.wrong[:3]
    slow = processes.slowness()
    SAY("quiet %.1f ms, more with %s, a core %.1f times as slow", quiet, delays, slow)
    assert max(delays.values()) < MOST_DELAY * slow, delays


async def paced(at: House) -> list[float]:
    """Milliseconds each of RATE small requests a second took, less the time that the worker or
    this process stood in line for a core: others' doing."""
    job, both = plain(at.book.key, SMALL, "messages"), (at.worker.process.pid, os.getpid())
    took: list[float] = []
    idle: list[Caller] = []

    async def one() -> None:
        caller = idle.pop() if idle else await at.caller()
        stood, begin = sum(map(processes.in_line, both)), perf_counter()
        await caller.play(job)
        end = perf_counter()
        took.append(max(0.0, end - begin - sum(map(processes.in_line, both)) + stood) * 1000)
        idle.append(caller)

    async with asyncio.TaskGroup() as group:
        start = perf_counter()
        for number in range(int(RATE * SECONDS)):
            await asyncio.sleep(start + number / RATE - perf_counter())
            group.create_task(one())
    for caller in idle:
        caller.transport.close()
    return took


def p99(took: list[float]) -> float:
    return sorted(took)[len(took) * 99 // 100]
