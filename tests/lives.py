"""The admin app in a process that is killed and started again, as often as a test likes.

A process that has imported everything forks one life after another, which costs a fraction of a new
interpreter; what SIGKILL does to a life is the same. `lives` is the test's side of
`python -m tests.lives FOLDER URL`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
import uvloop

from admin.app import build
from admin.configure.desk import open_desk
from gateway import catalog
from gateway.catalog import Catalog
from gateway.process.server import Server
from gateway.settings import Settings
from tests.backends import Backend
from tests.desks import RING
from tests.houses import PATIENCE, environment


@dataclass
class Lives:
    """An admin app, at another `url` in each of its lives."""

    process: Process
    url: str = ""
    pid: int = 0

    async def start(self) -> None:
        """A new life; it serves when this returns."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.pid, port = map(int, (await self.line()).split())
        self.url = f"http://127.0.0.1:{port}"

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        os.kill(self.pid, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until the killed life is no more."""
        assert int(await self.line()) == signal.SIGKILL
        self.pid = 0

    async def line(self) -> str:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        assert line, "the process that starts lives is gone"
        return line.decode()


@contextlib.asynccontextmanager
async def lives(backend: Backend) -> AsyncIterator[Lives]:
    """Nothing of it runs when the block is left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tests.lives", str(backend.folder), backend.url),
        env=environment(backend.folder), stdin=PIPE, stdout=PIPE,
    )  # fmt: skip
    made = Lives(process)
    try:
        yield made
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), PATIENCE)


def main(settings: Settings) -> None:
    """One life per line on stdin, until stdin is closed."""
    models = catalog.load()
    while _told():
        pid = os.fork()
        if pid == 0:
            uvloop.run(_live(settings, models))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.WTERMSIG(status), flush=True)  # noqa: T201 # how the test hears of it


def _told() -> bytes:
    # A life's event loop makes the pipe that it shares non-blocking.
    select.select([0], [], [])
    return os.read(0, 1)


async def _live(settings: Settings, models: Catalog) -> None:
    # Whoever started all this is gone: nobody would end this life any more.
    asyncio.get_running_loop().add_reader(0, os._exit, 1)
    desk = await open_desk(settings, RING, models)
    app = build(desk, metrics=lambda: b"")
    config = uvicorn.Config(app, http="httptools", log_config=None, access_log=False)
    # Its own: what was sent to one life must not be answered in the next.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = f"{os.getpid()} {listener.getsockname()[1]}"
        await Server(config, lambda: print(words, flush=True)).serve([listener])  # noqa: T201


if __name__ == "__main__":
    main(Settings(data_dir=Path(sys.argv[1]), database_url=sys.argv[2]))
