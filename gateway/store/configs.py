"""Provider configs and their secret versions: statements only, the rules are the desk's.

No secret is opened here; `sealed` goes in and out as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Row, Select, and_, delete, exists, func, insert, select, update

from gateway.shapes import AuthType, DialectName, Setting
from gateway.store.engine import Connection
from gateway.store.tables import provider_config, secret_version

_live = and_(
    secret_version.c.config_id == provider_config.c.id, secret_version.c.retired_at.is_(None)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRow:
    """A stored config with its live secret; the names are the columns'."""

    id: str
    scope_id: str
    provider_id: str
    alias: str
    name: str
    dialect: DialectName | None
    base_url: str | None
    origin: str
    auth_type: AuthType
    settings: Mapping[str, Setting]
    is_active: bool
    is_default: bool
    rate_limit: int | None
    rate_limit_period: int
    last_secret_version: int
    secret_label: str | None
    allow_unlisted: bool
    managed_by: str | None
    made_by: str | None
    revision: int
    created_at: float
    updated_at: float
    version: int | None  # of the live secret, as the five below
    sealed: bytes | None
    reference: str | None
    preview: str | None
    part_masks: Mapping[str, str] | None  # of a key made of parts: how each is shown


_SECRET = ("version", "sealed", "reference", "preview", "part_masks")
_NAMES = tuple(item.name for item in fields(ConfigRow))


def _rows() -> Select[Any]:
    columns = [(secret_version if n in _SECRET else provider_config).c[n] for n in _NAMES]
    joined = provider_config.outerjoin(secret_version, _live)
    order = (provider_config.c.created_at, provider_config.c.id)
    return select(*columns).select_from(joined).order_by(*order)


def _shaped(row: Row[Any]) -> ConfigRow:
    return ConfigRow(**row._mapping)


async def everyone(conn: Connection) -> list[ConfigRow]:
    """Every config, oldest first."""
    return [_shaped(row) for row in await conn.execute(_rows())]


async def find(conn: Connection, config_id: str, scope_id: str | None = None) -> ConfigRow | None:
    """One config; `scope_id` None: in whatever scope."""
    c = provider_config.c
    wanted = _rows().where(c.id == config_id)
    if scope_id is not None:
        wanted = wanted.where(c.scope_id == scope_id)
    row = (await conn.execute(wanted)).first()
    return _shaped(row) if row is not None else None


async def page(
    conn: Connection, scope_id: str | None, offset: int, limit: int
) -> tuple[list[ConfigRow], int]:
    """Oldest first, with the number there are in all."""
    within = provider_config.c.scope_id == scope_id if scope_id is not None else None
    count, rows = select(func.count()).select_from(provider_config), _rows()
    if within is not None:
        count, rows = count.where(within), rows.where(within)
    total = await conn.scalar(count)
    found = await conn.execute(rows.offset(offset).limit(limit))
    return [_shaped(row) for row in found], int(total or 0)


async def of_provider(conn: Connection, scope_id: str, provider_id: str) -> list[ConfigRow]:
    """A scope's configs of one provider, inactive ones too, oldest first."""
    c = provider_config.c
    wanted = _rows().where(c.scope_id == scope_id, c.provider_id == provider_id)
    return [_shaped(row) for row in await conn.execute(wanted)]


async def of_scope(conn: Connection, scope_id: str) -> list[ConfigRow]:
    """A scope's configs, oldest first."""
    wanted = _rows().where(provider_config.c.scope_id == scope_id)
    return [_shaped(row) for row in await conn.execute(wanted)]


async def has_any(conn: Connection, scope_id: str, provider_id: str) -> bool:
    c = provider_config.c
    wanted = exists().where(c.scope_id == scope_id, c.provider_id == provider_id)
    return bool(await conn.scalar(select(wanted)))


async def alias_holder(conn: Connection, scope_id: str, provider_id: str, alias: str) -> str | None:
    """The id of the config that has this alias, in any spelling of upper and lower case."""
    c = provider_config.c
    wanted = select(c.id).where(
        c.scope_id == scope_id, c.provider_id == provider_id, c.alias_key == alias.lower()
    )
    found: str | None = await conn.scalar(wanted)
    return found


async def add(conn: Connection, values: Mapping[str, Any]) -> None:
    await conn.execute(insert(provider_config).values(**values))


async def alter(conn: Connection, config_id: str, values: Mapping[str, Any]) -> None:
    await conn.execute(
        update(provider_config).where(provider_config.c.id == config_id).values(**values)
    )


async def remove(conn: Connection, config_id: str) -> None:
    await conn.execute(delete(provider_config).where(provider_config.c.id == config_id))


async def remove_all(conn: Connection, scope_id: str) -> None:
    """Every config of a scope."""
    await conn.execute(delete(provider_config).where(provider_config.c.scope_id == scope_id))


async def clear_default(conn: Connection, scope_id: str, provider_id: str) -> None:
    """A statement of its own: moving the flag in one trips SQLite's partial unique index."""
    c = provider_config.c
    held = (c.scope_id == scope_id, c.provider_id == provider_id, c.is_default)
    await conn.execute(update(provider_config).where(*held).values(is_default=False))


async def put_secret(conn: Connection, values: Mapping[str, Any], now: float) -> None:
    """Retire the live version of `config_id`, if any, and store the next."""
    await retire_secret(conn, values["config_id"], now)
    await conn.execute(insert(secret_version).values(**values, created_at=now))


async def retire_secret(conn: Connection, config_id: str, now: float) -> None:
    c = secret_version.c
    live = (c.config_id == config_id, c.retired_at.is_(None))
    await conn.execute(update(secret_version).where(*live).values(retired_at=now))


async def sweep_secrets(conn: Connection, before: float) -> None:
    """Forget versions retired before that time: whoever used them has drained."""
    await conn.execute(delete(secret_version).where(secret_version.c.retired_at < before))


async def sealed_secrets(conn: Connection) -> list[bytes]:
    """Every live sealed blob."""
    c = secret_version.c
    wanted = select(c.sealed).where(c.retired_at.is_(None), c.sealed.is_not(None))
    return list(await conn.scalars(wanted))
