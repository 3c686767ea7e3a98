"""The provider at the end of the wire: one answer, or streams at a pace, for one peer.

It answers in the callback that brings the request and makes no objects for it. A request without
the right key is refused, so a peer that does no work scores nothing. Used by stages.py.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import partial
from typing import cast

from tests.bench import wire

_KEY = wire.UPSTREAM_KEY.encode()
_HEAD = 2_048  # headers end before: a key is looked for here, not in bodies of 200 KB


@dataclass
class Plan:
    """What the provider does now, and what it has seen so far. Pauses are in seconds."""

    stream: bool = False
    chunks: int = 1
    pause: float = 0.0
    hold: bool = False  # a stream stays open and silent after its first chunk
    client_key: bytes = b"\0"
    connections: int = 0  # open now
    streams: int = 0  # likewise
    sent: int = 0  # chunks of streams with a pause
    refused: int = 0
    leaked: int = 0


class Upstream(asyncio.Protocol):
    """One connection to the provider."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rest = bytearray()
        self.streaming = False
        self.left = 0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.loop = asyncio.get_running_loop()
        self.plan.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.plan.connections -= 1
        self._over()
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self.rest or not data.endswith(wire.ENDS):
            self.rest += data
            if not self.rest.endswith(wire.ENDS):
                return
            data = bytes(self.rest[:_HEAD])
            self.rest.clear()
        plan = self.plan
        if data.find(plan.client_key, 0, _HEAD) >= 0:
            plan.leaked += 1
        if data.find(_KEY, 0, _HEAD) < 0:
            plan.refused += 1
            self.transport.write(wire.REFUSED)
        elif plan.stream:
            self._begin(plan)
        else:
            self.transport.write(wire.JSON_ANSWER)

    def _begin(self, plan: Plan) -> None:
        if not plan.pause and not plan.hold:
            self.transport.write(wire.STREAM_HEAD + wire.CHUNK * plan.chunks + wire.LAST)
            return
        plan.streams += 1
        self.streaming = True
        self.transport.write(wire.STREAM_HEAD + wire.CHUNK)
        if not plan.hold:
            plan.sent += 1
            self.left = plan.chunks - 1
            self.timer = self.loop.call_later(plan.pause, self._next, plan.pause)

    def _next(self, pause: float) -> None:
        if not self.left:
            self._over()
            self.transport.write(wire.LAST)
            return
        self.left -= 1
        self.plan.sent += 1
        self.transport.write(wire.CHUNK)
        self.timer = self.loop.call_later(pause, self._next, pause)

    def _over(self) -> None:
        if self.streaming:
            self.streaming = False
            self.plan.streams -= 1


async def listen(plan: Plan, tls: ssl.SSLContext | None = None) -> tuple[asyncio.Server, int]:
    """The provider on a free loopback port, and that port."""
    loop = asyncio.get_running_loop()
    make = partial(Upstream, plan)
    server = await loop.create_server(make, "127.0.0.1", 0, backlog=4096, ssl=tls)
    port: int = server.sockets[0].getsockname()[1]
    return server, port
