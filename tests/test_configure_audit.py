"""The audit trail: one row per change, in its transaction; tampering shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.sql.dml import UpdateBase

from admin.configure import audit, configs, gateways, keys, tokens
from admin.configure.configs import ConfigChange
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from admin.permit import LOCAL, SUPERADMIN, Grant
from gateway.shapes import GLOBAL
from gateway.store import audit as store
from gateway.store import tables
from tests import desks
from tests.desks import KEY, add, refused, secret

ROWS, HEAD = tables.audit, tables.audit_head


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desks.opened(tmp_path) as opened:
        yield opened


async def busy(desk: Desk) -> None:
    """Five changes."""
    view = await add(desk)
    changed = ConfigChange(alias="new", secret=secret("sk-canary-9876543210"), rate_limit=9)
    await configs.change(desk, LOCAL, view.id, GLOBAL, changed)
    await configs.delete(desk, LOCAL, view.id, GLOBAL)
    key, _ = await keys.create(desk, LOCAL, NewKey(name="app"))
    await keys.revoke(desk, LOCAL, key.id)


async def tamper(desk: Desk, *statements: UpdateBase) -> None:
    async with desk.store.note() as conn:
        for statement in statements:
            await conn.execute(statement)


async def valid(desk: Desk) -> bool:
    return (await audit.page(desk, 1))[1]


async def test_every_change_is_told_without_the_key(desk: Desk) -> None:
    await busy(desk)
    rows, intact = await audit.page(desk, 10)
    assert intact
    assert [row.action for row in rows] == [
        "key.revoke",
        "key.create",
        "config.delete",
        "config.change",
        "config.create",
    ]
    assert rows[3].change == {"alias": "new", "rate_limit": 9, "secret": "rotated"}
    assert rows[4].change["secret"] == "set"
    assert {row.actor_id for row in rows} == {LOCAL.id}
    assert {row.at for row in rows} == {desk.clock()}
    assert KEY not in repr(rows)
    assert "canary" not in repr(rows)


async def test_every_kind_of_change_has_its_row(desk: Desk) -> None:
    await gateways.create(desk, LOCAL, "acc", "gw", {"logpush": True})
    await gateways.change(desk, LOCAL, "acc", "gw", {"cache_ttl": 3})
    await gateways.delete(desk, LOCAL, "acc", "gw")
    token, _ = await tokens.create(desk, LOCAL, "x", (Grant(SUPERADMIN, GLOBAL),))
    await tokens.revoke(desk, LOCAL, token.id)
    rows, _ = await audit.page(desk, 10)
    assert [(row.action, row.target) for row in rows][::-1] == [
        ("gateway.create", "gateway:acc/gw"),
        ("gateway.change", "gateway:acc/gw"),
        ("gateway.delete", "gateway:acc/gw"),
        ("token.create", token.id),
        ("token.revoke", token.id),
    ]


async def test_refused_changes_leave_no_row(desk: Desk) -> None:
    view = await add(desk)
    await refused(add(desk))
    moved = ConfigChange(base_url="https://other.example/v1")
    await refused(configs.change(desk, LOCAL, view.id, GLOBAL, moved))
    rows, intact = await audit.page(desk, 10)
    assert ([row.id for row in rows], intact) == ([1], True)


async def test_page_goes_back_in_time(desk: Desk) -> None:
    await busy(desk)
    assert [row.id for row in (await audit.page(desk, 2))[0]] == [5, 4]
    assert [row.id for row in (await audit.page(desk, 2, 4))[0]] == [3, 2]
    assert (await audit.page(desk, 2, 1))[0] == []


async def test_a_fresh_chain_is_valid(desk: Desk) -> None:
    assert await audit.page(desk, 10) == ([], True)


@pytest.mark.parametrize(
    "edit",
    [
        {"at": 1.0},
        {"actor_id": "x"},
        {"actor_name": "x"},
        {"action": "x"},
        {"target": "x"},
        {"change": "{}"},
        {"change": "no json"},
        {"mac": bytes(32)},
        {"id": 9},
    ],
)
async def test_an_edited_row_shows(desk: Desk, edit: dict[str, Any]) -> None:
    await busy(desk)
    await tamper(desk, update(ROWS).where(ROWS.c.id == 3).values(**edit))
    assert not await valid(desk)


@pytest.mark.parametrize("gone", [1, 3, 5])
async def test_a_removed_row_shows_even_after_more_changes(desk: Desk, gone: int) -> None:
    await busy(desk)
    await tamper(desk, delete(ROWS).where(ROWS.c.id == gone))
    assert not await valid(desk)
    await add(desk)
    assert not await valid(desk)


async def test_a_chain_cut_to_fit_shows(desk: Desk) -> None:
    await busy(desk)
    async with desk.store.read() as conn:
        mac = await conn.scalar(select(ROWS.c.mac).where(ROWS.c.id == 4))
    await tamper(
        desk,
        delete(ROWS).where(ROWS.c.id == 5),
        update(HEAD).values(last=4, row_mac=mac),
    )
    assert not await valid(desk)


async def test_everything_removed_shows(desk: Desk) -> None:
    await busy(desk)
    await tamper(desk, delete(ROWS))
    assert not await valid(desk)
    await tamper(desk, delete(HEAD))
    assert not await valid(desk)
    await add(desk)
    assert not await valid(desk)


async def test_swapped_rows_show(desk: Desk) -> None:
    await busy(desk)
    moves = [update(ROWS).where(ROWS.c.id == a).values(id=b) for a, b in ((2, 99), (3, 2), (99, 3))]
    await tamper(desk, *moves)
    assert not await valid(desk)


async def test_a_forged_row_shows(desk: Desk) -> None:
    await busy(desk)
    async with desk.store.read() as conn:
        row = (await conn.execute(select(ROWS).where(ROWS.c.id == 5))).one()
    await tamper(desk, insert(ROWS).values(**{**row._mapping, "id": 6}))
    assert not await valid(desk)


async def test_a_long_chain_is_verified_in_pieces(desk: Desk) -> None:
    await busy(desk)
    key = desk.audit_key.expose()
    async with desk.store.read() as conn:
        for chunk in (1, 2, 5, 6):
            assert await store.intact(conn, key, chunk)
    await tamper(desk, update(ROWS).where(ROWS.c.id == 5).values(target="x"))
    async with desk.store.read() as conn:
        for chunk in (1, 2, 5, 6):
            assert not await store.intact(conn, key, chunk)
