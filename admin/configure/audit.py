"""The audit trail: one row per change, in the change's own transaction, chained by HMAC.

`change` says which fields changed and to what; key material never gets here, only that a key was
set, rotated or cleared. Called by the other files of the desk, and read by the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from admin.configure.desk import Desk
from admin.permit import Actor
from gateway.store import audit as store
from gateway.store.engine import Connection


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """Who did what to what, when. `change` holds field names and values, never key material."""

    id: int
    at: float  # Unix seconds
    actor_id: str
    actor_name: str
    action: str
    target: str
    change: Mapping[str, Any]


async def record(
    conn: Connection,
    desk: Desk,
    actor: Actor,
    action: str,
    target: str,
    change: Mapping[str, Any],
) -> None:
    """Append one row inside the caller's transaction."""
    text = msgspec.json.encode(change, order="sorted").decode()
    entry = store.Entry(desk.clock(), actor.id, actor.name, action, target, text)
    await store.append(conn, desk.audit_key.expose(), entry)


async def page(desk: Desk, limit: int, before: int | None = None) -> tuple[list[AuditRow], bool]:
    """Newest first, below row `before`; and whether the chain verifies, as far as it is looked at.

    Looked at are these rows, those written since this process looked last (at first: all), and the
    end. An older row that somebody edits after that is found by `verify`, or by the next process.
    """
    key = desk.audit_key.expose()
    async with desk.store.read() as conn:
        verdict = await store.verify(conn, key, desk.audited)
        rows = await store.page(conn, limit, before)
        top = verdict.mark.id if before is None else min(before - 1, verdict.mark.id)
        valid = verdict.flaw is None and await store.whole(conn, key, rows, top)
    desk.audited = verdict.mark
    return [_shown(row) for row in rows], valid


async def verify(desk: Desk, told: Callable[[int, int], None]) -> store.Verdict:
    """Verify every row there is; `told` how many are, and of how many."""
    async with desk.store.read() as conn:
        total = await store.length(conn)
        key = desk.audit_key.expose()
        return await store.verify(conn, key, store.BEGINNING, lambda seen: told(seen, total))


def _shown(row: store.Stored) -> AuditRow:
    return AuditRow(
        id=row.id,
        at=row.entry.at,
        actor_id=row.entry.actor_id,
        actor_name=row.entry.actor_name,
        action=row.entry.action,
        target=row.entry.target,
        change=_decoded(row.entry.change),
    )


def _decoded(text: str) -> Mapping[str, Any]:
    # An edited row must still be shown, beside the verdict that the chain is broken.
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"unreadable": text}
