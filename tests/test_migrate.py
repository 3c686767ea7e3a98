"""Migrations: they make what tables.py says, on both databases, and again and again."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection as SyncConnection

from gateway.errors import StartRefused
from gateway.store.compile import revision
from gateway.store.engine import open_store
from gateway.store.migrate import configuration, migrate, newest
from gateway.store.tables import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'data' / 'wardgate.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


def differences(connection: SyncConnection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


def step_back(connection: SyncConnection) -> None:
    command.downgrade(configuration(connection), "base")


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
