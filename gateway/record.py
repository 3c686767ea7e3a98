"""Step: what became of a request, exactly once, for refusals too: metrics, health, one log line.

It is noted here, and counted and written out of the requests' way, many at a time. Never a body,
never a key, never a client's own string as a label. Called by receive.py, last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from logging import INFO
from time import perf_counter, time
from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from gateway import logs, metrics
from gateway.backlog import Backlog
from gateway.catalog import Catalog
from gateway.endpoints import Endpoint
from gateway.exchange import Attempt, Exchange, Outcome, Traced
from gateway.health import Samples
from gateway.masking import shown
from gateway.shapes import Candidate, Unread, Usage
from gateway.spans import Traces
from gateway.tally import NOWHERE, Tally

_WAIT = 0.05  # seconds a request may wait for company
_MANY = 64  # as many do not wait: working them off must not hold up the loop
_MOST_UNWRITTEN = 16_384  # whoever runs this writes counts out every second; if not, we do


class RequestLog(Protocol):
    """What requests' lines are written to."""

    def together(self, lines: Sequence[logs.Line]) -> None: ...

    def is_enabled_for(self, level: int) -> bool: ...

    def error(self, event: str, **fields: Any) -> Any: ...


class Record(Protocol):
    """What is done with an exchange at its end: `record`, or what `tracing` makes."""

    def __call__(
        self, exchange: Exchange, catalog: Catalog, log: RequestLog, now: float, seen: Samples
    ) -> None: ...


class _Line(logs.Line, omit_defaults=True, gc=False):
    """A request's line. What has no default is always there."""

    id: str
    method: str
    route: str
    status: int
    outcome: str
    ms: float
    code: str | None = None
    key: str | None = None  # the client key's public id
    provider: str | None = None
    config: str | None = None
    scope: str | None = None
    abandoned: list[str] | None = None
    model: str | None = None
    first_byte_ms: float | None = None
    usage: Usage | None = None
    partial: bool | UnsetType = UNSET
    cost_microdollars: int | None | UnsetType = UNSET


# What is kept of a request until it is counted: id, method, endpoint, client key's id, candidate,
# attempts abandoned, model, whether it streams; status, outcome, code, policy, usage, partial; and
# when it started, was sent, had its first byte and ended. A plain tuple: one is made for each.
_Note = tuple[
    str, str, Endpoint, str | None, Candidate | None, Sequence[Attempt], str | None, bool,
    int, Outcome, str | None, str | None, Usage | Unread | None, bool,
    float, float | None, float | None, float,
]  # fmt: skip


class _Desk(Backlog[_Note]):
    """Where requests of one house are noted, and worked off."""

    def __init__(self) -> None:
        super().__init__()
        self.tally: Tally | None = None
        self.log: RequestLog | None = None
        self.due = 0.0  # when what waits will be worked off (`perf_counter`'s)
        self.traced: dict[str, tuple[Traced, Traces]] = {}  # by id: those that become traces, too
        self._unwritten = 0

    def turn_to(self, catalog: Catalog, log: RequestLog, seen: Samples) -> None:
        """Another catalog, or another house: what waits belongs to the one before."""
        self.settle()
        self.tally, self.log = Tally(catalog, seen), log
        self.due = 0.0  # the other house's loop may be gone

    def soon(self, now: float) -> None:
        """Work off what waits within 50 ms; now where there is much of it, or no event loop."""
        if len(self.waiting) >= _MANY:
            self.settle()
            return
        try:
            asyncio.get_running_loop().call_later(_WAIT, self._ring)
        except RuntimeError:
            self.settle()
        else:
            self.due = now + _WAIT

    def _ring(self) -> None:
        self.due = 0.0
        self.settle()

    def work_off(self, notes: list[_Note]) -> None:
        assert self.tally is not None
        assert self.log is not None
        if self.tally not in metrics.grown:
            metrics.grown.append(self.tally)
        if self.traced:
            notes = [self._trace(note, self.tally.catalog) for note in notes]
        heard = self.log.is_enabled_for(INFO)
        lines = _count(notes, self.tally, heard)
        if heard:
            self.log.together(lines)
        self._unwritten += len(notes)
        if self._unwritten >= _MOST_UNWRITTEN:
            self._unwritten = 0
            metrics.write_out()

    def _trace(self, note: _Note, catalog: Catalog) -> _Note:
        """Hand it on, if it becomes a trace; usage that had to be read is in what comes back."""
        exchange, traces = self.traced.pop(note[0], (None, None))
        if exchange is None or traces is None:
            return note
        if isinstance(exchange.usage, Unread):
            exchange.usage = exchange.usage.read(exchange.usage.body, None)
            note = (*note[:12], exchange.usage, *note[13:])
        traces.take(exchange, note[-1], catalog)
        return note


