"""Publishes routing tables: compiles the store's rows, writes the sealed file, wakes the workers.

Follows the store's revision, as others tell of it (hearsay.py) or by looking, and hands it what
workers report (reports.py). A store that is away, or holds what cannot be compiled, leaves the last
table serving. The synced catalog goes the same way. Called by `wardgate serve`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.catalog import Catalog, load
from gateway.errors import CatalogBroken, StartRefused, WardgateError
from gateway.process.hearsay import Hearsay
from gateway.process.pipe import Reload
from gateway.process.reports import Reports
from gateway.process.shelf import Shelf
from gateway.process.supervise import House
from gateway.settings import Settings
from gateway.shapes import Secret
from gateway.snapshot import pack, unpack
from gateway.store import catalogs
from gateway.store.compile import compile_snapshot, revision
from gateway.store.engine import Store, current_revision, open_store
from gateway.store.glance import Peephole, glance
from gateway.vault import KeyRing

if TYPE_CHECKING:
    from gateway.logs import Log
    from gateway.metrics import Asked

ASK_EVERY = 4.0
POST_EVERY = 0.5
COMPLAIN_EVERY = 30.0
# A store that answers nothing at all is away, too.
PATIENCE = 10.0
_UNREAD = catalogs.Stamp("", 0.0)


@dataclass(frozen=True)
class Source:
    """What a table is compiled from, and what seals it. `catalog` until another one was synced."""

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
        # What was away at the start has been proved by nobody: the next start does so.
        self._proved = store is not None
        self._revision = -1
        self._catalog = source.catalog
        self._stamp: catalogs.Stamp | None = _UNREAD
        self._complained = self._asked = self._posted = 0.0
        self._hearsay = Hearsay()
        self._reports = Reports(house, source.clock)
        self._hash_key: Secret | None = None
        self._peephole = Peephole(source.settings.store_url)
        self._away = False

    @cached_property
    def _log(self) -> Log:
        """Loaded when there is something to say: a command that leaves a table says nothing."""
        from gateway.logs import request_logger

        return request_logger()

    async def first(self, away: str = "") -> None:
        """See that there is a table to serve; `away` says why the store is.

        Workers that serve already, from the table of the last time, are told of this one. Raises
        StartRefused when there is none.
        """
        if self._store is not None:
            try:
                await self._publish(self._store)
                self._house.tell_workers(Reload(self._revision))
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
        self._hash_key = old.hash_key
        age = round(self._source.clock() - old.compiled_at)
        self._log.error("store away, serving from the sealed file", age=age, revision=old.revision)
        self._away = True

    async def watch(self) -> None:
        """Follow the store until the house closes; without workers there is nobody to tell."""
        if not self._house.workers:
            await self._house.closing.wait()
        while not self._house.closing.is_set():
            self._note(await failure(self._look()))
            self._listen()
            self._post()
            await self._hearsay.pause(self._house.closing)
        await self._hearsay.aclose()

    def _listen(self) -> None:
        """Hear of changes by Redis, where there is one, as soon as its channel is known."""
        url = self._source.settings.redis_url
        if url and self._hash_key is not None:
            self._hearsay.open(url, self._hash_key, lambda text: self._log.warning(text))

    def _post(self) -> None:
        """Say how things are, for the metrics."""
        if time.monotonic() - self._posted < POST_EVERY:
            return
        self._posted, said = time.monotonic(), self._house.bulletin
        said.subscribed, said.announced = self._hearsay.subscribed, self._hearsay.announced
        said.reports_kept = self._reports.kept
        self._house.post()

    async def last(self) -> None:
        """Keep what workers reported while they finished, and let go of the store."""
        if self._store is not None:
            keeping = self._reports.flush(self._store, lambda: self._log, last=True)
            problem = await failure(keeping)
            if problem is not None:
                self._log.error("what workers reported last is not kept", error=summary(problem))
            await self._store.aclose()
        self._peephole.close()

    async def ask_store(self) -> Asked:
        """What the store says to whoever scrapes; nothing while it is away."""
        from gateway.metrics import Asked  # brings all metrics with it
        from gateway.process.scrape import ask_store

        if self._store is None:
            return Asked()
        return await ask_store(self._store, self._source.clock())

    async def _look(self) -> None:
        if self._store is None:
            self._store = await open_store(self._source.settings.store_url)
        self._hearsay.begin()
        if await self._has_changed(self._store):
            await self._publish(self._store)
            self._house.tell_workers(Reload(self._revision))
        await self._reports.flush(self._store, lambda: self._log)

    async def _has_changed(self, store: Store) -> bool:
        """Whether the revision is another one. Asking the store costs a hundred times the glance
        or another's word, and finds out whether it is still there."""
        now = time.monotonic()
        if now - self._asked < ASK_EVERY:
            seen = self._peephole.revision()
            if seen is not None:
                return self._differs(seen, now)
            if self._hearsay.vouches():
                return self._differs(self._revision, self._hearsay.vouched_at)
        self._asked = now
        seen = await revision(store)
        self._hearsay.tell(seen)
        return self._differs(seen, now)

    def _differs(self, seen: int, at: float) -> bool:
        if seen == self._revision:
            self._house.bulletin.current_at = at
        return seen != self._revision

    async def _publish(self, store: Store) -> None:
        source, began = self._source, time.monotonic()
        async with store.read() as conn:
            seen, stamp = await current_revision(conn), await catalogs.stamp(conn)
            row = await catalogs.find(conn) if stamp != self._stamp else None
        if stamp != self._stamp:
            await self._take_catalog(row)
            self._stamp = stamp
        snapshot = await compile_snapshot(
            store, source.ring, self._catalog, source.settings, source.clock()
        )
        mark = await asyncio.to_thread(self._mark, seen, snapshot.revision)
        sealed = await asyncio.to_thread(pack, snapshot, source.ring, mark)
        await asyncio.to_thread(write_private, self._house.snapshot, sealed)
        # Of the catalog's reading: what was synced since then is noticed at the next look.
        self._revision = self._hearsay.ours = seen
        self._hash_key = snapshot.hash_key
        self._house.bulletin.current_at = began

    def _mark(self, *revisions: int) -> bytes:
        """Of the one state all this was read from; b"" when it changed meanwhile, or is unproved.

        The next start serves at once from a table whose mark it finds again.
        """
        if not self._proved:
            return b""
        seen = glance(self._source.settings, self._house.catalog)
        return seen.mark if seen is not None and {*revisions} == {seen.revision} else b""

    async def _take_catalog(self, row: catalogs.Stored | None) -> None:
        """Put what was synced where workers find it; what is damaged changes nothing."""
        file = self._house.catalog
        if row is None:
            file.unlink(missing_ok=True)
            self._catalog = load()
            return
        try:
            self._catalog = await asyncio.to_thread(catalogs.opened, row)
        except CatalogBroken as error:
            self._log.error("stored catalog not taken", error=str(error))
            self._catalog = Shelf(file).catalog  # the last good one, as workers have it
            return
        await asyncio.to_thread(write_private, file, row.data)
        os.utime(file, (row.synced_at, row.synced_at))

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
