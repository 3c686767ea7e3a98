"""A gateway worker: a fresh interpreter that serves requests from a routing table and nothing else.

Its first message says who it is; it opens no database and reads no secret from its environment.
Started by supervise as `python -m gateway.process.worker`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from gateway import catalog, logs, masking
from gateway.app import build
from gateway.client.listener import server_config
from gateway.errors import SealBroken
from gateway.process.pipe import Boot, Message, Pipe, Reload, Serving, Used
from gateway.process.server import Server, run, serve
from gateway.settings import Settings
from gateway.snapshot import Snapshot, unpack
from gateway.vault import KeyRing

REPORT_EVERY = 1.0


class Worker:
    """What one worker holds between its first message and its exit."""

    def __init__(self, boot: Boot, pipe: Pipe) -> None:
        self._pipe = pipe
        self._file = Path(boot.snapshot)
        self._ring = KeyRing(boot.ring)
        self._revision = 0
        settings = Settings.from_env(boot.settings)
        logs.configure(settings.log_level, masking.mask)
        self._log = logs.request_logger()
        share = (boot.index, boot.count)
        self.gateway = build(settings, self._ring, catalog.load(), self._read(), share=share)
        self.server = Server(server_config(self.gateway, settings), self._say_serving)

    def heed(self, message: Message) -> None:
        """Swap to the file's table; one that does not open leaves the present one serving."""
        if not isinstance(message, Reload):
            return
        try:
            self.gateway.swap(self._read())
        except (OSError, SealBroken) as error:
            self._log.error("routing table not taken", error=str(error), serving=self._revision)
        else:
            self._say_serving()

    async def report(self) -> None:
        """Tell the parent what happened since the last time, every second."""
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self.report_now()

    def report_now(self) -> None:
        used = self.gateway.take_used()
        if used:
            self._pipe.send(Used(used))

    def _read(self) -> Snapshot:
        snapshot = unpack(self._file.read_bytes(), self._ring)
        self._revision = snapshot.revision
        return snapshot

    def _say_serving(self) -> None:
        self._pipe.send(Serving(self._revision))


async def work(boot: Boot, pipe: Pipe, sockets: list[socket.socket]) -> None:
    """Serve until told to stop, or until the parent is gone."""
    worker = Worker(boot, pipe)
    reports = asyncio.create_task(worker.report())
    await serve(worker.server, pipe, sockets, worker.heed)
    reports.cancel()
    worker.report_now()


if __name__ == "__main__":
    run(work, sys.argv[1:])
