"""A request's body that is still arriving, written piece by piece as the upstream takes it.

A task of its own, since the answer may come before the body's end. Nothing is kept of what was
written. Used by connection.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from gateway.errors import UpstreamError
from gateway.upstream.wire import LAST_FRAME, frame

Done = Callable[[BaseException | None], None]


class Pump:
    """`length` None: sent chunked. `done` hears of the end, unless the pump is stopped before."""

    __slots__ = ("_body", "_done", "_left", "_stopped", "_task", "_transport", "_writable")

    def __init__(
        self,
        body: AsyncIterator[bytes],
        length: int | None,
        transport: asyncio.Transport,
        done: Done,
    ) -> None:
        self._body = body
        self._left = length
        self._transport = transport
        self._done = done
        self._stopped = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._task = asyncio.get_running_loop().create_task(self._pour())
        self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        self._stopped = True
        self._task.cancel()
        self._writable.set()

    def hold(self) -> None:
        """The upstream takes no more for now."""
        self._writable.clear()

    def go_on(self) -> None:
        self._writable.set()

    async def _pour(self) -> None:
        try:
            async for piece in self._body:
                self._write(piece)
                await self._writable.wait()
        finally:
            close = getattr(self._body, "aclose", None)
            if close is not None:
                await close()
        if self._left is None:
            self._transport.write(LAST_FRAME)
        elif self._left:
            raise UpstreamError("the request's body is shorter than was announced")

    def _write(self, piece: bytes) -> None:
        if not piece:
            return  # an empty chunk would be the last one
        if self._left is None:
            self._transport.write(frame(piece))
            return
        self._left -= len(piece)
        if self._left < 0:
            raise UpstreamError("the request's body is longer than was announced")
        self._transport.write(piece)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._stopped:
            return
        broken = UpstreamError("the request's body broke off")
        self._done(broken if task.cancelled() else task.exception())
