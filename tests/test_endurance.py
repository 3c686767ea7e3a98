"""Endurance: after any number of streams, broken and left ones among them, a worker is as before.

A real worker in a process of its own, looked at from outside; provider and callers are raw sockets
of this process. Small numbers here; under `make soak` those the project promises.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from typing import cast

import msgspec

from gateway.metrics import exposition
from gateway.process.pipe import Boot, Pipe, Serving, Stop, connect, spell
from gateway.snapshot import pack
from gateway.vault import KeyRing
from tests.bench import processes
from tests.endurance import (
    PATIENCE,
    UPSTREAM_KEY,
    Book,
    Job,
    Mix,
    Provider,
    hang_up,
    plain,
    unframed,
)
from tests.houses import environment, until
from tests.world import World, settings

SOAK = os.environ.get("SOAK")
STREAMS, CANCELLED = (20_000, 10_000) if SOAK else (1_500, 500)
CALLERS = 100
LARGE, RATE, SECONDS = 10 * 1024 * 1024, 200, 10.0 if SOAK else 1.0
MOST_DELAY = 50 if SOAK else 100  # ms; a second of 200 requests says little of their 99th part
SMALL = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}'
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
        shown = exposition(str(self.folder / "metrics"), ()).decode()
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
async def house(folder: Path) -> AsyncIterator[House]:
    """A worker with one key and two configs."""
    loop = asyncio.get_running_loop()
    world = World(ring=KeyRing([KEK]))
    key = world.key().encode()
    book = Book(key)
    provider = await loop.create_server(partial(Provider, book), "127.0.0.1", 0, backlog=2048)
    url = f"http://127.0.0.1:{provider.sockets[0].getsockname()[1]}/v1"
    world.config("openai", url, secret=UPSTREAM_KEY.decode())
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
        spelled, files = spell(settings(heartbeat=15.0)), (folder / "snapshot", folder / "metrics")
        worker.pipe.send(Boot(spelled, [KEK], 0, 1, *map(str, files)))
        assert await asyncio.wait_for(worker.pipe.receive(), PATIENCE) == Serving(1)
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await worker.pipe.aclose()
        await process.communicate()


class Caller(asyncio.Protocol):
    """One connection to the gateway; plays one job after another and says how each ended."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.usable, self.lost, self.left = True, False, False
        self.got = bytearray()
        self.over: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable, self.lost = False, True
        self._end()

    async def play(self, job: Job) -> None:
        """Send the request and read its answer to the end planned, or whichever comes."""
        loop = asyncio.get_running_loop()
        self.job, self.left, self.got = job, False, bytearray()
        self.body_at = self.length = 0
        self.over = loop.create_future()
        leave, timer = job.leave, None
        self.transport.write(job.request if leave is None else job.request[: leave.sent])
        if leave is not None:
            timer = loop.call_later(leave.after, self._leave)
        try:
            await asyncio.wait_for(self.over, PATIENCE)
            self.book.ends[self._judged(job)] += 1
        except TimeoutError:
            self._complain("nothing more came")
        except ValueError as error:
            self._complain(f"this is no answer: {error}")
        finally:
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.over is None or self.over.done():
            self.book.wrong.append(f"bytes that belong to no request: {bytes(self.got[:300])!r}")
        elif self.job.leave is not None and len(self.got) >= self.job.leave.seen:
            self._leave()
        elif self._complete():
            self._end()

    def _complete(self) -> bool:
        if not self.body_at:
            end = self.got.find(b"\r\n\r\n") + 4
            if end < 4:
                return False
            self.body_at, head = end, bytes(self.got[:end]).lower()
            length = head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
            self.length = end + int(length) if length else 0
        if self.length:
            return len(self.got) == self.length
        return self.got.endswith(b"\r\n0\r\n\r\n")

    def _leave(self) -> None:
        assert self.job.leave is not None
        if not self.lost:
            self.left, self.usable = True, False
            hang_up(self.transport, reset=self.job.leave.reset)

    def _end(self) -> None:
        if self.over is not None and not self.over.done():
            self.over.set_result(None)

    def _judged(self, job: Job) -> str:
        """How it ended: "whole", "left", "refused", "broken", or "told" first; else "wrong"."""
        complete, cut = self._complete(), job.plan.cut != "no"
        if not self.body_at:
            return "left" if self.left else self._complain("closed without an answer")
        body, status = bytes(self.got[self.body_at :]), bytes(self.got[9:12])
        if not self.length:
            body, complete = unframed(body)
        if status != b"200":
            fits = cut and complete and status == b"502" and "error" in json.loads(body)
            return "refused" if fits else self._complain("an error answer")
        if self.left:
            return "left" if job.answer.startswith(body) else self._complain("another answer")
        if complete:
            fits = body == job.answer and not cut
            return "whole" if fits else self._complain("not this answer, or one cut, as if whole")
        return self._broken(job, body) if cut else self._complain("broken off")

    def _broken(self, job: Job, body: bytes) -> str:
        """What came before the cut must be here, and where an event can say so, one must."""
        before = job.plan.before_cut()
        told, kind = body.removeprefix(before), job.plan.kind
        if not body.startswith(before) or not before:
            return self._complain("less than came before the cut, or no error answer")
        if kind == "messages" or (kind == "chat" and before.endswith(b"\n\n")):
            fits = "error" in json.loads(told.rpartition(b"data: ")[2]) and told.endswith(b"\n\n")
            return "told" if fits else self._complain("not told of the cut")
        return self._complain("bytes that nobody sent") if told else "broken"

    def _complain(self, what: str) -> str:
        seen = bytes(self.got[:300]), bytes(self.got[-300:])
        self.book.wrong.append(f"{what}: {self.job.plan} {self.job.leave} {len(self.got)} {seen}")
        return "wrong"


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
        with processes.on_core(processes.PEER_CORE):
            at = await stack.enter_async_context(house(tmp_path))
        stack.enter_context(processes.on_core(processes.LOAD_CORE))
        await paced(at)
        quiet = p99(await paced(at))
        for name, body in large_bodies():
            async with posting(at, plain(at.book.key, body)):
                for _ in range(3):  # what else the machine does adds to it, and takes nothing away
                    more = p99(await paced(at)) - quiet
                    delays[name] = min(more, delays.get(name, more))
                    if delays[name] < MOST_DELAY:
                        break
        assert not at.book.wrong, at.book.wrong[:3]
    slow = processes.slowness()
    SAY("quiet %.1f ms, more with %s, a core %.1f times as slow", quiet, delays, slow)
    assert max(delays.values()) < MOST_DELAY * slow, delays


