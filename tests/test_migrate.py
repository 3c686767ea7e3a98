"""Migrations: they make what tables.py says, on both databases, and again and again."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, func, inspect, select, table, text
from sqlalchemy.engine import Connection as SyncConnection

from gateway.errors import StartRefused
from gateway.store.compile import revision
from gateway.store.engine import Connection, open_store
from gateway.store.migrate import FOLDER, LOCK, configuration, migrate, newest, standing
from gateway.store.tables import metadata
from tests.backends import Backend
from tests.copies import copied, held, opened_store
from tests.databases import Databases, name_of
from tests.filled import filled_desk
from tests.houses import until
from tests.starters import starters

# The database of everybody who waits for an advisory lock.
WAITING = (
    "SELECT datname FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
    " WHERE locktype = 'advisory' AND NOT granted"
)


@pytest.fixture
def url(backend: Backend) -> str:
    """An empty database of each kind."""
    return backend.empty()


def differences(connection: SyncConnection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


def step_back(connection: SyncConnection, number: str = "base") -> None:
    command.downgrade(configuration(connection), number)


async def test_migrate_makes_what_the_tables_say(url: str) -> None:
    await asyncio.to_thread(migrate, url)
    store = await open_store(url)
    async with store.read() as conn:
        assert await conn.run_sync(differences) == []
    await store.aclose()


async def test_migrate_twice_and_back_and_again(url: str) -> None:
    for _ in range(2):
        await asyncio.to_thread(migrate, url)
    store = await open_store(url)
    async with store.note() as conn:
        await conn.run_sync(step_back)
    await asyncio.to_thread(migrate, url)
    assert await revision(store) == 0
    await store.aclose()


def test_newest_is_what_alembic_takes_for_its_head() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        scripts = ScriptDirectory.from_config(configuration(connection))
    engine.dispose()
    assert newest() == scripts.get_current_head()


def test_migrate_from_four_threads_at_once(url: str) -> None:
    problems: list[BaseException] = []

    def run() -> None:
        try:
            migrate(url)
        except StartRefused as error:
            problems.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


async def test_of_eight_processes_one_migrates_and_all_come_up(
    shared_databases: Databases, postgres_url: str, tmp_path: Path
) -> None:
    waiting = [name_of(postgres_url)] * 8
    async with (
        opened_store(postgres_url) as store,
        starters(tmp_path, postgres_url, 8) as started,
    ):
        async with store.note() as conn:
            await conn.execute(select(func.pg_advisory_xact_lock(LOCK)))
            await started.begun()
            await until(lambda: shared_databases.run(WAITING) == waiting, "eight that wait")
        starts = await started.ended()
    assert sorted(start.migrated for start in starts) == [False] * 7 + [True]
    assert len({start.key for start in starts}) == 1


async def test_of_eight_processes_one_makes_the_file_and_all_come_up(tmp_path: Path) -> None:
    file = tmp_path / "data" / "wardgate.db"
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as held:
        held.execute("PRAGMA journal_mode = WAL")
        held.execute("BEGIN IMMEDIATE")
        async with starters(file.parent, f"sqlite+aiosqlite:///{file}", 8) as started:
            await started.begun()
            held.execute("ROLLBACK")
            starts = await started.ended()
    assert sorted(start.migrated for start in starts) == [False] * 7 + [True]
    assert len({start.key for start in starts}) == 1


async def test_every_step_goes_down_and_up_again_with_rows(url: str, tmp_path: Path) -> None:
    async with filled_desk(tmp_path) as (desk, _):
        await copied(desk.store, url)
    before = await held(url)
    numbers = sorted(path.stem[1:5] for path in FOLDER.glob("v*.py"))
    async with opened_store(url) as store:
        for number in reversed(numbers[:-1]):
            async with store.note() as conn:
                await conn.run_sync(step_back, number)
                assert await conn.run_sync(standing) == (number, True)
                left = await counts(conn)
            assert left == {name: len(before[name]) for name in left}
        assert await asyncio.to_thread(migrate, url) is True
        after = {name: len(rows) for name, rows in (await held(url)).items()}
        assert {name: count for name, count in after.items() if count} == left
        async with store.note() as conn:
            assert await conn.run_sync(differences) == []
            await conn.run_sync(step_back)
            assert await counts(conn) == {}


async def counts(conn: Connection) -> dict[str, int]:
    """The rows of each of our tables that there is."""
    names = await conn.run_sync(lambda sync: inspect(sync).get_table_names())
    asked = {name: select(func.count()).select_from(table(name)) for name in names}
    del asked["alembic_version"]
    return {name: int(await conn.scalar(count) or 0) for name, count in asked.items()}


async def test_migrate_refuses_a_newer_database(url: str) -> None:
    await asyncio.to_thread(migrate, url)
    store = await open_store(url)
    async with store.note() as conn:
        await conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await store.aclose()
    with pytest.raises(StartRefused, match="newer version"):
        await asyncio.to_thread(migrate, url)


def test_migrate_keeps_others_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "data" / "wardgate.db"
    migrate(f"sqlite+aiosqlite:///{path}")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", ["folder", "file/x.db", "text"])
def test_migrate_refuses_what_is_no_database(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "text").write_text("not a database, but a text of some length " * 40)
    with pytest.raises(StartRefused, match="cannot be opened"):
        migrate(f"sqlite+aiosqlite:///{tmp_path / place}")


def test_migrate_never_shows_the_password() -> None:
    with pytest.raises(StartRefused) as caught:
        migrate("postgresql+asyncpg://me:canary@127.0.0.1:1/none")
    assert "canary" not in str(caught.value)
