"""A place for one task to wait, woken in the very call that has what it waits for.

A Future's callbacks run in the loop's next turn, which costs a turn (and an `epoll_wait`) for each
piece of an answer. Tasks accept anything that keeps a Future's protocol: `Wake` does, and may be
used again. Knows nothing of HTTP. Used by turn.py and connection.py.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Wake:
    """`await wake` waits for the next `wake.up()`; one task at a time.

    A task that is cancelled meanwhile gets its CancelledError in the loop's next turn, as always.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._callback: Callable[[Wake], object] | None = None
        self._context: Context | None = None

    def __await__(self) -> Generator[Any, None, None]:
        self._asyncio_future_blocking = True
        yield self

    @property
    def awaited(self) -> bool:
        return self._callback is not None

    def up(self) -> None:
        """Let whoever waits go on, now: this returns when it has come to its next wait."""
        callback, context = self._callback, self._context
        if callback is None:
            return
        self._callback = self._context = None
        # A task cannot be entered from inside another one: then it is the loop's to do.
        if context is not None and current_task(self._loop) is None:
            context.run(callback, self)
        else:
            self._loop.call_soon(callback, self, context=context)

    # What follows is how a Task deals with what it waits for.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Wake], object], *, context: Context | None = None
    ) -> None:
        self._callback, self._context = callback, context

    def cancel(self, msg: object = None) -> bool:
        """Wake the task in the loop's next turn; False lets it raise the CancelledError itself."""
        callback, context = self._callback, self._context
        if callback is not None:
            self._callback = self._context = None
            self._loop.call_soon(callback, self, context=context)
        return False

    def result(self) -> None:
        """Nothing: there is only the waking."""
