"""Brings a database to the newest shape with the packaged Alembic migrations.

Safe to run from several processes at once, and over and over. Never run by a worker.
Called when the desk opens, and by tests.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection as SyncConnection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from gateway.errors import StartRefused
from gateway.store.engine import Connection, Store, forbidden, make_engine, opening, reason

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).parent / "migrations" / "versions"
LOCK = 0x57617264  # any fixed number: the advisory lock of migrations on PostgreSQL


def migrate(url: str) -> bool:
    """Upgrade to the newest revision, in one transaction. Not to be called from an event loop.

    True where there was something to do; of many that start together one finds it so. A database
    that is up to date is only read. Raises StartRefused when it cannot be opened, was written by a
    newer version, or is not this role's to migrate.
    """
    with opening(url):
        make_file(url)
        return asyncio.run(_migrate(url))


def configuration(connection: SyncConnection) -> Config:
    """Alembic's configuration for an open connection; nothing is read from an .ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER.parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


async def _migrate(url: str) -> bool:
    store = Store(make_engine(url))
    found = None
    try:
        async with store.read() as conn:
            found = await conn.run_sync(_present)
        return found != newest() and await _catch_up(store)
    except DBAPIError as error:
        if forbidden(error):
            raise _not_ours(found, reason(error)) from None
        raise
    finally:
        await store.aclose()


async def _catch_up(store: Store) -> bool:
    async with store.note() as conn:
        await _lock(conn)
        behind = await conn.run_sync(_present) != newest()
        if behind:
            await conn.run_sync(_upgrade)
        return behind


def _not_ours(found: str | None, said: str) -> StartRefused:
    there = f"is at {found}" if found else "is new, or keeps its version from this role"
    return StartRefused(
        f"the database {there}; this version of Wardgate needs {newest()}, and this database role "
        f"may not change it ({said}): start the admin app of this version first, then grant the "
        "gateway's role what docs/deploy.md lists"
    )


async def _lock(conn: Connection) -> None:
    if conn.dialect.name == "postgresql":
        await conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


def newest() -> str:
    """The newest revision there is a migration for."""
    return max(path.stem[1:5] for path in FOLDER.glob("v*.py"))


def _present(connection: SyncConnection) -> str | None:
    """The revision the database is at; None for one that was never migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def standing(connection: SyncConnection) -> tuple[str | None, bool]:
    """The revision the database is at, and whether there is any table in it."""
    return _present(connection), bool(inspect(connection).get_table_names())


def _upgrade(connection: SyncConnection) -> None:
    # Costs a start a quarter of a second, which one with nothing to migrate need not pay.
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(configuration(connection), "head")
    except CommandError as error:
        raise StartRefused(
            f"the database is not one this version knows ({error}); "
            "start the newer version again, or restore the backup of this one"
        ) from None


def make_file(url: str) -> None:
    """Make an SQLite file ourselves: nobody but its owner may read it, nor its -wal and -shm."""
    parts = make_url(url)
    if parts.get_backend_name() != "sqlite" or not parts.database or parts.database == ":memory:":
        return
    path = Path(parts.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
