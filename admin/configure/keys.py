"""Client keys: made once, shown once, listed without secrets, revoked for good."""

from __future__ import annotations

from dataclasses import dataclass

from admin.configure import audit, rules, scoping
from admin.configure.desk import Desk
from admin.configure.refusals import Refusal
from admin.permit import Actor
from gateway import credential
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


async def create(desk: Desk, actor: Actor, new: NewKey) -> tuple[KeyView, str]:
    """Mint a key; its text is returned this once.

    Raises Refusal: bad_name, bad_scope, reserved, bad_limit, bad_model, bad_time, unknown_agent.
    """
    now = desk.clock()
    _check(new, now)
    minted = credential.mint("wg")
    async with desk.store.write(new.scope) as conn:
        await scoping.ensure(conn, new.scope, now)
        await _check_agent(conn, new)
        values = {
            "id": minted.public_id,
            "scope_id": new.scope,
            "agent_id": new.agent,
            "name": new.name.strip(),
            "digest": credential.digest(desk.hash_key.expose(), minted.text),
            "allowed_models": list(new.allowed_models),
            "rate_limit": new.rate_limit,
            "rate_limit_period": new.rate_limit_period,
            "expires_at": new.expires_at,
            "created_at": now,
        }
        await store.add(conn, values)
        shown = {field: value for field, value in values.items() if field != "digest"}
        await audit.record(conn, desk, actor, "key.create", minted.public_id, shown)
        return _shown(await _found(conn, minted.public_id)), minted.text


async def page(desk: Desk, scope: str | None, offset: int, limit: int) -> tuple[list[KeyView], int]:
    """Keys that are not revoked, oldest first; `scope` None: of every scope."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, scope, offset, limit)
    return [_shown(row) for row in rows], total


async def get(desk: Desk, key_id: str) -> KeyView:
    """One key that is not revoked. Raises Refusal not_found."""
    async with desk.store.read() as conn:
        return _shown(await _found(conn, key_id))


async def revoke(desk: Desk, actor: Actor, key_id: str) -> KeyView:
    """Revoke for good; every worker refuses the key within a second. Raises Refusal not_found."""
    scope = (await get(desk, key_id)).scope
    async with desk.store.write(scope) as conn:
        await _found(conn, key_id)
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


def _check(new: NewKey, now: float) -> None:
    rules.name(new.name)
    scoping.kind_of(new.scope)
    rules.count(new.rate_limit, "rate_limit")
    rules.period(new.rate_limit_period)
    if new.expires_at is not None and new.expires_at <= now:
        raise Refusal("bad_time", "the expiry is in the past", "expires_at")
    for model in new.allowed_models:
        if not 1 <= len(model) <= 300 or not model.isprintable():
            raise Refusal("bad_model", "a model's name is 1-300 characters", "allowed_models")


async def _check_agent(conn: Connection, new: NewKey) -> None:
    if new.agent is None:
        return
    agent = await store.find_agent(conn, new.agent)
    if agent is None or agent.scope != new.scope:
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
        rate_limit_period=client.limit.period if client.limit else 60,
        expires_at=client.expires_at,
        preview=f"wg_{client.id}_***",
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
