"""What was last seen of a config's key, by a probe or by traffic: statements only.

A proof speaks of one secret version: after a rotation the old one says nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update

from gateway.health import PROVEN, REFUSED
from gateway.store.engine import Connection, insert_missing
from gateway.store.tables import proof, provider_config

__all__ = ["PROVEN", "REFUSED", "Proof", "everyone", "find", "put"]
_DECISIVE = (PROVEN, REFUSED)


@dataclass(frozen=True, slots=True)
class Proof:
    """`outcome` is PROVEN, REFUSED or what else a probe found; `checked_at` Unix seconds."""

    secret_version: int
    outcome: str
    checked_at: float


async def everyone(conn: Connection) -> dict[str, Proof]:
    """The latest look by config id."""
    rows = await conn.execute(select(proof))
    return {row.config_id: Proof(row.secret_version, row.outcome, row.checked_at) for row in rows}


async def find(conn: Connection, config_id: str) -> Proof | None:
    row = (await conn.execute(select(proof).where(proof.c.config_id == config_id))).first()
    return Proof(row.secret_version, row.outcome, row.checked_at) if row is not None else None


async def put(conn: Connection, config_id: str, seen: Proof) -> None:
    """Keep the newest look; one at a config that is gone is forgotten.

    A look that decides nothing (the provider was away) leaves what was decided of this version.
    """
    known = await find(conn, config_id)
    if known is not None and _settled(known, seen):
        seen = Proof(known.secret_version, known.outcome, seen.checked_at)
    values = {
        "secret_version": seen.secret_version,
        "outcome": seen.outcome,
        "checked_at": seen.checked_at,
    }
    if known is not None:
        # A late report of the key before this one must not speak of this one.
        if (known.secret_version, known.checked_at) <= (seen.secret_version, seen.checked_at):
            await conn.execute(update(proof).where(proof.c.config_id == config_id).values(**values))
        return
    c = provider_config.c
    if await conn.scalar(select(c.id).where(c.id == config_id)) is not None:
        new = insert_missing(conn, proof).values(config_id=config_id, **values)
        if not (await conn.execute(new)).rowcount:  # another gateway saw it at the same moment
            await put(conn, config_id, seen)


def _settled(known: Proof, seen: Proof) -> bool:
    same = known.secret_version == seen.secret_version
    return same and known.outcome in _DECISIVE and seen.outcome not in _DECISIVE
