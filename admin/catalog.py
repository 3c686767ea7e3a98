"""The model catalog of this house: synced from models.dev, checked, kept; and read in full.

What is unfit, drops many models or moves a config in use leaves the last good copy as it is. No
config is ever changed. Called by the command line, by the admin app's process and by api/.
"""

from __future__ import annotations

import asyncio
import hashlib
import lzma
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Annotated, Any, Literal

import msgspec
import structlog
from msgspec import Meta

from admin.catalog_source import Fetched, fetch
from admin.configure import audit
from admin.configure.desk import Desk
from admin.permit import Actor
from gateway.catalog import Catalog, packaged, parse, unpack
from gateway.errors import CatalogBroken, WardgateError
from gateway.settings import Settings
from gateway.store import catalogs, configs
from gateway.store.catalogs import Stored
from gateway.store.compile import shaped
from gateway.store.configs import ConfigRow
from gateway.store.engine import Connection
from gateway.store.places import base_url

PATIENCE = 120.0  # seconds for the whole download
LOOK_EVERY = 4.0
SCHEDULE = Actor("schedule", "catalog sync", ())
_MOST_LISTED = 20
_LONGEST_JITTER = 60.0
_log = structlog.get_logger("wardgate.catalog")

Step = Literal["download", "check", "compare"]
Tell = Callable[[Step, int, int | None], None]  # the step, bytes so far, bytes to come


