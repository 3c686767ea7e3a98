"""The engine behind the seam: HTTP/1.1 to any origin over kept-alive connections of our own.

One timer watches over all deadlines. A request is sent once; only one without a body, whose kept
connection turned out to be dead, is sent again. Used by app.py and by the admin app's errands.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import Final

from gateway.addresses import AddressPolicy
from gateway.errors import UpstreamError
from gateway.outbox import Outbox
from gateway.upstream.answer import HttpAnswer, Stale
from gateway.upstream.connection import Connection
from gateway.upstream.dial import Dialer, Place, Resolve, resolve
from gateway.upstream.pool import Pool
from gateway.upstream.seam import Outbound, Pooling, Timeouts
from gateway.upstream.wire import head_of, length_of, unsent

_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_ORIGINS: Final = (
    4096  # an operator's configs name far fewer; their pools cost next to nothing
)


class HttpEngine:
    """Satisfies the seam's Engine. `tls` replaces the context of `tls_context()`."""

    def __init__(
        self,
        policy: AddressPolicy,
        timeouts: Timeouts,
        *,
        pooling: Pooling | None = None,
        tls: ssl.SSLContext | None = None,
        resolver: Resolve = resolve,
    ) -> None:
        self._timeouts = timeouts
        self._pooling = pooling or Pooling()
        self._dialer = Dialer(policy, timeouts.connect, tls, resolver)
        self._outbox = Outbox()
        self._pools: dict[str, Pool] = {}
        self._timer: asyncio.TimerHandle | None = None
        times = (timeouts.first_byte, timeouts.idle, timeouts.write, self._pooling.idle)
        self._tick = min(1.0, max(0.01, min(times) / 8))
        self._closed = False

    def __repr__(self) -> str:
        counts = [pool.counts for pool in self._pools.values()]
        busy, idle, dialing, waiting = (sum(row) for row in zip((0, 0, 0, 0), *counts, strict=True))
        return f"<HttpEngine: {busy} busy, {idle} idle, {dialing} connecting, {waiting} waiting>"

    async def send(self, outbound: Outbound) -> HttpAnswer:
        """Send a request; its answer once the head is here. Raises as the seam says."""
        if self._closed:
            raise unsent(UpstreamError("the gateway is shutting down"))
        pool = self._pools.get(outbound.origin) or self._open(outbound.origin)
        head, body = head_of(outbound, pool.host), outbound.body
        length = None if body is None or isinstance(body, bytes) else length_of(outbound)
        connection = pool.take() or await pool.obtain()
        try:
            return await connection.ask(outbound.method, head, body, length)
        except Stale:
            if body is not None or outbound.method not in _REPEATABLE:
                raise
        connection = await pool.obtain()
        return await connection.ask(outbound.method, head, body, length)

    async def aclose(self) -> None:
        """Close every connection, used or not."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for pool in self._pools.values():
            pool.close()

    def _open(self, origin: str) -> Pool:
        """Raises UpstreamError for what is no origin."""
        place = Place.of(origin)
        if len(self._pools) >= _MOST_ORIGINS:
            self._pools = {name: one for name, one in self._pools.items() if any(one.counts)}
        pool = Pool(place.header, self._pooling, partial(self._dial, place), self._timeouts.connect)
        self._pools[origin] = pool
        if self._timer is None:
            self._watch()
        return pool

    async def _dial(self, place: Place, pool: Pool) -> Connection:
        loop = asyncio.get_running_loop()
        made = partial(Connection, pool, self._timeouts, self._outbox, loop)
        return await self._dialer.dial(place, made)

    def _watch(self) -> None:
        """Once a tick: whoever waits for an upstream too long hears of it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for pool in self._pools.values():
            pool.check(now)
        self._timer = loop.call_later(self._tick, self._watch)
