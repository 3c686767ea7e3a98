"""One engine, three kinds of transaction: read, write (locks, bumps the revision) and note.

SQLite and PostgreSQL run the same statements; what differs between them is in this file alone.
Opened by the desk and by the parent of the workers. Nothing is migrated here.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from copy import copy
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary, WeakSet

import aiosqlite
from sqlalchemy import Table, event, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine import Connection as SyncConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.errors import StartRefused
from gateway.presence import missing
from gateway.store import tables

Connection = AsyncConnection
Witness = Callable[[Connection], Awaitable[None]]
Tell = Callable[[int], None]
_BUSY_MS = 10_000
# A database that takes connections and answers nothing is away: so long for one that is made or
# found in the pool, and for each statement; migrations have no limit.
PATIENCE = 5.0
_STATEMENT = 60.0
_WRITES = "wardgate_writes"
# What of a URL's query SQLAlchemy understands itself; the rest is the driver's and the server's.
_SQLALCHEMYS = {"host", "port", "ssl", "prepared_statement_cache_size"}
_FILES = {"sslrootcert", "sslcert", "sslkey", "sslcrl"}
# insufficient_privilege, read_only_sql_transaction
_FORBIDDEN = ("42501", "25006")
# aiosqlite's, one a connection. One that could not be opened, or was given up, has nobody who waits
# for its thread to end, which then complains that the loop it reports to is gone.
_threads: WeakKeyDictionary[AsyncEngine, WeakSet[Thread]] = WeakKeyDictionary()
_PRAGMAS = (
    f"PRAGMA busy_timeout = {_BUSY_MS}",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)


class Store:
    """The open database. Transactions commit when their block ends, roll back when it raises."""

    def __init__(self, engine: AsyncEngine, patience: float = PATIENCE) -> None:
        self._engine = engine
        self._patience = patience
        self._embedded = engine.dialect.name == "sqlite"
        # SQLite has one writer anyway; waiting here costs no polling of its lock.
        self._writer = asyncio.Lock() if self._embedded else nullcontext()
        self._witness: Witness | None = None
        self._tell: Tell | None = None

    def __repr__(self) -> str:
        return f"Store({shown(self._engine.url)!r})"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """Statements that all see the same state of the data."""
        options: dict[str, Any] = {} if self._embedded else {"isolation_level": "REPEATABLE READ"}
        async with self._connected() as conn:
            await conn.execution_options(**options)
            async with conn.begin():
                yield conn

    @asynccontextmanager
    async def note(self) -> AsyncIterator[Connection]:
        """A write that changes no routing (telemetry): no lock on a scope, no new revision."""
        async with self._writer, self._connected() as conn:
            await conn.execution_options(**{_WRITES: True})
            async with conn.begin():
                yield conn

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """Raises TimeoutError when nobody answers."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    conn = await stack.enter_async_context(self._engine.connect())
            except TimeoutError:
                raise TimeoutError(f"no answer in {self._patience:.0f} s") from None
            yield conn

    @asynccontextmanager
    async def write(self, scope_id: str | None) -> AsyncIterator[Connection]:
        """A change: the scope's row is locked first, then the revision's, which orders all writers.

        `scope_id` None: a change that belongs to no scope (admin tokens).
        """
        async with self.note() as conn:
            if scope_id is not None:
                # NO KEY UPDATE: rows that refer to the scope may still be inserted elsewhere.
                row = select(tables.scope.c.id).where(tables.scope.c.id == scope_id)
                await conn.execute(row.with_for_update(key_share=True))
            counter = tables.revision.c.value
            raised = update(tables.revision).values(value=counter + 1).returning(counter)
            revision = await conn.scalar(raised)
            yield conn
            if self._witness is not None:
                await self._witness(conn)
        if self._tell is not None and revision is not None:
            self._tell(revision)

    def witnessed(self, witness: Witness) -> Store:
        """The same store; its changes end with `witness`, which undoes them by raising."""
        twin = copy(self)
        twin._witness = witness
        return twin

    def announced(self, tell: Tell) -> Store:
        """The same store; `tell` hears the revision of every change that was committed. It must
        neither wait nor raise.
        """
        twin = copy(self)
        twin._tell = tell
        return twin

    async def aclose(self) -> None:
        await self._engine.dispose()
        for thread in list(_threads.get(self._engine, ())):
            if thread.is_alive():
                await asyncio.to_thread(thread.join, PATIENCE)


