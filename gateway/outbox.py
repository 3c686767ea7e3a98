"""Writes that leave together: at the end of the loop's turn in which they came up.

A write wakes whoever reads it, here or by way of the network card; one wake-up, and one visit to
the kernel's code, then serves all of them. Never reorders, never keeps anything for a later turn.
Used by the listener and the engine, one each.
"""

from __future__ import annotations

import asyncio
from typing import Final

_LONELY: Final = 4  # turns with one write each, behind which
_STRAIGHT: Final = 64  # writes do not wait for others; then it is looked again
_MANY: Final = 32  # writes that do not wait for more: the first of them has waited long enough
_LARGE: Final = 16 * 1024  # bytes, likewise: nobody's memory is to fill up here


class Outbox:
    """Of one event loop. Who closes a transport, or writes to it directly, calls `flush` first.

    Where a write has no company it is written at once: waiting costs a step of the loop.
    """

    __slots__ = ("_due", "_lonely", "_straight", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.WriteTransport, bytes]] = []
        self._due = False  # the end of this turn will be noticed
        self._lonely = 0  # how many turns in a row had one write
        self._straight = 0  # how many writes more do not wait

    def __repr__(self) -> str:
        return f"<Outbox: {len(self._waiting)} writes wait>"

    def put(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write `data` when this turn of the loop ends, or before; dropped if the transport is
        closed until then."""
        if self._straight:
            self._straight -= 1
            transport.write(data)
            return
        waiting = self._waiting
        waiting.append((transport, data))
        if len(data) > _LARGE or len(waiting) >= _MANY:
            self.flush()
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def relay(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """The same for what a read has just brought: the loop itself writes what is written in
        reads when it has done all of them, so waiting for company would be waiting twice."""
        if self._waiting:
            self.put(transport, data)
        else:
            transport.write(data)

    def flush(self) -> None:
        """Write what waits now."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)

    def _end_turn(self) -> None:
        self._due = False
        self._lonely = self._lonely + 1 if len(self._waiting) == 1 else 0
        self.flush()
        if self._lonely >= _LONELY:
            self._straight = _STRAIGHT
