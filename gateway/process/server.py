"""A uvicorn server in a child process: it listens on what it inherited and obeys its parent.

Says when it serves, stops when told or when the parent is gone; signals are the parent's business.
Used by worker.py and by the admin app's process.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import cast

import uvicorn
import uvloop

from gateway.errors import WardgateError
from gateway.process.pipe import Boot, Message, Pipe, Stop, connect, inherited
from gateway.process.turnstile import Turnstile

Body = Callable[[Boot, Pipe, list[socket.socket]], Awaitable[None]]


@contextmanager
def absent(package: str) -> Iterator[None]:
    """While the block imports, `package` counts as not installed, unless it is loaded already:
    some libraries load another only because it is there, for what nobody here asks of them.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # how Python is told
    try:
        yield
    finally:
        del sys.modules[package]


class Server(uvicorn.Server):
    """Tells `started` once requests are accepted.

    With a `turnstile` that takes the connections; without TLS, which is done in front of it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        started: Callable[[], None],
        turnstile: Turnstile | None = None,
    ) -> None:
        super().__init__(config)
        self._tell_started = started
        self._turnstile = turnstile
        if turnstile is not None:
            self.server_state.connections = turnstile.crowd
        self._stopped = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._turnstile is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            self._turnstile.open(sockets or [], self._protocol())
        self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._turnstile is not None:
            self._turnstile.close()
        await super().shutdown(sockets)

    def _protocol(self) -> Callable[[], asyncio.Protocol]:
        """What uvicorn would make for each connection."""
        made = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        return partial(
            made,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )

    async def main_loop(self) -> None:
        """Until told to stop; uvicorn's own loop looks ten times a second whether it was."""
        # All there is to do at a tick is the date, where answers carry it.
        every = 1.0 if self.config.date_header else None
        while not self._stopped.is_set():
            await self.on_tick(0)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), every)

    def stop(self) -> None:
        self.should_exit = True
        self._stopped.set()


async def obey(pipe: Pipe, stop: Callable[[], None], heed: Callable[[Message], None]) -> None:
    """Hand the parent's messages to `heed` until it says stop or is gone, then call `stop`."""
    while (message := await pipe.receive()) is not None and not isinstance(message, Stop):
        heed(message)
    stop()


async def serve(
    server: Server, pipe: Pipe, sockets: list[socket.socket], heed: Callable[[Message], None]
) -> None:
    """Run `server` until the parent, or a SIGTERM to this process alone, ends it."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    listening = asyncio.create_task(obey(pipe, server.stop, heed))
    await server.serve(sockets)
    listening.cancel()


def run(body: Body, words: list[str]) -> None:
    """A child's whole life: `words` are the inherited descriptors, the parent's socket first.

    A refusal to start is one line on stderr and exit code 1; the parent says what that means.
    """
    # Ctrl-C is the parent's to act on, whoever else it reaches.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control, *sockets = inherited(words)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_live(body, control, sockets))
        except WardgateError as error:
            sys.exit(f"wardgate: {error}")


async def _live(body: Body, control: socket.socket, sockets: list[socket.socket]) -> None:
    pipe = await connect(control)
    boot = await pipe.receive()
    if isinstance(boot, Boot):
        await body(boot, pipe, sockets)
    await pipe.aclose()
