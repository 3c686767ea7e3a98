"""Windows of rate limits kept in Redis, so that they are exact across workers and machines.

Every question ends within 0.2 s; one that fails raises Away, and Redis is then left alone for a
second. Never decides what happens without Redis. Called by limit.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from limits.aio.storage.redis import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from limits.errors import ConfigurationError, StorageError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.errors import StartRefused
from gateway.windows.memory import Away, Bucket, Left

TIMEOUT = 0.2  # seconds for one request's questions together
PAUSE = 1.0  # seconds between two tries while Redis is away
# Connections, and requests that ask at the same moment. A hit is 0.1 ms of our own CPU, so more
# would only wait for each other, within the timeout of each.
_PLACES = 8

T = TypeVar("T")


class RedisWindows:
    """The same windows for everybody. `say` is told, at most once a second, that Redis is away."""

    def __init__(self, url: str, clock: Callable[[], float], say: Callable[[str], None]) -> None:
        self._clock = clock
        self._say = say
        self._storage = _storage(url)
        self._fixed = FixedWindowRateLimiter(self._storage)
        self._moving = MovingWindowRateLimiter(self._storage)
        # Waiting for a place is our own crowding, not Redis being slow: no timeout runs meanwhile.
        self._places = asyncio.Semaphore(_PLACES)
        self._retry_at: float | None = None
        self._said = float("-inf")

    def __repr__(self) -> str:
        return f"<RedisWindows: {'in use' if self._retry_at is None else 'away'}>"

    async def admit(self, buckets: Sequence[Bucket], now: float) -> tuple[Bucket, float] | None:
        """Count one request in all buckets, or in none: then say which is full, and how long.

        Raises Away. Between two workers a refusal may pass while the other gives its count back.
        """
        return await self._ask(lambda: self._admit(buckets, now))

    async def left(self, buckets: Sequence[Bucket], now: float) -> list[Left]:
        """What each bucket still holds; counts nothing. Raises Away."""
        return await self._ask(lambda: self._left(buckets, now))

    async def aclose(self) -> None:
        await self._client().aclose()

    async def _admit(self, buckets: Sequence[Bucket], now: float) -> tuple[Bucket, float] | None:
        held: list[Bucket] = []
        for bucket in buckets:
            if await self._strategy(bucket).hit(bucket.whole, bucket.window(now)):
                held.append(bucket)
                continue
            # The library counts what a fixed window refuses, too.
            await self._give_back(held if bucket.sliding else [*held, bucket], now)
            return bucket, await self._room_in(bucket, now)
        return None

    async def _give_back(self, held: Sequence[Bucket], now: float) -> None:
        for bucket in held:
            if bucket.sliding:
                # The library cannot take an entry back; the newest is as good as ours.
                name = bucket.whole.key_for(bucket.window(now))
                await self._client().lpop(self._storage.bridge.prefixed_key(name))
            else:
                await self._fixed.hit(bucket.whole, bucket.window(now), cost=-1)

    async def _left(self, buckets: Sequence[Bucket], now: float) -> list[Left]:
        found: list[Left] = []
        for bucket in buckets:
            stats = await self._strategy(bucket).get_window_stats(bucket.whole, bucket.window(now))
            found.append((stats.remaining, await self._room_in(bucket, now)))
        return found

    async def _room_in(self, bucket: Bucket, now: float) -> float:
        """Seconds until the window is a new one, or its oldest entry leaves it."""
        if not bucket.sliding:
            return bucket.ends_in(now)
        stats = await self._moving.get_window_stats(bucket.whole, bucket.window(now))
        return max(0.0, stats.reset_time - now)

    def _strategy(self, bucket: Bucket) -> FixedWindowRateLimiter | MovingWindowRateLimiter:
        return self._moving if bucket.sliding else self._fixed

    def _client(self) -> Any:
        bridge: Any = self._storage.bridge  # the library types it as its abstract parent
        return bridge.get_connection()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        if self._paused():
            raise Away
        async with self._places:
            self._claim_turn()
            try:
                async with asyncio.timeout(TIMEOUT):
                    answer = await question()
            except (StorageError, RedisError, OSError) as error:
                self._went_away(error)
                raise Away from None
        if self._retry_at is not None:
            self._retry_at = None
            self._say("Redis is back: limits are shared again")
        return answer

    def _paused(self) -> bool:
        # A clock set back must not lengthen the pause.
        return self._retry_at is not None and 0.0 < self._retry_at - self._clock() <= PAUSE

    def _claim_turn(self) -> None:
        """While Redis is away one request a second tries it; it may have gone while we queued."""
        if self._paused():
            raise Away
        if self._retry_at is not None:
            self._retry_at = self._clock() + PAUSE

    def _went_away(self, error: Exception) -> None:
        now = self._clock()
        self._retry_at = now + PAUSE
        if not 0.0 <= now - self._said < PAUSE:
            self._said = now
            # Only the kind: the message may hold the URL, and the URL a password.
            self._say(f"Redis is away ({type(error).__name__}): limits are this worker's share")


def _storage(url: str) -> RedisStorage:
    """Raises StartRefused for a URL that is none. Nothing is connected yet."""
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "max_connections": 2 * _PLACES,
        # The client's own three retries would outlast the timeout.
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        return RedisStorage(
            url, wrap_exceptions=True, implementation="redispy", key_prefix="wardgate", **options
        )
    except (ConfigurationError, ValueError):
        raise StartRefused(
            "WARDGATE_REDIS_URL cannot be used: write redis://host:port/database"
        ) from None
