"""The server side of HTTP/1.1: a client's connection, its requests one after another.

A head must arrive in time and in size; what cannot be parsed is answered in the dialect its path
speaks. A request is served from the moment its head is here. uvicorn's server runs it, nothing of
uvicorn's own protocol is used. Used by worker.py and the tests.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final, Literal, Protocol, cast

import httptools
import uvicorn

from gateway.client.status import STATUS_LINES
from gateway.client.turn import Turn
from gateway.deadlines import Deadlines
from gateway.dialects.table import DIALECTS
from gateway.errors import GatewayError, HeadTooLarge, Malformed, SlowClient
from gateway.paths import caller
from gateway.settings import Settings
from gateway.shapes import Headers
from gateway.wake import Wake

_MOST_HEAD: Final = 64 * 1024
_HIGH_WATER: Final = 64 * 1024  # bytes of a body that may wait to be taken
_METHODS: Final = {name.encode(): name for name in ("GET", "POST", "PUT", "PATCH", "DELETE")}
Waits = Literal["nothing", "head", "body", "rest", "request"]
Serve = Callable[[Turn], Coroutine[Any, Any, None]]


class App(Protocol):
    """What a listener serves: requests by `serve`, start and end of the process as ASGI."""

    async def serve(self, turn: Turn) -> None: ...

    async def __call__(self, scope: Any, take: Any, send: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds a client may take: for a head, between two pieces of a body, between requests."""

    head: float
    body: float
    request: float


