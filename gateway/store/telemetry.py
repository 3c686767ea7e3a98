"""What workers report back: here, when client keys were last used.

Several gateways may report the same key at the same moment. Called by the parent of workers.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select, update

from gateway.store.engine import Store, insert_missing
from gateway.store.tables import client_key, telemetry


async def record_used(store: Store, used: Mapping[str, float]) -> None:
    """Keep the latest time (Unix seconds) per key id; keys deleted meanwhile are left out."""
    if not used:
        return
    c = telemetry.c
    async with store.note() as conn:
        stored = client_key.outerjoin(telemetry, c.key_id == client_key.c.id)
        columns = select(client_key.c.id, c.last_used_at).select_from(stored)
        rows = await conn.execute(columns.where(client_key.c.id.in_(list(used))))
        # In one order everywhere: who waits for each other's rows would never end.
        for key_id, last in sorted((row.id, row.last_used_at) for row in rows):
            now = used[key_id]
            if last is None:
                new = insert_missing(conn, telemetry).values(key_id=key_id, last_used_at=now)
                if (await conn.execute(new)).rowcount:
                    continue
            row = update(telemetry).where(c.key_id == key_id, c.last_used_at < now)
            await conn.execute(row.values(last_used_at=now))
