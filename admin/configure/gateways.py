"""Gateways (the Cloudflare noun): a scope `gateway:{account}/{id}` with settings of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from admin.configure import audit, rules, scoping
from admin.configure.desk import Desk
from admin.configure.refusals import Refusal, check_owner
from admin.permit import Actor
from gateway.store import agents, configs, enablement, routes, scopes
from gateway.store import gateways as store
from gateway.store.engine import Connection

_COUNTS = ("rate_limiting_limit", "rate_limiting_interval", "cache_ttl")
_FLAGS = ("cache_invalidate_on_update", "collect_logs", "authentication")
_TECHNIQUE = "rate_limiting_technique"
_OWN = frozenset({*_COUNTS, *_FLAGS, _TECHNIQUE})


@dataclass(frozen=True, kw_only=True)
class GatewayView:
    """A gateway and its settings; `extra` holds fields kept for the caller and not acted on."""

    account: str
    id: str
    rate_limiting_limit: int | None  # requests; None or 0 = no limit
    rate_limiting_interval: int | None  # seconds
    rate_limiting_technique: Literal["fixed", "sliding"]
    cache_ttl: int | None
    cache_invalidate_on_update: bool
    collect_logs: bool
    authentication: bool
    extra: Mapping[str, Any]
    created_at: float  # Unix seconds
    modified_at: float


Guard = Callable[[GatewayView], None]


def scope_of(account: str, gateway: str) -> str:
    """The scope id of a gateway."""
    return f"gateway:{account}/{gateway}"


async def create(
    desk: Desk, actor: Actor, account: str, gateway: str, fields: Mapping[str, Any]
) -> GatewayView:
    """Make a gateway. Raises Refusal: gateway_exists, bad_scope, reserved, bad_limit."""
    scope, now = scope_of(account, gateway), desk.clock()
    scoping.kind_of(scope)
    async with desk.store.write(scope) as conn:
        if await store.find(conn, scope) is not None:
            raise Refusal("gateway_exists", f"there is a gateway {gateway} already", "id")
        await scoping.ensure(conn, scope, now)
        values = _merged(await _found(conn, scope), fields)
        await store.alter(conn, scope, values)
        await audit.record(conn, desk, actor, "gateway.create", scope, values)
        return _shown(await _found(conn, scope))


async def change(
    desk: Desk,
    actor: Actor,
    account: str,
    gateway: str,
    fields: Mapping[str, Any],
    *,
    guard: Guard | None = None,
) -> GatewayView:
    """Change what `fields` names; `guard` sees the present state and may refuse.

    Raises Refusal: not_found, bad_limit, stale.
    """
    scope = scope_of(account, gateway)
    async with desk.store.write(scope) as conn:
        row = await _found(conn, scope)
        if guard is not None:
            guard(_shown(row))
        values = _merged(row, fields)
        await store.alter(conn, scope, {**values, "updated_at": desk.clock()})
        await audit.record(conn, desk, actor, "gateway.change", scope, dict(fields))
        return _shown(await _found(conn, scope))


async def delete(
    desk: Desk, actor: Actor, account: str, gateway: str, *, guard: Guard | None = None
) -> GatewayView:
    """Delete the gateway, its routes, configs and client keys: no key may outlive its scope.

    Raises Refusal: not_found, in_use (another scope has it for a parent), managed,
    stale.
    """
    scope = scope_of(account, gateway)
    async with desk.store.write(scope) as conn:
        view = _shown(await _found(conn, scope))
        if guard is not None:
            guard(view)
        if await scopes.has_children(conn, scope):
            raise Refusal("in_use", "other scopes inherit from this gateway")
        await _check_kept(conn, scope)
        await routes.remove_all(conn, scope)
        await configs.remove_all(conn, scope)
        gone = await store.remove_callers(conn, scope)
        await scopes.remove(conn, scope)
        await audit.record(conn, desk, actor, "gateway.delete", scope, {"keys": gone})
        return view


async def _check_kept(conn: Connection, scope: str) -> None:
    """Raises Refusal managed where a file keeps something in this scope."""
    kept = [row.managed_by for row in await configs.of_scope(conn, scope)]
    kept += [row.managed_by for row in await routes.everyone(conn, scope)]
    kept += [row.managed_by for row in (await agents.page(conn, {scope}, 0, 1_000_000))[0]]
    kept += [row.managed_by for row in await enablement.everyone(conn) if row.scope_id == scope]
    for managed_by in kept:
        check_owner(managed_by, None)


async def get(desk: Desk, account: str, gateway: str) -> GatewayView:
    """One gateway. Raises Refusal not_found."""
    async with desk.store.read() as conn:
        return _shown(await _found(conn, scope_of(account, gateway)))


async def page(
    desk: Desk, account: str, offset: int, limit: int, search: str = ""
) -> tuple[list[GatewayView], int]:
    """An account's gateways, oldest first; `search` is a part of the id."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, account, offset, limit, search)
    return [_shown(row) for row in rows], total


async def _found(conn: Connection, scope: str) -> store.GatewayRow:
    row = await store.find(conn, scope)
    if row is None:
        raise Refusal("not_found", "no such gateway")
    return row


def _merged(row: store.GatewayRow, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns to write: `fields` over what is stored, checked together."""
    values = {name: getattr(row, name) for name in _OWN}
    values |= {name: value for name, value in fields.items() if name in _OWN}
    values[_TECHNIQUE] = values[_TECHNIQUE] or "fixed"
    extra = {name: value for name, value in fields.items() if name not in _OWN}
    _check(values)
    return {**values, "extra": {**row.extra, **extra}}


def _check(values: Mapping[str, Any]) -> None:
    for name in _COUNTS:
        value = values[name]
        if value is not None and not (type(value) is int and 0 <= value <= rules.MOST):
            raise Refusal("bad_limit", f"{name} is a whole number up to {rules.MOST}", name)
    for name in _FLAGS:
        if not isinstance(values[name], bool):
            raise Refusal("bad_settings", f"{name} is true or false", name)
    if values[_TECHNIQUE] not in ("fixed", "sliding"):
        raise Refusal("bad_settings", f"{_TECHNIQUE} is fixed or sliding", _TECHNIQUE)
    if values["rate_limiting_limit"] and not values["rate_limiting_interval"]:
        message = "a limit needs an interval of at least 1 second"
        raise Refusal("bad_limit", message, "rate_limiting_interval")


def _shown(row: store.GatewayRow) -> GatewayView:
    return GatewayView(
        account=row.account,
        id=row.gateway_id,
        rate_limiting_limit=row.rate_limiting_limit,
        rate_limiting_interval=row.rate_limiting_interval,
        rate_limiting_technique=row.rate_limiting_technique,
        cache_ttl=row.cache_ttl,
        cache_invalidate_on_update=row.cache_invalidate_on_update,
        collect_logs=row.collect_logs,
        authentication=row.authentication,
        extra=row.extra,
        created_at=row.created_at,
        modified_at=row.updated_at,
    )
