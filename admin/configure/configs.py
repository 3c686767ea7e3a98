"""Provider configs: create, change, delete, read; every surface writes through these.

Each change is one transaction with its audit row. A key is sealed here and never opened; where it
may go (the origin) is decided when it is sealed, and moving that needs the key again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from admin.configure import audit, drafts, rules, scoping
from admin.configure.desk import Desk
from admin.configure.drafts import Key, Keying
from admin.configure.identity import new_id, read_id
from admin.configure.orders import UNSET, ConfigChange, ConfigView, NewConfig, Unset
from admin.configure.refusals import Refusal
from admin.permit import Actor
from gateway.store import configs as store
from gateway.store.configs import ConfigRow
from gateway.store.engine import Connection, current_revision
from gateway.vault import binding, preview

__all__ = [
    "UNSET",
    "ConfigChange",
    "ConfigView",
    "NewConfig",
    "Unset",
    "change",
    "create",
    "delete",
    "get",
    "page",
]
# A worker may still hold the routing table from before a rotation, and streams last long.
_RETIRED_FOR = 3600.0
_NOT_CHANGES = ("alias_key", "revision", "updated_at", "last_secret_version")


async def create(desk: Desk, actor: Actor, new: NewConfig) -> ConfigView:
    """Store a new config; the scope (and its gateway) is made when missing.

    Raises Refusal of any kind that speaks of a config.
    """
    scoping.kind_of(new.scope)
    provider = rules.provider(new.provider, desk.catalog)
    asked = drafts.everything(new, drafts.title(desk, provider, new.alias))
    columns = drafts.columns(desk, actor, provider, asked, None)
    columns["dialect"] = rules.dialect(new.dialect, provider)
    asked = replace(asked, secret=new.secret, secret_id=new.secret_id)
    columns |= drafts.label(asked, None)
    key = drafts.keying(asked, None, actor)
    async with desk.store.write(new.scope) as conn:
        await scoping.ensure(conn, new.scope, desk.clock())
        row = await _insert(conn, desk, new, provider, columns)
        written = await _write_key(conn, desk, drafts.bound(key, {}, row), row)
        told: dict[str, Any] = {**columns, **written, "is_default": row.is_default}
        told |= {"scope_id": new.scope, "provider_id": provider}
        await _record(conn, desk, actor, "config.create", row, told)
        return _shown(await _found(conn, row.id, new.scope))


async def change(
    desk: Desk, actor: Actor, config_id: str, scope: str, change: ConfigChange
) -> ConfigView:
    """Change what `change` names, in one transaction; a named `settings` replaces the stored one.

    Raises Refusal: not_found, and those of `create` for the fields named, and rebind.
    """
    async with desk.store.write(scope) as conn:
        row = await _found(conn, config_id, scope)
        columns = drafts.columns(desk, actor, row.provider_id, change, row)
        columns |= drafts.label(change, row)
        key = drafts.bound(drafts.keying(change, row, actor), columns, row)
        if "alias" in columns:
            await _check_alias(conn, row.scope_id, row.provider_id, columns["alias"], row.id)
        if change.default is not UNSET:
            await _clear_default(conn, row.scope_id, row.provider_id, change.default)
            columns["is_default"] = change.default
        stamps = {"revision": await current_revision(conn), "updated_at": desk.clock()}
        await store.alter(conn, row.id, {**columns, **stamps})
        moved = await _found(conn, row.id, scope)
        written = await _write_key(conn, desk, key, moved)
        await _record(conn, desk, actor, "config.change", row, {**columns, **written})
        return _shown(await _found(conn, row.id, scope))


async def delete(desk: Desk, actor: Actor, config_id: str, scope: str) -> ConfigView:
    """Delete; answers what was deleted. Deleting the default promotes nobody.

    Raises Refusal not_found.
    """
    async with desk.store.write(scope) as conn:
        row = await _found(conn, config_id, scope)
        await store.remove(conn, row.id)
        told = {"scope_id": scope, "provider_id": row.provider_id, "alias": row.alias}
        await _record(conn, desk, actor, "config.delete", row, told)
        return _shown(row)


async def get(desk: Desk, config_id: str, scope: str) -> ConfigView:
    """One config of that scope, by any spelling of its id. Raises Refusal not_found."""
    async with desk.store.read() as conn:
        return _shown(await _found(conn, config_id, scope))


async def page(
    desk: Desk, scope: str | None, offset: int, limit: int
) -> tuple[list[ConfigView], int]:
    """Configs oldest first, and how many there are in all; `scope` None: of every scope."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, scope, offset, limit)
    return [_shown(row) for row in rows], total


