"""From started interpreters to the first request: the store, the first start, the routing table.

Everything heavy is imported here, while the workers import theirs. Called by run.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from admin.configure import tokens
from admin.configure.addresses import override_flaw
from admin.configure.desk import Desk, open_desk
from admin.oidc import identities
from admin.quickstart import ensure_demo
from admin.take_in import take_in
from admin.welcome import Welcome
from gateway.catalog import Catalog
from gateway.catalog import load as load_catalog
from gateway.errors import StartRefused, WardgateError
from gateway.process.publish import Publisher, Source, failure, summary
from gateway.process.shelf import Shelf
from gateway.process.supervise import House, catalog_file
from gateway.settings import Settings
from gateway.store.compile import revision
from gateway.store.engine import open_store
from gateway.vault import KeyRing

# A database that does not even refuse: then it is away, and there may be a table to start from.
PATIENCE = 20.0


@dataclass(frozen=True)
class Wishes:
    """What this start was asked to do beside serving. `demo_port` 0: no demo upstream."""

    import_env: bool = False
    demo_port: int = 0


@dataclass(frozen=True)
class Opened:
    """A house that serves, and what to tell the person who started it."""

    publisher: Publisher
    catalog: Catalog
    welcome: Welcome


async def open_house(
    house: House, settings: Settings, ring: KeyRing, wishes: Wishes, env: Mapping[str, str]
) -> Opened | None:
    """Open the store, do what a first start does, boot everybody; None when told to stop first.

    Raises StartRefused when it cannot serve.
    """
    identities(settings)  # the admin app would be refused the same, but a process away
    desk, away = await _desk_unless_away(settings, ring, load_catalog())
    catalog = desk.catalog if desk else Shelf(catalog_file(settings)).catalog
    try:
        _check_overrides(settings, catalog)
    except StartRefused:
        if desk is not None:
            await desk.aclose()
        raise
    welcome = Welcome(store_away=True)
    if desk is not None:
        welcome = await _first_start(desk, wishes, env)
    publisher = Publisher(house, Source(settings, ring, catalog), desk.store if desk else None)
    if house.workers:
        await publisher.first(away)
    if await house.open(ring.expose(), store_away=desk is None):
        return Opened(publisher, catalog, welcome)
    return None


async def _first_start(desk: Desk, wishes: Wishes, env: Mapping[str, str]) -> Welcome:
    welcome = Welcome(token=await tokens.ensure_bootstrap(desk))
    if wishes.import_env:
        welcome = replace(welcome, taken=await take_in(desk, env))
    if wishes.demo_port:
        welcome = replace(welcome, key=await ensure_demo(desk, wishes.demo_port))
    return welcome


def _check_overrides(settings: Settings, catalog: Catalog) -> None:
    for name in settings.provider_base_urls:
        flaw = override_flaw(name, catalog)
        if flaw:
            raise StartRefused(f"WARDGATE_PROVIDER_BASE_URLS names {name}, {flaw}")


async def _desk_unless_away(
    settings: Settings, ring: KeyRing, catalog: Catalog
) -> tuple[Desk | None, str]:
    """The open desk; None and why when the store does not answer. Raises what else is wrong."""
    opening = asyncio.ensure_future(open_desk(settings, ring, catalog))
    done, _ = await asyncio.wait([opening], timeout=PATIENCE)
    if not done:
        opening.cancel()
        return None, f"no answer in {PATIENCE:.0f} s"
    problem = opening.exception()
    if problem is None:
        return opening.result(), ""
    if isinstance(problem, WardgateError) and not await _away(settings):
        raise problem
    return None, summary(problem)


async def _away(settings: Settings) -> bool:
    """True when not even the revision can be read: nothing the store holds is then the reason."""
    store = await open_store(settings.store_url)
    problem = await failure(revision(store))
    await store.aclose()
    return problem is not None