async def open_store(url: str) -> Store:
    """Open the database at `url` (already migrated)."""
    return Store(make_engine(url, statement=_STATEMENT))


async def current_revision(conn: Connection) -> int:
    """The change counter; inside a write it is the number this write will have."""
    value = await conn.scalar(select(tables.revision.c.value))
    return int(value or 0)


def make_engine(url: str, statement: float | None = None) -> AsyncEngine:
    """An engine whose transactions are ours; `statement`: seconds for each, None without end.

    Raises StartRefused where its driver or a certificate that the URL names is missing.
    """
    parts = make_url(url)
    if parts.get_backend_name() != "sqlite":
        return _postgres(parts, statement)
    engine = _embedded(url)
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def insert_missing(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that does nothing, and says so by its row count, where the row is there by now.

    PostgreSQL waits for whoever is just inserting it.
    """
    if conn.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def shown(url: str | URL) -> str:
    """A store's URL without what may be secret in it."""
    return make_url(url).set(query={}).render_as_string(hide_password=True)


def reason(error: SQLAlchemyError | OSError) -> str:
    """The first line of what the database or its driver said, without SQLAlchemy's frame."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(said).partition("\n")[0]


def forbidden(error: BaseException) -> bool:
    """True when the database refused this role, or anybody, to write there."""
    said = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return said in _FORBIDDEN


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Whatever a database says in here becomes StartRefused with its place and its reason."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise StartRefused(f"the database {shown(url)} cannot be opened: {reason(error)}") from None


def _embedded(url: str) -> AsyncEngine:
    async def connect() -> aiosqlite.Connection:
        place, options = engine.dialect.create_connect_args(engine.url)
        connection = aiosqlite.connect(*place, **options)
        connection._thread.daemon = True
        threads.add(connection._thread)
        return await connection

    engine = create_async_engine(url, async_creator=connect)
    threads = _threads[engine] = WeakSet()
    return engine


def _postgres(parts: URL, statement: float | None) -> AsyncEngine:
    # sslmode and its relatives asyncpg reads in a DSN only; SQLAlchemy would hand them over one by
    # one, and a name that means nothing to either would be an error of the program.
    query = {name: value for name, value in parts.query.items() if name not in _SQLALCHEMYS}
    for name in _FILES & query.keys():
        if missing(Path(str(query[name]))):
            raise StartRefused(f"the database URL's {name} names a file that is not there")
    more: dict[str, Any] = {"timeout": PATIENCE, "command_timeout": statement}
    if query:
        more["dsn"] = f"postgresql://?{urlencode(query, doseq=True)}"
    bare = parts.set(query={k: v for k, v in parts.query.items() if k in _SQLALCHEMYS})
    try:
        return create_async_engine(bare, pool_pre_ping=True, connect_args=more)
    except ImportError as error:
        raise StartRefused(
            f"WARDGATE_DATABASE_URL needs {error.name}: pip install 'wardgate[postgres]'"
        ) from None


def _prepare(driver: Any, _record: object) -> None:
    driver.isolation_level = None  # the driver starts no transaction of its own any more
    cursor = driver.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    _to_wal(cursor)
    cursor.close()


def _to_wal(cursor: Any) -> None:
    """Two that turn a new file to WAL are in each other's way, and there SQLite does not wait."""
    deadline = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _begin(conn: SyncConnection) -> None:
    # A deferred transaction that turns into a writer later cannot wait for its lock; it fails.
    writes = conn.get_execution_options().get(_WRITES, False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