async def _insert(
    conn: Connection, desk: Desk, new: NewConfig, provider: str, columns: Mapping[str, Any]
) -> ConfigRow:
    now = desk.clock()
    await _check_alias(conn, new.scope, provider, new.alias, None)
    default = new.default
    if default is None:
        default = not await store.has_any(conn, new.scope, provider)
    await _clear_default(conn, new.scope, provider, default)
    values = {
        **columns,
        "id": new_id(now),
        "scope_id": new.scope,
        "provider_id": provider,
        "is_default": default,
        "last_secret_version": 0,
        "revision": await current_revision(conn),
        "created_at": now,
        "updated_at": now,
    }
    await store.add(conn, values)
    return await _found(conn, values["id"], new.scope)


async def _check_alias(
    conn: Connection, scope: str, provider: str, alias: str, own_id: str | None
) -> None:
    holder = await store.alias_holder(conn, scope, provider, alias)
    if holder is not None and holder != own_id:
        message = f"there is a config {alias} of {provider} in {scope} already"
        raise Refusal("alias_taken", message, "alias")


async def _clear_default(conn: Connection, scope: str, provider: str, wanted: bool) -> None:
    if wanted:
        await store.clear_default(conn, scope, provider)


async def _write_key(conn: Connection, desk: Desk, key: Keying, row: ConfigRow) -> dict[str, str]:
    """Keep, retire or replace the row's key; what the audit row says of it."""
    now = desk.clock()
    if not isinstance(key, Key):
        if key == "clear" and row.preview is not None:
            await store.retire_secret(conn, row.id, now)
            return {"secret": "cleared"}
        return {}
    version = row.last_secret_version + 1
    await store.alter(conn, row.id, {"last_secret_version": version})
    shown = key.text if key.reference else preview(key.text)
    values = {"config_id": row.id, "version": version, "preview": shown}
    values |= _kept(desk, key, row, version)
    await store.put_secret(conn, values, now)
    await store.sweep_secrets(conn, now - _RETIRED_FOR)
    return {"secret": "rotated" if row.preview is not None else "set"}


def _kept(desk: Desk, key: Key, row: ConfigRow, version: int) -> dict[str, Any]:
    if key.reference:
        return {"reference": key.text}
    bound = binding(
        scope=row.scope_id,
        config_id=row.id,
        provider=row.provider_id,
        auth_type=row.auth_type,
        origins=row.origin,
        version=version,
    )
    return {"sealed": desk.ring.seal(key.text.encode(), bound)}


async def _record(
    conn: Connection, desk: Desk, actor: Actor, action: str, row: ConfigRow, told: dict[str, Any]
) -> None:
    told = {name: value for name, value in told.items() if name not in _NOT_CHANGES}
    await audit.record(conn, desk, actor, action, row.id, told)


async def _found(conn: Connection, config_id: str, scope: str) -> ConfigRow:
    known = read_id(config_id)
    row = await store.find(conn, known, scope) if known is not None else None
    if row is None:
        raise Refusal("not_found", "no such provider config in that scope")
    return row


def _shown(row: ConfigRow) -> ConfigView:
    return ConfigView(
        id=row.id,
        scope=row.scope_id,
        provider=row.provider_id,
        alias=row.alias,
        name=row.name,
        base_url=row.base_url,
        dialect=row.dialect,
        auth_type=row.auth_type,
        settings=row.settings,
        active=row.is_active,
        default=row.is_default,
        rate_limit=row.rate_limit,
        rate_limit_period=row.rate_limit_period,
        secret_preview=row.preview or "",
        secret_id=row.secret_label,
        created_at=row.created_at,
        modified_at=row.updated_at,
    )
