"""Copies a whole store into another database; killed at any moment, it goes on where it was.

The target is marked before the first row and until everything was compared and proved; a marked
database is refused by every start. Rows go over in one order, so how many of a table are there says
where to go on. Called by `wardgate store copy`; the target's schema is migrate.py's.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Table, delete, func, insert, literal, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.errors import SealBroken, StartRefused
from gateway.store import sealed, tables
from gateway.store.audit import Verdict
from gateway.store.engine import Connection, Store, current_revision, open_store, opening, reason
from gateway.store.migrate import make_file, migrate, newest, standing
from gateway.vault import KeyRing

# Rows of one insert, and of one transaction of the target.
CHUNK = 500
# Parents first; deleted the other way round.
_TABLES = tables.metadata.sorted_tables
# These change without a new revision: a copy taken up later takes them anew.
PASSING = (tables.telemetry, tables.health, tables.proof, tables.idempotency)
_FRESH = {tables.scope.name: 1, tables.revision.name: 1}  # what migrations put there
_DIGEST = 1 << 256

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Sum:
    """What a table holds: how many rows, and a digest (hex) of all values in whatever order."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Copied:
    """What both databases hold now. `copied`: rows that went over this time; 0: all were there."""

    sums: Mapping[str, Sum]
    revision: int
    copied: int
    trail: Verdict


@dataclass(frozen=True, slots=True)
class _Mark:
    """Which store a copy is of, and at which revision it was begun."""

    identity: bytes
    revision: int

    def packed(self) -> bytes:
        return self.identity + self.revision.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class _Work:
    """One run: the source's one state, and where it goes, `chunk` rows at a time."""

    source: Connection
    target: Store
    mark: _Mark
    chunk: int
    tell: Tell


class _Differs(Exception):
    """A table of the target does not hold what the source's does."""


async def open_target(url: str) -> Store:
    """The database at `url`, migrated. Raises StartRefused where it holds something else's tables
    or cannot be opened; that one is left as it is.
    """
    with opening(url):
        make_file(url)
        store = await open_store(url)
        try:
            async with store.read() as conn:
                version, used = await conn.run_sync(standing)
        finally:
            await store.aclose()
    if used and version != newest():
        raise StartRefused(
            "the target holds tables of something else, or of another version of Wardgate: "
            "name an empty database"
        )
    await asyncio.to_thread(migrate, url)
    return await open_store(url)


async def copy(
    source: Store, target: Store, ring: KeyRing, tell: Tell, chunk: int = CHUNK
) -> Copied:
    """Make `target` hold what `source` holds, in one state of it, and prove it with `ring`.

    `tell` hears of a step, how many rows are done and how many there are. Raises StartRefused when
    the target holds other data, and when the source changed meanwhile: run again, it is taken up.
    """
    async with source.read() as conn:
        mark = _Mark(await sealed.identity(conn), await current_revision(conn))
        if not mark.identity:
            raise StartRefused("there is nothing to copy: nothing was ever started with this store")
        work = _Work(conn, target, mark, chunk, tell)
        going_on = await _claim(work)
        if going_on is None:
            copied, sums = 0, await _hold_the_same(work)
        else:
            copied, sums = await _fill(work, going_on)
    trail = await _proved(target, ring)
    if going_on is not None:
        await _finish(source, work)
    return Copied(sums, mark.revision, copied, trail)


async def _claim(work: _Work) -> bool | None:
    """Mark the target as ours. True: to go on with; False: from the beginning; None: it is a
    finished copy of this store. Raises StartRefused when it holds anything else.
    """
    async with work.target.read() as there:
        begun, mine = await sealed.unfinished(there), await sealed.identity(there)
        found = {table.name: await _count(there, table) for table in _TABLES}
        untouched = not await current_revision(there)
    if begun is None and mine == work.mark.identity:
        return None
    fresh = untouched and {name: rows for name, rows in found.items() if rows} == _FRESH
    if begun is None and not fresh:
        raise StartRefused("the target holds data of its own: name an empty database")
    if begun is not None and not begun.startswith(work.mark.identity):
        raise StartRefused("the target is an unfinished copy of another store: name another one")
    going_on = begun == work.mark.packed()
    await _clear(work, PASSING if going_on else _TABLES)
    return going_on


async def _clear(work: _Work, which: Sequence[Table]) -> None:
    async with work.target.note() as there:
        for table in reversed(which):
            await there.execute(delete(table))
        await sealed.mark_unfinished(there, work.mark.packed())


