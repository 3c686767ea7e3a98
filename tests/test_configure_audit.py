"""The audit trail: one row per change, in its transaction; tampering shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
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
from gateway.store.engine import open_store
from tests import desks
from tests.backends import Backend
from tests.desks import KEY, add, refused, secret
from tests.houses import wardgate

ROWS, HEAD = tables.audit, tables.audit_head


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
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


async def judged(desk: Desk, since: store.Mark = store.BEGINNING, chunk: int = 2) -> store.Verdict:
    async with desk.store.read() as conn:
        return await store.verify(conn, desk.audit_key.expose(), since, chunk=chunk)


async def test_a_long_chain_is_verified_in_pieces(desk: Desk) -> None:
    await busy(desk)
    for chunk in (1, 2, 5, 6):
        verdict = await judged(desk, chunk=chunk)
        assert (verdict.mark.id, verdict.flaw) == (5, None)
    await tamper(desk, update(ROWS).where(ROWS.c.id == 5).values(target="x"))
    for chunk in (1, 2, 5, 6):
        verdict = await judged(desk, chunk=chunk)
        assert (verdict.mark.id, verdict.flaw) == (4, "row 5 is not as it was written")


@pytest.mark.parametrize(
    ("edit", "flaw"),
    [
        (update(ROWS).where(ROWS.c.id == 3).values(target="x"), "row 3 is not as it was written"),
        (update(ROWS).where(ROWS.c.id == 3).values(mac=b"x"), "row 3 is not as it was written"),
        (delete(ROWS).where(ROWS.c.id == 1), "row 1 is missing"),
        (delete(ROWS).where(ROWS.c.id.in_((2, 3))), "row 2 is missing"),
        (delete(ROWS).where(ROWS.c.id > 3), "row 4 is missing, the end was cut off"),
        (delete(ROWS), "row 1 is missing, the end was cut off"),
        (delete(HEAD), "the head, which says how many rows there are, is missing"),
        (update(HEAD).values(last=4), "the head, which says how many rows there are, is not as"),
        (update(HEAD).values(mac=b"x"), "the head, which says how many rows there are, is not as"),
    ],
)
async def test_the_first_flaw_is_named(desk: Desk, edit: UpdateBase, flaw: str) -> None:
    await busy(desk)
    await tamper(desk, edit)
    assert str((await judged(desk)).flaw).startswith(flaw)


async def test_a_look_reads_what_is_new_and_what_is_shown(desk: Desk) -> None:
    await busy(desk)
    assert await valid(desk)
    assert desk.audited.id == 5
    await add(desk)
    told: list[int] = []
    async with desk.store.read() as conn:
        key = desk.audit_key.expose()
        await store.verify(conn, key, desk.audited, told.append, 1)
    assert told == [6]


@pytest.mark.parametrize("old", [1, 2, 3, 4])
async def test_an_old_row_edited_later_shows_on_its_page_and_to_a_full_look(
    desk: Desk, old: int
) -> None:
    await busy(desk)
    assert await valid(desk)
    await tamper(desk, update(ROWS).where(ROWS.c.id == old).values(target="x"))
    # This process saw it hold, and does not look again while it shows other rows.
    assert (await audit.page(desk, 1))[1]
    assert not (await audit.page(desk, 5))[1]
    assert not (await audit.page(desk, 1, old + 1))[1]
    assert not (await audit.page(desk, 2, old + 1))[1]
    assert (await audit.verify(desk, lambda *_: None)).flaw == f"row {old} is not as it was written"
    desk.audited = store.BEGINNING  # the next process
    assert not await valid(desk)


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
async def test_an_old_row_removed_later_shows_on_its_page(desk: Desk, gone: int) -> None:
    await busy(desk)
    assert await valid(desk)
    await tamper(desk, delete(ROWS).where(ROWS.c.id == gone))
    assert not (await audit.page(desk, 5))[1]
    assert not (await audit.page(desk, 1, gone + 1))[1]
    assert not (await audit.page(desk, 1, gone + 2))[1]


async def test_the_end_is_looked_at_whatever_is_shown(desk: Desk) -> None:
    await busy(desk)
    assert await valid(desk)
    await tamper(desk, delete(ROWS).where(ROWS.c.id == 5))
    assert not (await audit.page(desk, 1, 3))[1]
    await add(desk)
    assert not (await audit.page(desk, 1, 3))[1]


@pytest.mark.parametrize("back", [2, 4])
async def test_going_back_in_time_shows_while_the_process_lives(desk: Desk, back: int) -> None:
    await busy(desk)
    async with desk.store.read() as conn:
        kept = [row._mapping for row in await conn.execute(select(ROWS).where(ROWS.c.id <= back))]
        heads = store._head(desk.audit_key.expose(), back, kept[-1]["mac"])
    assert await valid(desk)
    # A backup put in place under a running process.
    await tamper(desk, delete(ROWS).where(ROWS.c.id > back), update(HEAD).values(**heads))
    assert (await judged(desk)).flaw is None
    for number in range(4):
        assert not await valid(desk)
        await add(desk, f"later-{number}")


async def test_a_page_beyond_the_end_is_whole(desk: Desk) -> None:
    await busy(desk)
    assert [row.id for row in (await audit.page(desk, 2, 99))[0]] == [5, 4]
    assert (await audit.page(desk, 2, 99))[1]
    assert (await audit.page(desk, 2, 1)) == ([], True)


async def test_the_command_verifies_everything(backend: Backend) -> None:
    data, env = backend.folder, backend.env
    code, said, _ = await wardgate(data, "audit", "verify", **env)
    assert (code, said) == (0, "The chain holds: 0 rows.\n")
    for name in ("a", "b", "c"):
        await wardgate(data, "keys", "create", name, **env)
    code, said, _ = await wardgate(data, "audit", "verify", "--json", **env)
    assert (code, msgspec.json.decode(said)) == (0, {"rows": 3, "flaw": None})
    opened = await open_store(backend.place)
    async with opened.note() as conn:
        await conn.execute(update(ROWS).where(ROWS.c.id == 2).values(actor_name="x"))
    await opened.aclose()
    code, said, complaint = await wardgate(data, "audit", "verify", **env)
    assert (code, said) == (1, "")
    words = "The chain is broken: row 2 is not as it was written (it holds up to row 1)."
    assert complaint.splitlines()[-1] == words
    code, said, _ = await wardgate(data, "audit", "verify", "--json", **env)
    assert (code, msgspec.json.decode(said)["rows"]) == (1, 1)
