"""Provider configs: create, change, configure, detach, delete, read; every surface writes so.

Each change is one transaction with its audit row. A key is sealed here and never opened; where it
may go (the origin) is decided when it is sealed, and moving that needs the key again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from admin.configure import audit, drafts, rules, scoping, written
from admin.configure.desk import Desk
from admin.configure.drafts import Planned
from admin.configure.identity import read_id
from admin.configure.orders import (
    UNSET,
    ConfigChange,
    ConfigView,
    Detached,
    KeyParts,
    NewConfig,
    Unset,
)
from admin.configure.refusals import Refusal, check_owner
from admin.permit import Actor
from gateway.store import configs as store
from gateway.store import enablement
from gateway.store import proofs as proof_store
from gateway.store.configs import ConfigRow
from gateway.store.engine import Connection
from gateway.store.proofs import Proof

__all__ = [
    "UNSET",
    "ConfigChange",
    "ConfigView",
    "Detached",
    "KeyParts",
    "NewConfig",
    "Unset",
    "change",
    "configure",
    "create",
    "delete",
    "detach",
    "every",
    "get",
    "named",
    "page",
    "picked",
    "plan_change",
    "plan_new",
    "proofs",
]
ALL = "*"  # detach: every alias
Guard = Callable[[ConfigView], None]
Expect = Callable[[ConfigView | None], None]  # None: there is no such config yet


async def create(desk: Desk, actor: Actor, new: NewConfig) -> ConfigView:
    """Store a new config; the scope (and its gateway) is made when missing.

    Raises Refusal of any kind that speaks of a config.
    """
    scoping.kind_of(new.scope)
    provider = rules.provider(new.provider, desk.catalog)
    asked = drafts.asked_of(desk, actor, provider, new)
    async with desk.store.write(new.scope) as conn:
        await scoping.ensure(conn, new.scope, desk.clock())
        row = await written.insert(conn, desk, actor, new, asked)
        return shown(row)


async def change(
    desk: Desk,
    actor: Actor,
    config_id: str,
    scope: str,
    change: ConfigChange,
    *,
    guard: Guard | None = None,
    owner: str | None = None,
) -> ConfigView:
    """Change what `change` names, in one transaction.

    `guard` sees the present state first and may refuse. Raises Refusal: not_found, managed (by
    another than `owner`), rebind, and those of `create` for the fields named.
    """
    async with desk.store.write(scope) as conn:
        row = await _free(conn, config_id, scope, owner)
        _look(guard, row)
        return shown(await written.alter(conn, desk, actor, row, change))


async def configure(
    desk: Desk,
    actor: Actor,
    scope: str,
    provider: str,
    alias: str | None,
    change: ConfigChange,
    *,
    guard: Expect | None = None,
) -> tuple[ConfigView, bool]:
    """Change the scope's config of a provider, or make it; True when it was made.

    `alias` None means the one a request would get: the default, else the alias `default`, else the
    oldest, active or not (data-model.md, case 4). `guard` may refuse the absence of one, too.
    Raises Refusal as `create` and `change` do.
    """
    scoping.kind_of(scope)
    known = rules.provider(provider, desk.catalog)
    async with desk.store.write(scope) as conn:
        await scoping.ensure(conn, scope, desk.clock())
        rows = await store.of_provider(conn, scope, known)
        row = _picked(rows, alias)
        if row is not None:
            _free_of_file(row, None)
            _look(guard, row)
            return shown(await written.alter(conn, desk, actor, row, change)), False
        if guard is not None:
            guard(None)
        new = drafts.new_from(scope, known, alias or "default", change)
        asked = drafts.asked_of(desk, actor, known, new)
        return shown(await written.insert(conn, desk, actor, new, asked)), True


async def delete(
    desk: Desk,
    actor: Actor,
    config_id: str,
    scope: str,
    *,
    guard: Guard | None = None,
    owner: str | None = None,
) -> ConfigView:
    """Delete; answers what was deleted. Deleting the default promotes nobody.

    Raises Refusal: not_found, managed, in_use (its `names` are the routes).
    """
    async with desk.store.write(scope) as conn:
        row = await _free(conn, config_id, scope, owner)
        _look(guard, row)
        await written.remove(conn, desk, actor, row)
        return shown(row)


async def detach(
    desk: Desk,
    actor: Actor,
    scope: str,
    provider: str,
    alias: str | None = None,
    *,
    guard: Guard | None = None,
) -> Detached:
    """Remove a scope's config of a provider (`ALL`: every one), and with the last one the scope's
    records of its models (those a file keeps stay); agents bound to one of these are disabled.

    `guard` sees each that goes. Raises Refusal: not_found, managed, in_use, several_configs
    (`names`: the aliases).
    """
    known = desk.catalog.canonical(provider) or ""
    async with desk.store.write(scope) as conn:
        rows = await store.of_provider(conn, scope, known)
        gone = rows if alias == ALL and rows else _meant(rows, alias)
        for row in gone:
            _free_of_file(row, None)
            _look(guard, row)
            await written.remove(conn, desk, actor, row)
        ids = tuple(row.id for row in gone)
        if len(gone) < len(rows):
            return Detached(configs=ids, disabled_agents=(), removed_models=0)
        models = await enablement.remove(conn, scope, known)
        disabled = await enablement.disable_agents(conn, scope, known, desk.clock())
        told = {"scope_id": scope, "disabled_agents": disabled, "removed_models": models}
        await audit.record(conn, desk, actor, "provider.detach", known, told)
        return Detached(configs=ids, disabled_agents=tuple(disabled), removed_models=models)


async def get(desk: Desk, config_id: str, scope: str | None = None) -> ConfigView:
    """One config by any spelling of its id; `scope` None: of whatever scope.

    Raises Refusal not_found.
    """
    async with desk.store.read() as conn:
        return shown(await found(conn, config_id, scope))


async def named(desk: Desk, text: str, scope: str) -> ConfigView:
    """One config of a scope by its alias, or by `provider:alias`.

    Raises Refusal: not_found, ambiguous_alias (`names` are the `provider:alias` it may mean).
    """
    provider, _, alias = text.rpartition(":")
    known = desk.catalog.canonical(provider) if provider else None
    async with desk.store.read() as conn:
        rows = await store.of_scope(conn, scope)
    meant = [
        row
        for row in rows
        if row.alias.lower() == alias.lower() and (not provider or row.provider_id == known)
    ]
    if not meant:
        raise Refusal("not_found", "no such provider config in that scope")
    if len(meant) > 1:
        names = tuple(f"{row.provider_id}:{row.alias}" for row in meant)
        message = f"several providers have a config {alias[:64]}: {', '.join(names)}"
        raise Refusal("ambiguous_alias", message, "alias", names)
    return shown(meant[0])


async def picked(desk: Desk, scope: str, provider: str, alias: str | None) -> ConfigView | None:
    """The config `configure` would change, or None where it would make one."""
    known = rules.provider(provider, desk.catalog)
    async with desk.store.read() as conn:
        row = _picked(await store.of_provider(conn, scope, known), alias)
    return None if row is None else shown(row)


async def page(
    desk: Desk, scope: str | None, offset: int, limit: int
) -> tuple[list[ConfigView], int]:
    """Configs oldest first, and how many there are in all; `scope` None: of every scope."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, scope, offset, limit)
    return [shown(row) for row in rows], total


