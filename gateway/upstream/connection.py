"""One connection to an upstream: a request out, its answer in, then the next one.

Strict HTTP/1.1 by httptools. Whatever is not plainly the answer to the request that was sent ends
the connection. Never sends a request twice. Made and kept by pool.py, used by engine.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import TYPE_CHECKING, Final, Literal, cast

import httptools

from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.outbox import Outbox
from gateway.upstream.answer import HttpAnswer
from gateway.upstream.chunks import payload
from gateway.upstream.mend import head_size, mended
from gateway.upstream.news import News
from gateway.upstream.pump import Pump
from gateway.upstream.seam import BROKE_OFF, Taker, Timeouts
from gateway.upstream.tls import remember_session
from gateway.wake import Wake

if TYPE_CHECKING:
    from gateway.upstream.pool import Pool

_MOST_HEAD: Final = 64 * 1024
_HIGH_WATER: Final = 64 * 1024  # bytes of an answer that may wait for their reader
_SMALL: Final = 16 * 1024  # a body that is cheaper to copy than to write by itself
_SOON: Final = 0.002  # seconds
Waits = Literal["idle", "head", "piece", "write"]


class Connection(asyncio.Protocol):
    """`deadline` (the loop's time) is when `late` is to be called; infinity while nobody waits.

    `taker` is offered each piece while the answer's reader waits for one.
    """

    __slots__ = (
        "_answer", "_bare", "_between", "_head", "_last", "_loop", "_method", "_news", "_outbox",
        "_parser", "_passed", "_paused", "_pool", "_pump", "_rested", "_timeouts", "_transport",
        "_unwritten", "_waits", "_wake", "deadline", "gone", "served", "taker",
    )  # fmt: skip

    def __init__(
        self, pool: Pool, timeouts: Timeouts, outbox: Outbox, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._pool, self._outbox = pool, outbox
        self._timeouts = timeouts
        self._loop = loop
        self._wake = Wake(loop)
        self._parser = httptools.HttpResponseParser(self)
        self._transport = cast(asyncio.Transport, None)  # until the connection is made
        self._answer: HttpAnswer | None = None
        self._method = ""
        self._head = b""  # what has come of the present answer, until its head is whole
        self._passed = 0  # bytes of it that were interim answers
        self._bare = 0  # bytes since, behind the last one of its body: trailers, or nothing useful
        self._between = False  # the parser is at the beginning of a chunk, unless in its head
        self.taker: Taker | None = None
        self._rested = 0.0  # when its last answer was whole
        self._news = News()
        self._last = False  # no other request may be sent here
        self._paused = False  # the reader has enough to read
        self._pump: Pump | None = None
        self._unwritten = 0
        self._waits: Waits = "idle"
        self.deadline = inf
        self.gone = False
        self.served = 0

    def __repr__(self) -> str:
        state = "gone" if self.gone else "busy" if self._answer is not None else "idle"
        return f"<Connection: {state}, {self.served} served>"

    def usable(self) -> bool:
        """Whether a request may be sent here; asked of an idle one."""
        now = self._loop.time()
        if self.gone or self.deadline <= now or self._transport.is_closing():
            return False
        # So soon the loop may not have looked yet whether the upstream has closed it.
        return now - self._rested > _SOON or not self._news.any(self._transport)

    # The request's side.

    async def ask(
        self,
        method: str,
        head: bytes,
        body: bytes | AsyncIterator[bytes] | None,
        length: int | None,
    ) -> HttpAnswer:
        """Send a request; its answer once the head is here. `length` is of a body that arrives.

        Raises UpstreamError (Stale where the connection had been given up), UpstreamTimeout. When
        this raises or is cancelled the connection is closed.
        """
        answer = self._answer = HttpAnswer(self)
        self._method, self._head, self._passed = method, b"", 0
        self._wait("head", self._timeouts.first_byte)
        try:
            self._send(head, body, length)
            while not answer.begun and answer.error is None:
                await self._wake
        except BaseException:
            # A whole answer that came meanwhile has left the connection to somebody else.
            answer.abort()
            raise
        if answer.error is not None and not answer.begun:
            raise answer.error
        return answer

    def expect_piece(self) -> Wake:
        """What to wait for: the present answer then has a piece more, its end, or an error."""
        self._wait("piece", self._timeouts.idle)
        return self._wake

    def relieve(self) -> None:
        """The reader has taken what there was."""
        if self._paused and not self.gone:
            self._paused = False
            self._transport.resume_reading()

    def rest(self, seconds: float) -> None:
        """Lie idle for so long at the most."""
        self._wait("idle", seconds)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._stop_pump()
        if not self.gone:
            self._leave()
            self._transport.abort()

    def late(self) -> None:
        """The deadline has passed."""
        if self._waits == "idle":
            self.abort()
        elif self._waits == "write":
            self._insist_on_progress()
        elif self._waits == "head":
            self.fail(UpstreamTimeout("the provider did not answer in time"))
        else:
            self.fail(UpstreamTimeout("the provider stopped sending"))

    def _send(
        self, head: bytes, body: bytes | AsyncIterator[bytes] | None, length: int | None
    ) -> None:
        if not isinstance(body, bytes) and body is not None:
            self._transport.write(head)  # nothing of an idle connection waits in the outbox
            self.deadline = inf  # the body takes the time it takes its sender
            self._pump = Pump(body, length, self._transport, self._poured)
        elif body is None or len(body) <= _SMALL:
            self._outbox.put(self._transport, head + body if body else head)
        else:
            self._transport.writelines((head, body))

    def _poured(self, error: BaseException | None) -> None:
        self._pump = None
        answer = self._answer
        if error is not None:
            self.fail(error)
        elif answer is not None and not answer.begun:
            self._wait("head", self._timeouts.first_byte)

    def _stop_pump(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.stop()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._between and self.taker is not None:
            # Nearly all that comes of a stream: it needs no parser, and no turn of its reader.
            piece = payload(data)
            if piece is not None and self._taken(self.taker, piece, data):
                return
        answer = self._answer
        if answer is None:
            self.abort()  # nobody asked: it must not become somebody's answer
            return
        if answer.begun:
            self._bare += len(data)
        else:
            head = self._head = self._head + data if self._head else data
            if len(head) > _MOST_HEAD and head_size(head) > _MOST_HEAD:
                self._refuse(answer)
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(UpstreamError("the provider switched protocols, which nobody asked for"))
        except httptools.HttpParserError:
            self._refuse(answer, data)
        else:
            # Behind anything else the parser may be at a size that has not come whole.
            self._between = self._between and data.endswith(b"\r\n")
            self._settle(answer)

    def eof_received(self) -> None:
        answer = self._answer
        if answer is not None and answer.begun and answer.framing == "until_close":
            answer.finish()
            self._settle(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_pump()
        # It holds what it calls back: without it nothing here waits for the garbage collector.
        self._parser = cast(httptools.HttpResponseParser, None)
        if self.gone:
            return
        self._leave()
        answer = self._answer
        if answer is not None:
            answer.error = answer.lost(stale=self.served > 0 and not self._head)
            self._wake.up()

    def pause_writing(self) -> None:
        self._unwritten = self._transport.get_write_buffer_size()
        self._wait("write", self._timeouts.write)
        if self._pump is not None:
            self._pump.hold()

    def resume_writing(self) -> None:
        if self._waits == "write":
            self._wait("head", self._timeouts.first_byte)
        if self._pump is not None:
            self.deadline = inf
            self._pump.go_on()

    # The parser's side. Interim answers (1xx) and what follows a whole answer come here, too.

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.complete:
            self._last = True

    def on_headers_complete(self) -> None:
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None or answer.complete:
            return
        # The parser takes line ends before an answer, and no other ones in its head.
        start = self._head.find(b"HTTP/", self._passed)
        end = self._head.find(b"\r\n\r\n", start)
        if 100 <= status < 200:
            self._passed = end + 4  # the final answer comes behind it
            return
        said, self._head = self._head[start:end], b""
        version = "1.1" if said.startswith(b"HTTP/1.1 ") else self._parser.get_http_version()
        if answer.begin(status, self._method, version, said):
            if answer.framing == "until_close" or answer.version != "1.1":
                self._last = True
            if self._method == "HEAD":
                # Some send a body all the same: it is nobody's, and the parser waits for it.
                answer.finish()
                self._last = True

    def on_body(self, body: bytes) -> None:
        answer = self._answer
        if answer is not None and answer.begun and not answer.complete:
            answer.add(body)
            self._bare = 0

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_message_complete(self) -> None:
        self._between = False
        answer = self._answer
        if answer is not None and answer.begun and not answer.complete:
            answer.finish()
            if not self._parser.should_keep_alive():
                self._last = True

    # Between them.

    def _wait(self, what: Waits, seconds: float) -> None:
        self._waits, self.deadline = what, self._loop.time() + seconds

    def _settle(self, answer: HttpAnswer) -> None:
        """After something came: is the answer whole, is there enough of it, who waits for it?"""
        if not answer.begun:
            if answer.error is not None:
                self._refuse(answer)
            return
        self.deadline = inf
        if self._pump is not None and (answer.complete or answer.status >= 400):
            self._stop_pump()  # the upstream has said all without it
            self._last = True
        if answer.complete:
            self._finish(answer)
        elif self._bare > _MOST_HEAD:
            self.fail(UpstreamError(BROKE_OFF, code="upstream_incomplete"))
        elif self.taker is not None and answer.waiting and self._pass_on(self.taker, answer):
            return
        elif answer.waiting > _HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        # What comes now comes behind what has not been read.
        self.taker = None
        self._wake.up()

    def _pass_on(self, taker: Taker, answer: HttpAnswer) -> bool:
        taken = self._taken(taker, answer.gathered(), None)
        if taken:
            answer.drop()
        return taken

    def _taken(self, taker: Taker, piece: bytes, chunk: bytes | None) -> bool:
        """Whether the reader has taken `piece` where it stands."""
        now = self._loop.time()
        try:
            if taken := taker(piece, chunk, now):
                self.deadline = now + self._timeouts.idle
        except BaseException as error:
            self.fail(error)  # a defect of the reader's is raised where it reads
            raise
        return taken

    def _finish(self, answer: HttpAnswer) -> None:
        """The answer is whole: it needs this connection no longer, another request may."""
        answer.connection = self._answer = None
        self._bare = 0
        if not self.served:
            remember_session(self._transport)
        if self._last or self._paused or self._transport.get_write_buffer_size():
            self.abort()
            return
        self.served += 1
        self._rested = self._loop.time()
        self._pool.put_back(self, answer.lifetime())

    def _refuse(self, answer: HttpAnswer, data: bytes = b"") -> None:
        """What has come is no HTTP/1.1, or too much of it. `data` is what the parser was at."""
        if answer.complete:
            self._last = True  # nonsense behind a whole answer takes nothing from it
            self._settle(answer)
        elif answer.begun:
            self.fail(UpstreamError(BROKE_OFF, code="upstream_incomplete"))
        elif not data or not self._read_again(answer, mended(self._head)):
            words = "the provider's answer is not valid HTTP/1.1, or its head is too large"
            self.fail(answer.error or UpstreamError(words))

    def _read_again(self, answer: HttpAnswer, data: bytes | None) -> bool:
        if data is None or answer.error is not None:
            return False
        self._parser, self._head = httptools.HttpResponseParser(self), data
        self._passed = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            return False
        self._settle(answer)
        return True

    def fail(self, error: BaseException) -> None:
        """Whoever waits here hears of `error`; the connection is closed."""
        if self._answer is not None:
            self._answer.error = error
        self.abort()
        self._wake.up()

    def _leave(self) -> None:
        self.gone = True
        self.deadline = inf
        self._pool.forget(self)

    def _insist_on_progress(self) -> None:
        """A large body may take its time, as long as the upstream takes some of it."""
        before, self._unwritten = self._unwritten, self._transport.get_write_buffer_size()
        if self._unwritten >= before:
            self.fail(UpstreamTimeout("the provider stopped taking the request"))
        else:
            self._wait("write", self._timeouts.write)
