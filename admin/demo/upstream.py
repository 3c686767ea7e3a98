"""A scripted HTTP/1.1 upstream on a real socket that answers like a provider, or goes wrong.

It records every byte it received and when each connection closed. Built on a bare protocol, since
a server library would refuse to misbehave. `wardgate demo-upstream` and the tests run it; clients
script it by the request header `x-demo` (`orders.HELP`).
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from array import array
from collections import deque
from collections.abc import Callable
from ssl import SSLContext
from types import TracebackType
from typing import cast

import httptools

from admin.demo.orders import at_head, obey
from admin.demo.script import End, Pair, Received, Script, steps

__all__ = ["Received", "Script", "Upstream", "serve"]

Respond = Callable[[Received], Script]
Early = Callable[[Received], Script | None]


class Upstream:
    """`async with Upstream() as up:` listens on `up.port`; `up.url` ends in `/v1`.

    `respond`: one Script for every request, or a function asked once a request's body is
    complete; by default the demo answers. `early` is asked once the head is read: a Script answers
    before the body, None leaves it to `respond`. An error raised by either is raised again when
    the block ends. `record=False` keeps no requests (a server that runs for days).

    `received`: requests in order of their heads. `wire[n]`: every byte of connection n.
    `active`: exchanges under way. `connections`, `open_connections`: accepted so far, open now.
    `broken`: what could not be read as HTTP.
    """

    def __init__(
        self,
        respond: Respond | Script | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        early: Early | None = None,
        ssl: SSLContext | None = None,
        record: bool = True,
    ) -> None:
        self.respond, self.early = _rules(respond, early)
        self.host, self.port, self.record = host, port, record
        self.received: list[Received] = []
        self.wire: list[bytearray] = []
        self.broken: list[str] = []
        self.active = self.connections = 0
        self._ssl = ssl
        self._open: set[_Connection] = set()
        self._failures: list[Exception] = []
        self._news = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        scheme = "https" if self._ssl else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def wait_received(self, count: int = 1, timeout: float = 5.0) -> Received:
        """The count-th request, once its head is here; TimeoutError after `timeout` seconds."""
        await self._until(lambda: len(self.received) >= count, timeout)
        return self.received[count - 1]

    async def wait_idle(self, timeout: float = 5.0) -> None:
        """Until no exchange is under way."""
        await self._until(lambda: not self.active, timeout)

    async def wait_disconnected(self, timeout: float = 5.0) -> None:
        """Until no connection is open."""
        await self._until(lambda: not self._open, timeout)

    async def _until(self, true: Callable[[], bool], timeout: float) -> None:
        async with asyncio.timeout(timeout):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def __aenter__(self) -> Upstream:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self.host, self.port, ssl=self._ssl, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [connection.abandon() for connection in list(self._open)]
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        await self.wait_disconnected()
        await self._server.wait_closed()
        if self._failures and error is None:
            raise ExceptionGroup("the upstream's script failed", self._failures)

    def opened(self, connection: _Connection) -> int:
        """Number a new connection."""
        self._open.add(connection)
        self.connections += 1
        if self.record:
            self.wire.append(bytearray())
        return self.connections - 1

    def lost(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self.noticed()

    def noticed(self) -> None:
        """Something changed: whoever waits looks again."""
        self._news.set()

    def began(self, received: Received) -> None:
        self.active += 1
        if self.record:
            self.received.append(received)
        self.noticed()

    def ended(self, received: Received) -> None:
        self.active -= 1
        received.done.set()
        self.noticed()

    def failed(self, error: BaseException | None) -> None:
        """Keep what a script raised; cancellation is how an abandoned exchange ends."""
        if isinstance(error, Exception):
            self._failures.append(error)


def _rules(respond: Respond | Script | None, early: Early | None) -> tuple[Respond, Early]:
    if respond is None:
        return obey, early or at_head
    if isinstance(respond, Script):
        fixed = respond
        return (lambda _: fixed), early or (lambda _: fixed)
    return respond, early or (lambda _: None)


class _Connection(asyncio.Protocol):
    """One client connection: always reading, so that a close is seen in every state."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.parser = httptools.HttpRequestParser(self)
        self.queue: deque[Received] = deque()
        self.history: list[Received] = []
        self.reading: Received | None = None
        self.task: asyncio.Task[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.url, self.headers = b"", list[Pair]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport = cast(asyncio.Transport, transport)
        # Written out means handed to the kernel: a reset would throw away what is still here.
        # TLS pauses at the mark itself, and at 0 it would for ever.
        encrypted = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=1 if encrypted else 0)
        self.number = self.upstream.opened(self)

    def data_received(self, data: bytes) -> None:
        if self.upstream.record:
            self.upstream.wire[self.number] += data
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.transport.close()
        except httptools.HttpParserError as error:
            self.upstream.broken.append(str(error))
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def eof_received(self) -> None:
        self._gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
        self.writable.set()
        self.upstream.lost(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def on_message_begin(self) -> None:
        self.url, self.headers, self.reading = b"", [], None

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.reading is None:
            self.headers.append((name, value))
        else:
            self.reading.trailers.append((name, value))

    def on_headers_complete(self) -> None:
        received = Received(
            self.parser.get_method().decode(),
            self.url,
            self.headers,
            self.number,
            arrived_at=self.loop.time(),
            keep_alive=self.parser.should_keep_alive(),
        )
        self.reading = received
        if not self.upstream.record:
            self.history = [one for one in self.history if not one.done.is_set()]
        self.history.append(received)
        self.upstream.began(received)
        self.queue.append(received)
        if self.task is None:
            self._next()

    def on_body(self, data: bytes) -> None:
        if self.reading is not None:
            self.reading.data += data

    def on_message_complete(self) -> None:
        if self.reading is not None:
            self.reading.finished.set()

    def abandon(self) -> asyncio.Task[None] | None:
        """Close at once, whatever is under way; the task to wait for, if there is one."""
        self.transport.abort()
        if self.task:
            self.task.cancel()
        return self.task

    def _next(self) -> None:
        self.task = None
        if self.queue and not self.transport.is_closing():
            received = self.queue.popleft()
            self.task = self.loop.create_task(self._exchange(received))
            self.task.add_done_callback(lambda task: self._after(task, received))

    def _after(self, task: asyncio.Task[None], received: Received) -> None:
        self.upstream.ended(received)
        if task.cancelled() or task.exception():
            self.upstream.failed(None if task.cancelled() else task.exception())
            self.transport.abort()
        self._next()

    async def _exchange(self, received: Received) -> None:
        script = self.upstream.early(received)
        if script is None:
            await self._whole_request(received)
            script = self.upstream.respond(received)
        received.script = script
        if script.read_gate and not script.read_gate.is_set():
            self.transport.pause_reading()
        if script.read_body:
            await self._open_gate(script)
            await self._whole_request(received)
        end = await self._perform(script, received.method)
        received.answered = script.cut_at is None and script.cut_wire_at is None
        await self._open_gate(script)
        await self._finish(end, received)

    async def _open_gate(self, script: Script) -> None:
        if script.read_gate:
            await script.read_gate.wait()
            self.transport.resume_reading()

    async def _whole_request(self, received: Received) -> None:
        if received.header(b"expect") == b"100-continue" and not received.complete:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await received.finished.wait()

    async def _perform(self, script: Script, method: str) -> End:
        for step in steps(script, method):
            if isinstance(step, bytes):
                self.transport.write(step)
                await self.writable.wait()
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                return step
        return "keep"

    async def _finish(self, end: End, received: Received) -> None:
        if end == "stall":
            await asyncio.get_running_loop().create_future()
        elif end == "rst":
            await self._reset()
        elif end == "fin" or not received.keep_alive:
            self.transport.close()
        else:
            # What is left of the body belongs to this request, not to the next.
            await received.finished.wait()

    async def _reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        # A reset throws away what the peer's kernel has not taken yet.
        while _unsent(sock.fileno()):  # noqa: ASYNC110 - the kernel announces nothing
            await asyncio.sleep(0.001)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _gone(self) -> None:
        for received in self.history:
            if not received.closed.is_set():
                received.closed_at = self.loop.time()
                received.closed.set()
        if self.task:
            self.task.cancel()
        self.upstream.noticed()


def _unsent(descriptor: int) -> int:
    """Bytes the kernel holds for a socket that its peer did not acknowledge."""
    answer = array("i", [0])
    fcntl.ioctl(descriptor, termios.TIOCOUTQ, answer)
    return answer[0]


async def serve(
    host: str = "127.0.0.1",
    port: int = 9000,
    on_ready: Callable[[str], object] = lambda url: None,
) -> None:
    """Run the demo upstream until cancelled; `on_ready` gets its URL once it listens.

    Raises OSError when the address cannot be bound.
    """
    async with Upstream(host=host, port=port, record=False) as upstream:
        on_ready(upstream.url)
        await asyncio.get_running_loop().create_future()