async def every(desk: Desk, scopes: Collection[str] | None) -> list[ConfigView]:
    """All configs of these scopes, oldest first; None: of every scope."""
    async with desk.store.read() as conn:
        rows = await store.everyone(conn)
    return [shown(row) for row in rows if scopes is None or row.scope_id in scopes]


async def proofs(desk: Desk) -> dict[str, Proof]:
    """What was last seen of each config's key, by config id."""
    async with desk.store.read() as conn:
        return await proof_store.everyone(conn)


async def plan_new(desk: Desk, actor: Actor, new: NewConfig) -> Planned:
    """What `create` would store, checked, with nothing written. Raises Refusal like it."""
    scoping.kind_of(new.scope)
    provider = rules.provider(new.provider, desk.catalog)
    asked = drafts.asked_of(desk, actor, provider, new)
    return drafts.planned(desk, provider, asked.columns, asked.key)


async def plan_change(
    desk: Desk, actor: Actor, config_id: str, scope: str, change: ConfigChange
) -> Planned:
    """What `change` would make of the config, with nothing written. Raises Refusal like it."""
    async with desk.store.read() as conn:
        row = await found(conn, config_id, scope)
    return written.plan(desk, actor, row, change)


async def found(conn: Connection, config_id: str, scope: str | None) -> ConfigRow:
    """The row behind any spelling of an id. Raises Refusal not_found."""
    known = read_id(config_id)
    row = await store.find(conn, known, scope) if known is not None else None
    if row is None:
        raise Refusal("not_found", "no such provider config in that scope")
    return row


async def _free(conn: Connection, config_id: str, scope: str, owner: str | None) -> ConfigRow:
    row = await found(conn, config_id, scope)
    _free_of_file(row, owner)
    return row


def _free_of_file(row: ConfigRow, owner: str | None) -> None:
    check_owner(row.managed_by, owner)


def _look(guard: Guard | None, row: ConfigRow) -> None:
    if guard is not None:
        guard(shown(row))


def _picked(rows: Sequence[ConfigRow], alias: str | None) -> ConfigRow | None:
    if alias is not None:
        return next((row for row in rows if row.alias.lower() == alias.lower()), None)
    # Oldest first already, and min() keeps the first of equals.
    return min(
        rows, key=lambda row: (not row.is_default, row.alias.lower() != "default"), default=None
    )


def _meant(rows: Sequence[ConfigRow], alias: str | None) -> list[ConfigRow]:
    row = _picked(rows, alias)
    if row is None:
        raise Refusal("not_found", "the provider is not configured in that scope")
    if alias is None and len(rows) > 1:
        names = tuple(row.alias for row in rows)
        listed = ", ".join(names)
        message = f"there are several, name one with ?alias= or all with ?alias=*: {listed}"
        raise Refusal("several_configs", message, "alias", names)
    return [row]


def shown(row: ConfigRow) -> ConfigView:
    """A row as it may be shown."""
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
        part_masks=row.part_masks or {},
        secret_id=row.secret_label,
        secret_version=row.version,
        allow_unlisted=row.allow_unlisted,
        made_by=row.made_by,
        managed_by=row.managed_by,
        revision=row.revision,
        created_at=row.created_at,
        modified_at=row.updated_at,
    )
