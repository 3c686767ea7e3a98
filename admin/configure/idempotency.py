"""One request, acted on once: whoever repeats it under its Idempotency-Key gets the kept answer.

The change and the mark that it was made are one transaction, so that neither a crash nor another
process can make it twice. Requests hold keys: only their keyed hash is stored. Called by api/.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b

from admin.configure.desk import Desk
from admin.configure.refusals import Refusal
from admin.permit import Actor
from gateway.store import idempotency as store
from gateway.store.engine import Connection
from gateway.store.idempotency import Claim

KEPT_FOR = 24 * 3600.0
# Longer than any request is at work; a claim that is older belongs to a process that died.
CLAIM_LASTS = 60.0


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer of the first time; `text` is what its surface kept of it."""

    status: int
    text: str


async def claim(desk: Desk, actor: Actor, key: str, parts: Iterable[bytes]) -> Claim | Kept:
    """Claim `key` for the request made of `parts`, or the answer that it had.

    Raises Refusal: idempotency_key_reused, request_in_progress, answer_lost.
    """
    wanted = Claim(actor.id, key, _digest(desk, parts), secrets.token_hex(16))
    now = desk.clock()
    async with desk.store.note() as conn:
        await store.sweep(conn, now - KEPT_FOR)
        found = await store.claim(conn, wanted, now, now - CLAIM_LASTS)
    if found is None:
        return wanted
    if found.digest != wanted.digest:
        message = "this Idempotency-Key was used for another request; use a new one"
        raise Refusal("idempotency_key_reused", message)
    if found.status not in (store.CLAIMED, store.ACTED):
        return Kept(found.status, found.answer)
    if found.created_at >= now - CLAIM_LASTS:
        raise _in_progress()
    raise Refusal("answer_lost", "the change was made, but its answer was lost; read it instead")


def marking(desk: Desk, claim: Claim) -> Desk:
    """The same desk, whose every change carries the mark that the claim's request was acted on.

    A change raises Refusal request_in_progress, and is undone, where the claim was taken over.
    """

    async def mark(conn: Connection) -> None:
        if not await store.mark(conn, claim):
            raise _in_progress()

    return replace(desk, store=desk.store.witnessed(mark))


async def keep(desk: Desk, claim: Claim, status: int, text: str) -> None:
    """Keep the answer for a day."""
    async with desk.store.note() as conn:
        await store.keep(conn, claim, status, text)


async def release(desk: Desk, claim: Claim) -> None:
    """Let the next one try, if nothing was changed."""
    async with desk.store.note() as conn:
        await store.release(conn, claim)


def _in_progress() -> Refusal:
    return Refusal("request_in_progress", "the same request is being worked on; ask again later")


def _digest(desk: Desk, parts: Iterable[bytes]) -> bytes:
    hashed = blake2b(key=desk.hash_key.expose(), digest_size=32, person=b"idempotency")
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.digest()
