"""Answers kept per caller and Idempotency-Key: statements only.

A row is claimed first, marked inside the very transaction that makes the change, then given its
answer. Until then `answer` holds the claim's nonce: whoever was overtaken matches no row any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.store.engine import Connection
from gateway.store.tables import idempotency

# In place of an HTTP status, while there is none.
CLAIMED = 0  # nothing was changed yet
ACTED = 1  # the change is made, its answer not kept (yet)
_c = idempotency.c


@dataclass(frozen=True, slots=True)
class Claim:
    """Who claims which key for which request; `nonce` is this attempt's own."""

    actor_id: str
    key: str
    digest: bytes  # keyed hash of the request
    nonce: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands under a key that was claimed before."""

    digest: bytes
    status: int
    answer: str
    created_at: float  # Unix seconds


async def claim(conn: Connection, wanted: Claim, now: float, stale: float) -> Standing | None:
    """None: the key is `wanted`'s now. Otherwise what stands there.

    A claim from before `stale` that changed nothing is taken over: who made it is gone.
    """
    if await _inserted(conn, wanted, now):
        return None
    found = await _find(conn, wanted)
    if found is None or not _abandoned(found, wanted, stale):
        return found
    mine = update(idempotency).where(_held(wanted, found.answer), _c.status == CLAIMED)
    taken = await conn.execute(mine.values(answer=wanted.nonce, created_at=now))
    return None if taken.rowcount == 1 else await _find(conn, wanted)


async def mark(conn: Connection, claim: Claim) -> bool:
    """Say, in the change's own transaction, that it is made. False: the claim was taken over."""
    held = update(idempotency).where(_held(claim, claim.nonce), _c.status.in_((CLAIMED, ACTED)))
    return (await conn.execute(held.values(status=ACTED))).rowcount == 1


async def keep(conn: Connection, claim: Claim, status: int, answer: str) -> None:
    """The answer that every repetition gets from now on."""
    held = update(idempotency).where(_held(claim, claim.nonce))
    await conn.execute(held.values(status=status, answer=answer))


async def release(conn: Connection, claim: Claim) -> None:
    """Forget a claim that changed nothing."""
    await conn.execute(delete(idempotency).where(_held(claim, claim.nonce), _c.status == CLAIMED))


async def sweep(conn: Connection, before: float) -> None:
    """Forget what was claimed before that time."""
    await conn.execute(delete(idempotency).where(_c.created_at < before))


async def _inserted(conn: Connection, wanted: Claim, now: float) -> bool:
    values = {
        "actor_id": wanted.actor_id,
        "key": wanted.key,
        "digest": wanted.digest,
        "status": CLAIMED,
        "answer": wanted.nonce,
        "created_at": now,
    }
    try:
        async with conn.begin_nested():
            await conn.execute(insert(idempotency).values(**values))
    except IntegrityError:
        return False
    return True


async def _find(conn: Connection, wanted: Claim) -> Standing | None:
    named = and_(_c.actor_id == wanted.actor_id, _c.key == wanted.key)
    row = (await conn.execute(select(idempotency).where(named))).first()
    if row is None:
        return None
    return Standing(bytes(row.digest), row.status, row.answer, row.created_at)


def _abandoned(found: Standing, wanted: Claim, stale: float) -> bool:
    same = found.digest == wanted.digest
    return same and found.status == CLAIMED and found.created_at < stale


def _held(claim: Claim, nonce: str) -> ColumnElement[bool]:
    named = and_(_c.actor_id == claim.actor_id, _c.key == claim.key)
    return and_(named, _c.answer == nonce)
