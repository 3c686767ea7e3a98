"""Windows of rate limits: how they are named, and a storage for those of this process alone.

The strategies are the `limits` library's; its memory storage starts threads and reads the clock
itself, this one does neither. A bucket keeps its open fixed window at hand and counts in it without
asking anybody. One event loop only, no locks. Used by limit.py and redis.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

from limits import RateLimitItemPerSecond
from limits.storage.base import MovingWindowSupport, Storage

from gateway.errors import WardgateError
from gateway.shapes import RateLimit

_SWEEP_EVERY = 60.0  # seconds
_SWEEP_AT = 1024  # windows

Left = tuple[int, float]  # remaining, seconds until the window has room again
Command = tuple[str, bytes]  # for Redis: the key it is about, and all of it in Redis' protocol


class Away(WardgateError):
    """The storage everybody shares does not answer, or may not be asked. Never sent to a client."""


class Window(RateLimitItemPerSecond):
    """A limit whose counter keeps its name, and so its count, when the limit's amount changes."""

    __slots__ = ()

    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        return f"{self.namespace}/{identifiers[0]!s}"


@dataclass(slots=True, eq=False)
class Count:
    """What one fixed window has admitted, and until when that is kept (Unix seconds)."""

    used: int
    end: float


_NEVER = Count(0, 0.0)


@dataclass(slots=True, eq=False)
class Bucket:
    """One limit of one client key, gateway or provider config."""

    policy: str
    limit: RateLimit
    whole: Window  # what all workers may admit together
    part: Window  # what this one may admit on its own
    period: int
    most: int  # the amount of `part`
    number: float = nan  # of the fixed window at hand; a moving one is never at hand
    count: Count = _NEVER  # the storage's own, so that whoever asks the library sees it, too
    full_until: float = 0.0  # Redis said so
    packed: Command = ("", b"")  # counts in Redis in the fixed window of this number
    packed_for: float = nan

    @property
    def sliding(self) -> bool:
        return self.limit.technique == "sliding"

    def window(self, now: float) -> str:
        """Which window: fixed ones are aligned to the clock, so their number is part of the name.

        A moving window has no number: it ends now, whenever that is.
        """
        return "moving" if self.sliding else str(int(now // self.period))

    def ends_in(self, now: float) -> float:
        """Seconds until the fixed window that holds `now` is over."""
        return self.period - now % self.period


def bucket_of(policy: str, owner: str, limit: RateLimit, share: tuple[int, int]) -> Bucket:
    """The bucket of `owner` (an id, so that a rename keeps the count) for worker `share`."""
    name = f"{policy}/{owner}/{limit.period}"
    index, count = share
    # Summed over the workers this is exactly the amount, however it divides.
    part = limit.amount * (index + 1) // count - limit.amount * index // count
    whole = Window(limit.amount, limit.period, name)
    return Bucket(policy, limit, whole, Window(part, limit.period, name), limit.period, part)


def count_at_hand(buckets: Sequence[Bucket], now: float) -> bool:
    """Count one request in every bucket if all have a window at hand with room; else in none.

    As the strategies would: what they do is not asked of them again, hit by hit, in one window.
    """
    for bucket in buckets:
        count = bucket.count
        if (
            now // bucket.period != bucket.number
            or count.used >= bucket.most
            or count.end <= now  # the storage has forgotten it
        ):
            return False
    for bucket in buckets:
        bucket.count.used += 1
    return True


class Windows(Storage, MovingWindowSupport):
    """Fixed windows as counters, moving windows as the times of their entries (Unix seconds)."""

    STORAGE_SCHEME = None  # reached by its class, not by a URL

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._counts: dict[str, Count] = {}
        self._entries: dict[str, deque[float]] = {}
        self._lengths: dict[str, int] = {}  # seconds a moving window spans
        self._sweep_at = _SWEEP_AT
        self._swept = clock()

    def __repr__(self) -> str:
        return f"<Windows: {len(self._counts)} fixed, {len(self._entries)} moving>"

    def __len__(self) -> int:
        return len(self._counts) + len(self._entries)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` more in the window; its first count lets it live `expiry` seconds."""
        now = self._clock()
        count = self._counts.get(key)
        if count is None:
            self._sweep_if_due(now)
            self._counts[key] = Count(amount, now + expiry)
            return amount
        if count.end <= now:
            count.used, count.end = 0, now + expiry
        count.used += amount
        return count.used

    def get(self, key: str) -> int:
        count = self.count_of(key)
        return count.used if count.end > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        return max(self.count_of(key).end, self._clock())

    def count_of(self, key: str) -> Count:
        """What counts in the window, to be counted up by whoever may; it ends when forgotten."""
        return self._counts.get(key, _NEVER)

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        forgotten = [*self._counts, *self._entries]
        for key in forgotten:
            self.clear(key)
        return len(forgotten)

    def clear(self, key: str) -> None:
        count = self._counts.pop(key, None)
        if count is not None:
            count.end = 0.0  # whoever has it at hand sees that it is gone
        self._entries.pop(key, None)
        self._lengths.pop(key, None)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Enter `amount` times unless the last `expiry` seconds would then hold over `limit`."""
        now = self._clock()
        self._sweep_if_due(now)
        entries = self._entries.get(key)
        if entries is None:
            entries = self._entries[key] = deque()
            self._lengths[key] = expiry
        _trim(entries, now, expiry)
        if len(entries) + amount > limit:
            return False
        entries.extend([now] * amount)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest entry that still counts was made, and how many count."""
        now = self._clock()
        entries = self._entries.get(key)
        if entries is None:
            return now, 0
        _trim(entries, now, expiry)
        return (entries[0], len(entries)) if entries else (now, 0)

    def _sweep_if_due(self, now: float) -> None:
        # A clock set back must not stop the sweeping until it has caught up.
        due = not 0.0 <= now - self._swept < _SWEEP_EVERY
        if due or len(self) >= self._sweep_at:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        for key in [key for key, count in self._counts.items() if count.end <= now]:
            self.clear(key)
        for key, entries in list(self._entries.items()):
            _trim(entries, now, self._lengths[key])
            if not entries:
                self.clear(key)
        self._swept = now
        # Growing with what is alive keeps a sweep's cost at O(1) for each window opened.
        self._sweep_at = max(_SWEEP_AT, 2 * len(self))


def _trim(entries: deque[float], now: float, length: int) -> None:
    """Forget what lies before the moving window, and after it if the clock was set back."""
    while entries and entries[0] < now - length:
        entries.popleft()
    while entries and entries[-1] > now:
        entries.pop()
