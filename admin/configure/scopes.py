"""Scopes as things of their own: made, hung below another, cut off from it, deleted.

Every other file of the desk makes the scope it writes into below `global`; only this one moves any.
Called by the API.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from admin.configure import audit, scoping
from admin.configure.desk import Desk
from admin.configure.orders import UNSET, Keep
from admin.configure.refusals import Refusal
from admin.permit import Actor
from gateway.shapes import GLOBAL, Scope, ScopeKind
from gateway.store import configs, routes
from gateway.store import scopes as store
from gateway.store.engine import Connection
from gateway.store.scopes import ScopeRow

DEEPEST = 4  # scopes that may hang below global, one under the other
Known = Mapping[str, Scope]


@dataclass(frozen=True, kw_only=True)
class ScopeView:
    """A scope as it may be shown. `inherit` False: nothing of its parents is visible from it."""

    id: str
    kind: ScopeKind
    parent: str | None  # None: global itself
    inherit: bool
    created_at: float  # Unix seconds


@dataclass(frozen=True, kw_only=True)
class ScopeChange:
    parent: str | Keep = UNSET
    inherit: bool | Keep = UNSET


Guard = Callable[[ScopeView], None]


async def create(
    desk: Desk, actor: Actor, scope_id: str, parent: str = GLOBAL, *, inherit: bool = True
) -> ScopeView:
    """Make a scope, and with a gateway's its settings.

    Raises Refusal: scope_exists, bad_scope (also for a parent that is not there), reserved.
    """
    kind, now = scoping.kind_of(scope_id, "id"), desk.clock()
    async with desk.store.write(parent) as conn:
        known = await _known(conn)
        if scope_id in known:
            raise Refusal("scope_exists", "there is such a scope already", "id")
        wanted = Scope(scope_id, kind, parent, inherit)
        _check_place(known, wanted)
        await store.add(conn, wanted, now)
        await scoping.ensure(conn, scope_id, now)
        told = {"parent_id": parent, "inherits": inherit}
        await audit.record(conn, desk, actor, "scope.create", scope_id, told)
        return _shown(await _found(conn, scope_id))


async def change(
    desk: Desk, actor: Actor, scope_id: str, change: ScopeChange, *, guard: Guard | None = None
) -> ScopeView:
    """Hang a scope below another, or change whether it inherits.

    Raises Refusal: not_found, stale, reserved (global), bad_scope, in_use (a route leads to what
    would no longer be inherited; `names` are the routes).
    """
    async with desk.store.write(scope_id) as conn:
        row = await _found(conn, scope_id)
        if guard is not None:
            guard(_shown(row))
        if scope_id == GLOBAL:
            raise Refusal("reserved", "global hangs below nothing, and cannot be changed", "id")
        wanted = _changed(row.scope, change)
        known = await _known(conn)
        _check_place(known, wanted)
        await _check_routes(conn, {**known, scope_id: wanted}, scope_id)
        values = {"parent_id": wanted.parent, "inherits": wanted.inherits}
        await store.alter(conn, scope_id, values)
        await audit.record(conn, desk, actor, "scope.change", scope_id, values)
        return _shown(await _found(conn, scope_id))


async def delete(
    desk: Desk, actor: Actor, scope_id: str, *, guard: Guard | None = None
) -> ScopeView:
    """Delete a scope that nothing refers to. Raises Refusal: not_found, stale, in_use."""
    async with desk.store.write(scope_id) as conn:
        view = _shown(await _found(conn, scope_id))
        if guard is not None:
            guard(view)
        if scope_id == GLOBAL:
            raise Refusal("in_use", "global cannot be deleted: every scope hangs below it")
        await _check_unused(conn, scope_id)
        await store.remove(conn, scope_id)
        told = {"parent_id": view.parent, "inherits": view.inherit}
        await audit.record(conn, desk, actor, "scope.delete", scope_id, told)
        return view


async def get(desk: Desk, scope_id: str) -> ScopeView:
    """One scope that is stored. Raises Refusal not_found."""
    async with desk.store.read() as conn:
        return _shown(await _found(conn, scope_id))


async def page(
    desk: Desk, within: Collection[str] | None, offset: int, limit: int
) -> tuple[list[ScopeView], int]:
    """Scopes oldest first, and how many there are in all; `within` None: all of them."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, within, offset, limit)
    return [_shown(row) for row in rows], total


async def _known(conn: Connection) -> dict[str, Scope]:
    return {scope.id: scope for scope in await store.everyone(conn)}


async def _found(conn: Connection, scope_id: str) -> ScopeRow:
    row = await store.find_row(conn, scope_id)
    if row is None:
        raise Refusal("not_found", "no such scope")
    return row


def _changed(scope: Scope, change: ScopeChange) -> Scope:
    parent = scope.parent if change.parent is UNSET else change.parent
    inherits = scope.inherits if change.inherit is UNSET else change.inherit
    return replace(scope, parent=parent, inherits=inherits)


def _check_place(known: Known, wanted: Scope) -> None:
    """Raises Refusal bad_scope for a parent that is not there, a cycle, or too deep a tree."""
    assert wanted.parent is not None
    if wanted.parent not in known:
        raise Refusal("bad_scope", "no such scope to hang it below", "parent")
    above = _above(known, wanted.parent)
    if wanted.id in above:
        raise Refusal("bad_scope", "a scope cannot hang below itself", "parent")
    if len(above) + _height(known, wanted.id) - 1 > DEEPEST:
        message = f"at most {DEEPEST} scopes hang below global, one under the other"
        raise Refusal("bad_scope", message, "parent")


def _above(known: Known, scope_id: str) -> list[str]:
    """The scope and all above it, whether it inherits from them or not."""
    walked: list[str] = []
    here: str | None = scope_id
    while here is not None and here not in walked:
        walked.append(here)
        here = known[here].parent
    return walked


def _height(known: Known, scope_id: str) -> int:
    """How many scopes stand one under the other from this one down, itself counted."""
    lines = (_above(known, name) for name in known)
    return max((line.index(scope_id) + 1 for line in lines if scope_id in line), default=1)


async def _check_routes(conn: Connection, known: Known, scope_id: str) -> None:
    """Raises Refusal in_use where a route would lead to what its scope no longer inherits."""
    moved = {name for name in known if scope_id in _above(known, name)}
    concerned = [row.route for row in await routes.everyone(conn) if row.route.scope in moved]
    if not concerned:
        return
    places = {row.id: row.scope_id for row in await configs.everyone(conn)}
    lost = [
        route.name
        for route in concerned
        if not {places[target.config_id] for target in route.targets}
        <= set(scoping.inherited(known, route.scope))
    ]
    if lost:
        message = f"the route {lost[0]} leads to what would no longer be inherited"
        raise Refusal("in_use", message, names=tuple(lost))


async def _check_unused(conn: Connection, scope_id: str) -> None:
    users = await store.users(conn, scope_id)
    if users == ["gateway"]:
        account, gateway = scoping.parts(scope_id)
        where = f"/accounts/{account}/ai-gateway/gateways/{gateway}"
        raise Refusal("in_use", f"it is a gateway: delete {where}", names=("gateway",))
    if users:
        raise Refusal("in_use", f"in use: {_listed(users)}", names=tuple(users))


def _listed(users: Iterable[str]) -> str:
    return ", ".join(f"a {user}" if user[0] != "a" else f"an {user}" for user in users)


def _shown(row: ScopeRow) -> ScopeView:
    scope = row.scope
    return ScopeView(
        id=scope.id,
        kind=scope.kind,
        parent=scope.parent,
        inherit=scope.inherits,
        created_at=row.created_at,
    )
