"""Processes that open one store at the same time, as pods do that are started together.

One process imports everything and forks them: a start is then nothing but the opening. Run as
`python -m tests.starters URL NUMBER`; `starters` is the test's side of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import alembic.command
import alembic.util

from admin.configure.desk import open_desk
from gateway import catalog
from gateway.catalog import Catalog
from gateway.settings import Settings
from gateway.store.migrate import migrate
from tests.desks import RING
from tests.houses import PATIENCE, environment

_LOADED = (alembic.command, alembic.util)  # what migrate.py imports when it has to


class Start(NamedTuple):
    """How one of them came up: did it migrate, and the beginning of the key it hashes with."""

    migrated: bool
    key: str


class Starters:
    """`begun` returns when all of them are about to open the store, `ended` when they have."""

    def __init__(self, process: asyncio.subprocess.Process, number: int) -> None:
        self._process = process
        self._number = number

    async def begun(self) -> None:
        for _ in range(self._number):
            assert await self._line() == ["begins"]

    async def ended(self) -> list[Start]:
        lines = [await self._line() for _ in range(self._number)]
        return [Start(migrated == "True", key) for migrated, key in lines]

    async def _line(self) -> list[str]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        assert line, "one of them failed"
        return line.decode().split()


@contextlib.asynccontextmanager
async def starters(folder: Path, url: str, number: int) -> AsyncIterator[Starters]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tests.starters", str(folder), url, str(number)),
        env=environment(folder), stdout=PIPE,
    )  # fmt: skip
    try:
        yield Starters(process, number)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main(folder: str, url: str, number: str) -> int:
    settings, models = Settings(data_dir=Path(folder), database_url=url), catalog.load()
    pids = []
    for _ in range(int(number)):
        pids.append(os.fork())
        if pids[-1] == 0:
            _start(settings, models)
            os._exit(0)
    return max(os.waitpid(pid, 0)[1] for pid in pids)


def _start(settings: Settings, models: Catalog) -> None:
    print("begins", flush=True)  # noqa: T201 # how the test hears of it
    migrated = migrate(settings.store_url)
    print(migrated, asyncio.run(_opened(settings, models)), flush=True)  # noqa: T201


async def _opened(settings: Settings, models: Catalog) -> str:
    desk = await open_desk(settings, RING, models)
    await desk.aclose()
    return desk.hash_key.expose().hex()[:16]


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
