"""Our own response headers: request ids, the config that served, where the time went.

Pure. Read from the exchange just before an answer begins: as headers for what is answered from
here, as lines of the wire for what an upstream answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from gateway.exchange import Exchange
from gateway.shapes import Headers

_BYPASS: Final = b"cf-aig-cache-status", b"BYPASS"  # what clients of those URLs look for
# Whole numbers with a point between: floats take four times as long to be written.
_TIMING: Final = b"upstream;dur=%d.%d, gateway;dur=%d.%d"
_ID_LINE: Final = b"wardgate-request-id: %b\r\n"
_BOTH_ID_LINES: Final = _ID_LINE + b"x-request-id: %b\r\n"
_BYPASS_LINE: Final = b"%b: %b\r\n" % _BYPASS
_TIMING_LINE: Final = b"server-timing: " + _TIMING + b"\r\n"


def notes_of(
    exchange: Exchange, answered: Sequence[tuple[bytes, bytes]] = (), now: float | None = None
) -> Headers:
    """Ours for this exchange; `x-request-id` only where the upstream's headers carry none.

    `now` (`perf_counter`'s) adds `server-timing`, whose durations are milliseconds.
    """
    ours = exchange.id.encode()
    notes = [(b"wardgate-request-id", ours)]
    if not any(name == b"x-request-id" for name, _ in answered):
        notes.append((b"x-request-id", ours))
    if exchange.match is not None and exchange.match.account is not None:
        notes.append(_BYPASS)
    if exchange.candidate is not None:
        config = exchange.candidate.config
        notes += _served_by(config.provider, config.alias)
    if exchange.abandoned:
        notes.append((b"wardgate-attempts", b"%d" % exchange.attempts))
    sent = exchange.first_sent
    if sent is not None and now is not None:
        notes.append((b"server-timing", _TIMING % _durations(exchange.started, sent, now)))
    return notes


def head_notes(exchange: Exchange, answered_headers_have_request_id: bool, now: float) -> bytes:
    """What `notes_of` says at `now`, as lines of an answer's head."""
    ours, abandoned = exchange.id.encode(), exchange.abandoned
    lines = _ID_LINE % ours if answered_headers_have_request_id else _BOTH_ID_LINES % (ours, ours)
    if exchange.match is not None and exchange.match.account is not None:
        lines += _BYPASS_LINE
    if exchange.candidate is not None:
        config = exchange.candidate.config
        lines += _served_lines(config.provider, config.alias)
    if abandoned:
        lines += b"wardgate-attempts: %d\r\n" % exchange.attempts
    sent = abandoned[0].sent if abandoned else exchange.sent
    if sent is not None:
        lines += _TIMING_LINE % _durations(exchange.started, sent, now)
    return lines


def _durations(started: float, sent: float, now: float) -> tuple[int, int, int, int]:
    """What the upstream took, and what is left of the request's time so far: whole milliseconds and
    tenths of each."""
    upstream = int((now - sent) * 10_000 + 0.5)
    gateway = int((sent - started) * 10_000 + 0.5)
    return upstream // 10, upstream % 10, gateway // 10, gateway % 10


@lru_cache(maxsize=4096)
def _served_by(provider: str, alias: str) -> tuple[tuple[bytes, bytes], ...]:
    return (b"wardgate-provider", provider.encode()), (b"wardgate-config", alias.encode())


@lru_cache(maxsize=4096)
def _served_lines(provider: str, alias: str) -> bytes:
    return b"".join(b"%b: %b\r\n" % note for note in _served_by(provider, alias))
