"""What a start sees of an SQLite store before it imports what opens one: its state, as a mark.

Two marks that are equal stand for the same rows, settings and version: what was found sound under
one of them still is. The standard library alone; nothing is written, made or unsealed. Asked by
admin/opening.py, and by the publisher, which seals the mark into the routing table.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway import __version__
from gateway.settings import Settings, rows

_SCHEME = "sqlite+aiosqlite:///"
_WAIT = 1.0  # seconds for whoever holds the file; a start that learns nothing takes the long way
# Where somebody listens says nothing of what he serves.
_PLACES = {"host", "port", "admin_host", "admin_port", "metrics_port", "workers"}
# Every change raises the revision and lengthens the audit chain, whose end nobody else can make.
_STATE = (
    "SELECT value FROM revision",
    "SELECT last, row_mac, mac FROM audit_head",
    "SELECT name, value FROM sealed ORDER BY name",
    "SELECT digest, synced_at FROM catalog",
    "SELECT version_num FROM alembic_version",
    "SELECT count(*) FROM admin_token",
)


@dataclass(frozen=True, slots=True)
class Glance:
    """The store's revision, and the mark of everything a routing table is made of.

    `begun`: there was a first start, which sees to the first admin token.
    """

    revision: int
    mark: bytes
    begun: bool


def glance(settings: Settings, catalog: Path) -> Glance | None:
    """One state of the store; `catalog` is the copy beside the table that belongs to it.

    None where there is nothing to see this way: another database, or none, or one that is damaged.
    """
    file = _file(settings.store_url)
    if file is None:
        return None
    try:
        state = _state(file)
    except (sqlite3.Error, OSError):
        return None
    if not state[0]:
        return None
    given = [(item.name, getattr(settings, item.name)) for item in rows()]
    kept = [pair for pair in given if pair[0] not in _PLACES]
    whole = repr((__version__, kept, state, _copy(catalog)))
    mark = hashlib.sha256(whole.encode()).digest()
    return Glance(int(state[0][0][0]), mark, bool(state[-1][0][0]))


class Peephole:
    """The revision of an SQLite store in some microseconds: for who looks several times a second.

    One thread only. A file that is put in the place of another is not noticed here.
    """

    def __init__(self, url: str) -> None:
        self._file = _file(url)
        self._conn: sqlite3.Connection | None = None

    def revision(self) -> int | None:
        """None where there is nothing to see this way, now or ever."""
        if self._file is None:
            return None
        try:
            self._conn = self._conn or _opened(self._file, 0.0)
            row = self._conn.execute(_STATE[0]).fetchone()
        except (sqlite3.Error, OSError):
            self.close()
            return None
        return int(row[0]) if row else None

    def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()


def _file(url: str) -> Path | None:
    place = url.removeprefix(_SCHEME)
    plain = place != url and place not in ("", ":memory:") and not set(place) & set("?%#")
    return Path(place) if plain else None


def _state(file: Path) -> list[list[tuple[Any, ...]]]:
    with closing(_opened(file, _WAIT)) as conn:
        conn.execute("BEGIN")
        return [conn.execute(asked).fetchall() for asked in _STATE]


def _opened(file: Path, wait: float) -> sqlite3.Connection:
    # rw makes no file, and may read a log that a killed process left behind.
    url = f"file:{quote(str(file.absolute()))}?mode=rw"
    conn = sqlite3.connect(url, wait, uri=True, isolation_level=None)
    conn.execute("PRAGMA query_only = ON")
    return conn


def _copy(catalog: Path) -> tuple[int, int] | None:
    try:
        found = catalog.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
