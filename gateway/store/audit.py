"""The audit rows and their HMAC chain: append, read, verify; there is no edit and no delete.

A row's code covers the row before it; the head's code covers how many rows there are, so an edited,
removed or swapped row shows, and so does a cut-off end. Written inside the desk's transactions.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
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


async def intact(conn: Connection, key: bytes, chunk: int = _CHUNK) -> bool:
    """Whether every row and the head are as they were written. Reads all, `chunk` at a time."""
    last, previous = 0, _GENESIS
    while rows := [_stored(row) for row in await conn.execute(_after(last, chunk))]:
        for row in rows:
            expected = _mac(key, last + 1, row.entry, previous)
            if not hmac.compare_digest(expected, row.mac):
                return False
            last, previous = row.id, row.mac
    head = (await conn.execute(select(audit_head))).first()
    wanted = _head(key, last, previous)
    return head is not None and all(getattr(head, name) == value for name, value in wanted.items())


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
