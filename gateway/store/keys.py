"""Client keys: only the keyed hash of a key is ever stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, insert, select, update

from gateway.shapes import Client, RateLimit
from gateway.store.engine import Connection
from gateway.store.tables import client_key, telemetry


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A stored key: the client it stands for, and what only lists show."""

    client: Client
    rate_limit_period: int  # kept where there is no limit
    created_at: float
    revoked_at: float | None
    last_used_at: float | None


def _rows() -> Select[Any]:
    joined = client_key.outerjoin(telemetry, telemetry.c.key_id == client_key.c.id)
    order = (client_key.c.created_at, client_key.c.id)
    return select(client_key, telemetry.c.last_used_at).select_from(joined).order_by(*order)


def _shaped(row: Row[Any]) -> KeyRow:
    limit = RateLimit(row.rate_limit, row.rate_limit_period) if row.rate_limit else None
    client = Client(
        id=row.id,
        digest=bytes(row.digest),
        scope=row.scope_id,
        name=row.name,
        agent=row.agent_id,
        allowed_models=tuple(row.allowed_models),
        limit=limit,
        expires_at=row.expires_at,
    )
    return KeyRow(client, row.rate_limit_period, row.created_at, row.revoked_at, row.last_used_at)


async def everyone(conn: Connection) -> list[Client]:
    """Every key that is not revoked; expired ones too, so that they can be told so."""
    found = await conn.execute(_rows().where(client_key.c.revoked_at.is_(None)))
    return [_shaped(row).client for row in found]


async def find(conn: Connection, key_id: str) -> KeyRow | None:
    row = (await conn.execute(_rows().where(client_key.c.id == key_id))).first()
    return _shaped(row) if row is not None else None


async def page(
    conn: Connection, scopes: Collection[str] | None, offset: int, limit: int
) -> tuple[list[KeyRow], int]:
    """Keys that are not revoked, oldest first, with the number there are in all."""
    within: list[ColumnElement[bool]] = [client_key.c.revoked_at.is_(None)]
    if scopes is not None:
        within.append(client_key.c.scope_id.in_(scopes))
    total = await conn.scalar(select(func.count()).select_from(client_key).where(*within))
    found = await conn.execute(_rows().where(*within).offset(offset).limit(limit))
    return [_shaped(row) for row in found], int(total or 0)


async def add(conn: Connection, values: Mapping[str, Any]) -> None:
    await conn.execute(insert(client_key).values(**values))


async def alter(conn: Connection, key_id: str, values: Mapping[str, Any]) -> None:
    await conn.execute(update(client_key).where(client_key.c.id == key_id).values(**values))


async def revoke(conn: Connection, key_id: str, now: float) -> None:
    await conn.execute(update(client_key).where(client_key.c.id == key_id).values(revoked_at=now))
