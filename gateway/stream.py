"""Step: the answer to the client, byte for byte, each piece as it comes.

A slow client pauses the upstream. A stream cut before its terminal event ends with an error event
and a broken connection, never cleanly: SDKs take a bare end for success. Called by receive.py.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from gateway.client.back import ABOUT_THE_BODY, LENGTH, Back
from gateway.client.notes import head_notes
from gateway.client.turn import Turn
from gateway.deadlines import Deadlines
from gateway.dialects.table import DIALECTS, Dialect
from gateway.errors import UpstreamError
from gateway.exchange import Exchange
from gateway.masking import mask
from gateway.tap import EventTap, Tap, UsageHider, tap_for
from gateway.upstream.seam import BROKE_OFF, Answer

_MOST_ERROR = 256 * 1024  # masking a hostile megabyte would hold everybody up
_WITHHELD = b'{"error":{"message":"the error came compressed and is withheld","type":"withheld"}}'
_NONE: frozenset[bytes] = frozenset()


class Heartbeats:
    """After how many seconds of silence a stream gets a heartbeat (0: never), and their timer."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.deadlines = Deadlines(interval or 1.0)


async def stream(answer: Answer, exchange: Exchange, turn: Turn, heartbeats: Heartbeats) -> None:
    """Send the whole answer, with our own notes in its head.

    Raises UpstreamError or UpstreamTimeout only while nothing has been sent.
    """
    back = Back(answer.fields)
    if answer.status >= 400:
        await _send_error(answer, exchange, turn, back)
        return
    flow = _Flow(answer, exchange, turn, back)
    if heartbeats.interval and flow.beats:
        flow.pulse = _Pulse(flow, heartbeats)
    try:
        await flow.run()
    except UpstreamError as error:
        if not exchange.answering:
            raise
        flow.stop_pulse()
        await flow.break_off(error)
    finally:
        flow.stop_pulse()
        exchange.usage, exchange.partial = flow.tap.usage, not flow.done


class _Flow:
    """One answer on its way out."""

    __slots__ = (
        "_answer", "_back", "_dialect", "_exchange", "_hider", "_turn", "_writing",
        "beats", "came", "done", "pulse", "tap",
    )  # fmt: skip

    def __init__(self, answer: Answer, exchange: Exchange, turn: Turn, back: Back) -> None:
        assert exchange.candidate is not None
        assert exchange.match is not None
        self._answer, self._exchange, self._turn = answer, exchange, turn
        self._back: Back | None = back  # until it is written
        self._dialect: Dialect = DIALECTS[exchange.candidate.config.dialect]
        kind = b"" if back.encoded else back.kind
        self.tap: Tap = tap_for(kind, self._dialect, exchange.match.endpoint.terminal)
        events = isinstance(self.tap, EventTap)
        self._hider = UsageHider() if events and exchange.hide_usage else None
        self.beats = events and self._dialect.HEARTBEAT is not None and self._hider is None
        self.pulse: _Pulse | None = None
        self.came = 0.0  # when the last piece did, by the loop's time
        self.done = self._writing = False

    async def run(self) -> None:
        answer, tap, exchange, turn = self._answer, self.tap, self._exchange, self._turn
        pulse, taker = self.pulse, None
        while piece := await answer.read(taker):
            # Before `see`: a heartbeat judges by what has been written.
            if pulse is not None:
                self.came = pulse.time()
                if self._writing:
                    await pulse.beaten()
            tap.see(piece)
            if exchange.first_byte is None:
                exchange.first_byte = perf_counter()
            ended = answer.ended and tap.complete
            if self._hider is not None:
                piece = self._hider.passing(piece) + (self._hider.rest() if ended else b"")
            if turn.full():
                await self.write(piece, more=not ended)
            else:
                if self._back is not None:
                    self._begin(self._back)
                turn.put(piece, more=not ended)
                self.done = ended
            if ended:
                break
            if self._hider is None:
                taker = self.take
        await self._end()

    def take(self, piece: bytes, chunk: bytes | None, now: float) -> bool:
        """What `run` does with a piece in the middle; False where that has to wait."""
        # While `run` waits for a piece, who writes is a heartbeat: it goes first, whole.
        if self._writing or not self._turn.relay(piece, chunk):
            return False
        self.came = now
        self.tap.see(piece)
        return True

    def stop_pulse(self) -> None:
        # They hold each other: without this both would wait for the garbage collector.
        pulse, self.pulse = self.pulse, None
        if pulse is not None:
            pulse.stop()

    async def _end(self) -> None:
        if not self.tap.complete:
            raise UpstreamError(BROKE_OFF, code="upstream_incomplete")
        self.tap.finish()
        if not self.done:
            await self.write(self._hider.rest() if self._hider else b"", more=False)
        self._exchange.outcome = "ok"

    async def write(self, piece: bytes, *, more: bool) -> None:
        if self._back is not None:
            self._begin(self._back)
        self._writing = True
        await self._turn.write(piece, more=more)
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

    def _begin(self, back: Back) -> None:
        exchange, status = self._exchange, self._answer.status
        events = isinstance(self.tap, EventTap)
        exchange.answering, exchange.status = True, status
        # A length there is of a body that is not sent, or of one that we take something out of.
        uncounted = status in (204, 304) or self._hider is not None
        lines = back.lines(events=events, without=LENGTH if uncounted else _NONE)
        lines += head_notes(exchange, back.named, exchange.answered or perf_counter())
        self._turn.start(status, lines, counted=back.counted and not uncounted)
        self._back, self._answer.fields = None, []


class _Pulse:
    """Asks for a heartbeat after each `interval` seconds of silence."""

    __slots__ = ("_deadlines", "_flow", "_interval", "_loop", "_task", "deadline", "time")

    def __init__(self, flow: _Flow, heartbeats: Heartbeats) -> None:
        self._flow, self._interval = flow, heartbeats.interval
        self._deadlines = heartbeats.deadlines
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._task: asyncio.Task[None] | None = None
        self.deadline = self.time() + self._interval
        self._deadlines.add(self)

    async def beaten(self) -> None:
        """Once a heartbeat that is being written is whole."""
        if self._task is not None:
            await self._task

    def stop(self) -> None:
        self._deadlines.discard(self)
        if self._task is not None:
            self._task.cancel()

    def late(self) -> None:
        # Pieces that come do not move the deadline: that would cost each of them.
        now, due = self.time(), self._flow.came + self._interval
        if due > now:
            self.deadline = due
            return
        self.deadline = now + self._interval
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._flow.beat())


async def _send_error(answer: Answer, exchange: Exchange, turn: Turn, back: Back) -> None:
    body = await _read_error(answer)
    body = _WITHHELD if back.encoded and body else mask(body)
    exchange.answering, exchange.status, exchange.outcome = True, answer.status, "upstream_error"
    exchange.code = f"http_{answer.status}"
    lines = back.lines(without=ABOUT_THE_BODY) + b"content-length: %d\r\n" % len(body)
    lines += head_notes(exchange, back.named, exchange.answered or perf_counter())
    turn.start(answer.status, lines, counted=True)
    await turn.write(body, more=False)


async def _read_error(answer: Answer) -> bytes:
    parts, size = [], 0
    while size < _MOST_ERROR and (piece := await answer.read()):
        parts.append(piece)
        size += len(piece)
    return b"".join(parts)
