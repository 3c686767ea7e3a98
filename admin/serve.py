"""The processes beside the gateway: the admin app, and the demo upstream.

Each is started by the parent, obeys it and ends with it. Run as `python -m admin.serve WHICH …`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import uvicorn

from gateway.process.pipe import Boot, Message, Pipe, Serving
from gateway.process.server import Server, obey, run, serve
from gateway.settings import Settings

if TYPE_CHECKING:
    from admin.configure.desk import Desk
    from admin.rounds import Probe

# Management calls are short; nobody's stream is cut by not waiting longer.
DRAIN = 5


async def serve_admin(boot: Boot, pipe: Pipe, sockets: list[socket.socket]) -> None:
    """The management API and /metrics, until told to stop."""
    from admin import oidc
    from admin.app import build
    from admin.configure.desk import open_desk
    from admin.probe import Prober
    from gateway import catalog, logs, masking
    from gateway.metrics import exposition
    from gateway.process.scrape import ask_store
    from gateway.vault import KeyRing

    settings = Settings.from_env(boot.settings)
    logs.configure(settings.log_level, masking.mask)
    desk = await open_desk(settings, KeyRing(boot.ring), catalog.load())
    prober = Prober()
    beside = [asyncio.create_task(work) for work in _beside(desk, prober.stored)]
    try:
        loop = asyncio.get_running_loop()

        def metrics() -> bytes:
            """Called in a thread: reading the workers' files may block, the store may not."""
            asking = asyncio.run_coroutine_threadsafe(ask_store(desk.store, desk.clock()), loop)
            return exposition(boot.metrics, asking.result())

        identities = oidc.identities(settings)
        app = build(desk, metrics=metrics, prober=prober, identities=identities)
        config = uvicorn.Config(
            app,
            loop="none",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN,
        )
        await serve(Server(config, lambda: pipe.send(Serving())), pipe, sockets, _heed_nothing)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        await prober.aclose()
        await desk.aclose()


def _beside(desk: Desk, probe: Probe) -> list[Coroutine[Any, Any, None]]:
    """What this process does without being asked."""
    from admin.catalog import follow, sync_regularly

    return [_make_rounds(desk, probe), follow(desk), sync_regularly(desk)]


async def _make_rounds(desk: Desk, probe: Probe) -> None:
    """Probe what is silent, where a setting asks for it."""
    from admin.rounds import Rounds

    if desk.settings.probe_interval:
        await Rounds(desk, probe, desk.settings.probe_interval).run()


async def serve_demo(port: int, pipe: Pipe) -> None:
    """The demo upstream on `port` of loopback, until told to stop."""
    from admin.demo import upstream

    running = asyncio.create_task(
        upstream.serve("127.0.0.1", port, lambda url: pipe.send(Serving()))
    )
    parent = asyncio.create_task(obey(pipe, lambda: None, _heed_nothing))
    await asyncio.wait([running, parent], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    running.cancel()


def _heed_nothing(_: Message) -> None:
    pass


def main(words: list[str]) -> None:
    """`admin FD…` or `demo PORT FD`."""
    which, *rest = words
    if which == "admin":
        run(serve_admin, rest)
    else:
        port = int(rest[0])
        run(lambda boot, pipe, sockets: serve_demo(port, pipe), rest[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
