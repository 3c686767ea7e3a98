"""Where the store of a test lies: in an SQLite file, or in a database of the tests' PostgreSQL.

A test that takes the fixture `backend` runs on both; desks and admin apps are opened on it. One
empty store is made per run and ring, and copied for every test: migrating takes longer.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from admin.configure.desk import open_desk
from gateway import catalog
from gateway.settings import Settings
from gateway.vault import KeyRing
from tests.databases import Databases, name_of

KINDS = ("sqlite", "postgresql")
FILE = "wardgate.db"
_EMPTY: dict[KeyRing, bytes] = {}


@dataclass
class Backend:
    """A data folder, and the database for it: a file in there where there are no `databases`."""

    folder: Path
    databases: Databases | None = None
    url: str = ""  # WARDGATE_DATABASE_URL; none for the file
    _made: list[str] = field(default_factory=list)

    def settings(self, **given: Any) -> Settings:
        return Settings(**{"data_dir": self.folder, "database_url": self._there(), **given})

    @property
    def place(self) -> str:
        """The URL of the store, wherever it is."""
        return self.settings().store_url

    @property
    def env(self) -> dict[str, Any]:
        """What a process must be told to find the store."""
        return {"WARDGATE_DATABASE_URL": url} if (url := self._there()) else {}

    async def lay(self, ring: KeyRing) -> None:
        """Lay an empty store there, unless one is there."""
        if self.databases is None:
            if ring not in _EMPTY:
                _EMPTY[ring] = await _file(ring)
            with contextlib.suppress(FileExistsError), (self.folder / FILE).open("xb") as file:
                file.write(_EMPTY[ring])
        elif not self.url:
            if ring not in self.databases.templates:
                self.databases.templates[ring] = await _database(ring, self.databases)
            self.url = self._copy(self.databases, self.databases.templates[ring])

    def empty(self) -> str:
        """The URL of one more database, with nothing in it."""
        if self.databases is not None:
            return self._copy(self.databases)
        self._made.append(f"sqlite+aiosqlite:///{self.folder}/{len(self._made)}/{FILE}")
        return self._made[-1]

    def _there(self) -> str:
        # Whoever asks before anything was laid there gets what a first start finds.
        if self.databases is not None and not self.url:
            self.url = self.empty()
        return self.url

    def drop(self) -> None:
        if self.databases is not None:
            for url in self._made:
                self.databases.drop(url)

    def _copy(self, databases: Databases, template: str = "template1") -> str:
        self._made.append(databases.make(template))
        return self._made[-1]

    def disk(self) -> bytes:
        """Every byte somebody with a copy of the disk has."""
        ours = sorted(path for path in self.folder.rglob("*") if path.is_file())
        theirs = self.databases.files(self.url) if self.databases is not None else b""
        return b"".join([*(path.read_bytes() for path in ours), theirs])

    def take_away(self) -> None:
        """Nobody can open it any more; who has a PostgreSQL open is thrown out."""
        if self.databases is not None:
            self.databases.close(self.url)
            return
        for path in self.folder.glob(f"{FILE}*"):
            path.rename(self.folder / f"away.{path.name}")
        nowhere = self.folder / "nowhere"
        nowhere.mkdir(exist_ok=True)
        (self.folder / FILE).symlink_to(nowhere)

    def give_back(self) -> None:
        """As it was when it was taken away."""
        if self.databases is not None:
            self.databases.open(self.url)
            return
        # The file itself last, in one step: who opened it in between would have made an empty one.
        for path in sorted(self.folder.glob(f"away.{FILE}*"), reverse=True):
            path.rename(self.folder / path.name.removeprefix("away."))


@contextlib.contextmanager
def lent(folder: Path, databases: Databases | None) -> Iterator[Backend]:
    """A backend whose database is dropped when the block is left."""
    backend = Backend(folder, databases)
    try:
        yield backend
    finally:
        backend.drop()


async def _file(ring: KeyRing) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        await _make(Backend(Path(folder)), ring)
        return (Path(folder) / FILE).read_bytes()


async def _database(ring: KeyRing, databases: Databases) -> str:
    url = databases.make()
    with tempfile.TemporaryDirectory() as folder:
        await _make(Backend(Path(folder), databases, url), ring)
    return name_of(url)


async def _make(backend: Backend, ring: KeyRing) -> None:
    await (await open_desk(backend.settings(), ring, catalog.load())).aclose()
