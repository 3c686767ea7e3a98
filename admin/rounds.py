"""The active probe: asks after configs that no traffic has told of for a while.

What it finds counts as a request that nobody timed. Off unless a setting says how long a while is.
Run by the admin app's process; the key is looked at by probe.py, never here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from admin.configure import configs, health
from admin.configure.configs import ConfigView
from admin.configure.desk import Desk
from admin.configure.health import HealthView
from gateway.health import Counts, Report
from gateway.process.ledger import Ledger
from gateway.store.health import keep

# Probes at one time; a provider that hangs holds up no more than its place.
AT_ONCE = 8
# What says nothing of the provider: it lists no models, or there is no key to ask with.
_SILENT = ("unlisted", "unsent")
_log = structlog.get_logger("wardgate.rounds")


class Probed(Protocol):
    @property
    def outcome(self) -> str: ...


Probe = Callable[[Desk, str], Awaitable[Probed]]


class Rounds:
    """`probe` asks a stored config's provider; `interval` seconds of silence make it due."""

    def __init__(self, desk: Desk, probe: Probe, interval: float) -> None:
        self._desk = desk
        self._probe = probe
        self._interval = interval
        self._ledger = Ledger()
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Round after round, until cancelled; one that fails is not the last."""
        while True:
            # Not in step with other admin apps: what one of them has seen, nobody asks again.
            await asyncio.sleep(self._interval * random.uniform(0.2, 0.3))
            _complain(await asyncio.gather(self.once(), return_exceptions=True))

    async def once(self) -> None:
        """Ask after everybody who is due, and keep what came of it."""
        due = await self._due()
        found = await asyncio.gather(*(self._ask(one.id) for one in due), return_exceptions=True)
        _complain(found)
        news = self._ledger.take(self._desk.clock())
        if news:
            try:
                await keep(self._desk.store, self._ledger.source, news.counts, {})
            except BaseException:
                self._ledger.put_back(news)
                raise

    async def _due(self) -> list[ConfigView]:
        views = [view for view in await configs.every(self._desk, None) if _usable(view)]
        seen = await health.every(self._desk, [view.id for view in views])
        return [view for view in views if view.id in seen and self._unheard_of(seen[view.id])]

    def _unheard_of(self, seen: HealthView) -> bool:
        last = seen.last_check_at
        return last is None or self._desk.clock() - last >= self._interval

    async def _ask(self, config_id: str) -> None:
        async with self._places:
            outcome = (await self._probe(self._desk, config_id)).outcome
        if outcome in _SILENT:
            return
        now = self._desk.clock()
        errors = {} if outcome == "ok" else {f"probe_{outcome}": 1}
        counts = Counts(requests=1, last=now, errors=errors)
        self._ledger.add(Report(now, {config_id: counts}, {}), now)


def _usable(view: ConfigView) -> bool:
    return view.active and view.keyed


def _complain(results: Sequence[BaseException | None]) -> None:
    """By type only: a message may quote what was sent."""
    for problem in results:
        if isinstance(problem, BaseException):
            _log.warning("probe failed", error=type(problem).__name__)
