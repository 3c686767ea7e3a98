"""Writes that leave together: at the end of the loop's turn in which they came up.

A write wakes whoever reads it, here or by way of the network card; one wake-up, and one visit to
the kernel's code, then serves all of them. Never reorders, never keeps anything for a later turn.
Used by the listener and the engine, one each.
"""

from __future__ import annotations

import asyncio
from typing import Final

_FEW: Final = 4  # writes in one millisecond that are not yet worth waiting for each other
_MANY: Final = 32  # writes that do not wait for more: the first of them has waited long enough
_LARGE: Final = 16 * 1024  # bytes, likewise: nobody's memory is to fill up here


class Outbox:
    """Of one event loop. Who closes a transport, or writes to it directly, calls `flush` first.

    Where a write has no company it is written at once: waiting costs a step of the loop.
    """

    __slots__ = ("_alone", "_count", "_due", "_loop", "_now", "_waiting")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[asyncio.WriteTransport, bytes]] = []
        self._due = False  # the end of this turn will be noticed
        self._alone = True  # the last ones had no company
        self._now = 0.0  # the loop's time at the last of them, which is of whole milliseconds,
        self._count = 0  # and how many there were at that time

    def __repr__(self) -> str:
        return f"<Outbox: {len(self._waiting)} writes wait>"

    def put(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write `data` when this turn of the loop ends, or before; dropped if the transport is
        closed until then."""
        if self._alone and self._has_no_company():
            transport.write(data)
            return
        waiting = self._waiting
        waiting.append((transport, data))
        if len(data) > _LARGE or len(waiting) >= _MANY:
            self.flush()
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def flush(self) -> None:
        """Write what waits now."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)

    def _end_turn(self) -> None:
        alone, self._due = len(self._waiting) == 1, False
        self.flush()
        self._alone = alone

    def _has_no_company(self) -> bool:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._count = self._count + 1 if now == self._now else 1
        self._now = now
        self._alone = self._count < _FEW
        return self._alone
