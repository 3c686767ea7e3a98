"""Whether Redis may be asked: after a failure it is left alone for a second, then one may try it.

Tells of an outage at most once a second, and of its end. Never asks Redis itself. Called by
pipeline.py and shards.py.
"""

from __future__ import annotations

from collections.abc import Callable

PAUSE = 1.0  # seconds between two tries while Redis is away


class Breaker:
    """`clock` gives Unix seconds; `say` is told that `who` is away, and that it is back."""

    def __init__(
        self, clock: Callable[[], float], say: Callable[[str], None], who: str = "Redis"
    ) -> None:
        self._clock = clock
        self._say = say
        self._who = who
        self._retry_at: float | None = None
        self._said = float("-inf")

    @property
    def away(self) -> bool:
        return self._retry_at is not None

    def lets_pass(self) -> bool:
        """Whether one more question may be asked; while Redis is away, one a second may."""
        if self._retry_at is None:
            return True
        now = self._clock()
        # A clock set back must not lengthen the pause.
        if 0.0 < self._retry_at - now <= PAUSE:
            return False
        self._retry_at = now + PAUSE
        return True

    def trip(self, error: Exception) -> None:
        """Redis did not answer, or refused to."""
        now = self._clock()
        self._retry_at = now + PAUSE
        if not 0.0 <= now - self._said < PAUSE:
            self._said = now
            # Only the kind: the message may hold the URL, and the URL a password.
            self._say(f"{self._who} is away ({type(error).__name__}): limits are not shared")

    def reset(self) -> None:
        """Redis answered."""
        if self._retry_at is not None:
            self._retry_at = None
            self._say(f"{self._who} is back: limits are shared again")
