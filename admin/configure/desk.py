"""The desk: what every change needs in one place. Opened once per process, by the admin app or CLI.

Opening migrates the store and proves the key ring before anything is served. No HTTP here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog import Catalog
from gateway.errors import CatalogBroken, StartRefused
from gateway.settings import Settings
from gateway.shapes import Secret
from gateway.store import catalogs, rights, sealed
from gateway.store.audit import BEGINNING, Mark
from gateway.store.engine import Store, open_store
from gateway.store.migrate import migrate
from gateway.store.rights import Rights
from gateway.vault import KeyRing

if TYPE_CHECKING:
    from gateway.channel import Channel

Say = Callable[[str], None]


@dataclass(eq=False)
class Desk:
    """Open store, key ring, catalog, settings and a clock (Unix seconds).

    Of all this only the catalog changes, when another one was synced (`catalog_flaw` says why the
    stored one could not be taken), and `audited`: how far this process saw the audit chain hold.
    Changes are announced on `channel`, where there is a Redis. `rights`: of the database's role.
    """

    store: Store
    ring: KeyRing
    catalog: Catalog
    settings: Settings
    clock: Callable[[], float]
    hash_key: Secret
    audit_key: Secret
    catalog_flaw: str = ""
    audited: Mark = BEGINNING
    rights: Rights = Rights()
    channel: Channel | None = None
    _stamp: catalogs.Stamp | None = None

    async def refresh(self) -> None:
        """Take up the synced catalog if it is another one than last time."""
        async with self.store.read() as conn:
            stamp = await catalogs.stamp(conn)
            row = await catalogs.find(conn) if stamp != self._stamp else None
        if row is None:
            return
        self._stamp, self.catalog_flaw = stamp, ""
        try:
            self.catalog = await asyncio.to_thread(catalogs.opened, row)
        except CatalogBroken as error:
            self.catalog_flaw = str(error)

    async def hush(self) -> None:
        """Announce nothing from here on; what is under way has a moment to leave."""
        if self.channel is not None:
            await self.channel.aclose()

    async def aclose(self) -> None:
        await self.hush()
        await self.store.aclose()


async def open_desk(
    settings: Settings,
    ring: KeyRing,
    catalog: Catalog,
    clock: Callable[[], float] = time.time,
    say: Say | None = None,
) -> Desk:
    """Migrate, open, prove the ring; `catalog` holds until another one was synced.

    `say` is told when changes cannot be announced; else the log is. Raises StartRefused when the
    ring is not this store's, or its role may not read it.
    """
    # Alembic is synchronous and drives its own event loop.
    await asyncio.to_thread(migrate, settings.store_url)
    store = await open_store(settings.store_url)
    try:
        held = await _readable(store)
        constants = await sealed.unlock(store, ring, may_make=held.changes)
        hash_key, audit_key = constants["token hash"], constants["audit chain"]
        desk = Desk(store, ring, catalog, settings, clock, hash_key, audit_key, rights=held)
        _announce(desk, say or _log)
        await desk.refresh()
    except BaseException:
        await store.aclose()
        raise
    return desk


async def _readable(store: Store) -> Rights:
    async with store.read() as conn:
        held = await rights.rights(conn)
    if held.unreadable:
        raise StartRefused(
            f"the database role may not read {', '.join(held.unreadable)}: grant it what "
            "docs/deploy.md lists (again after an update)"
        )
    return held


def _announce(desk: Desk, say: Say) -> None:
    """Tell gateways of every change from here on. Raises StartRefused for a URL that is none."""
    if desk.settings.redis_url:
        from gateway.channel import Channel  # brings redis-py with it

        desk.channel = Channel(desk.settings.redis_url, desk.hash_key, say)
        desk.store = desk.store.announced(desk.channel.tell)


def _log(text: str) -> None:
    from gateway.logs import request_logger

    request_logger().warning(text)
