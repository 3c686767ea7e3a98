"""The audit rows and their HMAC chain: append, read, verify; there is no edit and no delete.

A row's code covers the row before it; the head's code covers how many rows there are, so an edited,
removed or swapped row shows, and so does a cut-off end. Written inside the desk's transactions.
What was verified before need not be read again: a Mark says how far.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Row, Select, insert, select, update

from gateway.store.engine import Connection
from gateway.store.tables import audit, audit_head

_GENESIS = bytes(32)
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `change` is JSON text, kept byte for byte."""

    at: float  # Unix seconds
    actor_id: str
    actor_name: str
    action: str
    target: str
    change: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry with its place in the chain."""

    id: int
    entry: Entry
    mac: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the chain: the id and the code of a row."""

    id: int
    mac: bytes


BEGINNING = Mark(0, _GENESIS)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`mark`: how far the chain holds. `flaw`: what is wrong first, in words; None: nothing."""

    mark: Mark
    flaw: str | None


async def begin(conn: Connection, key: bytes) -> None:
    """Write the head of an empty chain; done once, when the key is made."""
    await conn.execute(insert(audit_head).values(id=1, **_head(key, 0, _GENESIS)))


async def append(conn: Connection, key: bytes, entry: Entry) -> None:
    """Add to the chain where its head says it ends, whatever became of the rows."""
    head = (await conn.execute(select(audit_head))).first()
    last, previous = (head.last, bytes(head.row_mac)) if head is not None else await _end(conn)
    mac = _mac(key, last + 1, entry, previous)
    await conn.execute(insert(audit).values(id=last + 1, mac=mac, **_columns(entry)))
    await conn.execute(update(audit_head).values(**_head(key, last + 1, mac)))


async def page(conn: Connection, limit: int, before: int | None) -> list[Stored]:
    """Newest first."""
    wanted = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(audit.c.id < before)
    return [_stored(row) for row in await conn.execute(wanted)]


async def whole(conn: Connection, key: bytes, shown: Sequence[Stored], top: int) -> bool:
    """Whether `shown`, newest first, begins at row `top` and is as it was written, without gaps."""
    if not shown or shown[0].id != top:
        return not shown and top == 0
    before = await page(conn, 1, shown[-1].id)
    start = Mark(before[0].id, before[0].mac) if before else BEGINNING
    return _follow(key, start, reversed(shown))[1] is None


async def length(conn: Connection) -> int:
    """How many rows the head says there are."""
    return int(await conn.scalar(select(audit_head.c.last)) or 0)


async def verify(
    conn: Connection,
    key: bytes,
    since: Mark,
    told: Callable[[int], None] = lambda _: None,
    chunk: int = _CHUNK,
) -> Verdict:
    """Verify the rows after `since`, `chunk` at a time, and the head; `told` how far it is.

    That the row of `since` still stands there is looked at, what is before it is not.
    """
    if not await _stands(conn, since):
        return Verdict(since, f"row {since.id} is not what it was when it was verified")
    mark = since
    while rows := [_stored(row) for row in await conn.execute(_after(mark.id, chunk))]:
        mark, wrong = _follow(key, mark, rows)
        if wrong is not None:
            return Verdict(mark, _flaw(mark, wrong))
        told(mark.id)
    return Verdict(mark, await _head_flaw(conn, key, mark))


async def _stands(conn: Connection, mark: Mark) -> bool:
    mac = await conn.scalar(select(audit.c.mac).where(audit.c.id == mark.id))
    return mark == BEGINNING or (mac is not None and bytes(mac) == mark.mac)


def _follow(key: bytes, mark: Mark, rows: Iterable[Stored]) -> tuple[Mark, Stored | None]:
    """How far from `mark` on the rows are those that were written, and the first that is not."""
    for row in rows:
        expected = _mac(key, mark.id + 1, row.entry, mark.mac)
        if row.id != mark.id + 1 or not hmac.compare_digest(expected, row.mac):
            return mark, row
        mark = Mark(row.id, row.mac)
    return mark, None


def _flaw(mark: Mark, row: Stored) -> str:
    if row.id != mark.id + 1:
        return f"row {mark.id + 1} is missing"
    return f"row {row.id} is not as it was written"


async def _head_flaw(conn: Connection, key: bytes, mark: Mark) -> str | None:
    head = (await conn.execute(select(audit_head))).first()
    if head is None:
        return "the head, which says how many rows there are, is missing"
    wanted = _head(key, mark.id, mark.mac)
    if all(getattr(head, name) == value for name, value in wanted.items()):
        return None
    if head.last > mark.id:
        return f"row {mark.id + 1} is missing, the end was cut off"
    return "the head, which says how many rows there are, is not as it was written"


def _after(last: int, chunk: int) -> Select[tuple[object, ...]]:
    return select(audit).where(audit.c.id > last).order_by(audit.c.id).limit(chunk)


async def _end(conn: Connection) -> tuple[int, bytes]:
    # Somebody removed the head. Changes are still recorded; the chain stays broken for good.
    row = next(iter(await page(conn, 1, None)), None)
    return (row.id, row.mac) if row is not None else (0, _GENESIS)


def _stored(row: Row[tuple[object, ...]]) -> Stored:
    entry = Entry(row.at, row.actor_id, row.actor_name, row.action, row.target, row.change)
    return Stored(row.id, entry, bytes(row.mac))


def _columns(entry: Entry) -> dict[str, str | float]:
    return {
        "at": entry.at,
        "actor_id": entry.actor_id,
        "actor_name": entry.actor_name,
        "action": entry.action,
        "target": entry.target,
        "change": entry.change,
    }


def _mac(key: bytes, number: int, entry: Entry, previous: bytes) -> bytes:
    texts = (str(number), repr(float(entry.at)), *map(str, list(_columns(entry).values())[1:]))
    return _hmac(key, b"row", (*(text.encode() for text in texts), previous))


def _head(key: bytes, last: int, row_mac: bytes) -> dict[str, int | bytes]:
    mac = _hmac(key, b"head", (str(last).encode(), row_mac))
    return {"last": last, "row_mac": row_mac, "mac": mac}


def _hmac(key: bytes, kind: bytes, parts: tuple[bytes, ...]) -> bytes:
    return hmac.digest(key, b"".join(_framed((kind, *parts))), "sha256")


def _framed(parts: tuple[bytes, ...]) -> Iterator[bytes]:
    for part in parts:
        yield len(part).to_bytes(4, "big")
        yield part
