"""Step: may this request go on? Counts it against the client key, the gateway and the config.

All of its limits admit it, or none counts it. Windows live in Redis when there is one, else in this
process, which then holds its share of each limit. Never sees a body. Called by receive.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from gateway.errors import LimitFacts, RateLimited
from gateway.paths import Match
from gateway.shapes import Client, ProviderConfig, RateLimit
from gateway.snapshot import Snapshot
from gateway.windows.memory import Away, Bucket, Left, Windows, bucket_of

if TYPE_CHECKING:
    from gateway.windows.redis import RedisWindows

_MOST_BUCKETS = 65_536
_OWNERS = {"client": "this key", "gateway": "the gateway", "config": "the provider config"}

Gateway = tuple[str, RateLimit]  # its scope id and limit


def _log(event: str) -> None:
    structlog.get_logger().warning(event)


class Limiter:
    """Admits requests. `share` = (index, count) of this worker; `say` hears of Redis outages.

    Raises StartRefused for a `redis_url` that cannot be used. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        share: tuple[int, int] = (0, 1),
        redis_url: str = "",
        say: Callable[[str], None] = _log,
    ) -> None:
        self._clock = clock
        self._share = share
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._windows = Windows(clock)
        self._fixed = FixedWindowRateLimiter(self._windows)
        self._moving = MovingWindowRateLimiter(self._windows)
        self._redis = _in_redis(redis_url, clock, say) if redis_url else None

    def __repr__(self) -> str:
        index, count = self._share
        return f"<Limiter: worker {index + 1} of {count}, {self._redis or self._windows!r}>"

    async def admit(self, client: Client, gateway: Gateway | None, config: ProviderConfig) -> None:
        """Count the request, or raise RateLimited with the facts of the limit that is used up."""
        if client.limit is None and gateway is None and config.limit is None:
            return
        buckets = self._which(client, gateway, config)
        now = self._clock()
        refused = await self._admit(buckets, now)
        if refused is not None:
            raise _refusal(*refused)

    async def admit_again(self, config: ProviderConfig) -> None:
        """Count a request that is admitted already against one more config. Raises RateLimited."""
        if config.limit is None:
            return
        refused = await self._admit(
            [self._bucket("config", config.id, config.limit)], self._clock()
        )
        if refused is not None:
            raise _refusal(*refused)

    async def left(
        self, client: Client, gateway: Gateway | None, config: ProviderConfig
    ) -> list[LimitFacts]:
        """What the limits still hold, in the order they are asked; counts nothing."""
        buckets = self._which(client, gateway, config)
        now = self._clock()
        left = await self._left(buckets, now)
        return [_facts(bucket, *found) for bucket, found in zip(buckets, left, strict=True)]

    async def aclose(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def _admit(self, buckets: Sequence[Bucket], now: float) -> tuple[Bucket, float] | None:
        if self._redis is not None:
            try:
                return await self._redis.admit(buckets, now)
            except Away:
                return self._admit_here(buckets, now)
        return self._admit_here(buckets, now)

    def _admit_here(self, buckets: Sequence[Bucket], now: float) -> tuple[Bucket, float] | None:
        # Nothing is awaited between the tests and the hits, so together they are one step.
        if len(buckets) > 1:
            for bucket in buckets:
                if not self._strategy(bucket).test(bucket.part, bucket.window(now)):
                    return bucket, self._room_in(bucket, now)
        for bucket in buckets:
            if not self._strategy(bucket).hit(bucket.part, bucket.window(now)):
                if not bucket.sliding:
                    # The library counts what it refuses, too; a raised limit must help at once.
                    self._fixed.hit(bucket.part, bucket.window(now), cost=-1)
                return bucket, self._room_in(bucket, now)
        return None

    async def _left(self, buckets: Sequence[Bucket], now: float) -> list[Left]:
        if self._redis is not None:
            try:
                return await self._redis.left(buckets, now)
            except Away:
                return [self._left_here(bucket, now) for bucket in buckets]
        return [self._left_here(bucket, now) for bucket in buckets]

    def _left_here(self, bucket: Bucket, now: float) -> Left:
        stats = self._strategy(bucket).get_window_stats(bucket.part, bucket.window(now))
        return max(0, stats.remaining), self._room_in(bucket, now)

    def _room_in(self, bucket: Bucket, now: float) -> float:
        """Seconds until the window is a new one, or its oldest entry leaves it."""
        if not bucket.sliding:
            return bucket.ends_in(now)
        stats = self._moving.get_window_stats(bucket.part, bucket.window(now))
        return max(0.0, stats.reset_time - now)

    def _strategy(self, bucket: Bucket) -> FixedWindowRateLimiter | MovingWindowRateLimiter:
        return self._moving if bucket.limit.technique == "sliding" else self._fixed

    def _which(
        self, client: Client, gateway: Gateway | None, config: ProviderConfig
    ) -> list[Bucket]:
        """The buckets that apply, in the order they are asked."""
        found = []
        if client.limit is not None:
            found.append(self._bucket("client", client.id, client.limit))
        if gateway is not None:
            found.append(self._bucket("gateway", *gateway))
        if config.limit is not None:
            found.append(self._bucket("config", config.id, config.limit))
        return found

    def _bucket(self, policy: str, owner: str, limit: RateLimit) -> Bucket:
        known = self._buckets.get((policy, owner))
        # Every snapshot brings new RateLimit objects: compared by value when not the very same.
        if known is not None and (known.limit is limit or known.limit == limit):
            return known
        if len(self._buckets) >= _MOST_BUCKETS:
            self._buckets.clear()
        made = self._buckets[policy, owner] = bucket_of(policy, owner, limit, self._share)
        return made


def limit_of_gateway(snapshot: Snapshot, match: Match, client: Client) -> Gateway | None:
    """The limit of the gateway the URL names, else of the nearest one the key belongs to."""
    start = f"gateway:{match.account}/{match.gateway}" if match.account else client.scope
    for scope in snapshot.chain(start):
        limit = snapshot.gateways.get(scope)
        if limit is not None:
            return scope, limit
    return None


def _in_redis(url: str, clock: Callable[[], float], say: Callable[[str], None]) -> RedisWindows:
    # Its client library costs a worker 0.15 s and 8 MB, which one without Redis need not pay.
    from gateway.windows.redis import RedisWindows

    return RedisWindows(url, clock, say)


def _facts(bucket: Bucket, remaining: int, reset_after: float) -> LimitFacts:
    limit = bucket.limit
    return LimitFacts(bucket.policy, limit.amount, remaining, reset_after, limit.period)


def _refusal(bucket: Bucket, wait: float) -> RateLimited:
    limit = bucket.limit
    return RateLimited(
        f"rate limit of {_OWNERS[bucket.policy]} is used up: {limit.amount} requests per"
        f" {limit.period} s ({limit.technique} window); room again in {wait:.1f} s",
        retry_after=wait,
        limit=_facts(bucket, 0, wait),
    )
