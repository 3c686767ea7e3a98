"""What `wardgate doctor` asks of a database: does it answer, is it up to date, how does it write.

Changes nothing and makes no file. Called by admin/doctor.py only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection as SyncConnection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from gateway.presence import missing
from gateway.store.engine import Connection, open_store
from gateway.store.migrate import configuration


@dataclass(frozen=True)
class Health:
    """`problem` is empty when the database answers. `journal`: SQLite's mode, else empty."""

    problem: str = ""
    version: str | None = None
    newest: str | None = None
    journal: str = ""


def missing_file(url: str) -> Path | None:
    """The SQLite file `url` names, if it is not there; asking the database would make it.

    Raises StartRefused where that cannot be known.
    """
    parts = make_url(url)
    if parts.get_backend_name() != "sqlite" or not parts.database:
        return None
    path = Path(parts.database)
    return path if missing(path) else None


async def examine(url: str) -> Health:
    """Ask the database at `url`; never raises what a database raises."""
    store = await open_store(url)
    try:
        async with store.read() as conn:
            version, newest = await conn.run_sync(_versions)
            return Health("", version, newest, await _journal(conn))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return Health(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    finally:
        await store.aclose()


def _versions(connection: SyncConnection) -> tuple[str | None, str | None]:
    stored = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(configuration(connection))
    return stored, scripts.get_current_head()


async def _journal(conn: Connection) -> str:
    if conn.dialect.name != "sqlite":
        return ""
    return str(await conn.scalar(text("PRAGMA journal_mode")))
