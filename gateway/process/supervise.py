"""The parent of the house: starts the processes, boots them, replaces the dead, stops them all.

It serves no request and imports nothing heavy, so that its children start at once. What they
serve is compiled by publish.py. Called by `wardgate serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gateway import bulletin, tracing
from gateway.bulletin import Bulletin
from gateway.errors import StartRefused
from gateway.process.child import Child, Hooks, Role, environment
from gateway.process.ledger import Ledger
from gateway.process.pipe import Boot, Health, Leave, Message, Used, spell
from gateway.process.turnstile import Counts, counts_file
from gateway.settings import Settings

# So many short lives before anything was ever served: it is not going to work.
HOPELESS = 3
# Neighbours (the admin app) may still be starting when the gateway already serves.
NEIGHBOURS_WAIT = 10.0
# Clients that come before anybody accepts wait in this queue.
BACKLOG = 2048
# Beyond the drain time: what a process needs to close its own things.
LAST_GRACE = 5.0

Ring = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Plan:
    """What runs under the parent: gateway workers on `listening`, and neighbours beside them.

    `died` hears of every process that ended without being asked: (name, pid, exit code).
    """

    settings: Settings
    workers: int = 0
    listening: Sequence[socket.socket] = ()
    neighbours: tuple[Role, ...] = ()
    died: Callable[[str, int, int], None] = lambda name, pid, code: None


class House:
    """`async with House(plan, env) as house:` starts the interpreters, which import meanwhile.

    Then `serve` boots the workers, `open` everybody, and `closing` says when to leave. Leaving the
    block stops everybody, running requests first, and returns when all of them are gone.
    """

    def __init__(self, plan: Plan, env: Mapping[str, str]) -> None:
        self.plan = plan
        self.snapshot = snapshot_file(plan.settings)
        self.catalog = catalog_file(plan.settings)
        self.metrics = plan.settings.data_dir / f"metrics-{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = -1
        self.closing = asyncio.Event()
        self._hopeless = asyncio.Event()
        self._trouble = ""
        self._booted = self._opened = self._leaving = False
        self._used: dict[str, float] = {}
        self.bulletin = Bulletin()
        self.ledger = Ledger()
        self._counts: Counts | None = None
        self._spans = tracing.spans_that_wait(env) if plan.workers else 0
        exporting = tracing.variables(env) if self._spans else {}
        hooks, env = Hooks(self._heard, self._died), environment(env)
        # Only workers write there: what another process would say of requests in flight is 0.
        counting = {**env, **exporting, "PROMETHEUS_MULTIPROC_DIR": str(self.metrics)}
        names = (f"worker {number}" for number in range(plan.workers))
        roles = [Role(name, ("gateway.process.worker",), plan.listening) for name in names]
        self.workers = [Child(role, counting, hooks) for role in roles]
        self.neighbours = [Child(role, env, hooks) for role in plan.neighbours]

    def __repr__(self) -> str:
        return f"<House {self.workers + self.neighbours}>"

    async def __aenter__(self) -> Self:
        self._lock = _make_metrics_folder(self.metrics)
        self._counts = Counts.make(counts_file(self.metrics), max(1, len(self.workers)))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.close)
        # Neighbours wait: on a busy machine they would keep the first request waiting.
        for child in self.workers or self.neighbours:
            await child.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.finish()
        # After the workers: a stream being finished may come from the demo upstream.
        for child in self.neighbours:
            child.stop()
        await self._gone(self.neighbours)
        _close(sock for child in self.neighbours for sock in child.role.sockets)
        shutil.rmtree(self.metrics, ignore_errors=True)
        os.close(self._lock)

    def close(self) -> None:
        """Begin to leave; asked twice, wait neither for the delay nor for running requests.

        With a delay `/readyz` says 503 first and requests are served on: whoever spreads them has
        that long to look elsewhere, and nobody meets a socket that closes.
        """
        delay = self.plan.settings.drain_delay if self.workers and self.ready else 0.0
        if self._leaving:
            for child in (*self.workers, *self.neighbours):
                child.kill()
        elif delay:
            self._leaving = True
            self.tell_workers(Leave())
            asyncio.get_running_loop().call_later(delay, self._shut)
            return
        self._shut()

    def _shut(self) -> None:
        """Take no more connections, and let the workers finish."""
        self._leaving = True
        self.closing.set()
        # Ours are the last ends of the listening sockets: from here on connecting is refused.
        _close(self.plan.listening)
        for child in self.workers:
            child.stop()

    async def finish(self) -> None:
        """Leave, as far as the workers go: returns when the last request has ended."""
        if not self.closing.is_set():
            self._shut()
        await self._gone(self.workers)

    @property
    def ready(self) -> bool:
        """True while some worker (of a house without workers: every neighbour) serves, and is not
        about to leave.
        """
        if self._leaving:
            return False
        if self.workers:
            return any(child.ready.is_set() for child in self.workers)
        return all(child.ready.is_set() for child in self.neighbours)

    async def serve(self, ring: Ring) -> bool:
        """Boot the workers and wait until requests are answered; False when told to close first.

        Raises StartRefused when a process keeps dying.
        """
        settings, keys, count = spell(self.plan.settings), list(ring), len(self.workers)
        places = (str(self.snapshot), str(self.metrics), str(self.catalog))
        for index, child in enumerate(self.workers):
            child.boot(Boot(settings, keys, index, count, *places, spans=self._spans))
        self._booted = True
        return await self._wait_for(self.workers)

    async def open(self, ring: Ring, *, store_away: bool = False) -> bool:
        """Boot everybody and wait until requests are answered; False when told to close first.

        Workers that serve already go on. With the store away nobody waits for who needs it.
        Raises StartRefused when a process keeps dying.
        """
        if self.workers and not self._booted:
            await self.serve(ring)
        settings = spell(self.plan.settings)
        for child in self.neighbours:
            child.boot(Boot(settings, list(ring), metrics=str(self.metrics)))
        here = [child for child in self.neighbours if not child.role.needs_store]
        neighbours = here if store_away else self.neighbours
        await self._wait_for(self.workers or neighbours)
        if self.workers and not self.closing.is_set():
            for child in self.neighbours:
                await child.start()
        late = asyncio.sleep(NEIGHBOURS_WAIT)
        await _first(_ready(neighbours), late, self.closing.wait())
        self._opened = True
        return not self.closing.is_set()

    async def _wait_for(self, children: Sequence[Child]) -> bool:
        await _first(_ready(children), self._hopeless.wait(), self.closing.wait())
        if self._hopeless.is_set():
            raise StartRefused(f"{self._trouble} does not start; the lines above say why")
        return not self.closing.is_set()

    def tell_workers(self, message: Message) -> None:
        for worker in self.workers:
            worker.send(message)

    def take_used(self) -> dict[str, float]:
        """What workers reported since the last call: client key id → last used (Unix seconds)."""
        used, self._used = self._used, {}
        return used

    def _heard(self, _: Child, message: Message) -> None:
        if isinstance(message, Used):
            self._used.update(message.keys)
        elif isinstance(message, Health):
            self.ledger.add(message.report, time.time())

    def _died(self, child: Child, code: int) -> None:
        self.plan.died(child.role.name, child.pid, code)
        if child in self.workers and self._counts is not None:
            self._counts.leave(self.workers.index(child))
        _forget_gauges(self.metrics, child.pid)
        name, deaths = child.role.name.rstrip(" 0123456789"), self.bulletin.deaths
        deaths[name] = deaths.get(name, 0) + 1
        self.post()
        needed = child in self.workers or not self.workers
        if needed and not self._opened and child.failures >= HOPELESS:
            self._trouble = f"the {child.role.name} process"
            self._hopeless.set()

    def post(self) -> None:
        """Show `bulletin` to whoever scrapes."""
        with contextlib.suppress(OSError):  # a full disk is no reason to leave
            bulletin.post(self.metrics, self.bulletin)

    def put_back(self, used: Mapping[str, float]) -> None:
        """What could not be kept this time; what was reported since is newer."""
        self._used = {**used, **self._used}

    async def _gone(self, children: Sequence[Child]) -> None:
        limit = self.plan.settings.drain_timeout + LAST_GRACE
        await asyncio.gather(*(child.gone(limit) for child in children))


def snapshot_file(settings: Settings) -> Path:
    """Where the sealed routing table lies: what workers read, and the cold-start copy."""
    return settings.data_dir / "snapshot.sealed"


def catalog_file(settings: Settings) -> Path:
    """Where the synced catalog lies, beside the table: there is none while the packaged one holds.

    Not sealed: where a key may go stands in the table.
    """
    return settings.data_dir / "catalog.json.xz"


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host` at `port` (0: any free one, the same for all of them).

    Raises StartRefused, naming the port, when it is taken or not ours to bind.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            sock = _bind(family, (address[0], port, *address[2:]))
            if sock is not None:
                bound.append(sock)
                port = sock.getsockname()[1]
        if not bound:
            raise OSError("no such address on this machine")
    except OSError as error:
        _close(bound)
        reason = error.strerror or str(error)
        raise StartRefused(
            f"cannot listen on {host}:{port}: {reason}; choose another port or stop what uses it"
        ) from None
    return bound


def _bind(family: int, address: tuple[Any, ...]) -> socket.socket | None:
    """A listening socket; None for an address this machine lacks (`localhost` without IPv6)."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        # Bound alone, another process (or our other app) could still bind the same port.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    return sock


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


