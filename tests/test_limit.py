"""Limits of one process: who is admitted, who is refused, and what a refusal says.

Counted in the process and in Redis; what many share is in test_limit_redis.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import LimitFacts, RateLimited, StartRefused
from gateway.limit import Gateway, Limiter
from gateway.shapes import Client, ProviderConfig, RateLimit
from gateway.windows.memory import Windows, bucket_of
from tests.limiting import PATIENT

START = 1_750_000_020.0  # twenty seconds before a minute begins


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def limiter(clock: Clock, limits_url: str) -> AsyncIterator[Limiter]:
    """It counts in this process, or in Redis, of which it has nothing to complain."""
    said = list[str]()
    made = Limiter(clock, redis_url=limits_url, say=said.append, timeout=PATIENT)
    yield made
    await made.aclose()
    assert said == []


def client(limit: RateLimit | None = None, name: str = "key1") -> Client:
    return Client(id=name, digest=b"", scope="global", name="test", limit=limit)


def config(
    limit: RateLimit | None = None, name: str = "config1", alias: str = "a"
) -> ProviderConfig:
    return ProviderConfig(
        id=name,
        scope="global",
        provider="openai",
        alias=alias,
        dialect="openai",
        base_url="https://api.openai.com/v1",
        limit=limit,
    )


def gateway(limit: RateLimit) -> Gateway:
    return "gateway:acme/main", limit


async def admitted(
    limiter: Limiter,
    times: int,
    who: Client | None = None,
    where: Gateway | None = None,
    what: ProviderConfig | None = None,
) -> int:
    """How many of `times` requests, all started at once, are admitted."""
    tries = (limiter.admit(who or client(), where, what or config()) for _ in range(times))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert all(answer is None or isinstance(answer, RateLimited) for answer in answers)
    return sum(answer is None for answer in answers)


async def refusal(
    limiter: Limiter, who: Client, where: Gateway | None, what: ProviderConfig
) -> RateLimited:
    with pytest.raises(RateLimited) as raised:
        await limiter.admit(who, where, what)
    return raised.value


async def test_nothing_is_counted_when_nothing_is_limited() -> None:
    limiter = Limiter(Clock())
    assert await admitted(limiter, 1000) == 1000
    assert await limiter.left(client(), None, config()) == []
    assert "0 fixed, 0 moving" in repr(limiter)


async def test_exactly_fifty_of_five_hundred_are_admitted_in_one_window() -> None:
    limiter = Limiter(Clock())
    assert await admitted(limiter, 500, what=config(RateLimit(50, 60))) == 50


async def test_a_fixed_window_ends_with_the_clocks_minute(limiter: Limiter, clock: Clock) -> None:
    what = config(RateLimit(3, 60))
    assert await admitted(limiter, 5, what=what) == 3
    clock.now += 59.999 - START % 60
    assert await admitted(limiter, 5, what=what) == 0
    clock.now = START - START % 60 + 60
    assert await admitted(limiter, 5, what=what) == 3


async def test_a_sliding_window_admits_again_when_the_oldest_leaves_it(
    limiter: Limiter, clock: Clock
) -> None:
    what = config(RateLimit(2, 60, "sliding"))
    assert await admitted(limiter, 1, what=what) == 1
    clock.now += 50
    assert await admitted(limiter, 3, what=what) == 1
    clock.now += 10.001
    assert await admitted(limiter, 3, what=what) == 1
    clock.now += 49.998
    assert await admitted(limiter, 3, what=what) == 0


async def test_a_refusal_says_which_limit_and_for_how_long(limiter: Limiter) -> None:
    what = config(RateLimit(1, 60))
    await limiter.admit(client(), None, what)
    error = await refusal(limiter, client(), None, what)
    assert error.limit == LimitFacts("config", 1, 0, 60 - START % 60, 60)
    assert error.retry_after == 60 - START % 60
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert "1 requests per 60 s" in error.message


async def test_a_sliding_refusal_says_when_the_oldest_leaves(
    limiter: Limiter, clock: Clock
) -> None:
    what = config(RateLimit(1, 60, "sliding"))
    await limiter.admit(client(), None, what)
    clock.now += 45
    error = await refusal(limiter, client(), None, what)
    assert error.limit == LimitFacts("config", 1, 0, 15.0, 60)


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_a_refusal_by_one_limit_consumes_from_no_other(
    limiter: Limiter, technique: str
) -> None:
    wide = RateLimit(100, 60, "sliding" if technique == "sliding" else "fixed")
    who, where = client(wide), gateway(wide)
    what = config(RateLimit(10, 60, wide.technique))
    assert await admitted(limiter, 60, who, where, what) == 10
    left = await limiter.left(who, where, what)
    assert [(f.policy, f.remaining) for f in left] == [
        ("client", 90),
        ("gateway", 90),
        ("config", 0),
    ]


async def test_limits_are_asked_client_first_then_gateway_then_config(limiter: Limiter) -> None:
    one = RateLimit(1, 60)
    who, where, what = client(one), gateway(one), config(one)
    await limiter.admit(who, where, what)
    for asked, policy in (
        ((who, where, what), "client"),
        ((client(), where, what), "gateway"),
        ((client(), None, what), "config"),
    ):
        error = await refusal(limiter, *asked)
        assert error.limit is not None
        assert error.limit.policy == policy


async def test_a_bucket_belongs_to_the_configs_id(limiter: Limiter) -> None:
    limit = RateLimit(5, 60)
    assert await admitted(limiter, 5, what=config(limit)) == 5
    assert await admitted(limiter, 5, what=config(limit, alias="renamed")) == 0
    assert await admitted(limiter, 9, what=config(limit, name="config2")) == 5


async def test_a_key_and_a_config_of_one_id_have_buckets_of_their_own(limiter: Limiter) -> None:
    limit = RateLimit(5, 60)
    assert await admitted(limiter, 9, client(limit, "same")) == 5
    assert await admitted(limiter, 9, what=config(limit, "same")) == 5


async def test_a_changed_amount_keeps_what_was_admitted(limiter: Limiter) -> None:
    assert await admitted(limiter, 9, what=config(RateLimit(4, 60))) == 4
    assert await admitted(limiter, 9, what=config(RateLimit(6, 60))) == 2
    assert await admitted(limiter, 9, what=config(RateLimit(5, 60))) == 0


async def test_left_counts_nothing(limiter: Limiter) -> None:
    what = config(RateLimit(3, 60))
    await limiter.admit(client(), None, what)
    for _ in range(5):
        assert await limiter.left(client(), None, what) == [
            LimitFacts("config", 3, 2, 60 - START % 60, 60)
        ]


@given(amount=st.integers(1, 10_000), workers=st.integers(1, 64))
def test_the_shares_of_all_workers_sum_to_the_limit(amount: int, workers: int) -> None:
    limit = RateLimit(amount, 60)
    shares = [bucket_of("config", "x", limit, (i, workers)).part.amount for i in range(workers)]
    assert sum(shares) == amount
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_workers_without_redis_admit_the_limit_together(technique: str) -> None:
    limit = RateLimit(10, 60, "sliding" if technique == "sliding" else "fixed")
    limiters = [Limiter(Clock(), (index, 4)) for index in range(4)]
    found = [await admitted(limiter, 50, what=config(limit)) for limiter in limiters]
    assert sorted(found) == [2, 2, 3, 3]


async def test_a_share_of_none_always_refuses() -> None:
    limiters = [Limiter(Clock(), (index, 3)) for index in range(3)]
    for limit in (RateLimit(1, 60), RateLimit(1, 60, "sliding")):
        found = [await admitted(one, 5, what=config(limit)) for one in limiters]
        assert found == [0, 0, 1]


async def test_counting_starts_no_thread_and_no_task() -> None:
    limiter, limits = Limiter(Clock()), (RateLimit(9, 60), RateLimit(9, 60, "sliding"))
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    for limit in limits:
        await limiter.admit(client(limit), gateway(limit), config(limit))
    assert (threading.active_count(), len(asyncio.all_tasks())) == (threads, tasks)


def test_windows_that_are_over_are_forgotten() -> None:
    clock = Clock()
    windows = Windows(clock)
    for number in range(5000):
        windows.incr(f"fixed/{number}", 10)
        windows.acquire_entry(f"moving/{number}", 5, 10)
        clock.now += 1
    assert len(windows) < 200


def test_windows_that_are_alive_survive_the_sweep() -> None:
    clock = Clock()
    windows = Windows(clock)
    for number in range(3000):
        windows.incr(f"fixed/{number}", 600)
        windows.acquire_entry(f"moving/{number}", 5, 600)
    clock.now += 120
    windows.incr("another", 10)
    assert windows.get("fixed/0") == 1
    assert windows.get_moving_window("moving/0", 5, 600) == (START, 1)
    assert len(windows) == 6001


def test_a_clock_set_back_locks_nobody_out() -> None:
    clock = Clock()
    windows = Windows(clock)
    assert windows.acquire_entry("moving", 1, 60)
    clock.now -= 3600
    assert windows.acquire_entry("moving", 1, 60)
    assert not windows.acquire_entry("moving", 1, 60)


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 3)), max_size=40),
    st.integers(1, 6),
)
def test_a_moving_window_never_holds_more_than_its_limit(
    steps: list[tuple[float, int]], limit: int
) -> None:
    clock = Clock()
    windows, made = Windows(clock), list[float]()
    for wait, amount in steps:
        clock.now += wait
        room = sum(at >= clock.now - 60 for at in made) + amount <= limit
        assert windows.acquire_entry("w", limit, 60, amount) == room
        made += [clock.now] * amount * room
        assert windows.get_moving_window("w", limit, 60)[1] <= limit


def test_the_storage_keeps_the_librarys_promises() -> None:
    clock = Clock()
    windows = Windows(clock)
    assert windows.check()
    assert [windows.incr("a", 10), windows.incr("a", 10, 4), windows.get("a")] == [1, 5, 5]
    assert windows.get_expiry("a") == START + 10
    assert windows.get_expiry("none") == START
    windows.clear("a")
    assert windows.get("a") == 0
    windows.incr("a", 10)
    clock.now += 10
    assert windows.get("a") == 0
    assert windows.incr("a", 10) == 1
    assert windows.reset() == 1
    assert len(windows) == 0
    assert windows.get("a") == 0


def test_a_redis_url_that_is_none_is_refused_at_start() -> None:
    for url in ("redis://:1", "http://127.0.0.1:1/", "nonsense"):
        with pytest.raises(StartRefused, match="WARDGATE_REDIS_URL"):
            Limiter(Clock(), redis_url=url)
