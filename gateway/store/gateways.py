"""Gateways' own settings, one row beside the scope `gateway:{account}/{id}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import Row, delete, func, insert, select, update

from gateway.shapes import RateLimit
from gateway.store.engine import Connection
from gateway.store.tables import agent, client_key, gateway, telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRow:
    """A stored gateway; the names are the columns'."""

    scope_id: str
    account: str
    gateway_id: str
    rate_limiting_limit: int | None
    rate_limiting_interval: int | None
    rate_limiting_technique: Literal["fixed", "sliding"]
    cache_ttl: int | None
    cache_invalidate_on_update: bool
    collect_logs: bool
    authentication: bool
    extra: Mapping[str, Any]
    created_at: float
    updated_at: float

    @property
    def limit(self) -> RateLimit | None:
        """The limit all requests of the gateway share; 0 and NULL are none."""
        if not self.rate_limiting_limit or not self.rate_limiting_interval:
            return None
        return RateLimit(
            self.rate_limiting_limit, self.rate_limiting_interval, self.rate_limiting_technique
        )


_COLUMNS = [gateway.c[item.name] for item in fields(GatewayRow)]


def _shaped(row: Row[Any]) -> GatewayRow:
    return GatewayRow(**row._mapping)


async def everyone(conn: Connection) -> list[GatewayRow]:
    return [_shaped(row) for row in await conn.execute(select(*_COLUMNS))]


async def find(conn: Connection, scope_id: str) -> GatewayRow | None:
    wanted = select(*_COLUMNS).where(gateway.c.scope_id == scope_id)
    row = (await conn.execute(wanted)).first()
    return _shaped(row) if row is not None else None


async def page(
    conn: Connection, account: str, offset: int, limit: int, search: str
) -> tuple[list[GatewayRow], int]:
    """Oldest first; `search` is a part of the id."""
    within = [gateway.c.account == account]
    if search:
        within.append(gateway.c.gateway_id.contains(search, autoescape=True))
    total = await conn.scalar(select(func.count()).select_from(gateway).where(*within))
    order = (gateway.c.created_at, gateway.c.gateway_id)
    wanted = select(*_COLUMNS).where(*within).order_by(*order).offset(offset).limit(limit)
    return [_shaped(row) for row in await conn.execute(wanted)], int(total or 0)


async def add(conn: Connection, values: Mapping[str, Any]) -> None:
    await conn.execute(insert(gateway).values(**values))


async def alter(conn: Connection, scope_id: str, values: Mapping[str, Any]) -> None:
    await conn.execute(update(gateway).where(gateway.c.scope_id == scope_id).values(**values))


async def remove_callers(conn: Connection, scope_id: str) -> list[str]:
    """Delete the client keys and agents of a scope that goes; answers the ids of the keys."""
    held = client_key.c.scope_id == scope_id
    gone = list(await conn.scalars(select(client_key.c.id).where(held)))
    await conn.execute(delete(telemetry).where(telemetry.c.key_id.in_(gone)))
    await conn.execute(delete(client_key).where(held))
    await conn.execute(delete(agent).where(agent.c.scope_id == scope_id))
    return gone
