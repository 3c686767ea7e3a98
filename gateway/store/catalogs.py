"""The synced model catalog: one row, kept as it was fetched. Statements, and how a row is opened.

What may be put here is admin/catalog.py's to decide. Read by the publisher and the desk, which look
at the stamp often and at the data only when the stamp is another one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

from sqlalchemy import delete, insert, select, update

from gateway.catalog import Catalog, parse, unpack
from gateway.store.engine import Connection
from gateway.store.tables import catalog


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which catalog is stored. `digest` is the SHA-256 of its JSON, in hex."""

    digest: str
    synced_at: float  # Unix seconds: when the source last said that this is what it has


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The row; the names are the columns'. `data` is the source's JSON, xz."""

    url: str
    etag: str | None
    digest: str
    data: bytes
    synced_at: float

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.digest, self.synced_at)


async def stamp(conn: Connection) -> Stamp | None:
    """What is stored, without reading it; None: nothing was ever synced."""
    row = (await conn.execute(select(catalog.c.digest, catalog.c.synced_at))).first()
    return Stamp(row.digest, row.synced_at) if row is not None else None


async def find(conn: Connection) -> Stored | None:
    row = (await conn.execute(select(*(catalog.c[item.name] for item in fields(Stored))))).first()
    return Stored(**row._mapping) if row is not None else None


async def put(conn: Connection, new: Stored) -> None:
    """Keep this one instead of whatever was kept."""
    values = {item.name: getattr(new, item.name) for item in fields(Stored)}
    await conn.execute(delete(catalog))
    await conn.execute(insert(catalog).values(id=1, **values))


async def confirm(conn: Connection, etag: str | None, now: float) -> None:
    """The source still has what is kept."""
    await conn.execute(update(catalog).values(etag=etag, synced_at=now))


@lru_cache(maxsize=1)
def opened(row: Stored) -> Catalog:
    """The catalog in a row; takes some 30 ms the first time. Raises CatalogBroken."""
    return parse(unpack(row.data), row.synced_at, row.data)
