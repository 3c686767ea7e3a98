"""A config's rows as a transaction writes them: insert, alter, remove, its key and the audit row.

The rules are in drafts.py and keying.py; nothing here opens a key. Called by configs.py and
choices.py, inside their transactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from admin.configure import audit, drafts, keying
from admin.configure.desk import Desk
from admin.configure.drafts import Asked, Planned
from admin.configure.identity import new_id
from admin.configure.keying import Key, Keying
from admin.configure.orders import UNSET, ConfigChange, NewConfig
from admin.configure.refusals import Refusal
from admin.permit import Actor
from gateway.store import configs as store
from gateway.store import routes
from gateway.store.configs import ConfigRow
from gateway.store.engine import Connection, current_revision
from gateway.vault import binding

# A worker may still hold the routing table from before a rotation, and streams last long.
_RETIRED_FOR = 3600.0
_NOT_CHANGES = ("alias_key", "revision", "updated_at", "last_secret_version")


async def insert(
    conn: Connection, desk: Desk, actor: Actor, new: NewConfig, asked: Asked
) -> ConfigRow:
    """Write a new config; the scope's row is locked and there. Raises Refusal alias_taken, …"""
    columns = dict(asked.columns)
    if new.free_alias:
        columns["alias"] = await _free_alias(conn, desk, new)
        columns["alias_key"] = columns["alias"].lower()
    await _check_alias(conn, new.scope, asked.provider, columns["alias"], None)
    await _check_distinct(conn, new, columns)
    default = new.default
    if default is None:
        default = not await store.has_any(conn, new.scope, asked.provider)
    await _clear_default(conn, new.scope, asked.provider, default)
    columns |= {"scope_id": new.scope, "provider_id": asked.provider, "is_default": default}
    row = await _add(conn, desk, columns)
    told = columns | await _write_key(conn, desk, asked.key, row)
    await _record(conn, desk, actor, "config.create", row, told)
    return await _again(conn, row)


async def alter(
    conn: Connection, desk: Desk, actor: Actor, row: ConfigRow, change: ConfigChange
) -> ConfigRow:
    """Write a change to a row the transaction has locked. Raises Refusal as its rules do."""
    columns, key = _changed(desk, actor, row, change)
    if "alias" in columns:
        await _check_alias(conn, row.scope_id, row.provider_id, columns["alias"], row.id)
    if change.distinct_name and columns.get("name", row.name) != row.name:
        await _check_name(conn, row.scope_id, columns["name"])
    if change.default is not UNSET:
        await _clear_default(conn, row.scope_id, row.provider_id, change.default)
        columns["is_default"] = change.default
    stamps = {"revision": await current_revision(conn), "updated_at": desk.clock()}
    await store.alter(conn, row.id, {**columns, **stamps})
    told = columns | await _write_key(conn, desk, key, await _again(conn, row))
    await _record(conn, desk, actor, "config.change", row, told)
    return await _again(conn, row)


async def remove(conn: Connection, desk: Desk, actor: Actor, row: ConfigRow) -> None:
    """Raises Refusal in_use while a route leads to it."""
    using = tuple(route.name for route in await routes.naming(conn, row.id))
    if using:
        message = f"in use by the route {using[0]}; take it out there first"
        raise Refusal("in_use", message, names=using)
    await store.remove(conn, row.id)
    told = {"scope_id": row.scope_id, "provider_id": row.provider_id, "alias": row.alias}
    await _record(conn, desk, actor, "config.delete", row, told)


def plan(desk: Desk, actor: Actor, row: ConfigRow, change: ConfigChange) -> Planned:
    """What `alter` would make of the row."""
    columns, key = _changed(desk, actor, row, change)
    stored = {
        "base_url": row.base_url,
        "settings": row.settings,
        "auth_type": row.auth_type,
        "origin": row.origin,
        "dialect": row.dialect,
        "revision": row.revision,
    }
    return drafts.planned(desk, row.provider_id, stored | columns, key)


def _changed(
    desk: Desk, actor: Actor, row: ConfigRow, change: ConfigChange
) -> tuple[dict[str, Any], Keying]:
    change = keying.unpacked(row.provider_id, change, row)
    columns = drafts.columns(desk, actor, row.provider_id, change, row)
    columns |= keying.label(change, row)
    key = keying.keying(change, row, actor)
    if isinstance(key, Key):
        columns = drafts.moved_by_catalog(desk, row) | columns
    key = keying.bound(key, columns, row)
    drafts.check_signing(columns.get("auth_type", row.auth_type), columns, row)
    return columns, key


async def _add(conn: Connection, desk: Desk, columns: Mapping[str, Any]) -> ConfigRow:
    now = desk.clock()
    values = {
        **columns,
        "id": new_id(now),
        "last_secret_version": 0,
        "revision": await current_revision(conn),
        "created_at": now,
        "updated_at": now,
    }
    await store.add(conn, values)
    row = await store.find(conn, values["id"])
    assert row is not None
    return row


async def _again(conn: Connection, row: ConfigRow) -> ConfigRow:
    fresh = await store.find(conn, row.id)
    assert fresh is not None
    return fresh


async def _free_alias(conn: Connection, desk: Desk, new: NewConfig) -> str:
    """The first alias made of what was asked that no config of the scope has."""
    taken = {row.alias.lower() for row in await store.of_scope(conn, new.scope)}
    return next(alias for alias in drafts.aliases(new.alias, desk) if alias not in taken)


async def _check_alias(
    conn: Connection, scope: str, provider: str, alias: str, own_id: str | None
) -> None:
    holder = await store.alias_holder(conn, scope, provider, alias)
    if holder is not None and holder != own_id:
        message = f"there is a config {alias} of {provider} in {scope} already"
        raise Refusal("alias_taken", message, "alias")


async def _check_distinct(conn: Connection, new: NewConfig, columns: Mapping[str, Any]) -> None:
    if new.distinct == "name":
        await _check_name(conn, new.scope, columns["name"])
    elif new.distinct == "alias":
        rows = await store.of_scope(conn, new.scope)
        if any(row.alias.lower() == columns["alias_key"] for row in rows):
            message = f"there is a config {columns['alias']} in {new.scope} already"
            raise Refusal("alias_taken", message, "alias")


async def _check_name(conn: Connection, scope: str, name: str) -> None:
    if any(row.name == name for row in await store.of_scope(conn, scope)):
        raise Refusal("name_taken", f"there is a config called {name} in {scope} already", "name")


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
    values = {"config_id": row.id, "version": version, "preview": key.shown}
    values |= {"part_masks": dict(key.masks), **_kept(desk, key, row, version)}
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
    conn: Connection, desk: Desk, actor: Actor, action: str, row: ConfigRow, told: Mapping[str, Any]
) -> None:
    change = {name: value for name, value in told.items() if name not in _NOT_CHANGES}
    await audit.record(conn, desk, actor, action, row.id, change)
