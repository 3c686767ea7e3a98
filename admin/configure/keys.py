"""Client keys: made once, shown once, listed without secrets, rotated, revoked for good."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from admin.configure import audit, rules, scoping
from admin.configure.desk import Desk
from admin.configure.orders import UNSET, Keep
from admin.configure.refusals import Refusal
from admin.permit import Actor
from gateway import credential
from gateway.store import agents
from gateway.store import keys as store
from gateway.store.engine import Connection


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """What a new client key may do. `allowed_models` empty: all; times are Unix seconds."""

    name: str
    scope: str = "global"
    agent: str | None = None
    allowed_models: tuple[str, ...] = ()
    rate_limit: int | None = None
    rate_limit_period: int = 60
    expires_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class KeyChange:
    """What to change; the scope stays. None clears what may be absent: agent, limit, expiry."""

    name: str | Keep = UNSET
    agent: str | None | Keep = UNSET
    allowed_models: tuple[str, ...] | Keep = UNSET
    rate_limit: int | None | Keep = UNSET
    rate_limit_period: int | Keep = UNSET
    expires_at: float | None | Keep = UNSET


@dataclass(frozen=True, kw_only=True)
class KeyView:
    """A client key as it may be shown."""

    id: str
    name: str
    scope: str
    agent: str | None
    allowed_models: tuple[str, ...]
    rate_limit: int | None
    rate_limit_period: int
    expires_at: float | None
    preview: str  # wg_<id>_***
    created_at: float
    revoked_at: float | None
    last_used_at: float | None
    edition: str  # changes with the secret


Guard = Callable[[KeyView], None]


async def create(desk: Desk, actor: Actor, new: NewKey) -> tuple[KeyView, str]:
    """Mint a key; its text is returned this once.

    Raises Refusal: bad_name, bad_scope, reserved, bad_limit, bad_model, bad_time, unknown_agent.
    """
    scoping.kind_of(new.scope)
    now = desk.clock()
    columns = _columns(_all_of(new), now)
    minted = credential.mint("wg")
    async with desk.store.write(new.scope) as conn:
        await scoping.ensure(conn, new.scope, now)
        await _check_agent(conn, new.scope, new.agent)
        columns |= {"id": minted.public_id, "scope_id": new.scope, "created_at": now}
        await store.add(conn, {**columns, "digest": _digest(desk, minted)})
        await audit.record(conn, desk, actor, "key.create", minted.public_id, columns)
        return _shown(await _found(conn, minted.public_id)), minted.text


async def change(
    desk: Desk, actor: Actor, key_id: str, change: KeyChange, *, guard: Guard | None = None
) -> KeyView:
    """Change what `change` names; every worker knows within a second.

    Raises Refusal: not_found, stale, and those of `create` for the fields named.
    """
    scope = (await get(desk, key_id)).scope
    async with desk.store.write(scope) as conn:
        _look(guard, await _found(conn, key_id))
        columns = _columns(change, desk.clock())
        await _check_agent(conn, scope, columns.get("agent_id"))
        if columns:
            await store.alter(conn, key_id, columns)
        await audit.record(conn, desk, actor, "key.change", key_id, columns)
        return _shown(await _found(conn, key_id))


async def rotate(
    desk: Desk, actor: Actor, key_id: str, *, guard: Guard | None = None
) -> tuple[KeyView, str]:
    """Give the key a new secret under the same id; its text is returned this once.

    The old text is refused by every worker within a second. Raises Refusal: not_found, stale.
    """
    scope = (await get(desk, key_id)).scope
    minted = credential.mint("wg", key_id)
    async with desk.store.write(scope) as conn:
        _look(guard, await _found(conn, key_id))
        await store.alter(conn, key_id, {"digest": _digest(desk, minted)})
        await audit.record(conn, desk, actor, "key.rotate", key_id, {"scope_id": scope})
        return _shown(await _found(conn, key_id)), minted.text


async def page(
    desk: Desk, scopes: Collection[str] | None, offset: int, limit: int
) -> tuple[list[KeyView], int]:
    """Keys that are not revoked, oldest first; `scopes` None: of every scope."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, scopes, offset, limit)
    return [_shown(row) for row in rows], total


