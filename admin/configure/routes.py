"""Routes: a virtual model name that stands for an ordered list of targets (config and model).

A target's config stands in the route's scope or in one it inherits from, and whoever names it may
read it: to anybody else it is as if it were not there. Called by the API.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from admin.configure import audit, naming, rules, scoping
from admin.configure.desk import Desk
from admin.configure.identity import new_id, read_id
from admin.configure.orders import UNSET, Keep
from admin.configure.refusals import Refusal, check_owner
from admin.permit import Actor, allows
from gateway.catalog import Catalog
from gateway.shapes import GLOBAL, Target
from gateway.store import configs
from gateway.store import routes as store
from gateway.store.engine import Connection
from gateway.store.routes import RouteRow

MOST_TARGETS = 20


@dataclass(frozen=True, kw_only=True)
class NewRoute:
    """Targets in the order they are tried; their config ids in any spelling."""

    name: str
    targets: Sequence[Target]
    scope: str = GLOBAL


@dataclass(frozen=True, kw_only=True)
class RouteChange:
    """What to change; the scope stays."""

    name: str | Keep = UNSET
    targets: Sequence[Target] | Keep = UNSET


@dataclass(frozen=True, kw_only=True)
class RouteView:
    """A route as it may be shown; times are Unix seconds."""

    id: str
    name: str
    scope: str
    targets: tuple[Target, ...]
    managed_by: str | None
    created_at: float
    updated_at: float


Guard = Callable[[RouteView], None]


async def create(desk: Desk, actor: Actor, new: NewRoute, *, owner: str | None = None) -> RouteView:
    """Make a route; `owner` is the file that keeps it.

    Raises Refusal: bad_name, name_taken, bad_scope, reserved, bad_target, bad_model,
    unknown_config.
    """
    scoping.kind_of(new.scope)
    name = _name(new.name, desk.catalog)
    now = desk.clock()
    route_id = new_id(now)
    async with desk.store.write(new.scope) as conn:
        await scoping.ensure(conn, new.scope, now)
        await _check_name(conn, new.scope, name, None)
        targets = await _targets(conn, actor, new.scope, new.targets)
        columns = {"scope_id": new.scope, "name": name, "managed_by": owner}
        stamps = {"id": route_id, "created_at": now, "updated_at": now}
        await store.add(conn, {**columns, **stamps}, targets)
        told = {**columns, "targets": _told(targets)}
        await audit.record(conn, desk, actor, "route.create", route_id, told)
        return _shown(await _found(conn, route_id))


async def change(
    desk: Desk,
    actor: Actor,
    route_id: str,
    change: RouteChange,
    *,
    guard: Guard | None = None,
    owner: str | None = None,
) -> RouteView:
    """Change what `change` names; a target the route has already may always be kept.

    Raises Refusal: not_found, stale, managed, and as `create`.
    """
    scope = (await get(desk, route_id)).scope
    async with desk.store.write(scope) as conn:
        row = await _free(conn, route_id, guard, owner)
        columns: dict[str, Any] = {} if owner is None else {"managed_by": owner}
        told = dict(columns)
        if change.name is not UNSET:
            told["name"] = columns["name"] = _name(change.name, desk.catalog)
            await _check_name(conn, scope, columns["name"], route_id)
        targets = None
        if change.targets is not UNSET:
            kept = row.route.targets
            targets = await _targets(conn, actor, scope, change.targets, kept)
            told["targets"] = _told(targets)
        await store.alter(conn, route_id, {**columns, "updated_at": desk.clock()}, targets)
        await audit.record(conn, desk, actor, "route.change", route_id, told)
        return _shown(await _found(conn, route_id))


async def delete(
    desk: Desk,
    actor: Actor,
    route_id: str,
    *,
    guard: Guard | None = None,
    owner: str | None = None,
) -> RouteView:
    """Delete a route; its targets' configs stay. Raises Refusal: not_found, stale, managed."""
    scope = (await get(desk, route_id)).scope
    async with desk.store.write(scope) as conn:
        row = await _free(conn, route_id, guard, owner)
        await store.remove(conn, route_id)
        told = {"scope_id": scope, "name": row.route.name}
        await audit.record(conn, desk, actor, "route.delete", route_id, told)
        return _shown(row)


async def get(desk: Desk, route_id: str) -> RouteView:
    """One route. Raises Refusal not_found."""
    async with desk.store.read() as conn:
        return _shown(await _found(conn, route_id))


async def page(
    desk: Desk, scopes: Collection[str] | None, offset: int, limit: int
) -> tuple[list[RouteView], int]:
    """Routes oldest first, and how many there are in all; `scopes` None: of every scope."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, scopes, offset, limit)
    return [_shown(row) for row in rows], total


async def _found(conn: Connection, route_id: str) -> RouteRow:
    row = await store.find(conn, route_id)
    if row is None:
        raise Refusal("not_found", "no such route")
    return row


async def _free(
    conn: Connection, route_id: str, guard: Guard | None, owner: str | None
) -> RouteRow:
    row = await _found(conn, route_id)
    if guard is not None:
        guard(_shown(row))
    check_owner(row.managed_by, owner)
    return row


def _name(text: str, catalog: Catalog) -> str:
    """The name as it is stored. It may be a model's own: a route is looked for before the catalog.

    It never reads as `provider/model`, which everybody takes for that provider's model.
    """
    name = rules.name(text)
    if name.startswith("/") or name.endswith("/"):
        raise Refusal("bad_name", "a route's name neither begins nor ends with a slash", "name")
    prefix, slash, _ = name.partition("/")
    if slash and catalog.canonical(prefix) is not None:
        message = f"{prefix}/… names a model of the provider {prefix}; choose another name"
        raise Refusal("bad_name", message, "name")
    return name


async def _check_name(conn: Connection, scope: str, name: str, own_id: str | None) -> None:
    holder = await store.holder(conn, scope, name)
    if holder is not None and holder != own_id:
        raise Refusal("name_taken", f"there is a route {name} in {scope} already", "name")


async def _targets(
    conn: Connection,
    actor: Actor,
    scope: str,
    asked: Sequence[Target],
    kept: Collection[Target] = (),
) -> list[Target]:
    """The targets with their configs' ids as they are stored. `kept` needs no right to read."""
    if not 1 <= len(asked) <= MOST_TARGETS:
        raise Refusal("bad_target", f"a route has 1-{MOST_TARGETS} targets", "targets")
    chain = await scoping.chain(conn, scope)
    found: list[Target] = []
    for position, target in enumerate(asked):
        here = f"targets.{position}"
        model = naming.model(target.model, f"{here}.model")
        known = Target(read_id(target.config_id) or "", model)
        row = await configs.find(conn, known.config_id)
        seen = row is not None and row.scope_id in chain
        if row is None or not seen or not (known in kept or _readable(actor, row.scope_id)):
            message = "no such provider config in the route's scope or one it inherits from"
            raise Refusal("unknown_config", message, f"{here}.config_id")
        if known in found:
            raise Refusal("bad_target", "the same config and model stand here twice", here)
        found.append(known)
    return found


def _readable(actor: Actor, scope: str) -> bool:
    return allows(actor, "providers.read", scope)


def _told(targets: Sequence[Target]) -> list[dict[str, str]]:
    return [{"config_id": target.config_id, "model": target.model} for target in targets]


def _shown(row: RouteRow) -> RouteView:
    route = row.route
    return RouteView(
        id=route.id,
        name=route.name,
        scope=route.scope,
        targets=route.targets,
        managed_by=row.managed_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
