"""Publishes routing tables: compiles the store's rows, writes the sealed file, wakes the workers.

Follows the store's revision, and hands it back when keys were last used. A store that is away, or
holds what cannot be compiled, leaves the last table serving. Called by `wardgate serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.catalog import Catalog
from gateway.errors import StartRefused, WardgateError
from gateway.logs import request_logger
from gateway.process.pipe import Reload
from gateway.process.supervise import House
from gateway.settings import Settings
from gateway.snapshot import pack, unpack
from gateway.store.compile import compile_snapshot, revision
from gateway.store.engine import Store, open_store
from gateway.store.telemetry import record_used
from gateway.vault import KeyRing

# This, and the time to compile and swap, is within the second a change may take.
LOOK_EVERY = 0.4
FLUSH_EVERY = 1.0
COMPLAIN_EVERY = 30.0
# A store that answers nothing at all is away, too.
PATIENCE = 10.0


@dataclass(frozen=True)
class Source:
    """What a table is compiled from, and what seals it."""

    settings: Settings
    ring: KeyRing
    catalog: Catalog
    clock: Callable[[], float] = time.time


class Publisher:
    """`store` None: it was away at start and is looked for from now on."""

    def __init__(self, house: House, source: Source, store: Store | None) -> None:
        self._house = house
        self._source = source
        self._store = store
        self._revision = -1
        self._flushed = self._complained = 0.0
        self._away = False
        self._log = request_logger()

    async def first(self, away: str = "") -> None:
        """See that there is a table to serve; `away` says why the store is.

        Raises StartRefused when there is none.
        """
        if self._store is not None:
            try:
                await self._publish(self._store)
            except OSError as error:
                raise StartRefused(
                    f"the routing table {self._house.snapshot} cannot be written: {error.strerror}"
                ) from None
            return
        try:
            old = unpack(self._house.snapshot.read_bytes(), self._source.ring)
        except (OSError, WardgateError) as error:
            raise StartRefused(
                f"the store is away and there is no routing table to start from: {away or error}"
            ) from None
        age = round(self._source.clock() - old.compiled_at)
        self._log.error("store away, serving from the sealed file", age=age, revision=old.revision)

    async def watch(self) -> None:
        """Follow the store until the house closes; without workers there is nobody to tell."""
        if not self._house.workers:
            await self._house.closing.wait()
        while not self._house.closing.is_set():
            self._note(await failure(self._look()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._house.closing.wait(), LOOK_EVERY)

    async def last(self) -> None:
        """Keep what workers reported while they finished, and let go of the store."""
        self._flushed = 0.0
        problem = await failure(self._flush())
        if problem is not None:
            self._log.error("last uses of keys are not kept", error=summary(problem))
        if self._store is not None:
            await self._store.aclose()

    async def _look(self) -> None:
        if self._store is None:
            self._store = await open_store(self._source.settings.store_url)
        if await revision(self._store) != self._revision:
            await self._publish(self._store)
            self._house.tell_workers(Reload(self._revision))
        await self._flush()

    async def _publish(self, store: Store) -> None:
        source = self._source
        snapshot = await compile_snapshot(
            store, source.ring, source.catalog, source.settings, source.clock()
        )
        sealed = await asyncio.to_thread(pack, snapshot, source.ring)
        await asyncio.to_thread(write_private, self._house.snapshot, sealed)
        self._revision = snapshot.revision

    async def _flush(self) -> None:
        """Keep when keys were last used; what the store does not take stays for the next time."""
        if self._store is None or time.monotonic() - self._flushed < FLUSH_EVERY:
            return
        self._flushed = time.monotonic()
        used = self._house.take_used()
        if used:
            problem = await failure(record_used(self._store, used))
            if problem is not None:
                self._house.put_back(used)
                raise problem

    def _note(self, problem: BaseException | None) -> None:
        """Say that the store went away, now and then that it still is, and that it is back."""
        if problem is None:
            if self._away:
                self._log.warning("store back", revision=self._revision)
            self._away = False
            return
        if not self._away or time.monotonic() - self._complained > COMPLAIN_EVERY:
            self._complained = time.monotonic()
            self._log.error("store away or unreadable, serving on", error=summary(problem))
        self._away = True


async def failure(work: Coroutine[Any, Any, object]) -> BaseException | None:
    """What `work` raised, whatever it was: nothing a database driver raises may end the parent."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=PATIENCE)
    if task.done():
        return task.exception()
    task.cancel()
    await asyncio.wait([task])
    return TimeoutError(f"no answer in {PATIENCE:.0f} s")


def summary(error: BaseException) -> str:
    """Type and first line: a driver's other lines quote statements and addresses."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def write_private(path: Path, data: bytes) -> None:
    """Replace a file at once and for good: readers see the old one or the new one, whole."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
