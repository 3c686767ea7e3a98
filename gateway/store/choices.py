"""A scope's one choice (config and model): statements only."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from gateway.shapes import Choice
from gateway.store.engine import Connection
from gateway.store.tables import scope_choice


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """A stored choice; times are Unix seconds."""

    scope_id: str
    config_id: str
    model: str
    created_at: float
    updated_at: float


async def everyone(conn: Connection) -> dict[str, Choice]:
    """Every scope's choice."""
    rows = await conn.execute(select(scope_choice))
    return {row.scope_id: Choice(row.config_id, row.model) for row in rows}


async def find(conn: Connection, scope_id: str) -> ChoiceRow | None:
    wanted = select(scope_choice).where(scope_choice.c.scope_id == scope_id)
    row = (await conn.execute(wanted)).first()
    return ChoiceRow(*row) if row is not None else None


async def put(conn: Connection, scope_id: str, config_id: str, model: str, now: float) -> None:
    """Choose, whatever was chosen before."""
    values = {"config_id": config_id, "model": model, "updated_at": now}
    here = scope_choice.c.scope_id == scope_id
    changed = await conn.execute(update(scope_choice).where(here).values(**values))
    if changed.rowcount == 0:
        row = {"scope_id": scope_id, "created_at": now, **values}
        await conn.execute(insert(scope_choice).values(**row))


async def remove(conn: Connection, scope_id: str) -> None:
    await conn.execute(delete(scope_choice).where(scope_choice.c.scope_id == scope_id))
