"""A start that serves the table of the last one at once: when it may, and when it must not.

Of SQLite by nature: it looks into the file, which takes no driver; no other store is looked into.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from admin.cli.leave import leave_table
from admin.configure import keys, tokens
from admin.configure.desk import Desk
from admin.demo.upstream import Upstream
from admin.opening import Wishes, as_it_was_left, open_house, serve_at_once
from admin.permit import LOCAL
from gateway.keks.load import load_ring
from gateway.process.publish import Publisher, Source, write_private
from gateway.process.supervise import House, Plan, listen
from gateway.settings import Settings
from gateway.shapes import Secret
from gateway.snapshot import pack, still_holds
from gateway.store.glance import glance
from gateway.vault import KeyRing
from tests.backends import Backend
from tests.catalogs import Source as CatalogSource
from tests.catalogs import entry, synced
from tests.desks import RING, add, opened, table
from tests.houses import environment, house, until, wardgate
from tests.left import house_of, left, publish
from tests.serve import free_port

SAME: dict[str, Any] = {
    "host": "0.0.0.0",
    "port": 9,
    "admin_host": "::1",
    "admin_port": 8,
    "workers": 4,
}
OTHER: list[dict[str, Any]] = [
    {"provider_base_urls": {"openai": "http://127.0.0.1:9/v1"}},
    {"oidc_issuer": "https://issuer.example"},
    {"allowed_upstream_cidrs": ()},
]
REFUSED: list[dict[str, Any]] = [
    {"provider_base_urls": {"nosuch": "http://127.0.0.1:9/v1"}},
    {"oidc_issuer": "https://issuer.example"},
]


async def publish_late(desk: Desk) -> None:
    """What is left by a start that found no store, once there is one."""
    late = house_of(desk.settings)
    publisher = Publisher(late, Source(desk.settings, desk.ring, desk.catalog), None)
    before = late.snapshot.stat().st_ino
    watching = asyncio.create_task(publisher.watch())
    await until(lambda: late.snapshot.stat().st_ino != before, "another table")
    late.closing.set()
    await watching
    await publisher.last()


def holds(desk: Desk, ring: KeyRing = RING, **changed: Any) -> bool:
    """Whether the next start may serve at once."""
    settings = replace(desk.settings, **changed)
    return as_it_was_left(house_of(settings), settings, ring)


async def test_table_holds_while_nothing_changes(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, _):
        assert holds(desk)
        assert holds(desk, **SAME)
        await publish(desk)
        assert holds(desk)


async def test_table_holds_for_a_store_nobody_has_open(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, _):
        pass
    assert holds(desk)
    assert not (tmp_path / "wardgate.db-wal").exists()


@pytest.mark.parametrize("changed", OTHER, ids=lambda changed: next(iter(changed)))
async def test_table_does_not_hold_under_other_settings(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    async with left(tmp_path) as (desk, _):
        assert not holds(desk, **changed)


async def test_table_does_not_hold_after_a_change(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, app):
        await keys.revoke(desk, LOCAL, app.view.id)
        assert not holds(desk)
        await publish(desk)
        assert holds(desk)
        await add(desk, alias="another")
        assert not holds(desk)


async def test_table_does_not_hold_with_any_other_ring(tmp_path: Path) -> None:
    [(name, key)] = RING.expose()
    more, wrong = ("more", bytes(range(32))), (name, bytes(range(32)))
    async with left(tmp_path) as (desk, _):
        for ring in ([more, (name, key)], [(name, key), more], [wrong], [wrong, more], [more]):
            assert not holds(desk, KeyRing(ring))


async def test_table_does_not_hold_with_the_wrong_key_under_a_known_id(tmp_path: Path) -> None:
    [sealing] = RING.expose()
    ring = KeyRing([("older", bytes(range(32))), sealing])
    async with left(tmp_path) as (desk, _):
        data = pack(await table(desk), ring, b"mark")
    assert still_holds(data, ring, b"mark")
    assert not still_holds(data, KeyRing([("older", bytes(32)), sealing]), b"mark")
    assert not still_holds(data, ring, b"another mark")


async def test_table_does_not_hold_in_another_history_of_the_same_length(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    async with left(one):
        pass
    shutil.copytree(one, other)
    async with opened(Backend(one)) as desk:
        await add(desk, alias="one")
        await publish(desk)
    async with opened(Backend(other)) as desk:
        await add(desk, alias="other")
        shutil.copy(one / "snapshot.sealed", other / "snapshot.sealed")
        assert not holds(desk)
        await publish(desk)
        assert holds(desk)


async def test_table_does_not_hold_when_the_catalog_changed(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, _), Upstream(CatalogSource(entry("acme"))) as source:
        await synced(desk, source, force=True)
        assert not holds(desk)
        await desk.refresh()
        await publish(desk)
        assert holds(desk)
        os.utime(tmp_path / "catalog.json.xz", (1.0, 1.0))
        assert not holds(desk)
        (tmp_path / "catalog.json.xz").unlink()
        assert not holds(desk)


async def test_table_does_not_hold_without_a_store_or_a_table(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, _):
        pass
    file, database = tmp_path / "snapshot.sealed", tmp_path / "wardgate.db"
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40] + b"\x00" + whole[41:]):
        file.write_bytes(damaged)
        assert not holds(desk)
    file.unlink()
    assert not holds(desk)
    file.write_bytes(whole)
    assert holds(desk)
    database.write_bytes(b"not a database at all, whatever one asks of it" * 100)
    assert not holds(desk)
    database.unlink()
    assert not holds(desk)
    assert not database.exists()


async def test_table_without_a_mark_never_holds(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, _):
        write_private(tmp_path / "snapshot.sealed", pack(await table(desk), RING))
        assert not holds(desk)
        assert not still_holds(pack(await table(desk), RING), RING, b"")


async def test_table_of_a_store_that_was_away_is_proved_by_the_next_start(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, _):
        await publish_late(desk)
        assert not holds(desk)


async def test_table_does_not_hold_when_the_store_changed_while_it_was_made(
    tmp_path: Path,
) -> None:
    async with left(tmp_path) as (desk, _):

        def clock() -> float:
            """Asked after the first look at the store, before its rows are read."""
            with contextlib.closing(sqlite3.connect(tmp_path / "wardgate.db")) as conn, conn:
                conn.execute("UPDATE revision SET value = value + 1")
            return 1.0

        await publish(desk, clock=clock)
        assert not holds(desk)


async def test_first_token_of_an_operator_is_looked_at_before_anything_is_served(
    tmp_path: Path,
) -> None:
    token = Secret(b"chosen by the operator")
    async with left(tmp_path, bootstrap_admin_token=token) as (desk, _):
        assert not holds(desk)
        await tokens.ensure_bootstrap(desk)
        await publish(desk)
        assert holds(desk)


async def test_command_leaves_the_table_it_changed_for_the_next_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert (await wardgate(data, "keys", "create", "app"))[0] == 0
    settings, table = Settings(data_dir=data), data / "snapshot.sealed"
    ring = await load_ring(settings)
    assert as_it_was_left(house_of(settings), settings, ring)
    before = table.stat().st_ino
    assert (await wardgate(data, "keys", "list"))[0] == 0
    assert table.stat().st_ino == before


async def test_command_leaves_no_table_beside_a_parent_that_makes_its_own(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, _):
        await add(desk, alias="another")
        async with House(Plan(desk.settings), {}):
            await leave_table(desk)
            assert not holds(desk)
        await leave_table(desk)
        assert holds(desk)


async def test_command_leaves_no_table_that_a_start_would_refuse(tmp_path: Path) -> None:
    for number, refused in enumerate(REFUSED):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with opened(Backend(folder), **refused) as desk:
            await leave_table(desk)
            assert not (folder / "snapshot.sealed").exists()


async def test_command_that_can_leave_no_table_goes_on(tmp_path: Path) -> None:
    async with opened(Backend(tmp_path)) as desk:
        (tmp_path / "snapshot.sealed").mkdir()
        await leave_table(desk)
        assert not holds(desk)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://me@127.0.0.1:1/none",
        "sqlite+aiosqlite:///",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///x?mode=ro",
    ],
)
def test_glance_sees_nothing_in_other_stores(tmp_path: Path, url: str) -> None:
    assert glance(Settings(database_url=url), tmp_path / "none") is None


async def test_glance_sees_nothing_in_a_store_of_another_shape(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "wardgate.db")) as conn:
        assert glance(settings, tmp_path / "none") is None
        conn.execute("CREATE TABLE revision (value int)")
        assert glance(settings, tmp_path / "none") is None


async def test_house_serves_at_once_from_the_table_it_finds(tmp_path: Path) -> None:
    async with left(tmp_path) as (desk, app):
        pass
    [sock] = listen("127.0.0.1", 0)
    plan = Plan(desk.settings, 1, [sock])
    async with House(plan, environment(tmp_path)) as again:
        await serve_at_once(again, desk.settings, RING, Wishes(import_env=True))
        too_early = again.ready
        await serve_at_once(again, desk.settings, RING, Wishes())
        assert (too_early, again.ready) == (False, True)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, headers=app.headers) as client:
            assert (await client.get("/v1/models")).status_code == 200
        again.close()
        assert await open_house(again, desk.settings, RING, Wishes(), {}) is None


async def test_key_revoked_while_nothing_ran_is_refused_from_the_first_answer_on(
    tmp_path: Path,
) -> None:
    async with left(tmp_path) as (desk, app):
        await keys.revoke(desk, LOCAL, app.view.id)
    port, statuses = free_port(), set[int]()

    async def ask() -> None:
        """All the time, from before anybody listens."""
        url = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=url, headers=app.headers, timeout=30) as client:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    statuses.add((await client.get("/v1/models")).status_code)
                await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    async with house(tmp_path, "--port", str(port), WARDGATE_ALLOWED_UPSTREAM_CIDRS="127.0.0.0/8"):
        await until(lambda: bool(statuses), "an answer")
    asking.cancel()
    assert statuses == {401}