async def get(desk: Desk, key_id: str) -> KeyView:
    """One key that is not revoked. Raises Refusal not_found."""
    async with desk.store.read() as conn:
        return _shown(await _found(conn, key_id))


async def revoke(desk: Desk, actor: Actor, key_id: str, *, guard: Guard | None = None) -> KeyView:
    """Revoke for good; every worker refuses the key within a second.

    Raises Refusal: not_found, stale.
    """
    scope = (await get(desk, key_id)).scope
    async with desk.store.write(scope) as conn:
        _look(guard, await _found(conn, key_id))
        await store.revoke(conn, key_id, desk.clock())
        await audit.record(conn, desk, actor, "key.revoke", key_id, {"scope_id": scope})
        row = await store.find(conn, key_id)
        if row is None:
            raise Refusal("not_found", "no such key")
        return _shown(row)


async def _found(conn: Connection, key_id: str) -> store.KeyRow:
    row = await store.find(conn, key_id)
    if row is None or row.revoked_at is not None:
        raise Refusal("not_found", "no such key")
    return row


def _look(guard: Guard | None, row: store.KeyRow) -> None:
    if guard is not None:
        guard(_shown(row))


def _digest(desk: Desk, minted: credential.Minted) -> bytes:
    return credential.digest(desk.hash_key.expose(), minted.text)


def _all_of(new: NewKey) -> KeyChange:
    return KeyChange(
        name=new.name,
        agent=new.agent,
        allowed_models=new.allowed_models,
        rate_limit=new.rate_limit,
        rate_limit_period=new.rate_limit_period,
        expires_at=new.expires_at,
    )


def _columns(change: KeyChange, now: float) -> dict[str, Any]:
    """The columns of the fields that were named, checked; the agent's existence is not."""
    columns: dict[str, Any] = {}
    if change.name is not UNSET:
        columns["name"] = rules.name(change.name)
    if change.agent is not UNSET:
        columns["agent_id"] = change.agent
    if change.allowed_models is not UNSET:
        columns["allowed_models"] = [_model(name) for name in change.allowed_models]
    if change.rate_limit is not UNSET:
        columns["rate_limit"] = rules.count(change.rate_limit, "rate_limit")
    if change.rate_limit_period is not UNSET:
        columns["rate_limit_period"] = rules.period(change.rate_limit_period)
    if change.expires_at is not UNSET:
        columns["expires_at"] = _expiry(change.expires_at, now)
    return columns


def _model(name: str) -> str:
    if not 1 <= len(name) <= 300 or not name.isprintable():
        raise Refusal("bad_model", "a model's name is 1-300 characters", "allowed_models")
    return name


def _expiry(moment: float | None, now: float) -> float | None:
    if moment is not None and moment <= now:
        raise Refusal("bad_time", "the expiry is in the past", "expires_at")
    return moment


async def _check_agent(conn: Connection, scope: str, agent_id: str | None) -> None:
    if agent_id is None:
        return
    row = await agents.find(conn, agent_id)
    if row is None or row.agent.scope != scope:
        raise Refusal("unknown_agent", "no such agent in that scope", "agent")


def _shown(row: store.KeyRow) -> KeyView:
    client = row.client
    return KeyView(
        id=client.id,
        name=client.name,
        scope=client.scope,
        agent=client.agent,
        allowed_models=client.allowed_models,
        rate_limit=client.limit.amount if client.limit else None,
        rate_limit_period=row.rate_limit_period,
        expires_at=client.expires_at,
        preview=f"wg_{client.id}_***",
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        edition=credential.edition(client.digest),
    )
