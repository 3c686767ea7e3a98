"""One timer for many deadlines: a timer of its own for each wait costs more than most waits do.

Whoever is late hears of it within a tick. Knows nothing of what is waited for. Used by the
listener, the engine and the heartbeats of streams.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

_FINEST, _COARSEST = 0.001, 1.0  # seconds


class Patient(Protocol):
    """Something with a `deadline` in the loop's time: infinity while it waits for nothing."""

    deadline: float

    def late(self) -> None:
        """The deadline has passed; a new one has to be set, or the same comes again."""


class Deadlines:
    """Watches over its members; the timer runs while there are any.

    `shortest`: seconds of the shortest wait that occurs. A tick is an eighth of it at the most.
    """

    def __init__(self, shortest: float) -> None:
        self._tick = min(_COARSEST, max(_FINEST, shortest / 8))
        self._members: set[Patient] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Deadlines: {len(self._members)} watched, a tick is {self._tick:g} s>"

    def add(self, member: Patient) -> None:
        self._members.add(member)
        if self._timer is None:
            self._arm()

    def discard(self, member: Patient) -> None:
        self._members.discard(member)

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            for member in [one for one in self._members if one.deadline <= now]:
                # One that was late may have seen to another.
                if member in self._members and member.deadline <= now:
                    member.late()
        finally:
            self._timer = None
            if self._members:
                self._arm()
