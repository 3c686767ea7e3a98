"""Limits shared through a real Redis: exact across workers, and what happens when it is away."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import pytest

from gateway.errors import LimitFacts, RateLimited
from gateway.limit import Limiter
from gateway.shapes import RateLimit
from tests import limiting, servers
from tests.limiting import TIMEOUT, WORKERS, Clock, admitted, client, config, limiters
from tests.servers import Server

clock = limiting.clock


async def until_shared_again(workers: list[Limiter], clock: Clock) -> None:
    """Every worker has tried Redis once more, after its pause."""
    clock.now += 1.1
    for limiter in workers:
        await limiter.admit(client(), None, config(RateLimit(10**6, 60)))


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_four_workers_admit_exactly_the_limit(
    redis_url: str, clock: Clock, technique: Literal["fixed", "sliding"]
) -> None:
    said: list[str] = []
    async with limiters(redis_url, clock, said) as workers:
        assert await admitted(workers, 500, RateLimit(50, 60, technique)) == 50
    assert said == []


async def test_a_new_window_begins_for_everybody(redis_url: str, clock: Clock) -> None:
    limit = RateLimit(3, 60)
    async with limiters(redis_url, clock, []) as workers:
        assert await admitted(workers, 8, limit) == 3
        clock.now += 40
        assert await admitted(workers, 8, limit) == 3


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_a_refusal_by_one_limit_gives_back_what_the_others_counted(
    redis_url: str, clock: Clock, technique: Literal["fixed", "sliding"]
) -> None:
    wide, narrow = RateLimit(100, 60, technique), RateLimit(10, 60, technique)
    async with limiters(redis_url, clock, []) as workers:
        assert await admitted(workers, 40, narrow, wide, wide) == 10
        gateway = ("gateway:acme/main", wide)
        for limiter in workers:
            left = await limiter.left(client(wide), gateway, config(narrow))
            assert [(f.policy, f.limit, f.remaining) for f in left] == [
                ("client", 100, 90),
                ("gateway", 100, 90),
                ("config", 10, 0),
            ]


async def test_a_refusal_says_the_whole_limit(redis_url: str, clock: Clock) -> None:
    async with limiters(redis_url, clock, []) as workers:
        assert await admitted(workers, 9, RateLimit(2, 60)) == 2
        with pytest.raises(RateLimited) as raised:
            await workers[0].admit(client(), None, config(RateLimit(2, 60)))
    assert raised.value.limit == LimitFacts("config", 2, 0, 40.0, 60)


async def test_a_sliding_refusal_says_when_there_is_room(redis_url: str, clock: Clock) -> None:
    limit = RateLimit(1, 60, "sliding")
    async with limiters(redis_url, clock, []) as workers:
        clock.now = time.time()
        await workers[0].admit(client(), None, config(limit))
        with pytest.raises(RateLimited) as raised:
            await workers[1].admit(client(), None, config(limit))
    assert raised.value.retry_after == pytest.approx(60, abs=2)


async def test_what_is_kept_in_redis_ends_with_its_window(redis: Server, clock: Clock) -> None:
    limit = RateLimit(5, 60)
    async with limiters(servers.redis_url(redis), clock, []) as workers:
        await admitted(workers, 9, limit, limit, RateLimit(5, 60, "sliding"))
    keys = servers.redis_command(redis.port, "KEYS *").split(b"\r\n")[2::2]
    assert len(keys) == 3
    assert all(key.startswith(b"wardgate:") for key in keys)
    for key in keys:
        left = servers.redis_command(redis.port, f"TTL {key.decode()}")
        assert 0 < int(left[1:]) <= 60


async def test_without_redis_the_workers_go_on_with_their_shares(
    redis: Server, clock: Clock
) -> None:
    said: list[str] = []
    async with limiters(servers.redis_url(redis), clock, said) as workers:
        assert await admitted(workers, 4, RateLimit(10, 60)) == 4
        redis.kill()
        assert await admitted(workers, 100, RateLimit(10, 60)) == 10
        assert len(said) == WORKERS
        assert all(line.startswith("Redis is away") for line in said)
        assert all(worker.redis_away for worker in workers)
        redis.start()
        await until_shared_again(workers, clock)
        assert not any(worker.redis_away for worker in workers)
        assert said[WORKERS:] == ["Redis is back: limits are shared again"] * WORKERS
        assert await admitted(workers, 40, RateLimit(20, 30)) == 20


async def test_a_frozen_redis_costs_a_fifth_of_a_second_once(redis: Server, clock: Clock) -> None:
    said: list[str] = []
    async with limiters(servers.redis_url(redis), clock, said, timeout=TIMEOUT) as workers:
        assert await admitted(workers, 40, RateLimit(40, 60)) == 40
        redis.freeze()
        began = time.monotonic()
        assert await admitted(workers, 400, RateLimit(40, 60)) == 40
        assert 0.15 < time.monotonic() - began < 5  # many fifths, had each waited
        again: list[float] = []
        for _ in range(3):  # what else the machine does adds to it, and takes nothing away
            began = time.monotonic()
            assert await admitted(workers, 400, RateLimit(40, 60)) == 0
            again.append(time.monotonic() - began)
        assert min(again) < 0.15
        assert len(said) == WORKERS
        redis.thaw()
        await until_shared_again(workers, clock)
        assert await admitted(workers, 400, RateLimit(50, 30)) == 50
        assert said[WORKERS:] == ["Redis is back: limits are shared again"] * WORKERS


async def test_while_redis_is_away_one_request_a_second_asks_for_it(
    redis: Server, clock: Clock
) -> None:
    said: list[str] = []
    limit = RateLimit(10**6, 60)
    async with limiters(servers.redis_url(redis), clock, said, timeout=TIMEOUT) as workers:
        redis.freeze()
        await admitted(workers[:1], 50, limit)
        clock.now += 1.1
        waiting = asyncio.create_task(admitted(workers[:1], 1, limit))
        await asyncio.sleep(0)
        assert await admitted(workers[:1], 50, limit) == 50
        assert not waiting.done()  # the others did not wait with it
        assert await waiting == 1
        assert len(said) == 2


async def test_a_password_in_the_url_is_not_logged(redis: Server, clock: Clock) -> None:
    said: list[str] = []
    url = f"redis://:canary-secret@127.0.0.1:{redis.port}/0"
    redis.kill()
    async with limiters(url, clock, said) as workers:
        assert await admitted(workers, 40, RateLimit(8, 60)) == 8
    assert said
    assert not any("canary" in line or "127.0.0.1" in line for line in said)
