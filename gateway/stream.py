"""Step: the answer to the client, byte for byte, each piece as it comes.

A slow client pauses the upstream. A stream cut before its terminal event ends with an error event
and a broken connection, never cleanly: SDKs take a bare end for success. Called by receive.py.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from gateway.client.asgi import Send
from gateway.client.hygiene import towards_client
from gateway.dialects.table import DIALECTS, Dialect
from gateway.errors import UpstreamError
from gateway.exchange import Exchange
from gateway.masking import mask
from gateway.shapes import Headers
from gateway.tap import EventTap, Tap, UsageHider, tap_for
from gateway.upstream.seam import BROKE_OFF, Answer

_MOST_ERROR = 256 * 1024  # masking a hostile megabyte would hold everybody up
_WITHHELD = b'{"error":{"message":"the error came compressed and is withheld","type":"withheld"}}'


async def stream(
    answer: Answer, exchange: Exchange, send: Send, *, notes: Headers, heartbeat: float
) -> None:
    """Send the whole answer. `notes` are our own response headers; `heartbeat` seconds or 0.

    Raises UpstreamError or UpstreamTimeout only while nothing has been sent.
    """
    if answer.status >= 400:
        await _send_error(answer, exchange, send, notes)
        return
    flow = _Flow(answer, exchange, send, notes)
    pulse = _Pulse(flow, heartbeat) if heartbeat and flow.beats else None
    try:
        await flow.run(pulse)
    except UpstreamError as error:
        if not exchange.answering:
            raise
        if pulse is not None:
            pulse.stop()
        await flow.break_off(error)
    finally:
        if pulse is not None:
            pulse.stop()
        exchange.usage, exchange.partial = flow.tap.usage, not flow.done


class _Flow:
    """One answer on its way out."""

    __slots__ = (
        "_answer", "_dialect", "_exchange", "_hider", "_notes", "_send", "_writing",
        "beats", "done", "tap",
    )  # fmt: skip

    def __init__(self, answer: Answer, exchange: Exchange, send: Send, notes: Headers) -> None:
        assert exchange.candidate is not None
        assert exchange.match is not None
        self._answer, self._exchange, self._send, self._notes = answer, exchange, send, notes
        self._dialect: Dialect = DIALECTS[exchange.candidate.config.dialect]
        self.tap: Tap = tap_for(
            _kind(answer.headers), self._dialect, exchange.match.endpoint.terminal
        )
        events = isinstance(self.tap, EventTap)
        self._hider = UsageHider() if events and exchange.hide_usage else None
        self.beats = events and self._dialect.HEARTBEAT is not None and self._hider is None
        self.done = self._writing = False

    async def run(self, pulse: _Pulse | None) -> None:
        answer, tap, exchange = self._answer, self.tap, self._exchange
        while True:
            piece = await answer.read()
            if not piece:
                break
            if pulse is not None:
                await pulse.touch()  # before `see`: a heartbeat judges by what has been written
            tap.see(piece)
            if exchange.first_byte is None:
                exchange.first_byte = perf_counter()
            ended = answer.ended and tap.complete
            if self._hider is not None:
                piece = self._hider.passing(piece) + (self._hider.rest() if ended else b"")
            await self.write(piece, more=not ended)
            if ended:
                break
        await self._end()

    async def _end(self) -> None:
        if not self.tap.complete:
            raise UpstreamError(BROKE_OFF, code="upstream_incomplete")
        self.tap.finish()
        if not self.done:
            await self.write(self._hider.rest() if self._hider else b"", more=False)
        self._exchange.outcome = "ok"

    async def write(self, piece: bytes, *, more: bool) -> None:
        self._writing = True
        if not self._exchange.answering:
            await self._start()
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        self.done, self._writing = not more, False

    async def beat(self) -> None:
        """A heartbeat, if the stream stands between two events.

        None while a slow client keeps a piece waiting: the next one could overtake it.
        """
        if self._writing or self.done or not self.tap.between_events:
            return
        if self._dialect.HEARTBEAT is not None:
            await self.write(self._dialect.HEARTBEAT, more=True)

    async def break_off(self, error: UpstreamError) -> None:
        """Tell the client in its own words; the response is then left unfinished on purpose.

        An event cut in two is taken over by one with a name. Without a name ours would only end
        it, and clients would fail on half an event: there the broken connection alone speaks.
        """
        self._exchange.outcome, self._exchange.code = "incomplete", error.code
        if not isinstance(self.tap, EventTap):
            return
        if self.tap.over:  # everything was said: what broke is only the connection behind it
            self._exchange.code = None
            await self._end()
            return
        if self.tap.complete:
            return
        event = self._dialect.error_event(error, self._exchange.id)
        # What the hider holds back never reached the client: to it every event is whole.
        if self.tap.between_events or self._hider is not None:
            await self.write(event, more=True)
        elif event.startswith(b"event:"):
            await self.write(b"\n" + event, more=True)

    async def _start(self) -> None:
        exchange, events = self._exchange, isinstance(self.tap, EventTap)
        exchange.answering, exchange.status = True, self._answer.status
        headers = towards_client(self._answer.headers)
        if self._answer.status in (204, 304):  # a length there is of a body that is not sent
            headers = [pair for pair in headers if pair[0] != b"content-length"]
        if events:
            headers = _for_events(headers, keep_length=self._hider is None)
        await self._send(_start(self._answer.status, headers + self._notes))


class _Pulse:
    """Asks for a heartbeat after each `interval` seconds of silence; one timer, re-armed lazily."""

    __slots__ = ("_flow", "_handle", "_interval", "_last", "_loop", "_task")

    def __init__(self, flow: _Flow, interval: float) -> None:
        self._flow, self._interval = flow, interval
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._task: asyncio.Task[None] | None = None
        self._handle = self._loop.call_later(interval, self._due)

    async def touch(self) -> None:
        """Something came. A heartbeat that is being written goes first, whole."""
        self._last = self._loop.time()
        if self._task is not None and not self._task.done():
            await self._task

    def stop(self) -> None:
        self._handle.cancel()
        if self._task is not None:
            self._task.cancel()

    def _due(self) -> None:
        silent = self._loop.time() - self._last
        if silent >= self._interval and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._flow.beat())
            self._last = self._loop.time()
            silent = 0.0
        self._handle = self._loop.call_later(self._interval - silent, self._due)


async def _send_error(answer: Answer, exchange: Exchange, send: Send, notes: Headers) -> None:
    body = await _read_error(answer)
    encoded = any(
        name == b"content-encoding" and value.lower() != b"identity"
        for name, value in answer.headers
    )
    body = _WITHHELD if encoded and body else mask(body)
    headers = [
        pair
        for pair in towards_client(answer.headers)
        if pair[0] not in (b"content-length", b"content-encoding")
    ]
    headers.append((b"content-length", b"%d" % len(body)))
    exchange.answering, exchange.status, exchange.outcome = True, answer.status, "upstream_error"
    exchange.code = f"http_{answer.status}"
    await send(_start(answer.status, headers + notes))
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _read_error(answer: Answer) -> bytes:
    parts, size = [], 0
    while size < _MOST_ERROR and (piece := await answer.read()):
        parts.append(piece)
        size += len(piece)
    return b"".join(parts)


def _kind(headers: Headers) -> bytes:
    if any(name == b"content-encoding" and value != b"identity" for name, value in headers):
        return b""
    return next((value.lower() for name, value in headers if name == b"content-type"), b"")


def _for_events(headers: Headers, *, keep_length: bool) -> Headers:
    replaced = {b"cache-control", b"x-accel-buffering"}
    if not keep_length:
        replaced.add(b"content-length")
    kept = [pair for pair in headers if pair[0] not in replaced]
    return [*kept, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def _start(status: int, headers: Headers) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}
