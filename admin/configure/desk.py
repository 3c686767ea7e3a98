"""The desk: what every change needs in one place. Opened once per process, by the admin app or CLI.

Opening migrates the store and proves the key ring before anything is served. No HTTP here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.catalog import Catalog
from gateway.errors import CatalogBroken
from gateway.settings import Settings
from gateway.shapes import Secret
from gateway.store import catalogs, sealed
from gateway.store.audit import BEGINNING, Mark
from gateway.store.engine import Store, open_store
from gateway.store.migrate import migrate
from gateway.vault import KeyRing


@dataclass(eq=False)
class Desk:
    """Open store, key ring, catalog, settings and a clock (Unix seconds).

    Of all this only the catalog changes, when another one was synced (`catalog_flaw` says why the
    stored one could not be taken), and `audited`: how far this process saw the audit chain hold.
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

    async def aclose(self) -> None:
        await self.store.aclose()


async def open_desk(
    settings: Settings,
    ring: KeyRing,
    catalog: Catalog,
    clock: Callable[[], float] = time.time,
) -> Desk:
    """Migrate, open, prove the ring; `catalog` holds until another one was synced.

    Raises StartRefused when the ring is not this store's.
    """
    # Alembic is synchronous and drives its own event loop.
    await asyncio.to_thread(migrate, settings.store_url)
    store = await open_store(settings.store_url)
    try:
        constants = await sealed.unlock(store, ring)
        hash_key, audit_key = constants["token hash"], constants["audit chain"]
        desk = Desk(store, ring, catalog, settings, clock, hash_key, audit_key)
        await desk.refresh()
    except BaseException:
        await store.aclose()
        raise
    return desk
