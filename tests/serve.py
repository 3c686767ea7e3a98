"""Real servers inside a test's own loop, and a client that reads answers byte by byte.

`serving` runs an ASGI app on uvicorn at a free port; `RawClient` sends whatever it is told, also
what no HTTP library would, and says how the answer ended. Called by tests only.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import uvicorn

Pair = tuple[bytes, bytes]
Ending = Literal["clean", "cut", "reset", "broken"]

_UNREAD = 64 * 1024


def free_port() -> int:
    """A port nobody listens on at this moment, for somebody who is about to."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def gateway_config(app: Any, settings: Any) -> uvicorn.Config:
    """What `wardgate serve` would run `app` with."""
    config: uvicorn.Config = importlib.import_module("gateway.client.config").server_config(
        app, settings
    )
    return config


@contextlib.asynccontextmanager
async def serving(
    app: Any, settings: Any = None, *, grace: int = 1, tls: Path | None = None
) -> AsyncIterator[str]:
    """Serve an ASGI app on a free loopback port; gives its base URL without a path.

    With `settings` it is a gateway and runs on the gateway's own listener. RuntimeError when the
    app does not start. Leaving the block waits `grace` seconds at most for running requests.
    `tls` is a file with a certificate and its key: then it speaks HTTPS only.
    """
    config = gateway_config(app, settings) if settings is not None else _plain_config(app)
    config.timeout_graceful_shutdown = grace
    config.ssl_certfile = tls
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = _Server(config)
    task = asyncio.create_task(server.run_until_told(listener))
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=10)
        if not server.started:
            task.cancel()
            await task
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.told.set()
        ready.cancel()
        try:
            await task
        finally:
            listener.close()


def _plain_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(app, http="httptools", log_config=None, access_log=False)


class _Server(uvicorn.Server):
    """uvicorn, but the process's signal handlers stay the test's, and it stops at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.told = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second, and every test would pay for it at its end.
        await self.on_tick(0)
        await self.told.wait()

    async def run_until_told(self, listener: socket.socket) -> None:
        try:
            await self.serve([listener])
        except SystemExit as leaving:
            raise RuntimeError("the app did not start; its log says why") from leaving


@dataclass
class Answer:
    """One HTTP answer as it stood on the wire. `body` is without framing, `wire` with everything.

    `ending`: "clean" = the framing said that this was all (or, without framing, the connection
    was closed in order: see `close_delimited`); "cut" = closed in the middle; "reset"; "broken" =
    not HTTP.
    """

    status: int = 0
    reason: bytes = b""
    headers: list[Pair] = field(default_factory=list)
    body: bytes = b""
    wire: bytes = b""
    ending: Ending = "clean"
    close_delimited: bool = False

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: bytes) -> bytes | None:
        return next(iter(self.values(name)), None)


class _Inbox(asyncio.Protocol):
    """What arrived and was not read yet. Unlike a StreamReader it loses nothing to a reset."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended: Literal["", "fin", "reset"] = ""
        self.news = asyncio.Event()
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.news.set()
        # A client that does not read lets the server's socket fill up.
        if len(self.data) > _UNREAD:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.ended = self.ended or "fin"
        self.news.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or ("reset" if exc else "fin")
        self.news.set()
        self.lost.set()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def more(self) -> None:
        """Wait for news; EOFError after a FIN, ConnectionResetError after a RST."""
        if self.ended:
            raise EOFError if self.ended == "fin" else ConnectionResetError
        self.news.clear()
        if not self.transport.is_closing():
            self.transport.resume_reading()
        await self.news.wait()

    def take(self, count: int) -> bytes:
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken


class RawClient:
    """`async with RawClient(port) as client:` one TCP connection, bytes in and out.

    Every call that waits is bounded by `timeout` seconds (TimeoutError). A client that reads
    nothing takes at most some 100 KiB, and what the kernel holds.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", timeout: float = 10.0) -> None:
        self.port, self.host, self.timeout = port, host, timeout
        self._wire = bytearray()
        self._inbox = _Inbox()

    @classmethod
    def to(cls, base_url: str, timeout: float = 10.0) -> RawClient:
        """A client for the host and port of a URL."""
        parts = urlsplit(base_url)
        assert parts.hostname
        assert parts.port
        return cls(parts.port, parts.hostname, timeout)

    async def __aenter__(self) -> RawClient:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._inbox, self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._inbox.transport.abort()
        await self._inbox.lost.wait()

    async def send(self, data: bytes) -> None:
        """Write bytes and wait until the socket took nearly all of them."""
        if self._inbox.lost.is_set():
            raise ConnectionResetError
        self._inbox.transport.write(data)
        async with asyncio.timeout(self.timeout):
            await self._inbox.writable.wait()

    async def request(
        self,
        method: str,
        target: str | bytes,
        headers: dict[str, str] | list[Pair] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send one well-formed request and read its answer."""
        await self.send(request_bytes(method, target, headers, body))
        return await self.answer(method)

    async def head(self) -> Answer:
        """Read status line and headers only; the body is left for `body_of` or `read_some`."""
        self._wire = bytearray()
        answer = Answer()
        await self._bounded(self._head(answer), answer)
        return answer

    async def answer(self, method: str = "GET") -> Answer:
        """Read one whole answer, however it ends."""
        answer = await self.head()
        return await self.body_of(answer, method) if answer.ending == "clean" else answer

    async def body_of(self, answer: Answer, method: str = "GET") -> Answer:
        """Read the body that follows `head`, and say how it ended."""
        body = bytearray()
        await self._bounded(self._body(answer, method, body), answer)
        answer.body = bytes(body)
        return answer

    async def _bounded(self, reading: Coroutine[Any, Any, None], answer: Answer) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                await reading
        except EOFError:
            answer.ending = "cut"
        except ConnectionResetError:
            answer.ending = "reset"
        except ValueError:
            answer.ending = "broken"
        if answer.ending != "clean":
            # What came after the place where reading failed belongs to the wire as well.
            self._taken(len(self._inbox.data))
        answer.wire = bytes(self._wire)

    async def read_some(self, most: int = 65_536) -> bytes:
        """What arrives next, framing included; b"" once the server closed in order."""
        async with asyncio.timeout(self.timeout):
            try:
                return await self._some(most)
            except EOFError:
                return b""

    async def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`, framing included; EOFError when it does not come."""
        async with asyncio.timeout(self.timeout):
            return await self._until(mark)

    async def at_end(self) -> bool:
        """Wait for the server to close or reset: True when it did so without sending more."""
        try:
            return await self.read_some(1) == b""
        except ConnectionResetError:
            return True

    def finish(self) -> None:
        """Send a FIN, and go on reading."""
        self._inbox.transport.write_eof()

    def reset(self) -> None:
        """Leave with a RST instead of a FIN."""
        sock = self._inbox.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._inbox.transport.abort()

    async def _head(self, answer: Answer) -> None:
        while True:
            line = await self._line()
            version, status, *reason = line.split(b" ", 2)
            if not version.startswith(b"HTTP/1.") or len(status) != 3:
                raise ValueError("not a status line")
            answer.status, answer.reason = int(status), b"".join(reason)
            answer.headers = await self._headers()
            # 100 Continue and its like come before the answer.
            if answer.status >= 200:
                return

    async def _headers(self) -> list[Pair]:
        pairs: list[Pair] = []
        while line := await self._line():
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError("not a header line")
            pairs.append((name, value.strip(b" \t")))
        return pairs

    async def _body(self, answer: Answer, method: str, body: bytearray) -> None:
        if method == "HEAD" or answer.status in (204, 304):
            return
        if answer.header(b"transfer-encoding") == b"chunked":
            await self._chunks(body)
        elif (length := answer.header(b"content-length")) is not None:
            await self._fill(body, int(length))
        else:
            answer.close_delimited = True
            with contextlib.suppress(EOFError):
                while True:
                    body += await self._some(65_536)

    async def _chunks(self, body: bytearray) -> None:
        while size := int((await self._line()).partition(b";")[0], 16):
            await self._fill(body, size)
            if await self._line():
                raise ValueError("a chunk is longer than it said")
        await self._headers()

    async def _fill(self, body: bytearray, count: int) -> None:
        while count:
            piece = await self._some(count)
            body += piece
            count -= len(piece)

    async def _line(self) -> bytes:
        return (await self._until(b"\r\n"))[:-2]

    async def _until(self, mark: bytes) -> bytes:
        looked = 0
        while (at := self._inbox.data.find(mark, looked)) < 0:
            looked = max(0, len(self._inbox.data) - len(mark) + 1)
            await self._inbox.more()
        return self._taken(at + len(mark))

    async def _some(self, most: int) -> bytes:
        while not self._inbox.data:
            await self._inbox.more()
        return self._taken(most)

    def _taken(self, count: int) -> bytes:
        taken = self._inbox.take(count)
        self._wire += taken
        return taken


def request_bytes(
    method: str,
    target: str | bytes,
    headers: dict[str, str] | list[Pair] | None = None,
    body: bytes | None = None,
) -> bytes:
    """A request as it stands on the wire; Host and Content-Length are added where missing."""
    pairs = headers if isinstance(headers, list) else _pairs(headers or {})
    names = {name.lower() for name, _ in pairs}
    if b"host" not in names:
        pairs = [(b"host", b"127.0.0.1"), *pairs]
    if body is not None and not names & {b"content-length", b"transfer-encoding"}:
        pairs = [*pairs, (b"content-length", b"%d" % len(body))]
    raw = target if isinstance(target, bytes) else target.encode("latin-1")
    lines = [b"%b %b HTTP/1.1" % (method.encode(), raw), *(k + b": " + v for k, v in pairs)]
    return b"\r\n".join([*lines, b"", body or b""])


def _pairs(headers: dict[str, str]) -> list[Pair]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def raw_exchange(port: int, data: bytes, timeout: float = 10.0) -> bytes:
    """Send bytes, give back every byte until the server closes the connection.

    The connection is left open for writing; a request that should end it says `connection: close`.
    """
    async with RawClient(port, timeout=timeout) as client:
        with contextlib.suppress(ConnectionError):
            await client.send(data)
        got = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await client.read_some():
                got += piece
        return bytes(got)
