"""From started interpreters to the first request: the store, the first start, the routing table.

Where nothing has changed since the last time, the table of then is served at once. Everything
heavy is imported after that, or while the workers import theirs. Called by run.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.errors import SealBroken, StartRefused, WardgateError
from gateway.process.supervise import House, catalog_file
from gateway.settings import Settings, rows
from gateway.snapshot import still_holds
from gateway.store.glance import glance
from gateway.vault import KeyRing

if TYPE_CHECKING:
    from admin.configure.desk import Desk
    from admin.welcome import Welcome
    from gateway.catalog import Catalog
    from gateway.process.publish import Publisher

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


async def serve_at_once(house: House, settings: Settings, ring: KeyRing, wishes: Wishes) -> None:
    """Serve from the table that lies there, where it is the one the store would give now.

    `open_house` proves and compiles all the same, a moment later. Raises StartRefused.
    """
    if house.workers and wishes == Wishes() and as_it_was_left(house, settings, ring):
        await house.serve(ring.expose())


def as_it_was_left(house: House, settings: Settings, ring: KeyRing) -> bool:
    """True when the table was made from these very settings and rows with this very ring, by one
    that proved them: proved again they would pass, and compiled again give the same.
    """
    seen = glance(settings, house.catalog)
    # An operator's first token is looked at by the first start alone.
    if seen is None or not (seen.begun or settings.bootstrap_admin_token is None):
        return False
    try:
        return still_holds(house.snapshot.read_bytes(), ring, seen.mark)
    except (OSError, SealBroken):
        return False


async def open_house(
    house: House, settings: Settings, ring: KeyRing, wishes: Wishes, env: Mapping[str, str]
) -> Opened | None:
    """Open the store, do what a first start does, boot everybody; None when told to stop first.

    Raises StartRefused when it cannot serve.
    """
    if house.closing.is_set():
        return None
    from admin.welcome import Welcome
    from gateway.catalog import load
    from gateway.process.publish import Publisher, Source
    from gateway.process.shelf import Shelf

    check_identities(settings)
    desk, away = await _desk_unless_away(settings, ring, load())
    catalog = desk.catalog if desk else Shelf(catalog_file(settings)).catalog
    try:
        check_overrides(settings, catalog)
        if desk is not None:
            check_rights(house, desk, wishes)
    except StartRefused:
        if desk is not None:
            await desk.aclose()
        raise
    welcome = Welcome(store_away=True)
    if desk is not None:
        welcome = await _first_start(desk, wishes, env)
        await desk.hush()
    publisher = Publisher(house, Source(settings, ring, catalog), desk.store if desk else None)
    if house.workers:
        await publisher.first(away)
    if await house.open(ring.expose(), store_away=desk is None):
        return Opened(publisher, catalog, welcome)
    return None


async def _first_start(desk: Desk, wishes: Wishes, env: Mapping[str, str]) -> Welcome:
    from admin.configure import tokens
    from admin.welcome import Welcome

    if not desk.rights.changes:
        return Welcome()
    welcome = Welcome(token=await tokens.ensure_bootstrap(desk))
    if wishes.import_env:
        from admin.take_in import take_in

        welcome = replace(welcome, taken=await take_in(desk, env))
    if wishes.demo_port:
        from admin.quickstart import ensure_demo

        welcome = replace(welcome, key=await ensure_demo(desk, wishes.demo_port))
    return welcome


def check_identities(settings: Settings) -> None:
    """The admin app would be refused the same, but a process away. Raises StartRefused."""
    if any(getattr(settings, item.name) for item in rows() if item.name.startswith("oidc_")):
        from admin.oidc import identities

        identities(settings)


def check_overrides(settings: Settings, catalog: Catalog) -> None:
    """Raises StartRefused for a base URL of a provider there is none of."""
    from admin.configure.addresses import override_flaw

    for name in settings.provider_base_urls:
        flaw = override_flaw(name, catalog)
        if flaw:
            raise StartRefused(f"WARDGATE_PROVIDER_BASE_URLS names {name}, {flaw}")


def check_rights(house: House, desk: Desk, wishes: Wishes) -> None:
    """Raises StartRefused where somebody here is to change a store that this role only reads."""
    changing = wishes != Wishes() or any(child.role.needs_store for child in house.neighbours)
    if changing and not desk.rights.changes:
        raise StartRefused(
            "the database role may not change configuration, which is a gateway's: the admin app, "
            "--demo and --import-env need the role that owns the tables"
        )


async def _desk_unless_away(
    settings: Settings, ring: KeyRing, catalog: Catalog
) -> tuple[Desk | None, str]:
    """The open desk; None and why when the store does not answer. Raises what else is wrong."""
    from admin.configure.desk import open_desk
    from gateway.process.publish import summary

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
    from gateway.process.publish import failure
    from gateway.store.compile import revision
    from gateway.store.engine import open_store

    store = await open_store(settings.store_url)
    problem = await failure(revision(store))
    await store.aclose()
    return problem is not None
