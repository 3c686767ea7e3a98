"""Is the client still there? Reads its body, and cancels the request's task when it leaves.

One object a request, over ASGI's `receive` and the listener's connection, which tells of the
client's leaving without a task that waits for it. Never sends anything. Used by receive.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gateway.client.asgi import Connection, Message, Receive
from gateway.errors import ClientGone, GatewayError, SlowClient, TooLarge


class Presence:
    """`gone` is set, and the task that made this object cancelled, once the client has left."""

    def __init__(self, receive: Receive, connection: Connection, body_timeout: float) -> None:
        self._receive = receive
        self._connection = connection
        self._body_timeout = body_timeout
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._complete = False
        self.gone = False
        self.slow = False

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises TooLarge past `limit` bytes; leaving or stalling cancels."""
        body = await self._next()
        if self._complete and len(body) <= limit:
            return body
        parts, size = [body], len(body)
        while not self._complete:
            if size > limit:
                raise TooLarge(f"the body is larger than {limit} bytes")
            parts.append(await self._next())
            size += len(parts[-1])
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        return b"".join(parts)

    async def read_some(self, wanted: int) -> bytes:
        """At least `wanted` bytes of the body, or all of it when it is shorter."""
        head = b""
        while not self._complete and len(head) < wanted:
            head += await self._next()
        return head

    async def rest(self, head: bytes) -> AsyncIterator[bytes]:
        """`head`, then what is still to come. Leaving or stalling cancels the request."""
        if head:
            yield head
        while not self._complete:
            if piece := await self._next():
                yield piece

    @property
    def complete(self) -> bool:
        """True once the whole body has been read."""
        return self._complete

    def watch(self) -> None:
        """From here on the client's leaving cancels the request."""
        if self._connection.gone:
            self._left()
        else:
            self._connection.on_departure = self._left

    def reason(self) -> GatewayError | None:
        """Why the request's task was cancelled, if it was the client's doing."""
        if not (self.gone or self.slow):
            return None
        if self._task is not None:
            self._task.uncancel()
        if self.slow:
            return SlowClient("the request body stopped arriving")
        return ClientGone("the client left before its answer was complete")

    def close(self) -> None:
        """Watch no longer. The next request on the connection may already do so."""
        if self._connection.on_departure == self._left:
            self._connection.on_departure = None

    async def _next(self) -> bytes:
        message = await (self._receive() if self._connection.body_arrived else self._in_time())
        if message["type"] == "http.disconnect":
            self._left()
            await asyncio.Event().wait()  # the cancellation ends this wait
        self._complete = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    async def _in_time(self) -> Message:
        timer = self._loop.call_later(self._body_timeout, self._stalled)
        try:
            return await self._receive()
        finally:
            timer.cancel()

    def _left(self) -> None:
        self.gone = True
        self._cancel()

    def _stalled(self) -> None:
        self.slow = True
        self._cancel()

    def _cancel(self) -> None:
        # Everything a request waits for ends with its task, the upstream's answer first of all.
        if self._task is not None:
            self._task.cancel()
