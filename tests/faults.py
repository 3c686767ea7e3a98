"""What may happen to a part of a fleet (kill -9, SIGSTOP, a restart) and how long it takes to be
well again; the report of a drill and the claims that must hold whatever happened.

Called by test_drills.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import httpx2

from gateway.metrics import exposition
from tests.bench.processes import in_line
from tests.drill import STREAM, Entry, Load, Site, until_states
from tests.fleet import Member
from tests.houses import children
from tests.servers import Server

# So long after the blow a request may still be one of the victim's. Who hangs takes connections
# until the front's health check has taken it out; who is dead refuses them, and the next one has
# them at once.
STRAYS = {"kill -9": 0.5, "SIGSTOP": 3.0, "restart": 0.0}
KINDS = tuple(STRAYS)
WELL_WITHIN = 5.0


class Part(Protocol):
    """One process (with its children) that something may happen to."""

    async def kill(self) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def freeze(self) -> None: ...
    async def thaw(self) -> None: ...
    def pids(self) -> list[int]: ...


@dataclass
class Backing:
    """PostgreSQL or Redis."""

    server: Server

    async def kill(self) -> None:
        self._send(signal.SIGKILL)
        await asyncio.to_thread(self.server.kill)

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    async def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def pids(self) -> list[int]:
        return [*children(self.server.pid), self.server.pid]

    def _send(self, number: int) -> None:
        """To all of it at once: the first stands still until the others have it."""
        os.kill(self.server.pid, signal.SIGSTOP)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass
class Place:
    """A gateway or the admin app."""

    member: Member

    async def kill(self) -> None:
        await self.member.kill()

    async def start(self) -> None:
        await self.member.start()

    async def stop(self) -> None:
        await self.member.stop()

    async def freeze(self) -> None:
        self.member.signal(signal.SIGSTOP)

    async def thaw(self) -> None:
        self.member.signal(signal.SIGCONT)

    def pids(self) -> list[int]:
        assert self.member.running is not None
        return [*children(self.member.running.pid), self.member.running.pid]


@dataclass
class Victim:
    """`well` returns when nobody could tell any more that something had happened."""

    name: str
    part: Part
    well: Callable[[], Awaitable[None]]


@dataclass
class Outcome:
    """Times of one thing that happened: it began, it was over, all was well again.

    `queued`: how long the victim and this process meanwhile stood in line for a core, which is
    others' doing.
    """

    victim: str
    kind: str
    hit: float
    back: float = 0.0
    well: float = 0.0
    queued: float = 0.0

    @property
    def recovery(self) -> float:
        return self.well - self.back

    def excuses(self, entry: Entry) -> bool:
        """Whether the request was one of the process that was hit, before the front knew."""
        ours = self.kind != "restart" and entry.through == self.victim
        return ours and entry.began < self.hit + STRAYS[self.kind] and entry.ended > self.hit


@dataclass
class Book:
    """Everything that happened, and every request meanwhile."""

    load: Load
    outcomes: list[Outcome] = field(default_factory=list)

    async def happen(self, victim: Victim, kind: str, down: float) -> None:
        """Let it happen, end it `down` seconds later, and wait until all is well."""
        outcome = Outcome(victim.name, kind, monotonic())
        self.outcomes.append(outcome)
        part = victim.part
        if kind == "restart":
            await part.stop()
        elif kind == "SIGSTOP":
            await part.freeze()
            await asyncio.sleep(down)
        else:
            await part.kill()
            await asyncio.sleep(outcome.hit + down - monotonic())
        frozen = kind == "SIGSTOP"
        before = in_line(os.getpid()) + (_queued(part) if frozen else 0.0)
        outcome.back = monotonic()
        await (part.thaw() if frozen else part.start())
        await victim.well()
        outcome.well = monotonic()
        outcome.queued = in_line(os.getpid()) + _queued(part) - before

    def failures(self) -> list[Entry]:
        """Those nothing excuses."""
        return [entry for entry in self.load.entries if entry.flaw and not self._excused(entry)]

    def longest(self, outcome: Outcome) -> float:
        """The longest wait of a short request meanwhile, but for those of who was hit."""
        return max(
            entry.took
            for entry in self.load.entries
            if entry.kind != STREAM
            and outcome.hit - 0.1 <= entry.began <= outcome.well
            and not self._excused(entry)
        )

    def report(self) -> str:
        """A line for each thing that happened."""
        entries, failed = self.load.entries, len(self.failures())
        lines = [f"{len(entries)} requests, {failed} failed that nothing excuses"]
        for outcome in sorted(self.outcomes, key=lambda each: each.hit):
            own = [entry for entry in entries if outcome.excuses(entry)]
            cut = sum(1 for entry in own if entry.flaw)
            held = sum(1 for entry in own if not entry.flaw and entry.ended > outcome.back)
            lines.append(
                f"{outcome.victim:9} {outcome.kind:7} for {outcome.back - outcome.hit:5.2f} s:"
                f" well again after {outcome.recovery:4.2f} s ({outcome.queued:.2f} s in line),"
                f" of its own requests {cut} cut, {held} held up,"
                f" longest wait of others {self.longest(outcome) * 1000:.0f} ms"
            )
        return "\n".join(lines)

    def _excused(self, entry: Entry) -> bool:
        return any(outcome.excuses(entry) for outcome in self.outcomes)


def _queued(part: Part) -> float:
    total = 0.0
    for pid in part.pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            total += in_line(pid)
    return total


def victims(site: Site) -> dict[str, Victim]:
    """The four kinds; of the gateways, the second."""

    async def redis_well() -> None:
        await _repeat(lambda: _shares_limits(site), "limits to be shared again")

    async def postgres_well() -> None:
        await _repeat(lambda: _takes_changes(site, everywhere=True), "a change to be everywhere")

    async def admin_well() -> None:
        await _repeat(lambda: _takes_changes(site, everywhere=False), "a change to be taken")

    async def gateway_well() -> None:
        await until_states(site, "UP", "UP", "UP")

    made = (
        Victim("redis", Backing(site.redis), redis_well),
        Victim("postgres", Backing(site.postgres), postgres_well),
        Victim("admin", Place(site.admin), admin_well),
        Victim("gateway-2", Place(site.gateways[1]), gateway_well),
    )
    return {victim.name: victim for victim in made}


async def _repeat(true: Callable[[], Awaitable[bool]], what: str, within: float = 60.0) -> None:
    try:
        async with asyncio.timeout(within):
            while not await true():  # noqa: ASYNC110 # other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"waited {within:.0f} s for: {what}") from None


async def _shares_limits(site: Site) -> bool:
    """Whether no worker finds Redis away, as they write once a second into their metrics."""
    folders = [str(folder) for each in site.gateways for folder in each.data.glob("metrics-*")]
    return all(b"\nwardgate_redis_away 0" in exposition(folder) for folder in folders)


async def _takes_changes(site: Site, *, everywhere: bool) -> bool:
    try:
        key_id, key = await site.make_key()
        if everywhere:
            await site.until_answered(key, 200)
        await site.revoke(key_id)
        if everywhere:
            await site.until_answered(key, 401)
    except (AssertionError, httpx2.TransportError):
        return False
    return True
