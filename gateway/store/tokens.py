"""Admin tokens and their grants: only the keyed hash of a token is ever stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, exists, func, insert, select, update

from gateway.store.engine import Connection
from gateway.store.tables import admin_token, grant


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A stored token; `grants` are pairs of permission and scope."""

    id: str
    name: str
    digest: bytes
    grants: tuple[tuple[str, str], ...]
    created_at: float
    revoked_at: float | None


async def find(conn: Connection, token_id: str) -> TokenRow | None:
    row = (await conn.execute(select(admin_token).where(admin_token.c.id == token_id))).first()
    return (await _shaped(conn, [row]))[0] if row is not None else None


async def page(conn: Connection, offset: int, limit: int) -> tuple[list[TokenRow], int]:
    """Tokens that are not revoked, oldest first, with the number there are in all."""
    held = admin_token.c.revoked_at.is_(None)
    total = await conn.scalar(select(func.count()).select_from(admin_token).where(held))
    order = (admin_token.c.created_at, admin_token.c.id)
    wanted = select(admin_token).where(held).order_by(*order).offset(offset).limit(limit)
    return await _shaped(conn, (await conn.execute(wanted)).all()), int(total or 0)


async def any_ever(conn: Connection) -> bool:
    """Whether a token was ever made, revoked ones included."""
    return bool(await conn.scalar(select(exists().where(admin_token.c.id.is_not(None)))))


async def add(
    conn: Connection,
    token_id: str,
    name: str,
    digest: bytes,
    grants: Iterable[tuple[str, str]],
    now: float,
) -> None:
    values = {"id": token_id, "name": name, "digest": digest, "created_at": now}
    await conn.execute(insert(admin_token).values(**values))
    await _put_grants(conn, token_id, grants)


async def alter(
    conn: Connection,
    token_id: str,
    values: Mapping[str, Any],
    grants: Iterable[tuple[str, str]] | None = None,
) -> None:
    """Change columns; `grants` None keeps them."""
    if values:
        here = admin_token.c.id == token_id
        await conn.execute(update(admin_token).where(here).values(**values))
    if grants is not None:
        await conn.execute(delete(grant).where(grant.c.token_id == token_id))
        await _put_grants(conn, token_id, grants)


async def others_hold(conn: Connection, token_id: str, permission: str, scope_id: str) -> bool:
    """Whether another token, not revoked, was granted this."""
    joined = grant.join(admin_token, admin_token.c.id == grant.c.token_id)
    wanted = select(func.count()).select_from(joined)
    held = (grant.c.permission == permission, grant.c.scope_id == scope_id)
    others = (grant.c.token_id != token_id, admin_token.c.revoked_at.is_(None))
    return bool(await conn.scalar(wanted.where(*held, *others)))


async def revoke(conn: Connection, token_id: str, now: float) -> None:
    await conn.execute(
        update(admin_token).where(admin_token.c.id == token_id).values(revoked_at=now)
    )


async def _put_grants(conn: Connection, token_id: str, grants: Iterable[tuple[str, str]]) -> None:
    rows = [{"token_id": token_id, "permission": p, "scope_id": s} for p, s in set(grants)]
    if rows:
        await conn.execute(insert(grant), rows)


async def _shaped(conn: Connection, rows: Sequence[Row[Any]]) -> list[TokenRow]:
    c = grant.c
    wanted = select(grant).where(c.token_id.in_([row.id for row in rows]))
    held: dict[str, list[tuple[str, str]]] = {row.id: [] for row in rows}
    for row in await conn.execute(wanted.order_by(c.permission, c.scope_id)):
        held[row.token_id].append((row.permission, row.scope_id))
    return [
        TokenRow(
            row.id, row.name, bytes(row.digest), tuple(held[row.id]), row.created_at, row.revoked_at
        )
        for row in rows
    ]
