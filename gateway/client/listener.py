"""The server side of HTTP/1.1: a client's connection, its requests one after another.

A head must arrive in time and in size; what cannot be parsed is answered in the dialect its path
speaks. A request is served from the moment its head is here. uvicorn's server runs it, nothing of
uvicorn's own protocol is used. Used by worker.py and the tests.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final, Literal, Protocol, cast

import httptools
import uvicorn

from gateway.client.familiar import Familiar, familiar
from gateway.client.head import Head
from gateway.client.status import STATUS_LINES
from gateway.client.target import target_of
from gateway.client.turn import Turn
from gateway.deadlines import Deadlines
from gateway.dialects.table import DIALECTS
from gateway.errors import GatewayError, HeadTooLarge, Malformed, SlowClient
from gateway.outbox import Outbox
from gateway.paths import caller
from gateway.shapes import Headers
from gateway.wake import Wake

_MOST_HEAD: Final = 64 * 1024
_HIGH_WATER: Final = 64 * 1024  # bytes of a body that may wait to be taken
_ENOUGH: Final = 4  # requests in a row, each with a head of its own: the next will have one, too
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
        "_between", "_deadlines", "_drain", "_ended", "_familiar", "_gone", "_head_bytes",
        "_headers", "_in_head", "_parser", "_patience", "_paused", "_queue", "_read",
        "_reading", "_ready", "_received", "_serve", "_state", "_strange", "_task", "_turn", "_url",
        "_waits", "deadline", "full", "loop", "outbox", "transport", "write",
    )  # fmt: skip

    write: Callable[[bytes], None]  # to the client, with this turn of the loop

    def __init__(
        self,
        *,
        serve: Serve,
        patience: Patience,
        deadlines: Deadlines,
        outbox: Outbox,
        config: uvicorn.Config,
        server_state: Any,
        app_state: object,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._serve = serve
        self._patience = patience
        self._deadlines = deadlines
        self.outbox = outbox
        self._state = server_state
        self.loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        # After `connection: close` some clients send a line end too much.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.transport = cast(asyncio.Transport, None)  # until the connection is made
        self._url = b""
        self._headers: Headers = []
        self._in_head = False
        self._head_bytes = 0
        self._read = b""  # what the parser is at
        # Bytes since the read in which the head began: all of it, and perhaps more.
        self._received = 0
        self._ended = False  # one request has ended among them
        self._between = True  # the next byte begins a request
        self._familiar: Familiar | None = None  # the head of the last one
        self._strange = 0  # how many requests in a row had another head than the one before
        self._reading: Turn | None = None  # whose body is arriving
        self._turn: Turn | None = None  # who is being answered
        self._queue: deque[Turn] = deque()  # whose heads are here, and who wait to be served
        self._task: asyncio.Task[None] | None = None  # serves them, one after another
        self._ready = Wake(self.loop)  # the task waits here for the next one
        self._paused = False
        self._drain: asyncio.Event | None = None  # there while somebody waits to write
        self.full = False
        self._gone = False
        self._waits: Waits = "nothing"
        self.deadline = inf

    def __repr__(self) -> str:
        return f"<Listener: waits for {self._waits}, {len(self._queue)} queued>"

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = self.transport = cast(asyncio.Transport, transport)
        self.write = partial(self.outbox.put, made)
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
        self._gone = True
        if self._drain is not None:
            self._drain.set()
        self._ready.up()
        # It holds what it calls back: without it nothing here waits for the garbage collector.
        self._parser = cast(httptools.HttpRequestParser, None)

    def data_received(self, data: bytes) -> None:
        known, begins = self._familiar, self._between
        if begins and known is not None and (cut := known.read(data)) is not None:
            self._recognise(known, *cut)
            return
        reading, self._ended = self._reading, False
        self._read = data
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the turn says so
        except httptools.HttpParserError:
            self._turn_away(Malformed("the request is not valid HTTP/1.1"))
            return
        if self._in_head:
            self._look_at_head(0 if self._ended else len(data))
        if reading is not None:
            reading.stir()
        self._read = b""  # a large piece of a body is not held any longer
        if self._queue:
            if begins and self._between and self._strange < _ENOUGH and len(self._queue) == 1:
                self._queue[0].letter = data
            self._go_on()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._drain is not None:
            self._drain.set()

    # The parser's side.

    def on_message_begin(self) -> None:
        self._url, self._headers, self._between = b"", [], False
        self._in_head, self._head_bytes, self._received = True, 0, len(self._read)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers go nowhere
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser = self._parser
        method = parser.get_method()
        named = _METHODS.get(method) or method.decode("ascii")
        version = self._version(method)
        turn = self._reading = Turn(self, named, target_of(self._url), self._headers, version)
        turn.received = self._received
        turn.upgrade = parser.should_upgrade()
        turn.keep_alive = parser.should_keep_alive() and version == "1.1" and not turn.upgrade
        self._headers = []
        self._line_up(turn)

    def on_body(self, body: bytes) -> None:
        turn = self._reading
        if turn is not None and not turn.answered and turn.arrive(body) > _HIGH_WATER:
            self._pause()

    def on_message_complete(self) -> None:
        turn, self._reading = self._reading, None
        self._ended = True
        if turn is not None:
            turn.whole, self._between = True, turn.keep_alive
            if turn is self._turn and turn.answered:
                self._free()

    # The turn's side.

    def write_all(self, parts: Iterable[bytes]) -> None:
        """Several pieces, too large to be put together first."""
        self.outbox.flush()
        self.transport.writelines(parts)

    def take_more(self) -> None:
        """What had arrived of a body was taken."""
        if self._paused and not self._queue:
            self._paused = False
            self.transport.resume_reading()

    def make_familiar(self, letter: bytes, turn: Turn, head: Head) -> None:
        """`turn` was read from `letter`: one with the same head need not be read."""
        self._strange += 1
        self._familiar = familiar(letter, turn, head)

    def await_body(self) -> None:
        self._wait("body", self._patience.body)

    async def drained(self) -> None:
        """Until the client takes what is written, or is gone."""
        while self.full and not self._gone:
            self._drain = self._drain or asyncio.Event()
            self._drain.clear()
            await self._drain.wait()

    def answered(self, turn: Turn) -> None:
        """The answer is written. The next request's turn, unless this one's is still arriving."""
        self._state.total_requests += 1
        if not turn.keep_alive:
            self._close()
        elif turn.whole:
            self._free()
        else:  # the rest is read over, if it comes at all
            self._wait("rest", self._patience.head)
            self.take_more()

    def ended(self, turn: Turn) -> None:
        """Nothing more will be written for this turn."""
        self._state.tasks.discard(self._task)
        if not turn.answered:
            if turn.ends_with_connection:
                self._reset()
            self._close()

    # The server's side.

    def shutdown(self) -> None:
        """Finish what is under way, and take nothing new."""
        turn = self._turn or next(iter(self._queue), None)
        if turn is None or turn.answered:
            self._close()
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
            self._close()

    # Between them.

    def _recognise(self, known: Familiar, credential: bytes, body: bytes) -> None:
        """A whole request is here, and the parser need not see it."""
        self._strange = 0
        method, target = known.turn_of
        turn = Turn(self, method, target, known.headers, "1.1")
        turn.recognise(known.head, credential, body)
        self._line_up(turn)
        self._go_on()

    def _line_up(self, turn: Turn) -> None:
        self._queue.append(turn)
        if self._turn is not None or len(self._queue) > 1:
            self._pause()

    def _go_on(self) -> None:
        """A turn has come: a task that waits for one takes it at once, in this call."""
        if self._task is None:
            self._task = self.loop.create_task(self._work())
        else:
            self._ready.up()

    async def _work(self) -> None:
        """The connection's one task: a turn after another, until it closes."""
        try:
            while not self.transport.is_closing():
                if self._queue:
                    await self._serve(self._next())
                else:
                    await self._ready
        finally:
            self._close()  # without its task nobody would be served here

    def _next(self) -> Turn:
        turn = self._turn = self._queue.popleft()
        self.take_more()  # its body may be to come, and its leaving is to be seen
        self._waits, self.deadline = "nothing", inf
        self._state.tasks.add(self._task)
        turn.begin(self._task)
        return turn

    def _free(self) -> None:
        """The turn is over: the next one is there, or is waited for."""
        self._turn = None
        if self._queue:
            return
        self.take_more()
        if self._in_head:
            self._wait("head", self._patience.head)
        else:
            self._wait("request", self._patience.request)

    def _close(self) -> None:
        self.outbox.flush()
        self.transport.close()

    def _reset(self) -> None:
        """Where only the connection's end ends an answer, it must not look like one."""
        made = self.transport.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _version(self, method: bytes) -> str:
        """Of the request whose head is here. The parser spells it anew each time; where the head
        begins with a read, and so do nearly all, it is seen in its place.
        """
        at, read = len(method) + len(self._url) + 2, self._read
        first = self._received == len(read) and not self._ended
        if first and read[at : at + 10] == b"HTTP/1.1\r\n":
            return "1.1"
        return self._parser.get_http_version()

    def _wait(self, what: Waits, seconds: float) -> None:
        self._waits, self.deadline = what, self.loop.time() + seconds

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _look_at_head(self, more: int) -> None:
        """A head has begun and is not here whole."""
        self._head_bytes += more
        if self._head_bytes > _MOST_HEAD:
            self._turn_away(HeadTooLarge("the request's head is larger than 64 KiB"))
        elif self._waits in ("nothing", "request") and self._turn is None:
            self._wait("head", self._patience.head)

    def _turn_away(self, error: GatewayError) -> None:
        # In the middle of another answer on this connection nothing may be written.
        busy = self._turn is not None or len(self._queue) > 0
        if not busy and not self.transport.is_closing():
            path = self._url.partition(b"?")[0]
            self.write(_written(error, DIALECTS[caller(path, self._headers)]))
        self._close()


def _written(error: GatewayError, dialect: Any) -> bytes:
    rendered = dialect.render(error, "")
    lines = [STATUS_LINES[rendered.status]]
    for name, value in [*rendered.headers, (b"connection", b"close")]:
        lines.append(b"%s: %s\r\n" % (name, value))
    lines.append(b"content-length: %d\r\n\r\n" % len(rendered.body))
    return b"".join([*lines, rendered.body])
