"""The upstream the engines are tested against, which does byte for byte what a test tells it.

A bare protocol on a real socket: it records every byte of every connection and how each one ended.
Here are also the proofs that it does. Made by the fixture `stand` of engines.py.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Literal, cast

import pytest

from gateway.shapes import Headers

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CLOSING = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"


class Gone(Exception):
    """The engine closed its side; a script that waits for more ends with it."""


@dataclass
class Request:
    """One request as it came; `head` is exact, with its empty line."""

    head: bytes
    body: bytes = b""

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    @property
    def headers(self) -> Headers:
        rows = [row.split(b": ", 1) for row in self.head.split(b"\r\n")[1:-2]]
        return [(row[0].lower(), row[1]) for row in rows]

    def value(self, wanted: bytes) -> bytes | None:
        return next((value for name, value in self.headers if name == wanted), None)


class Wire(asyncio.Protocol):
    """One connection as the origin has it. `received`: every byte; `ended`: how it went."""

    transport: asyncio.Transport

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.received, self._taken = bytearray(), 0
        self.ended: Literal["", "fin", "rst"] = ""
        self.open = self.full = False
        self.requests: list[Request] = []
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.open = cast(asyncio.Transport, transport), True
        # Written out means handed to the kernel. TLS pauses at the mark itself, at 0 for ever.
        self.transport.set_write_buffer_limits(high=1 if self.info("sslcontext") else 0)
        self.task = asyncio.ensure_future(self.origin.play(self))

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.origin.noticed()

    def eof_received(self) -> None:
        self.ended = self.ended or "fin"
        self.origin.noticed()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = self.ended or ("rst" if error else "fin")
        self.open = self.full = False
        self.origin.noticed()

    def pause_writing(self) -> None:
        self.full = True
        self.origin.noticed()

    def resume_writing(self) -> None:
        self.full = False
        self.origin.noticed()

    @property
    def established(self) -> bool:
        """What the kernel knows, before the loop hears of it."""
        if not self.open or self.info("socket") is None:
            return False
        with self.below() as sock:
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x01"

    def below(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self.info("socket").fileno()))

    def info(self, name: str) -> Any:
        return self.transport.get_extra_info(name)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for a condition of this connection; Gone when it ends before."""
        while not true():
            if self.ended:
                raise Gone
            await self.origin.news()

    async def exactly(self, count: int) -> bytes:
        await self.until(lambda: len(self.received) - self._taken >= count)
        self._taken += count
        return bytes(self.received[self._taken - count : self._taken])

    async def through(self, mark: bytes) -> bytes:
        await self.until(lambda: self.received.find(mark, self._taken) >= 0)
        return await self.exactly(self.received.find(mark, self._taken) + len(mark) - self._taken)

    async def head(self) -> Request:
        """The next request's head, noted as the origin's newest request."""
        request = Request(await self.through(b"\r\n\r\n"))
        self.requests.append(request)
        self.origin.requests.append(request)
        self.origin.noticed()
        return request

    async def request(self) -> Request:
        """The next whole request."""
        request = await self.head()
        if request.value(b"transfer-encoding") == b"chunked":
            while size := int(await self.through(b"\r\n"), 16):
                request.body += (await self.exactly(size + 2))[:-2]
            await self.exactly(2)
        else:
            request.body = await self.exactly(int(request.value(b"content-length") or b"0"))
        return request

    def send(self, data: bytes) -> None:
        if self.open:
            self.transport.write(data)

    async def send_pieces(self, *pieces: bytes) -> None:
        """Each by itself: the engine gets turns of the loop in between."""
        for piece in pieces:
            self.send(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def flushed(self) -> None:
        """Until the kernel has all that was sent."""
        await self.until(lambda: not self.full)

    def stop_reading(self) -> None:
        self.transport.pause_reading()

    def fin(self) -> None:
        self.transport.close()

    def cut(self) -> None:
        """End the bytes below TLS: FIN without a close_notify."""
        with self.below() as sock:
            sock.shutdown(socket.SHUT_WR)

    def rst(self) -> None:
        with self.below() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


Script = Callable[[Wire], Awaitable[None]]


def answering(*pieces: bytes, then: Literal["stay", "fin", "rst"] = "stay") -> Script:
    """Every whole request gets these bytes, piece by piece."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send_pieces(*pieces)
            if then != "stay":
                await wire.flushed()
                return wire.fin() if then == "fin" else wire.rst()

    return script


def in_turn(*scripts: Script) -> Script:
    """The first connection gets the first script; the last one is everybody's from then on."""

    async def script(wire: Wire) -> None:
        await scripts[min(wire.origin.wires.index(wire), len(scripts) - 1)](wire)

    return script


class Origin:
    """`async with Origin() as origin:` listens on `origin.port`; `script` plays on connections."""

    def __init__(
        self,
        script: Script | None = None,
        host: str = "127.0.0.1",
        tls: SSLContext | None = None,
    ) -> None:
        self.script, self.host, self.tls = script or answering(HELLO), host, tls
        self.port, self.receive_buffer = 0, 0
        self.wires: list[Wire] = []
        self.requests: list[Request] = []
        self.most = 0
        self._failures: list[Exception] = []
        self._news: asyncio.Future[None] | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def targets(self) -> list[bytes]:
        return [request.target for request in self.requests]

    @property
    def open(self) -> int:
        return sum(wire.open for wire in self.wires)

    def accept(self) -> Wire:
        self.most = max(self.most, 1 + sum(wire.established for wire in self.wires))
        self.wires.append(Wire(self))
        return self.wires[-1]

    async def play(self, wire: Wire) -> None:
        self.noticed()
        try:
            await self.script(wire)
        except Gone:
            pass
        except Exception as error:  # noqa: BLE001 # raised again when the origin closes
            self._failures.append(error)

    def noticed(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def news(self) -> None:
        """Until something happens on any connection."""
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    async def until(self, true: Callable[[], bool], timeout: float = 5.0) -> None:
        """Until the condition holds; TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while not true():
                await self.news()

    async def all_closed(self, timeout: float = 1.0) -> None:
        """Until no connection is open. Whoever was told to stop reading reads again."""
        for wire in self.wires:
            if wire.open:
                wire.transport.resume_reading()
        await self.until(lambda: not self.open, timeout)

    async def __aenter__(self) -> Origin:
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.host, self.port))
        self.port = sock.getsockname()[1]
        if self.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.accept, sock=sock, ssl=self.tls, backlog=512)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [wire.task for wire in self.wires if wire.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for wire in self.wires:
            if wire.open:
                wire.transport.abort()
        await self.until(lambda: not self.open)
        await self._server.wait_closed()
        if self._failures and kind is None:
            raise ExceptionGroup("the origin's script failed", self._failures)


async def hear(origin: Origin, sent: bytes = b"") -> tuple[bytes, str]:
    """What a plain socket gets from the origin until its end, and how that came."""
    loop, got = asyncio.get_running_loop(), b""
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", origin.port))
        await loop.sock_sendall(sock, sent)
        try:
            while piece := await loop.sock_recv(sock, 4096):
                got += piece
        except ConnectionResetError:
            return got, "rst"
    return got, "fin"


@pytest.mark.parametrize("ending", ["fin", "rst"])
async def test_origin_answers_and_ends_as_it_is_told(ending: Literal["fin", "rst"]) -> None:
    async with Origin(answering(b"a", b"b", then=ending)) as origin:
        got, how = await hear(origin, b"POST /x HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
        assert how == ending
        assert got in ([b"ab"] if ending == "fin" else [b"ab", b"a", b""])
        [request] = origin.requests
        assert (request.target, request.body) == (b"/x", b"body")
        assert request.headers == [(b"content-length", b"4")]
        assert origin.wires[0].received.endswith(b"\r\n\r\nbody")


async def test_origin_reads_a_chunked_body_and_what_comes_behind_it() -> None:
    async with Origin(in_turn(answering(b"x"), answering(b"y"))) as origin:
        one = b"POST /1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
        writer.write(one + b"GET /2 HTTP/1.1\r\n\r\n")
        assert await reader.readexactly(2) == b"xx"
        assert [request.body for request in origin.requests] == [b"abc", b""]
        assert (origin.open, origin.most, origin.targets) == (1, 1, [b"/1", b"/2"])
        writer.close()
        await origin.all_closed()
        assert origin.wires[0].ended == "fin"


async def test_origin_tells_when_its_script_fails() -> None:
    async def broken(wire: Wire) -> None:
        await wire.head()
        wire.fin()
        raise LookupError

    origin = await Origin(broken).__aenter__()
    await hear(origin, b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ExceptionGroup, match="script failed"):
        await origin.__aexit__(None)
