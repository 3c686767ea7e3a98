"""What workers report back: here, when client keys were last used."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, select, update

from gateway.store.engine import Store
from gateway.store.tables import client_key, telemetry


async def record_used(store: Store, used: Mapping[str, float]) -> None:
    """Keep the latest time (Unix seconds) per key id; keys deleted meanwhile are left out."""
    if not used:
        return
    async with store.note() as conn:
        stored = client_key.outerjoin(telemetry, telemetry.c.key_id == client_key.c.id)
        columns = select(client_key.c.id, telemetry.c.last_used_at).select_from(stored)
        rows = await conn.execute(columns.where(client_key.c.id.in_(list(used))))
        known = {row.id: row.last_used_at for row in rows}
        for key_id, last in known.items():
            if last is None:
                values = {"key_id": key_id, "last_used_at": used[key_id]}
                await conn.execute(insert(telemetry).values(values))
            elif used[key_id] > last:
                row = update(telemetry).where(telemetry.c.key_id == key_id)
                await conn.execute(row.values(last_used_at=used[key_id]))
