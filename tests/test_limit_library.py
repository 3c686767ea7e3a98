"""Windows in Redis are the `limits` library's: its own strategies, asked outright, see our counts
and we see theirs. So do workers of another version on the same Redis, which asked only them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from limits.aio.storage.redis import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from gateway.shapes import RateLimit
from gateway.windows.memory import Bucket, bucket_of
from tests.limiting import Clock, admitted, client, config, limiters

Technique = Literal["fixed", "sliding"]
both = pytest.mark.parametrize("technique", ["fixed", "sliding"])


@pytest.fixture
def clock() -> Clock:
    """The time of day, as the library's moving windows read it themselves."""
    return Clock(time.time())


@pytest.fixture
async def storage(redis_url: str) -> AsyncIterator[RedisStorage]:
    made = RedisStorage(redis_url, implementation="redispy", key_prefix="wardgate")
    yield made
    bridge: Any = made.bridge
    await bridge.get_connection().aclose()


class Library:
    """The strategy that is asked for one bucket."""

    def __init__(self, storage: RedisStorage, limit: RateLimit, clock: Clock) -> None:
        self._bucket: Bucket = bucket_of("config", "config1", limit, (0, 1))
        kind = MovingWindowRateLimiter if self._bucket.sliding else FixedWindowRateLimiter
        self._strategy = kind(storage)
        self._clock = clock

    async def hits(self, times: int) -> int:
        """How many of its hits are admitted."""
        window = self._bucket.window(self._clock())
        found = [await self._strategy.hit(self._bucket.whole, window) for _ in range(times)]
        return sum(found)

    async def left(self) -> tuple[int, float]:
        """How many are left, and until when the library keeps the window (Unix seconds)."""
        window = self._bucket.window(self._clock())
        stats = await self._strategy.get_window_stats(self._bucket.whole, window)
        return stats.remaining, stats.reset_time


@both
async def test_the_library_goes_on_counting_where_we_were(
    redis_url: str, storage: RedisStorage, clock: Clock, technique: Technique
) -> None:
    limit = RateLimit(10, 600, technique)
    library = Library(storage, limit, clock)
    async with limiters(redis_url, clock, []) as workers:
        assert await admitted(workers, 7, limit) == 7
        remaining, reset = await library.left()
        assert remaining == 3
        assert reset == pytest.approx(clock.now + 600, abs=5)
        assert await library.hits(9) == 3


@both
async def test_we_go_on_counting_where_the_library_was(
    redis_url: str, storage: RedisStorage, clock: Clock, technique: Technique
) -> None:
    limit = RateLimit(10, 600, technique)
    library = Library(storage, limit, clock)
    assert await library.hits(7) == 7
    _, kept = await library.left()
    async with limiters(redis_url, clock, []) as workers:
        left = await workers[0].left(client(), None, config(limit))
        assert [facts.remaining for facts in left] == [3]
        assert await admitted(workers, 9, limit) == 3
        remaining, reset = await library.left()
        assert remaining == 0
        assert reset == pytest.approx(kept, abs=5)


@both
async def test_what_we_refuse_or_give_back_the_library_does_not_count(
    redis_url: str, storage: RedisStorage, clock: Clock, technique: Technique
) -> None:
    wide, narrow = RateLimit(100, 600, technique), RateLimit(4, 600, technique)
    async with limiters(redis_url, clock, []) as workers:
        assert await admitted(workers, 40, wide, who=narrow) == 4
    assert (await Library(storage, wide, clock).left())[0] == 96
