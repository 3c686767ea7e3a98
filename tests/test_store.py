"""The store itself: transactions, constraints, the installation's own secrets; on both kinds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.errors import SealBroken, StartRefused
from gateway.store import health, proofs, sealed, tables, telemetry
from gateway.store.compile import revision
from gateway.store.engine import Store, open_store
from gateway.store.migrate import migrate
from gateway.vault import KeyRing
from tests.backends import Backend

OLD, NEW = ("old", bytes(range(32))), ("new", bytes(range(1, 33)))
CONFIG: dict[str, Any] = {
    "id": "a",
    "scope_id": "global",
    "provider_id": "openai",
    "alias": "Main",
    "alias_key": "main",
    "name": "x",
    "origin": "https://api.openai.com:443",
    "auth_type": "api_key",
    "settings": {},
    "is_active": True,
    "is_default": True,
    "rate_limit_period": 60,
    "last_secret_version": 1,
    "revision": 1,
    "created_at": 1.0,
    "updated_at": 1.0,
}
SECRET: dict[str, Any] = {
    "config_id": "a",
    "version": 1,
    "sealed": b"x",
    "preview": "***",
    "part_masks": {},
    "created_at": 1.0,
}
KEY: dict[str, Any] = {
    "id": "k",
    "scope_id": "global",
    "name": "app",
    "digest": b"d",
    "allowed_models": [],
    "rate_limit_period": 60,
    "created_at": 1.0,
}
SCOPE: dict[str, Any] = {
    "id": "group:g",
    "kind": "group",
    "parent_id": "global",
    "created_at": 1.0,
}
CHOICE: dict[str, Any] = {"model": "m", "created_at": 1.0, "updated_at": 1.0}
AGENT: dict[str, Any] = {
    "id": "g",
    "scope_id": "global",
    "name": "x",
    "enabled": True,
    "created_at": 1.0,
    "updated_at": 1.0,
}


BROKEN: list[tuple[Table, dict[str, Any]]] = [
    (tables.provider_config, {**CONFIG, "id": "b", "is_default": False}),
    (tables.provider_config, {**CONFIG, "id": "b", "alias": "o", "alias_key": "o"}),
    (tables.provider_config, {**CONFIG, "id": "b", "alias": "O", "alias_key": "O"}),
    (tables.provider_config, {**CONFIG, "id": "b", "provider_id": "x", "rate_limit": 0}),
    (tables.provider_config, {**CONFIG, "id": "b", "scope_id": "group:none"}),
    (tables.secret_version, {**SECRET, "version": 2}),
    (tables.secret_version, {**SECRET, "version": 2, "retired_at": 2.0, "reference": "r"}),
    (tables.secret_version, {**SECRET, "version": 2, "retired_at": 2.0, "sealed": None}),
    (tables.secret_version, {**SECRET, "retired_at": 2.0}),
    (tables.secret_version, {**SECRET, "config_id": "none"}),
    (tables.scope, {**SCOPE, "id": "group:h", "parent_id": None}),
    (tables.scope, {**SCOPE, "id": "global2", "kind": "global"}),
    (tables.scope, {**SCOPE, "id": "x", "kind": "planet"}),
    (tables.scope, {**SCOPE, "id": "x", "parent_id": "none"}),
    (tables.scope_choice, {**CHOICE, "scope_id": "group:g", "config_id": "a"}),
    (tables.agent, {**AGENT, "provider_id": "openai"}),
    (tables.client_key, {**KEY, "agent_id": "none"}),
    (tables.client_key, {**KEY, "rate_limit": -1}),
    (tables.revision, {"id": 2, "value": 0}),
]


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    await asyncio.to_thread(migrate, backend.place)
    opened = await open_store(backend.place)
    yield opened
    await opened.aclose()


async def put(store: Store, *rows: tuple[Table, dict[str, Any]]) -> None:
    async with store.write("global") as conn:
        for table, values in rows:
            await conn.execute(insert(table).values(**values))


async def test_write_bumps_the_revision_and_note_does_not(store: Store) -> None:
    before = await revision(store)
    async with store.write("global"):
        pass
    async with store.write(None):
        pass
    async with store.note():
        pass
    assert await revision(store) == before + 2


async def test_write_leaves_nothing_behind_when_it_fails(store: Store) -> None:
    before = await revision(store)
    with pytest.raises(IntegrityError):
        await put(store, (tables.scope, SCOPE), (tables.scope, SCOPE))
    assert await revision(store) == before
    async with store.read() as conn:
        assert list(await conn.scalars(select(tables.scope.c.id))) == ["global"]


async def test_read_sees_one_state_throughout(store: Store) -> None:
    counter = select(tables.revision.c.value)
    async with store.read() as conn:
        first = await conn.scalar(counter)
        async with store.write("global"):
            pass
        assert await conn.scalar(counter) == first
    assert await revision(store) == (first or 0) + 1


async def test_writers_wait_for_each_other(store: Store) -> None:
    running = 0

    async def change() -> None:
        nonlocal running
        async with store.write("global") as conn:
            running += 1
            assert running == 1
            await conn.execute(text("SELECT 1"))
            running -= 1

    before = await revision(store)
    await asyncio.gather(*(change() for _ in range(20)))
    assert await revision(store) == before + 20


async def test_constraints_refuse_every_row_that_breaks_a_rule(store: Store) -> None:
    await put(store, (tables.scope, SCOPE), (tables.provider_config, CONFIG))
    await put(store, (tables.secret_version, SECRET))
    for table, values in BROKEN:
        with pytest.raises(IntegrityError):
            await put(store, (table, values))


async def test_deleting_a_config_takes_its_secrets_and_choice_along(store: Store) -> None:
    await put(store, (tables.provider_config, CONFIG), (tables.secret_version, SECRET))
    await put(store, (tables.scope_choice, {**CHOICE, "scope_id": "global", "config_id": "a"}))
    async with store.write("global") as conn:
        await conn.execute(delete(tables.provider_config))
    async with store.read() as conn:
        for table in (tables.secret_version, tables.scope_choice):
            assert (await conn.execute(select(table))).all() == []


async def test_record_used_keeps_the_latest_time_of_known_keys(store: Store) -> None:
    await put(store, (tables.client_key, KEY))
    before = await revision(store)
    for used in ({"k": 5.0, "gone": 6.0}, {"k": 4.0}, {}, {"k": 7.0}):
        await telemetry.record_used(store, used)
    assert await revision(store) == before
    async with store.read() as conn:
        rows = (await conn.execute(select(tables.telemetry))).all()
    assert [(row.key_id, row.last_used_at) for row in rows] == [("k", 7.0)]


async def test_two_gateways_that_saw_a_key_first_at_the_same_moment(
    backend: Backend, store: Store
) -> None:
    await put(store, (tables.client_key, KEY))
    await put(store, (tables.provider_config, CONFIG))
    other = await open_store(backend.place)
    seen = proofs.Proof(0, proofs.REFUSED, 7.0)

    async def tell() -> None:
        await telemetry.record_used(other, {"k": 7.0})
        await health.keep(other, "other", {}, {CONFIG["id"]: seen})

    async with asyncio.TaskGroup() as tasks, store.note() as conn:
        values = {"key_id": "k", "last_used_at": 5.0}
        await conn.execute(insert(tables.telemetry).values(values))
        await proofs.put(conn, CONFIG["id"], proofs.Proof(0, proofs.PROVEN, 5.0))
        telling = tasks.create_task(tell())
        assert not (await asyncio.wait([telling], timeout=0.1))[0]
    async with store.read() as conn:
        assert await conn.scalar(select(tables.telemetry.c.last_used_at)) == 7.0
        assert await proofs.find(conn, CONFIG["id"]) == seen
    await other.aclose()


async def test_unlock_gives_the_same_constants_every_time(store: Store) -> None:
    first = await sealed.unlock(store, KeyRing([OLD]))
    before = await revision(store)
    again = await sealed.unlock(store, KeyRing([OLD]))
    assert [s.expose() for s in first.values()] == [s.expose() for s in again.values()]
    assert len({s.expose() for s in first.values()}) == 2
    assert await revision(store) == before


async def test_unlock_takes_a_key_added_to_the_ring(store: Store) -> None:
    first = await sealed.unlock(store, KeyRing([OLD]))
    again = await sealed.unlock(store, KeyRing([OLD, NEW]))
    assert first["token hash"].expose() == again["token hash"].expose()
    with pytest.raises(StartRefused, match="WARDGATE_KEK_FILE"):
        await sealed.unlock(store, KeyRing([NEW]))


@pytest.mark.parametrize("wrong", [("old", NEW[1]), NEW])
async def test_unlock_refuses_a_wrong_ring_and_plants_nothing(
    store: Store, wrong: tuple[str, bytes]
) -> None:
    await sealed.unlock(store, KeyRing([OLD]))
    for _ in range(2):
        with pytest.raises(StartRefused, match="does not open this database"):
            await sealed.unlock(store, KeyRing([wrong]))
    async with store.read() as conn:
        names = set(await conn.scalars(select(tables.sealed.c.name)))
    assert names == {"token hash", "audit chain", "canary old"}


async def test_unlock_misses_a_key_that_stored_secrets_need(store: Store) -> None:
    await sealed.unlock(store, KeyRing([NEW]))
    blob = KeyRing([OLD]).seal(b"x", b"")
    await put(
        store,
        (tables.provider_config, CONFIG),
        (tables.secret_version, {**SECRET, "sealed": blob}),
    )
    with pytest.raises(StartRefused, match="'old'"):
        await sealed.unlock(store, KeyRing([NEW]))


async def test_unlock_notices_constants_that_were_swapped(store: Store) -> None:
    await sealed.unlock(store, KeyRing([OLD]))
    column = tables.sealed.c
    async with store.write(None) as conn:
        wanted = select(column.value).where(column.name == "audit chain")
        other = await conn.scalar(wanted)
        await conn.execute(
            update(tables.sealed).where(column.name == "token hash").values(value=other)
        )
    with pytest.raises(StartRefused):
        await sealed.unlock(store, KeyRing([OLD]))


async def test_constant_says_when_it_was_never_made(store: Store) -> None:
    async with store.read() as conn:
        with pytest.raises(SealBroken, match="start the admin app"):
            await sealed.constant(conn, KeyRing([OLD]), sealed.HASH_KEY)


async def test_sqlite_is_durable_and_keeps_its_references(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'wardgate.db'}"
    await asyncio.to_thread(migrate, url)
    store = await open_store(url)
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    async with store.read() as conn:
        for name, value in wanted.items():
            assert await conn.scalar(text(f"PRAGMA {name}")) == value
    await store.aclose()


async def test_two_stores_write_to_one_database(backend: Backend) -> None:
    url = backend.empty()
    await asyncio.to_thread(migrate, url)
    stores = [await open_store(url) for _ in range(2)]

    async def change(store: Store) -> None:
        for _ in range(10):
            async with store.write("global") as conn:
                await conn.execute(select(tables.scope))

    await asyncio.gather(*(change(store) for store in stores for _ in range(2)))
    assert await revision(stores[0]) == 40
    for store in stores:
        await store.aclose()


def test_repr_hides_the_password() -> None:
    async def shown() -> str:
        store = await open_store("postgresql+asyncpg://me:canary@127.0.0.1:1/none")
        await store.aclose()
        return repr(store)

    assert "canary" not in asyncio.run(shown())


def test_a_new_file_is_opened_by_eight_at_once(tmp_path: Path) -> None:
    problems: list[Exception] = []

    async def look(url: str) -> None:
        store = await open_store(url)
        async with store.note() as conn:
            await conn.execute(text("SELECT 1"))
        await store.aclose()

    def run(url: str, together: threading.Barrier) -> None:
        together.wait()
        try:
            asyncio.run(look(url))
        except SQLAlchemyError as error:
            problems.append(error)

    for turn in range(20):
        url = f"sqlite+aiosqlite:///{tmp_path / f'{turn}.db'}"
        together = threading.Barrier(8)
        threads = [threading.Thread(target=run, args=(url, together)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []
