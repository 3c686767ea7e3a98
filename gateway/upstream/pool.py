"""The connections to one origin: taken, put back, waited for in line, closed when they get old.

Never more than the rules allow; who waited longest is served first. Knows nothing of requests.
Used by engine.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.upstream.connection import Connection
from gateway.upstream.seam import Pooling
from gateway.upstream.wire import unsent

Dial = Callable[["Pool"], Awaitable[Connection]]
_CLOSED = "the gateway is shutting down"
_MARGIN = 0.5  # of an upstream's own keep-alive time; the way there takes time, too


class Pool:
    """`dial` makes a new connection for this pool; it raises UpstreamError, and may be cancelled.

    `host` is the line of that header.
    """

    def __init__(self, host: bytes, rules: Pooling, dial: Dial, patience: float) -> None:
        self.host = host
        self._rules = rules
        self._dial = dial
        self._patience = patience
        self._idle: list[Connection] = []  # the one used last is at the end
        self._line: deque[asyncio.Future[Connection | None]] = deque()
        self._dialing = 0
        self._closed = False
        self.open: set[Connection] = set()

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """How many are busy, idle, being made, and how many requests wait in line."""
        idle = len(self._idle)
        return len(self.open) - idle, idle, self._dialing, len(self._line)

    def take(self) -> Connection | None:
        """An idle connection that is still good, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
            connection.abort()
        return None

    async def obtain(self) -> Connection:
        """A connection: a new one where the rules allow it, else the first that gets free.

        Raises UpstreamError or UpstreamTimeout; nothing has been sent then.
        """
        if self._closed:
            raise unsent(UpstreamError(_CLOSED))
        if self._full or self._line:
            return await self._stand_in_line()
        self._dialing += 1
        return await self._make()

    def put_back(self, connection: Connection, lifetime: float) -> None:
        """An answer is whole. `lifetime`: seconds the upstream says it keeps the connection."""
        if self._closed or lifetime <= _MARGIN:
            connection.abort()
        elif (waiting := self._next()) is not None:
            waiting.set_result(connection)
        else:
            self._idle.append(connection)
            connection.rest(min(self._rules.idle, lifetime - _MARGIN))

    def forget(self, connection: Connection) -> None:
        """A connection is gone, whoever closed it."""
        self.open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._admit_next()

    def check(self, now: float) -> None:
        """Let everything know whose time is up."""
        for connection in [one for one in self.open if one.deadline <= now]:
            connection.late()

    def close(self) -> None:
        self._closed = True
        for connection in list(self.open):
            connection.fail(UpstreamError(_CLOSED))
        while (waiting := self._next()) is not None:
            waiting.set_exception(unsent(UpstreamError(_CLOSED)))

    @property
    def _full(self) -> bool:
        return 0 < self._rules.most <= len(self.open) + self._dialing

    async def _make(self) -> Connection:
        """Make the connection that `_dialing` counts already."""
        try:
            connection = await self._dial(self)
            if self._closed or connection.gone:
                connection.abort()
                raise unsent(UpstreamError("the connection was closed as soon as it was made"))
            self.open.add(connection)
        finally:
            self._dialing -= 1
            self._admit_next()
        return connection

    async def _stand_in_line(self) -> Connection:
        waiting: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._line.append(waiting)
        try:
            async with asyncio.timeout(self._patience):
                connection = await waiting
        except TimeoutError:
            self._pass_on(waiting)
            words = "no connection to the provider got free in time"
            raise unsent(UpstreamTimeout(words)) from None
        except asyncio.CancelledError:
            self._pass_on(waiting)
            raise
        if connection is None:
            return await self._make()
        if not connection.usable():  # it died between the gift and its taking
            self._dialing += 1  # before its place is free for others
            connection.abort()
            return await self._make()
        return connection

    def _pass_on(self, waiting: asyncio.Future[Connection | None]) -> None:
        """Who leaves the line after having been served gives it to the next."""
        if waiting in self._line:
            self._line.remove(waiting)
        elif waiting.done() and not waiting.cancelled() and waiting.exception() is None:
            connection = waiting.result()
            if connection is not None:
                self.put_back(connection, self._rules.idle + 2 * _MARGIN)
                return
            self._dialing -= 1
            self._admit_next()

    def _admit_next(self) -> None:
        """There may be room for one connection more: the first in line makes it."""
        if not self._full and (waiting := self._next()) is not None:
            self._dialing += 1  # taken at once: nobody who comes meanwhile has it, too
            waiting.set_result(None)

    def _next(self) -> asyncio.Future[Connection | None] | None:
        while self._line:
            waiting = self._line.popleft()
            if not waiting.done():
                return waiting
        return None
