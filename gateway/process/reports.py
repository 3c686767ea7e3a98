"""What workers reported, on its way to the store: when keys were last used, how providers did.

What the store does not take stays for the next time, but for one that may not take it: then it is
dropped, which is said once. Called by publish.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.process.ledger import Due
from gateway.process.supervise import House
from gateway.store.engine import Store, forbidden
from gateway.store.health import keep, sweep
from gateway.store.proofs import Proof
from gateway.store.rights import keeps_reports
from gateway.store.telemetry import record_used

if TYPE_CHECKING:
    from gateway.logs import Log

FLUSH_EVERY = 3.0
SWEEP_EVERY = 60.0
# Rights that are given later are noticed, by asking for them: trying would fill the database's log.
ASK_EVERY = 60.0


class Reports:
    """`kept`: whether the store takes them; None before it was asked. `clock` is the house's."""

    def __init__(self, house: House, clock: Callable[[], float]) -> None:
        self.kept: bool | None = None
        self._house = house
        self._clock = clock
        self._flushed = self._swept = self._asked = 0.0

    def __repr__(self) -> str:
        return f"<Reports kept={self.kept}>"

    async def flush(self, store: Store, log: Callable[[], Log], *, last: bool = False) -> None:
        """Keep what came since the last time, now and then; `last`: now."""
        now = time.monotonic()
        if now - self._flushed < FLUSH_EVERY and not last:
            return
        self._flushed = now
        if not self.kept and (self.kept is None or now - self._asked >= ASK_EVERY):
            self._asked = now
            self._note(await keeps_reports(store), log)
        if not self.kept:
            self._drop()
            return
        try:
            await self._keep(store)
        except BaseException as error:
            # A standby took over, or somebody took the right away.
            if forbidden(error):
                self._asked = now
                self._note(False, log)
                self._drop()
                return
            raise

    async def _keep(self, store: Store) -> None:
        used = self._house.take_used()
        try:
            await record_used(store, used)
        except BaseException:  # running out of patience is a cancellation
            self._house.put_back(used)
            raise
        await self._keep_health(store)

    async def _keep_health(self, store: Store) -> None:
        ledger, now = self._house.ledger, self._clock()
        due = ledger.take(now)
        if due:
            try:
                await keep(store, ledger.source, due.counts, _proofs(due))
            except BaseException:
                ledger.put_back(due)
                raise
        if time.monotonic() - self._swept > SWEEP_EVERY:
            self._swept = time.monotonic()
            await sweep(store, now)

    def _drop(self) -> None:
        """Nothing is to pile up here; taking also forgets what no window looks at any more."""
        self._house.take_used()
        self._house.ledger.take(self._clock())

    def _note(self, kept: bool, log: Callable[[], Log]) -> None:
        before, self.kept = self.kept, kept
        if not kept and before is not False:
            log().warning("database role may not keep reports: last use and health are not stored")
        elif kept and before is False:
            log().warning("reports are kept again")


def _proofs(due: Due) -> dict[str, Proof]:
    return {
        config_id: Proof(seen.version, seen.outcome, seen.at)
        for config_id, seen in due.looks.items()
    }
