"""The audit trail: one row per change, in the change's own transaction, chained by HMAC.

`change` says which fields changed and to what; key material never gets here, only that a key was
set, rotated or cleared. Called by the other files of the desk, and read by the API.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """Newest first, below row `before`; and whether the whole chain verifies."""
    async with desk.store.read() as conn:
        rows = await store.page(conn, limit, before)
        return [_shown(row) for row in rows], await store.intact(conn, desk.audit_key.expose())


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
