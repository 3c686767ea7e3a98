"""The desk: what every change needs in one place. Opened once per process, by the admin app or CLI.

Opening migrates the store and proves the key ring before anything is served. No HTTP here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.catalog import Catalog
from gateway.settings import Settings
from gateway.shapes import Secret
from gateway.store import sealed
from gateway.store.engine import Store, open_store
from gateway.store.migrate import migrate
from gateway.vault import KeyRing


@dataclass(frozen=True)
class Desk:
    """Open store, key ring, catalog, settings and a clock (Unix seconds)."""

    store: Store
    ring: KeyRing
    catalog: Catalog
    settings: Settings
    clock: Callable[[], float]
    hash_key: Secret
    audit_key: Secret

    async def aclose(self) -> None:
        await self.store.aclose()


async def open_desk(
    settings: Settings,
    ring: KeyRing,
    catalog: Catalog,
    clock: Callable[[], float] = time.time,
) -> Desk:
    """Migrate, open, prove the ring. Raises StartRefused when the ring is not this store's."""
    # Alembic is synchronous and drives its own event loop.
    await asyncio.to_thread(migrate, settings.store_url)
    store = await open_store(settings.store_url)
    try:
        constants = await sealed.unlock(store, ring)
    except BaseException:
        await store.aclose()
        raise
    return Desk(
        store, ring, catalog, settings, clock, constants["token hash"], constants["audit chain"]
    )