async def _ready(children: Sequence[Child]) -> None:
    for child in children:
        await child.ready.wait()


async def _first(*awaitables: Awaitable[Any]) -> None:
    """Wait for whichever ends first; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


@contextlib.contextmanager
def nobody_serves(folder: Path) -> Iterator[bool]:
    """Whether no parent runs on this data folder; none gets to start while the block lasts."""
    with _locked(folder):
        yield not any(map(_held, folder.glob("metrics-*")))


def _make_metrics_folder(folder: Path) -> int:
    """A new folder, locked while the descriptor is open; those nobody holds are swept away.

    A lock and no process id: parents in containers share a data folder, but not their ids.
    Raises StartRefused when the data folder cannot be used.
    """
    place = folder.parent
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(place):
            for old in place.glob("metrics-*"):
                if not _held(old):
                    shutil.rmtree(old, ignore_errors=True)
            folder.mkdir(mode=0o700)
            return _lock(folder)
    except OSError as error:
        raise StartRefused(
            f"the data folder {place} cannot be used: {error.strerror}; make it writable for "
            "this user, or set WARDGATE_DATA_DIR to another"
        ) from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among the parents that make and sweep folders in there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _held(folder: Path) -> bool:
    try:
        os.close(_lock(folder))
    except BlockingIOError:
        return True
    except OSError:  # swept by somebody else, or no folder
        return False
    return False


def _forget_gauges(folder: Path, pid: int) -> None:
    """What a dead process said about itself (requests in flight) is no longer true."""
    for stale in folder.glob(f"gauge_live*_{pid}.db"):
        with contextlib.suppress(FileNotFoundError):
            stale.unlink()