class SyncRefused(WardgateError):
    """The new catalog was not taken; `reasons` are lines for people, the first a summary."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(reasons[0])
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Wish:
    """What to sync from. `force` takes a catalog that drops many models or moves configs."""

    url: str
    force: bool = False
    patience: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Difference:
    """What a new catalog changes: models as provider/model, configs as one line each."""

    before: int
    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[str]
    moved: Sequence[str]

    @property
    def objections(self) -> list[str]:
        """Why it needs force, one line each: more than a fifth gone, configs that move."""
        gone, lines = len(self.removed), []
        if gone * 5 > self.before:
            share = 100 * gone / self.before
            lines.append(f"it drops {gone} of {self.before} models ({share:.1f} %)")
        lines += [f"it moves a config in use: {line}" for line in self.moved[:_MOST_LISTED]]
        if len(self.moved) > _MOST_LISTED:
            lines.append(f"it moves {len(self.moved) - _MOST_LISTED} more configs in use")
        return lines


@dataclass(frozen=True, slots=True)
class Synced:
    """How a sync ended well. `difference` None: the source has nothing new."""

    url: str
    providers: int
    models: int
    difference: Difference | None = None
    forced: Sequence[str] = field(default_factory=tuple)


async def sync(desk: Desk, actor: Actor, wish: Wish, tell: Tell = lambda *_: None) -> Synced:
    """Fetch, check, compare and keep. Raises FetchFailed, CatalogBroken, SyncRefused."""
    await desk.refresh()
    async with desk.store.read() as conn:
        kept = await catalogs.find(conn)
    # A copy that does not open any more is fetched again, whatever its ETag says.
    known = kept if kept and kept.url == wish.url and kept.data == desk.catalog.packed else None
    etag = known.etag if known else None
    received = partial(tell, "download")
    received(0, None)
    fetched = await fetch(wish.url, etag, desk.settings, wish.patience, received)
    tell("check", 0, None)
    if known and (fetched is None or _digest(fetched.data) == known.digest):
        return await _confirmed(desk, known, fetched)
    assert fetched is not None  # without an ETag there is no 304
    new = await asyncio.to_thread(_checked, fetched.data)
    stored = await asyncio.to_thread(_packed, wish.url, fetched, desk.clock())
    tell("compare", 0, None)
    return await _taken(desk, actor, wish, kept, stored, new)


async def _confirmed(desk: Desk, known: Stored, fetched: Fetched | None) -> Synced:
    # With a new revision: every process then knows how old its catalog is.
    async with desk.store.write(None) as conn:
        await _check_alone(conn, known)
        etag = fetched.etag if fetched is not None else known.etag
        await catalogs.confirm(conn, etag, desk.clock())
    await desk.refresh()
    return Synced(known.url, *_size(desk.catalog))


async def _taken(
    desk: Desk, actor: Actor, wish: Wish, kept: Stored | None, stored: Stored, new: Catalog
) -> Synced:
    """Compare and keep inside one write, so that no config is made in between."""
    async with desk.store.write(None) as conn:
        await _check_alone(conn, kept)
        rows = await configs.everyone(conn)
        found = difference(desk.catalog, new, rows, desk.settings)
        objections = found.objections
        if objections and not wish.force:
            raise SyncRefused(
                "the new catalog is not taken, the last one stays; --force takes it", *objections
            )
        await catalogs.put(conn, stored)
        change = {
            "url": wish.url,
            "digest": stored.digest,
            "added": len(found.added),
            "removed": len(found.removed),
            "changed": len(found.changed),
            "forced": objections,
        }
        await audit.record(conn, desk, actor, "catalog.sync", "catalog", change)
    await desk.refresh()
    return Synced(wish.url, *_size(new), found, objections)


async def _check_alone(conn: Connection, before: Stored | None) -> None:
    now = await catalogs.stamp(conn)
    if (now and now.digest) != (before and before.digest):
        raise SyncRefused("another sync came in between; run it again")


def difference(
    old: Catalog, new: Catalog, rows: Iterable[ConfigRow], settings: Settings
) -> Difference:
    """What `new` would change, for models and for the stored configs."""
    before, after = _models(old), _models(new)
    return Difference(
        before=len(before),
        added=[name for name in after if name not in before],
        removed=[name for name in before if name not in after],
        changed=[name for name, model in after.items() if before.get(name, model) != model],
        moved=list(_moved(old, new, rows, settings)),
    )


def _moved(
    old: Catalog, new: Catalog, rows: Iterable[ConfigRow], settings: Settings
) -> Iterator[str]:
    """Configs whose key fits its place now, and that would get another place, or none.

    One that a forced sync left without its place is in nobody's use, and may get it back.
    """
    for row in rows:
        usable = replace(row, is_active=True)
        before = shaped(usable, old, settings)
        fits = before.active and before.origin == row.origin
        if fits and before != shaped(usable, new, settings):
            here, there = (_place(row, catalog) for catalog in (old, new))
            yield f"{row.provider_id}/{row.alias} of {row.scope_id}: {here} → {there}"


def _place(row: ConfigRow, catalog: Catalog) -> str:
    provider = catalog.providers.get(row.provider_id)
    place = base_url(provider, row.base_url, row.settings)
    return place if place and provider else "no such provider" if place else "no base URL"


def _models(catalog: Catalog) -> dict[str, object]:
    entries = catalog.providers.values()
    return {f"{p.id}/{name}": model for p in entries for name, model in p.models.items()}


def _size(catalog: Catalog) -> tuple[int, int]:
    entries = catalog.providers.values()
    return len(entries), sum(len(provider.models) for provider in entries)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _packed(url: str, fetched: Fetched, now: float) -> Stored:
    packed = lzma.compress(fetched.data)
    return Stored(
        url=url, etag=fetched.etag, digest=_digest(fetched.data), data=packed, synced_at=now
    )


def _checked(data: bytes) -> Catalog:
    """Raises CatalogBroken: what api/ shows must be sound, too, though no worker reads it."""
    new = parse(data, 0.0)
    try:
        msgspec.json.decode(data, type=dict[str, _Entry])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogBroken(f"this is no catalog: {error}") from None
    return new


_Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,40}\Z")]


class _Full(msgspec.Struct, omit_defaults=True):
    """What is shown of a model beyond what requests need."""

    cost: dict[str, Any] | None = None
    limit: dict[str, int | None] | None = None
    modalities: dict[str, list[_Word]] | None = None
    reasoning: bool | None = None
    tool_call: bool | None = None
    attachment: bool | None = None


class _Entry(msgspec.Struct):
    models: dict[str, _Full]


def details(catalog: Catalog, provider: str) -> Mapping[str, Mapping[str, Any]]:
    """What no worker needs of a provider's models, by model id, as the source has it.

    Of each `cost`, `limit`, `modalities`, `reasoning`, `tool_call`, `attachment`, as far as it has
    them. Empty for a provider that is not in the catalog.
    """
    entry = _entries(catalog).get(provider)
    found = msgspec.json.decode(entry, type=_Entry).models if entry is not None else {}
    return {name: msgspec.to_builtins(full) for name, full in found.items()}


@lru_cache(maxsize=1)
def _entries(catalog: Catalog) -> dict[str, msgspec.Raw]:
    data = unpack(catalog.packed or packaged())
    return msgspec.json.decode(data, type=dict[str, msgspec.Raw])


async def follow(desk: Desk) -> None:
    """Notice within a few seconds what another process synced; until cancelled."""
    said = desk.catalog_flaw
    while True:
        # A store that is away is complained about by whoever needs it.
        await asyncio.gather(desk.refresh(), return_exceptions=True)
        if desk.catalog_flaw != said:
            said = desk.catalog_flaw
            _log.error("stored catalog not taken", error=said)
        await asyncio.sleep(LOOK_EVERY)


async def sync_regularly(desk: Desk) -> None:
    """Sync every WARDGATE_CATALOG_SYNC_INTERVAL seconds, until cancelled; failures are logged."""
    interval = desk.settings.catalog_sync_interval
    # Not in step with other admin apps.
    pause = random.uniform(0, min(interval / 10, _LONGEST_JITTER))
    while interval:
        await asyncio.sleep(pause)
        [problem] = await asyncio.gather(sync_if_due(desk), return_exceptions=True)
        if isinstance(problem, WardgateError):
            _log.warning("catalog not synced", error=str(problem), reasons=_reasons(problem))
        elif isinstance(problem, BaseException):
            _log.warning("catalog not synced", error=type(problem).__name__)
        pause = interval * random.uniform(0.9, 1.1)


async def sync_if_due(desk: Desk) -> Synced | None:
    """Sync unless another admin app did so less than half an interval ago. Raises as `sync`."""
    async with desk.store.read() as conn:
        stamp = await catalogs.stamp(conn)
    recent = desk.clock() - desk.settings.catalog_sync_interval / 2
    if stamp is not None and stamp.synced_at > recent:
        return None
    return await sync(desk, SCHEDULE, Wish(desk.settings.catalog_url))


def _reasons(problem: WardgateError) -> Sequence[str]:
    return problem.reasons[1:] if isinstance(problem, SyncRefused) else ()