class Listener(asyncio.Protocol):
    """One client connection. `full`: the client does not take what is written."""

    __slots__ = (
        "_arriving",
        "_deadlines",
        "_drain",
        "_fresh",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_parser",
        "_patience",
        "_paused",
        "_queue",
        "_reading",
        "_serve",
        "_state",
        "_transport",
        "_turn",
        "_url",
        "_waits",
        "deadline",
        "full",
        "loop",
    )

    def __init__(
        self,
        *,
        serve: Serve,
        patience: Patience,
        deadlines: Deadlines,
        config: uvicorn.Config,
        server_state: Any,
        app_state: object,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._serve = serve
        self._patience = patience
        self._deadlines = deadlines
        self._state = server_state
        self.loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        # After `connection: close` some clients send a line end too much.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._transport = cast(asyncio.Transport, None)  # until the connection is made
        self._url = b""
        self._headers: Headers = []
        self._in_head = False
        self._head_bytes = 0
        self._arriving = 0  # bytes the parser is at
        self._fresh: Turn | None = None  # its head has just come; begun when the data is read
        self._reading: Turn | None = None  # whose body is arriving
        self._turn: Turn | None = None  # who is being answered
        self._queue: deque[Turn] = deque()  # who was sent before the answer to the one before
        self._paused = False
        self._drain: Wake | None = None
        self.full = False
        self._waits: Waits = "nothing"
        self.deadline = inf

    def __repr__(self) -> str:
        return f"<Listener: waits for {self._waits}, {len(self._queue)} queued>"

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._state.connections.add(self)
        self._deadlines.add(self)
        self._wait("head", self._patience.head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._deadlines.discard(self)
        turn, self._turn = self._turn, None
        self._queue.clear()
        if turn is not None:
            turn.lose()
        if self._drain is not None:
            self._drain.up()

    def data_received(self, data: bytes) -> None:
        reading, self._arriving = self._reading, len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the turn says so
        except httptools.HttpParserError:
            self._turn_away(Malformed("the request is not valid HTTP/1.1"))
            return
        if self._in_head:
            self._look_at_head(0 if reading is not None else len(data))
        if reading is not None:
            reading.stir()
        fresh, self._fresh = self._fresh, None
        if fresh is not None:
            self._begin(fresh)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._drain is not None:
            self._drain.up()

    # The parser's side.

    def on_message_begin(self) -> None:
        self._url, self._headers = b"", []
        self._in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers go nowhere
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser = self._parser
        method, version = parser.get_method(), parser.get_http_version()
        named = _METHODS.get(method) or method.decode("ascii")
        turn = self._reading = Turn(self, named, _target(self._url), self._headers, version)
        turn.received = self._head_bytes + self._arriving
        turn.upgrade = parser.should_upgrade()
        turn.keep_alive = parser.should_keep_alive() and version == "1.1" and not turn.upgrade
        if self._turn is None and self._fresh is None:
            self._fresh = turn
        else:
            self._queue.append(turn)
            self._pause()

    def on_body(self, body: bytes) -> None:
        turn = self._reading
        if turn is not None and not turn.answered and turn.arrive(body) > _HIGH_WATER:
            self._pause()

    def on_message_complete(self) -> None:
        turn, self._reading = self._reading, None
        if turn is not None:
            turn.whole = True
            if turn is self._turn and turn.answered:
                self._free()

    # The turn's side.

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def write_all(self, parts: Iterable[bytes]) -> None:
        self._transport.writelines(parts)

    def take_more(self) -> None:
        """What had arrived of a body was taken."""
        if self._paused and not self._queue:
            self._paused = False
            self._transport.resume_reading()

    def await_body(self) -> None:
        self._wait("body", self._patience.body)

    async def drained(self) -> None:
        """Until the client takes what is written, or is gone."""
        self._drain = self._drain or Wake(self.loop)
        while self.full and not self._transport.is_closing():
            await self._drain

    def answered(self, turn: Turn) -> None:
        """The answer is written. The next request's turn, unless this one's is still arriving."""
        self._state.total_requests += 1
        if not turn.keep_alive:
            self._transport.close()
        elif turn.whole:
            self._free()
        else:  # the rest is read over, if it comes at all
            self._wait("rest", self._patience.head)
            self.take_more()

    def ended(self, turn: Turn, task: asyncio.Task[None] | None) -> None:
        """Nothing more will be written for this turn."""
        self._state.tasks.discard(task)
        if not turn.answered:
            self._transport.close()

    # The server's side.

    def shutdown(self) -> None:
        """Finish what is under way, and take nothing new."""
        turn = self._turn
        if turn is None or turn.answered:
            self._transport.close()
        else:
            turn.keep_alive = False

    def late(self) -> None:
        """The client took too long."""
        waits, self._waits, self.deadline = self._waits, "nothing", inf
        if waits == "head":
            self._turn_away(SlowClient("the request's head did not arrive in time"))
        elif waits == "body" and self._turn is not None:
            self._turn.stall()
        else:
            self._transport.close()

    # Between them.

    def _begin(self, turn: Turn) -> None:
        self._waits, self.deadline = "nothing", inf
        self._turn = turn
        task = self.loop.create_task(self._serve(turn))
        self._state.tasks.add(task)
        turn.begin(task)

    def _free(self) -> None:
        """The turn is over: the next one, or wait for it."""
        self._turn = None
        if self._queue:
            self._begin(self._queue.popleft())
            return
        self.take_more()
        if self._in_head:
            self._wait("head", self._patience.head)
        elif self._fresh is None:
            self._wait("request", self._patience.request)

    def _wait(self, what: Waits, seconds: float) -> None:
        self._waits, self.deadline = what, self.loop.time() + seconds

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _look_at_head(self, more: int) -> None:
        """A head has begun and is not here whole."""
        self._head_bytes += more
        if self._head_bytes > _MOST_HEAD:
            self._turn_away(HeadTooLarge("the request's head is larger than 64 KiB"))
        elif self._waits in ("nothing", "request") and self._turn is None:
            self._wait("head", self._patience.head)

    def _turn_away(self, error: GatewayError) -> None:
        # In the middle of another answer on this connection nothing may be written.
        busy = self._turn is not None or self._fresh is not None
        if not busy and not self._transport.is_closing():
            path = self._url.partition(b"?")[0]
            self.write(_written(error, DIALECTS[caller(path, self._headers)]))
        self._transport.close()


def server_config(app: App, settings: Settings) -> uvicorn.Config:
    """uvicorn with our listener: it keeps the sockets, the start and the end."""
    patience = Patience(settings.header_timeout, settings.body_timeout, settings.keep_alive_timeout)
    shortest = min(patience.head, patience.body, patience.request)
    made = partial(Listener, serve=app.serve, patience=patience, deadlines=Deadlines(shortest))
    return uvicorn.Config(
        cast(Any, app),
        http=cast(Any, made),
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
        timeout_graceful_shutdown=cast(int, settings.drain_timeout),
    )


def _target(url: bytes) -> tuple[bytes, bytes, bool]:
    """Raw path, raw query, and whether the target was no path but a whole URL, or nothing."""
    if not url.startswith(b"/"):
        try:
            return httptools.parse_url(url).path or b"/", b"", True
        except httptools.HttpParserInvalidURLError:
            return b"/", b"", True
    if b"#" in url:
        url = url.partition(b"#")[0]
    path, _, query = url.partition(b"?")
    return path, query, False


def _written(error: GatewayError, dialect: Any) -> bytes:
    rendered = dialect.render(error, "")
    lines = [STATUS_LINES[rendered.status]]
    for name, value in [*rendered.headers, (b"connection", b"close")]:
        lines.append(b"%s: %s\r\n" % (name, value))
    lines.append(b"content-length: %d\r\n\r\n" % len(rendered.body))
    return b"".join([*lines, rendered.body])