async def _fill(work: _Work, going_on: bool) -> tuple[int, Mapping[str, Sum]]:
    """Bring over what the target lacks: how many rows that were, and what both hold then."""
    try:
        copied = [await _carry(work, table) for table in _TABLES]
        return sum(copied), await _compared(work, _TABLES)
    except _Differs as table:
        if not going_on:
            raise StartRefused(
                f"table {table} is not the same in the target: does anybody else write to it?"
            ) from None
    # What was there from the last time is not what it was: all of it anew.
    await _clear(work, _TABLES)
    return await _fill(work, False)


async def _carry(work: _Work, table: Table) -> int:
    """Bring over the rows of one table that come after those which are there."""
    total = await _count(work.source, table)
    async with work.target.read() as there:
        before = done = await _count(there, table)
    work.tell(f"copying {table.name}", done, total)
    wanted = _in_order(table).offset(done).execution_options(yield_per=work.chunk)
    async for some in (await work.source.stream(wanted)).partitions():
        try:
            async with work.target.note() as there:
                await there.execute(insert(table), [dict(row._mapping) for row in some])
        except IntegrityError:
            raise _Differs(table.name) from None  # not those that came first
        except SQLAlchemyError as error:
            raise StartRefused(f"table {table.name} cannot be copied: {reason(error)}") from None
        done += len(some)
        work.tell(f"copying {table.name}", done, total)
    return done - before


async def _hold_the_same(work: _Work) -> Mapping[str, Sum]:
    """Of a copy that was finished before. Raises StartRefused when either was changed since."""
    try:
        return await _compared(work, [table for table in _TABLES if table not in PASSING])
    except _Differs as table:
        raise StartRefused(
            f"the target is a finished copy, and table {table} has changed since in one of the "
            "two: name an empty database"
        ) from None


async def _compared(work: _Work, which: Sequence[Table]) -> Mapping[str, Sum]:
    """What these tables hold on both sides. Raises _Differs with the name of one that does not."""
    sums = {}
    async with work.target.read() as there:
        for done, table in enumerate(which):
            work.tell(f"comparing {table.name}", done, len(which))
            sums[table.name] = await _sum(work.source, table)
            if await _sum(there, table) != sums[table.name]:
                raise _Differs(table.name)
    work.tell("comparing", len(which), len(which))
    return sums


async def _proved(target: Store, ring: KeyRing) -> Verdict:
    async with target.read() as there:
        try:
            return await sealed.prove(there, ring)
        except SealBroken as error:
            raise StartRefused(f"the master key does not open the copy: {error}") from None


async def _finish(source: Store, work: _Work) -> None:
    async with source.read() as conn:
        now = await current_revision(conn)
    if now != work.mark.revision:
        raise StartRefused(
            f"the store changed during the copy (revision {work.mark.revision}, now {now}): stop "
            "what changes it, then run this again"
        )
    async with work.target.note() as there:
        await sealed.mark_unfinished(there, None)


async def _count(conn: Connection, table: Table) -> int:
    counted = select(func.count()).select_from(_content(table).subquery())
    return int(await conn.scalar(counted) or 0)


async def _sum(conn: Connection, table: Table) -> Sum:
    count = total = 0
    rows = await conn.stream(_content(table).execution_options(yield_per=CHUNK))
    async for row in rows:
        count += 1
        total += int.from_bytes(hashlib.sha256(repr(tuple(row)).encode()).digest(), "big")
    return Sum(count, f"{total % _DIGEST:064x}")


def _content(table: Table) -> Select[Any]:
    """Everything in a table but the mark of a copy under way."""
    if table is tables.sealed:
        return select(table).where(table.c.name != sealed.UNFINISHED)
    return select(table)


def _in_order(table: Table) -> Select[Any]:
    """The same rows in the same order each time, those first that others refer to."""
    if table is not tables.scope:
        return _content(table).order_by(*table.primary_key)
    c = tables.scope.c
    depth = select(c.id, literal(0).label("depth")).where(c.parent_id.is_(None)).cte(recursive=True)
    below = select(c.id, depth.c.depth + 1).where(c.parent_id == depth.c.id)
    depth = depth.union_all(below)
    return select(tables.scope).join(depth, depth.c.id == c.id).order_by(depth.c.depth, c.id)
