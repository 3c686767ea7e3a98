"""A gateway worker: a fresh interpreter that serves requests from a routing table and nothing else.

Its first message says who it is; it opens no database and reads no secret from its environment.
Started by supervise as `python -m gateway.process.worker`.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.process.server import Server, absent, run, serve

with absent("rich"):  # structlog's console output: a fifth of a worker's start, and 4 MiB
    import structlog  # noqa: F401

from gateway import logs, masking
from gateway.app import build
from gateway.client.config import server_config
from gateway.errors import SealBroken
from gateway.process.pipe import Boot, Health, Leave, Message, Pipe, Reload, Serving, Used
from gateway.process.shelf import Shelf
from gateway.process.turnstile import Counts, Turnstile, counts_file
from gateway.settings import Settings
from gateway.snapshot import Snapshot, unpack
from gateway.vault import KeyRing

if TYPE_CHECKING:
    from gateway.process.otel import OtelTraces

REPORT_EVERY = 1.0
# Seconds after which a thread that exports lets the loop go on; Python's own 5 ms are a long time
# for an event of a stream.
GIVES_WAY = 0.0002


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
        self._shelf = Shelf(Path(boot.catalog) if boot.catalog else None)
        self._looking = asyncio.Lock()
        self._look: asyncio.Task[None] | None = None
        self._say_flaw()
        share = (boot.index, boot.count)
        self.traces = self._traces(settings, boot.spans) if boot.spans else None
        self.gateway = build(
            settings,
            self._ring,
            self._shelf.catalog,
            self._read(),
            share=share,
            traces=self.traces,
        )
        config, turnstile = server_config(self.gateway, settings), _turnstile(boot)
        self.server = Server(config, self._say_serving, turnstile)
        # What is here now stays: the collector need not walk through it again and again.
        gc.freeze()

    def heed(self, message: Message) -> None:
        """Swap to the file's table; one that does not open leaves the present one serving."""
        if isinstance(message, Leave):
            self.gateway.leave()
        if not isinstance(message, Reload):
            return
        try:
            self.gateway.swap(self._read())
        except (OSError, SealBroken) as error:
            self._log.error("routing table not taken", error=str(error), serving=self._revision)
        else:
            self._say_serving()
        if self._shelf.stale():
            self._look = asyncio.create_task(self._look_at_shelf())

    async def _look_at_shelf(self) -> None:
        """Take up a new catalog; reading it takes longer than a request may wait."""
        async with self._looking:  # the file read last is the one that stays
            catalog = await asyncio.to_thread(self._shelf.read) if self._shelf.stale() else None
        if catalog is not None:
            self.gateway.swap_catalog(catalog)
        self._say_flaw()

    def _say_flaw(self) -> None:
        if self._shelf.flaw:
            self._log.error("catalog not taken, serving by the last one", error=self._shelf.flaw)

    def _traces(self, settings: Settings, most: int) -> OtelTraces:
        # Nobody else pays for the import: it takes as long as all others of a worker.
        from gateway.process.otel import OtelTraces

        sys.setswitchinterval(GIVES_WAY)
        return OtelTraces(settings, most, self._log)

    async def report(self) -> None:
        """Tell the parent what happened since the last time, every second."""
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self.report_now()

    def report_now(self) -> None:
        used = self.gateway.take_used()
        if used:
            self._pipe.send(Used(used))
        report = self.gateway.take_health()
        if report.counts:
            self._pipe.send(Health(report))
        if self.traces is not None:
            self.traces.report()

    async def aclose(self) -> None:
        """After the last request: what was counted, and the last spans."""
        self.report_now()
        if self.traces is not None:
            await self.traces.aclose()

    def _read(self) -> Snapshot:
        snapshot = unpack(self._file.read_bytes(), self._ring)
        self._revision = snapshot.revision
        return snapshot

    def _say_serving(self) -> None:
        self._pipe.send(Serving(self._revision))


def _turnstile(boot: Boot) -> Turnstile | None:
    """What shares connections out among several workers."""
    if boot.count < 2:
        return None
    return Turnstile(Counts(counts_file(Path(boot.metrics)), boot.count), boot.index)


async def work(boot: Boot, pipe: Pipe, sockets: list[socket.socket]) -> None:
    """Serve until told to stop, or until the parent is gone."""
    worker = Worker(boot, pipe)
    reports = asyncio.create_task(worker.report())
    await serve(worker.server, pipe, sockets, worker.heed)
    reports.cancel()
    await worker.aclose()


if __name__ == "__main__":
    run(work, sys.argv[1:])
