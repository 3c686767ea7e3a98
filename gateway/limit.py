"""Step: may this request go on? Counts it against the client key, the gateway and the config.

All of its limits admit it, or none counts it. Windows live in Redis when there is one, else in this
process, which then holds its share of each limit. Never sees a body. Called by receive.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from gateway.errors import LimitFacts, LimitsAway, RateLimited
from gateway.paths import Match
from gateway.shapes import Client, ProviderConfig, RateLimit
from gateway.snapshot import Snapshot
from gateway.windows.breaker import PAUSE
from gateway.windows.memory import Away, Bucket, Left, Windows, bucket_of, count_at_hand

if TYPE_CHECKING:
    from gateway.windows.redis import RedisWindows

_MOST_BUCKETS = 65_536
NOBODY = Client(id="", digest=b"", scope="", name="")
_OWNERS = {"client": "this key", "gateway": "the gateway", "config": "the provider config"}

Gateway = tuple[str, RateLimit]  # its scope id and limit


def _log(event: str) -> None:
    structlog.get_logger().warning(event)


class Limiter:
    """Admits requests. `share` = (index, count) of this worker; `say` hears of Redis outages.

    It is away after `timeout` seconds; `without`: what becomes of a client's, gateway's or config's
    limit then (WARDGATE_REDIS_TIMEOUT, WARDGATE_REDIS_AWAY). Raises StartRefused for a `redis_url`
    that cannot be used. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        share: tuple[int, int] = (0, 1),
        redis_url: str = "",
        say: Callable[[str], None] = _log,
        without: Mapping[str, str] | None = None,
        timeout: float = 0.2,
    ) -> None:
        self._clock = clock
        self._without = without or {}
        self._share = share
        # By owner's id, one table a policy: an id is hashed once, a pair of two each time.
        self._of_clients: dict[str, Bucket] = {}
        self._of_gateways: dict[str, Bucket] = {}
        self._of_configs: dict[str, Bucket] = {}
        self._windows = Windows(clock)
        self._fixed = FixedWindowRateLimiter(self._windows)
        self._moving = MovingWindowRateLimiter(self._windows)
        self._redis = _in_redis(redis_url, clock, say, timeout) if redis_url else None

    def __repr__(self) -> str:
        index, count = self._share
        return f"<Limiter: worker {index + 1} of {count}, {self._redis or self._windows!r}>"

    @property
    def redis_away(self) -> bool:
        """Whether limits are not shared though they should be."""
        return self._redis is not None and self._redis.away

    def at_hand(
        self, client: Client, gateway: Gateway | None, config: ProviderConfig, now: float
    ) -> bool:
        """Count the request where that needs no waiting and nothing is refused; else count it not.

        False leaves it to `admit`. `now` is the clock's.
        """
        if client.limit is None and gateway is None and config.limit is None:
            return True
        if self._redis is not None:
            return False
        return count_at_hand(self._which(client, gateway, config), now)

    async def admit(
        self,
        client: Client,
        gateway: Gateway | None,
        config: ProviderConfig,
        now: float | None = None,
    ) -> None:
        """Count the request, or raise RateLimited with the facts of the limit that is used up.

        Raises LimitsAway where Redis is, and a limit is denied then.
        """
        now = self._clock() if now is None else now
        if not self.at_hand(client, gateway, config, now):
            await self._admit(self._which(client, gateway, config), now)

    async def left(
        self, client: Client, gateway: Gateway | None, config: ProviderConfig
    ) -> list[LimitFacts]:
        """What the limits still hold, in the order they are asked; counts nothing."""
        buckets = self._which(client, gateway, config)
        left = await self._left(buckets, self._clock()) if buckets else []
        return [_facts(bucket, *found) for bucket, found in zip(buckets, left, strict=True)]

    async def aclose(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def _admit(self, buckets: Sequence[Bucket], now: float) -> None:
        if self._redis is None:
            refused = self._admit_here(buckets, now)
        else:
            try:
                refused = await self._redis.admit(buckets, now)
            except Away:
                refused = self._admit_here(self._held_here(buckets), now)
        if refused is not None:
            raise _refusal(*refused)

    def _held_here(self, buckets: Sequence[Bucket]) -> list[Bucket]:
        """Those of which this worker holds its share while Redis is away; raises LimitsAway."""
        wanted = [self._without.get(bucket.policy, "local") for bucket in buckets]
        if "deny" in wanted:
            owner = _OWNERS[buckets[wanted.index("deny")].policy]
            raise LimitsAway(
                f"the rate limit of {owner} cannot be counted at the moment", retry_after=PAUSE
            )
        return [bucket for bucket, word in zip(buckets, wanted, strict=True) if word == "local"]

    def _admit_here(self, buckets: Sequence[Bucket], now: float) -> tuple[Bucket, float] | None:
        if count_at_hand(buckets, now):
            return None
        # Nothing is awaited between the tests and the hits, so together they are one step.
        if len(buckets) > 1:
            for bucket in buckets:
                if not self._strategy(bucket).test(bucket.part, bucket.window(now)):
                    return bucket, self._room_in(bucket, now)
        for bucket in buckets:
            if not self._hit(bucket, now):
                return bucket, self._room_in(bucket, now)
        return None

    def _hit(self, bucket: Bucket, now: float) -> bool:
        window = bucket.window(now)
        if bucket.sliding:
            return self._moving.hit(bucket.part, window)
        admitted = self._fixed.hit(bucket.part, window)
        if not admitted:
            # The library counts what it refuses, too; a raised limit must help at once.
            self._fixed.hit(bucket.part, window, cost=-1)
        bucket.number = now // bucket.period
        bucket.count = self._windows.count_of(bucket.part.key_for(window))
        return admitted

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
        return self._moving if bucket.sliding else self._fixed

    def _which(
        self, client: Client, gateway: Gateway | None, config: ProviderConfig
    ) -> list[Bucket]:
        """The buckets that apply, in the order they are asked."""
        # Three times the same: a call for each would cost as much as the count itself.
        found: list[Bucket] = []
        limit = client.limit
        if limit is not None:
            bucket = self._of_clients.get(client.id)
            if bucket is None or bucket.limit is not limit:
                bucket = self._bucket("client", self._of_clients, client.id, limit)
            found.append(bucket)
        if gateway is not None:
            owner, limit = gateway
            bucket = self._of_gateways.get(owner)
            if bucket is None or bucket.limit is not limit:
                bucket = self._bucket("gateway", self._of_gateways, owner, limit)
            found.append(bucket)
        limit = config.limit
        if limit is not None:
            bucket = self._of_configs.get(config.id)
            if bucket is None or bucket.limit is not limit:
                bucket = self._bucket("config", self._of_configs, config.id, limit)
            found.append(bucket)
        return found

    def _bucket(
        self, policy: str, known: dict[str, Bucket], owner: str, limit: RateLimit
    ) -> Bucket:
        bucket = known.get(owner)
        if bucket is not None and bucket.limit == limit:
            bucket.limit = limit  # every snapshot brings new objects; the next look is quick again
            return bucket
        if self._full():
            for table in (self._of_clients, self._of_gateways, self._of_configs):
                table.clear()
        made = known[owner] = bucket_of(policy, owner, limit, self._share)
        return made

    def _full(self) -> bool:
        known = len(self._of_clients) + len(self._of_gateways) + len(self._of_configs)
        return known >= _MOST_BUCKETS


def limit_of_gateway(snapshot: Snapshot, match: Match, client: Client) -> Gateway | None:
    """The limit of the gateway the URL names, else of the nearest one the key belongs to."""
    start = f"gateway:{match.account}/{match.gateway}" if match.account else client.scope
    for scope in snapshot.chain(start):
        limit = snapshot.gateways.get(scope)
        if limit is not None:
            return scope, limit
    return None


def _in_redis(
    url: str, clock: Callable[[], float], say: Callable[[str], None], timeout: float
) -> RedisWindows:
    # Its client library costs a worker 0.15 s and 8 MB, which one without Redis need not pay.
    from gateway.windows.redis import RedisWindows

    return RedisWindows(url, clock, say, timeout)


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
