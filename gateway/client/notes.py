"""Our own response headers: request ids, the config that served, where the time went.

Pure. Read from the exchange by receive.py just before an answer begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from gateway.exchange import Exchange
from gateway.shapes import Headers


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
        notes.append((b"cf-aig-cache-status", b"BYPASS"))  # what those clients look for
    if exchange.candidate is not None:
        config = exchange.candidate.config
        notes += _served_by(config.provider, config.alias)
    if exchange.abandoned:
        notes.append((b"wardgate-attempts", b"%d" % exchange.attempts))
    sent = exchange.first_sent
    if sent is not None and now is not None:
        upstream, total = now - sent, now - exchange.started
        timing = b"upstream;dur=%.1f, gateway;dur=%.1f"
        notes.append((b"server-timing", timing % (upstream * 1e3, (total - upstream) * 1e3)))
    return notes


@lru_cache(maxsize=4096)
def _served_by(provider: str, alias: str) -> tuple[tuple[bytes, bytes], ...]:
    return (b"wardgate-provider", provider.encode()), (b"wardgate-config", alias.encode())