def large_bodies() -> Iterator[tuple[str, bytes]]:
    """10 MiB each. A model with its config's name in front of it is spelled anew on its way."""
    turn, text = b'{"role":"user","content":"%b"}', "du texte déjà vu\\n".encode()
    many = b",".join([turn % (text * 1000)] * (LARGE // 20_000))
    keys = b",".join(b'"%06x":1' % number for number in range(LARGE // 10))
    tools = b'],"tools":[{"type":"function","function":{"name":"f","parameters":{%b}}}' % keys
    for name in ("gpt-4o-mini", "openai/gpt-4o-mini"):
        ask = b'{"model":"%b","messages":[%%b]}' % name.encode()
        yield f"one string for {name}", ask % (turn % (text * (LARGE // len(text))))
        yield f"many messages for {name}", ask % many
    yield "a million keys", b'{"model":"gpt-4o-mini","messages":[%b]}' % tools


@contextlib.asynccontextmanager
async def posting(at: House, job: Job) -> AsyncIterator[None]:
    """One client sends `job` again and again while the block runs."""
    caller, over = await at.caller(), asyncio.Event()

    async def post() -> int:
        times = 0
        while not over.is_set() and not at.book.wrong:
            await caller.play(job)
            times += 1
        return times

    task = asyncio.create_task(post())
    yield
    over.set()
    assert await task > 1
    caller.transport.close()


async def paced(at: House) -> list[float]:
    """Milliseconds each of RATE small requests a second took, less the time that the worker or
    this process stood in line for a core: others' doing."""
    job, both = plain(at.book.key, SMALL), (at.worker.process.pid, os.getpid())
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
