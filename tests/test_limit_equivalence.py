"""Limits count as the `limits` library counts: the same requests, one by one, asked of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from limits.storage import MemoryStorage
from limits.storage.base import Storage
from limits.strategies import FixedWindowRateLimiter

from gateway.errors import LimitFacts, RateLimited
from gateway.limit import Limiter
from gateway.shapes import Client, ProviderConfig, RateLimit
from gateway.windows.memory import Bucket, Windows, bucket_of

START = 1_750_000_020.0
POLICIES = ("client", "gateway", "config")


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Asked:
    """A request of somebody's, with the limits it meets; the clock is moved before it."""

    step: float
    owner: str
    limits: tuple[RateLimit | None, RateLimit | None, RateLimit | None]


class Library:
    """The library's fixed window asked outright, on a storage of its own or of ours."""

    def __init__(self, storage: Storage, clock: Callable[[], float], share: tuple[int, int]):
        self._fixed = FixedWindowRateLimiter(storage)
        self._clock = clock
        self._share = share

    def admit(self, asked: Asked) -> LimitFacts | None:
        """None, or what it says of the limit that is used up."""
        now, buckets = self._clock(), self._buckets(asked)
        for bucket in buckets:
            if not self._fixed.test(bucket.part, bucket.window(now)):
                return self._facts(bucket, 0)
        for bucket in buckets:
            assert self._fixed.hit(bucket.part, bucket.window(now))
        return None

    def left(self, asked: Asked) -> list[LimitFacts]:
        now, left = self._clock(), self._fixed.get_window_stats
        return [
            self._facts(bucket, left(bucket.part, bucket.window(now)).remaining)
            for bucket in self._buckets(asked)
        ]

    def _buckets(self, asked: Asked) -> Sequence[Bucket]:
        return [
            bucket_of(policy, asked.owner, limit, self._share)
            for policy, limit in zip(POLICIES, asked.limits, strict=True)
            if limit is not None
        ]

    def _facts(self, bucket: Bucket, remaining: int) -> LimitFacts:
        period = bucket.limit.period
        ends_in = period - self._clock() % period
        return LimitFacts(bucket.policy, bucket.limit.amount, remaining, ends_in, period)


def request(asked: Asked) -> tuple[Client, tuple[str, RateLimit] | None, ProviderConfig]:
    """The same request as the corridor hands it over, the limits new ones, as of a new snapshot."""
    of_client, of_gateway, of_config = (limit and replace(limit) for limit in asked.limits)
    client = Client(id=asked.owner, digest=b"", scope="global", name="test", limit=of_client)
    config = ProviderConfig(
        id=asked.owner,
        scope="global",
        provider="openai",
        alias="a",
        dialect="openai",
        base_url="https://api.openai.com/v1",
        limit=of_config,
    )
    return client, (asked.owner, of_gateway) if of_gateway else None, config


async def refused(limiter: Limiter, asked: Asked) -> LimitFacts | None:
    try:
        await limiter.admit(*request(asked))
    except RateLimited as error:
        return error.limit
    return None


def compare(limiter: Limiter, library: Library, clock: Clock, requests: Sequence[Asked]) -> None:
    """Asks both the same: whether it is admitted, and what is left then."""

    async def ask() -> None:
        for each in requests:
            clock.now += each.step
            assert await refused(limiter, each) == library.admit(each)
            assert await limiter.left(*request(each)) == library.left(each)

    asyncio.run(ask())


def asked(
    step: st.SearchStrategy[float], limit: st.SearchStrategy[RateLimit]
) -> st.SearchStrategy[list[Asked]]:
    """Requests of two owners that meet up to three sets of limits, each of them many times."""
    sets = st.lists(st.tuples(*[st.none() | limit] * 3), min_size=1, max_size=3)
    return sets.flatmap(
        lambda known: st.lists(
            st.builds(Asked, step, st.sampled_from("ab"), st.sampled_from(known)),
            min_size=10,
            max_size=40,
        )
    )


# To the edges of windows, over them, and back again, whichever period.
steps = (
    st.sampled_from([0.0, 0.25, 0.75])
    | st.sampled_from([1.0, 9.75, 10.0, 61.0, 3600.0])
    | st.sampled_from([-0.25, -0.75, -1.0, -10.0, -61.0, -3600.0])
    | st.floats(-70, 70)
)


@settings(deadline=None)
@given(
    asked(steps, st.builds(RateLimit, st.integers(1, 6), st.sampled_from([1, 10]))),
    st.sampled_from([(0, 1), (0, 3), (1, 3), (2, 3)]),
)
def test_fixed_windows_count_as_the_library_does_when_clocks_and_limits_change(
    requests: list[Asked], share: tuple[int, int]
) -> None:
    clock = Clock()
    compare(Limiter(clock, share), Library(Windows(clock), clock, share), clock, requests)


@settings(deadline=None, max_examples=25)
# One window for as long as anybody runs this: the library's own storage reads the time of day.
@given(asked(st.just(0.0), st.builds(RateLimit, st.integers(1, 6), st.just(10**9))))
def test_fixed_windows_count_as_on_the_librarys_own_storage_when_none_ends(
    requests: list[Asked],
) -> None:
    clock = Clock(time.time())
    compare(Limiter(clock), Library(MemoryStorage(), clock, (0, 1)), clock, requests)


def test_a_window_that_was_forgotten_is_a_new_one_when_the_clock_returns_to_it() -> None:
    clock, limits = Clock(), (None, None, RateLimit(4, 60))
    requests = [Asked(0.0, "a", limits)] * 3 + [Asked(3600.0, "b", limits)]
    requests += [Asked(-3600.0, "a", limits)] + [Asked(0.0, "a", limits)] * 4
    compare(Limiter(clock), Library(Windows(clock), clock, (0, 1)), clock, requests)
