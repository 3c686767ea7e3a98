"""Counts of attempts by config, reporting parent and slot of time; and everybody's, judged.

Rows of a slot are replaced whole by the parent they belong to. What the figures mean is
gateway/health.py's business. Written by the parent, read by it and the admin app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, func, insert, or_, select

from gateway.health import LONGEST, WINDOWS, Counts, Judged, Look, Place, assess, unpack
from gateway.store import proofs
from gateway.store.engine import Connection, Store
from gateway.store.proofs import Proof
from gateway.store.tables import health, proof, provider_config, secret_version

_live = and_(
    secret_version.c.config_id == provider_config.c.id, secret_version.c.retired_at.is_(None)
)


async def keep(
    store: Store, source: str, counts: Mapping[Place, bytes], looks: Mapping[str, Proof]
) -> None:
    """Store `counts` (whole slots of the parent `source`) and what was seen of keys.

    Of configs deleted meanwhile nothing is kept.
    """
    async with store.note() as conn:
        known = await _known(conn, {config_id for config_id, _, _ in counts})
        rows = [
            {"config_id": config_id, "source": source, "width": width, "slot": slot, "counts": data}
            for (config_id, width, slot), data in counts.items()
            if config_id in known
        ]
        if rows:
            await _replace(conn, rows)
        for config_id, seen in sorted(looks.items()):  # in one order, for all gateways at once
            await proofs.put(conn, config_id, seen)


async def sweep(store: Store, now: float) -> None:
    """Forget the slots no window looks at any more, whoever wrote them."""
    c = health.c
    old = [and_(c.width == w, c.slot < window.begins(now)) for w, window in LONGEST.items()]
    async with store.note() as conn:
        await conn.execute(delete(health).where(or_(*old, c.width.not_in(list(LONGEST)))))


async def judged(
    store: Store, now: float, config_ids: Collection[str] | None = None
) -> dict[str, Judged]:
    """The health of these configs (None: of every one) by id; ids that are none are left out."""
    async with store.read() as conn:
        configs = await _configs(conn, config_ids)
        rows = await _counts(conn, now, config_ids)
    # Unpacking a day of many configs takes a while; requests go on meanwhile.
    return await asyncio.to_thread(_judge, configs, rows, now)


async def _known(conn: Connection, config_ids: Collection[str]) -> set[str]:
    c = provider_config.c
    return set(await conn.scalars(select(c.id).where(c.id.in_(list(config_ids)))))


async def _replace(conn: Connection, rows: list[dict[str, Any]]) -> None:
    """Delete and insert: the one way to replace that both databases spell alike."""
    c = health.c
    place = and_(
        c.config_id == bindparam("config_id"),
        c.source == bindparam("source"),
        c.width == bindparam("width"),
        c.slot == bindparam("slot"),
    )
    await conn.execute(delete(health).where(place), rows)
    await conn.execute(insert(health), rows)


async def _configs(conn: Connection, config_ids: Collection[str] | None) -> list[Row[Any]]:
    """Every config with the last look at its present key; an older key's says nothing of it."""
    c = provider_config.c
    version = func.coalesce(secret_version.c.version, 0)
    present = and_(proof.c.config_id == c.id, proof.c.secret_version == version)
    columns = (c.id, c.provider_id, c.alias, c.scope_id, proof.c.outcome, proof.c.checked_at)
    joined = provider_config.outerjoin(secret_version, _live).outerjoin(proof, present)
    wanted = select(*columns).select_from(joined).order_by(c.created_at, c.id)
    if config_ids is not None:
        wanted = wanted.where(c.id.in_(list(config_ids)))
    return list(await conn.execute(wanted))


async def _counts(
    conn: Connection, now: float, config_ids: Collection[str] | None
) -> list[Row[Any]]:
    c = health.c
    begins = [and_(c.width == w, c.slot >= window.begins(now)) for w, window in LONGEST.items()]
    wanted = select(c.config_id, c.width, c.slot, c.counts).where(or_(*begins))
    if config_ids is not None:
        wanted = wanted.where(c.config_id.in_(list(config_ids)))
    return list(await conn.execute(wanted))


def _judge(configs: Iterable[Row[Any]], rows: Iterable[Row[Any]], now: float) -> dict[str, Judged]:
    begins = [(window.name, window.width, window.begins(now)) for window in WINDOWS]
    windows: dict[str, dict[str, Counts]] = {}
    for row in rows:
        counts = unpack(row.counts)
        mine = windows.setdefault(row.config_id, {})
        for name, width, begin in begins:
            if row.width == width and row.slot >= begin:
                mine.setdefault(name, Counts()).add(counts)
    return {
        row.id: Judged(
            row.id, row.provider_id, row.alias, row.scope_id,
            assess(windows.get(row.id, {}), _look(row), now),
        )
        for row in configs
    }  # fmt: skip


def _look(row: Row[Any]) -> Look | None:
    return Look(row.outcome, row.checked_at) if row.outcome is not None else None