def _count(notes: list[_Note], tally: Tally, heard: bool) -> list[_Line]:
    """Count requests in the order in which they ended; gives their lines, if they are `heard`."""
    lines: list[_Line] = []
    since = time() - perf_counter()
    for (
        id_, method, endpoint, key, candidate, abandoned, model, stream,
        status, outcome, code, policy, usage, partial, started, sent, first, now,
    ) in notes:  # fmt: skip
        kind = tally.kind(endpoint, candidate, status, outcome, code, policy, sent is not None)
        for tried in abandoned:
            tally.abandoned(tried).fail(now)
        if sent is not None:
            left = abandoned[0].sent if abandoned else sent
            kind.end(started, left, sent, first, now, stream)
        else:
            kind.fail(now)
        if isinstance(usage, Unread):
            usage = usage.read(usage.body, None)
        spent = UNSET if usage is None else kind.use(usage)
        if not heard:
            continue
        provider, alias, scope = kind.place
        lines.append(
            _Line(
                logs.spell(now + since),
                "info",
                "request",
                id_,
                method,
                endpoint.template,
                status,
                outcome,
                ((now - started) * 100_000 + 0.5) // 1 / 100,  # `round` is three times as dear
                code,
                key,
                provider,
                alias,
                scope,
                [_named(one) for one in abandoned] if abandoned else None,
                None if model is None else shown(model),
                None if first is None else ((first - started) * 100_000 + 0.5) // 1 / 100,
                usage,
                UNSET if usage is None else partial,
                spent,
            )
        )
    return lines


def _named(tried: Attempt) -> str:
    return f"{tried.config.provider}/{tried.config.alias} {tried.code}"


_desk = _Desk()


def record(
    exchange: Exchange, catalog: Catalog, log: RequestLog, now: float, seen: Samples
) -> None:
    """Note `exchange`, which ended at `now` (`perf_counter`'s), to be counted and logged soon.

    How the provider did is counted in `seen`.
    """
    tally = _desk.tally
    if (
        tally is None
        or tally.catalog is not catalog
        or tally.seen is not seen
        or _desk.log is not log
    ):
        _desk.turn_to(catalog, log, seen)
    match, client, waiting = exchange.match, exchange.client, _desk.waiting
    waiting.append((
        exchange.id, exchange.method, match.endpoint if match is not None else NOWHERE,
        client.id if client is not None else None, exchange.candidate, exchange.abandoned,
        exchange.model, exchange.stream, exchange.status, exchange.outcome, exchange.code,
        exchange.policy, exchange.usage, exchange.partial, exchange.started, exchange.sent,
        exchange.first_byte, now,
    ))  # fmt: skip
    if now > _desk.due or len(waiting) >= _MANY:
        _desk.soon(now)


def tracing(traces: Traces) -> Record:
    """`record` for a house whose requests go to `traces`, too, in the same batches."""

    def record_traced(
        exchange: Exchange, catalog: Catalog, log: RequestLog, now: float, seen: Samples
    ) -> None:
        if isinstance(exchange, Traced):
            _desk.traced[exchange.id] = exchange, traces
        record(exchange, catalog, log, now, seen)

    return record_traced
