"""Is the client still there? Reads its body, and cancels the request's task when it leaves.

One object a request, over ASGI's `receive`. Never sends anything. Used by receive.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gateway.asgi import Receive
from gateway.errors import ClientGone, GatewayError, SlowClient, TooLarge


class Presence:
    """`gone` is set, and the task that made this object cancelled, once the client has left."""

    def __init__(self, receive: Receive, body_timeout: float) -> None:
        self._receive = receive
        self._body_timeout = body_timeout
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._complete = False
        self.gone = False
        self.slow = False

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises TooLarge past `limit` bytes, SlowClient, ClientGone."""
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
            try:
                piece = await self._next()
            except (ClientGone, SlowClient) as error:
                self._leave(slow=isinstance(error, SlowClient))
                await asyncio.Event().wait()  # the cancellation ends this wait
                return
            if piece:
                yield piece
        self.watch()

    @property
    def complete(self) -> bool:
        """True once the whole body has been read."""
        return self._complete

    def watch(self) -> None:
        """From here on the client's leaving cancels the request. The body has been read."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._until_gone())

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
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._body_timeout):
                message = await self._receive()
        except TimeoutError:
            raise SlowClient("the request body stopped arriving") from None
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientGone("the client left while sending its body")
        self._complete = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self, *, slow: bool = False) -> None:
        self.gone, self.slow = not slow, slow
        if self._task is not None:
            self._task.cancel()
