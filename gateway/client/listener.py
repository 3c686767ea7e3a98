"""The server side of HTTP/1.1: uvicorn's httptools protocol, stricter at its edges.

A head must arrive in time and in size; a target must be a path; a request that cannot be parsed is
answered in the dialect its path speaks. Used by worker.py and the tests.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.client import edge
from gateway.client.asgi import CONNECTION
from gateway.dialects.table import DIALECTS
from gateway.errors import GatewayError, HeadTooLarge, Malformed, SlowClient
from gateway.paths import caller
from gateway.settings import Settings

_MOST_HEAD = 64 * 1024
# Said of answers that are left unfinished on purpose, and of clients' nonsense: not news.
_NOT_NEWS = ("ASGI callable returned without completing", "Invalid HTTP request", "Unsupported up")


class Joining:
    """A transport that sends a response's head together with the body bytes behind it.

    uvicorn writes them one after the other, and uvloop makes a system call of each write.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        """Write, but keep a head until the next write or the loop's next turn."""
        head, self._head = self._head, None
        if head is not None:
            self._transport.write(head + data)
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head is not None:
            self.write(b"")


class Listener(HttpToolsProtocol):
    """One client connection; `header_timeout` seconds for a request's head to arrive."""

    def __init__(self, *args: Any, header_timeout: float = 10.0, **named: Any) -> None:
        super().__init__(*args, **named)
        self._header_timeout = header_timeout
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self.url = b""
        self.gone = False
        self.on_departure: Callable[[], None] | None = None

    @property
    def body_arrived(self) -> bool:
        return not self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(cast(asyncio.Transport, Joining(transport, self.loop)))
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._drop_rest_timer()
        self.gone = True
        super().connection_lost(exc)
        if self.on_departure is not None and not self.cycle.response_complete:
            self.on_departure()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD:
                self._turn_away(HeadTooLarge("the request's head is larger than 64 KiB"))
            elif self._head_timer is None:
                self._arm()
        elif self._head_timer is not None:
            self._disarm()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._drop_rest_timer()
        cast(dict[str, Any], self.scope)[CONNECTION] = self
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        upgrade, absolute = self.parser.should_upgrade(), not self.url.startswith(b"/")
        if upgrade or absolute:
            found = {edge.UPGRADE: upgrade, edge.ABSOLUTE_FORM: absolute}
            extensions: dict[str, Any] = {name: {} for name, true in found.items() if true}
            cast(dict[str, Any], self.scope)["extensions"] = extensions
        super().on_headers_complete()
        # Trailers would be read as headers: they go nowhere, however many there are.
        self.headers = cast(Any, deque(maxlen=0))
        if upgrade:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        unread = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if unread and not self.transport.is_closing():
            # The answer came before the request's end, which may never come.
            self._rest_timer = self.loop.call_later(self._header_timeout, self.transport.close)

    def _drop_rest_timer(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def send_400_response(self, msg: str) -> None:
        self._turn_away(Malformed("the request is not valid HTTP/1.1"))

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(self._header_timeout, self._too_slow)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self._turn_away(SlowClient("the request's head did not arrive in time"))

    def _turn_away(self, error: GatewayError) -> None:
        # In the middle of another answer on this connection nothing may be written.
        running = cast(Any, self.cycle)  # None before the first request
        busy = running is not None and not running.response_complete
        if not busy and not self.transport.is_closing():
            path = self.url.partition(b"?")[0]
            self.transport.write(_written(error, DIALECTS[caller(path, self.headers or [])]))
        self.transport.close()


def server_config(app: Any, settings: Settings) -> uvicorn.Config:
    """uvicorn as the data plane wants it: httptools, no access log, no headers of its own."""
    logging.getLogger("uvicorn.error").addFilter(_news)
    return uvicorn.Config(
        app,
        http=cast(Any, partial(Listener, header_timeout=settings.header_timeout)),
        loop="none",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=4096,
        timeout_keep_alive=cast(int, settings.keep_alive_timeout),
        timeout_graceful_shutdown=cast(int, settings.drain_timeout),
    )


def _news(entry: logging.LogRecord) -> bool:
    return not entry.getMessage().startswith(_NOT_NEWS)


def _written(error: GatewayError, dialect: Any) -> bytes:
    rendered = dialect.render(error, "")
    lines = [STATUS_LINE[rendered.status]]
    for name, value in [*rendered.headers, (b"connection", b"close")]:
        lines.append(b"%s: %s\r\n" % (name, value))
    lines.append(b"content-length: %d\r\n\r\n" % len(rendered.body))
    return b"".join([*lines, rendered.body])
