"""Copying a store, for the tests: at once, broken off, or killed at a given statement.

For the last a process that has imported everything forks one life per number it reads; what SIGKILL
does to a life is the same. It runs as `python -m tests.copies SOURCE`; `lives` is the test's side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

from admin.configure.desk import Desk, open_desk
from gateway import catalog
from gateway.settings import Settings
from gateway.store.engine import Store, open_store
from gateway.store.transfer import Copied, copy, open_target
from gateway.vault import KeyRing
from tests.desks import RING, Clock
from tests.filled import contents
from tests.houses import ROOT

CHUNK = 7
NEVER = 0


@contextlib.asynccontextmanager
async def opened_store(url: str) -> AsyncIterator[Store]:
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.aclose()


@contextlib.asynccontextmanager
async def opened_target(url: str) -> AsyncIterator[Store]:
    store = await open_target(url)
    try:
        yield store
    finally:
        await store.aclose()


async def copied(store: Store, url: str, ring: KeyRing = RING) -> Copied:
    """Copy without a stop, few rows at a time."""
    async with opened_target(url) as target:
        return await copy(store, target, ring, lambda *_: None, CHUNK)


class BrokenOff(Exception):
    """A run that ends in the middle."""


async def broken_off(store: Store, url: str) -> None:
    """Copy until the tables are compared."""

    def tell(step: str, _done: int, _total: int) -> None:
        if step.startswith("comparing"):
            raise BrokenOff

    async with opened_target(url) as target:
        with contextlib.suppress(BrokenOff):
            await copy(store, target, RING, tell, CHUNK)
            raise AssertionError("it was not broken off")


async def held(url: str) -> dict[str, list[object]]:
    async with opened_store(url) as store:
        return await contents(store)


def in_file(file: Path, statement: str) -> None:
    """A change that nothing of ours makes."""
    with contextlib.closing(sqlite3.connect(file)) as conn, conn:
        assert conn.execute(statement).rowcount > 0


async def started(url: str, folder: Path) -> Desk:
    settings = Settings(data_dir=folder, database_url=url)
    return await open_desk(settings, RING, catalog.load(), Clock())


@contextlib.contextmanager
def lives(source: str) -> Iterator[Callable[[str, int], int]]:
    """Call it with a target and a number: copies, killed in front of that statement or commit.

    Gives 0; where it was not killed, how many of them there are.
    """
    command = [sys.executable, "-P", "-m", "tests.copies", source]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        into, out = process.stdin, process.stdout

        def live(target: str, number: int) -> int:
            into.write(f"{number} {target}\n")
            into.flush()
            return int(out.readline())

        yield live
        into.close()


def main(source: str) -> None:
    """One life per line on stdin; what it ended with goes to stdout."""
    for line in sys.stdin:
        number, _, target = line.strip().partition(" ")
        pid = os.fork()
        if pid == 0:
            steps = _die_at(int(number))
            asyncio.run(_copy(source, target))
            print(next(steps) - 1, flush=True)  # noqa: T201 # how the test hears of it
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            print(0, flush=True)  # noqa: T201


async def _copy(source: str, target: str) -> None:
    stores = await open_store(source), await open_target(target)
    await copy(*stores, RING, lambda *_: None, CHUNK)
    for store in stores:
        await store.aclose()


def _die_at(number: int) -> Iterator[int]:
    steps = count(1)

    def step(*_: object) -> None:
        if next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)
    return steps


if __name__ == "__main__":
    main(sys.argv[1])
