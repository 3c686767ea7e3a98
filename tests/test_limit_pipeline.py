"""Questions for Redis that travel together: what they count, who may leave, what may fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from gateway.errors import RateLimited
from gateway.limit import Limiter
from gateway.shapes import RateLimit
from tests import servers
from tests.limiting import Clock, admitted, client, config, limiters
from tests.servers import Server

DEADLINE = 5.0


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@asynccontextmanager
async def limiter(redis: Server, clock: Clock, said: list[str]) -> AsyncIterator[Limiter]:
    made = Limiter(clock, redis_url=servers.redis_url(redis), say=said.append)
    try:
        yield made
    finally:
        await made.aclose()


def counted(redis: Server, clock: Clock, config: str, period: int = 60) -> int:
    """What Redis holds for a config's fixed window."""
    key = f"wardgate:config/{config}/{period}/{int(clock.now // period)}"
    return int(servers.redis_command(redis.port, f"GET {key}").split(b"\r\n")[1] or 0)


def reads(redis: Server) -> int:
    """How often Redis has read from a connection."""
    told = servers.redis_command(redis.port, "INFO stats")
    return int(told.split(b"total_reads_processed:")[1].split(b"\r\n")[0])


async def asked(
    limiter: Limiter, limit: RateLimit, times: int, *others: str
) -> list[asyncio.Task[None]]:
    """Requests whose questions wait for the next tick; one more for each of the other configs."""
    rows = [*[config(limit)] * times, *(config(limit, name) for name in others)]
    made = [asyncio.create_task(limiter.admit(client(), None, row)) for row in rows]
    await asyncio.sleep(0)
    return made


async def ticks(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def until_alone() -> None:
    """No task is left but the test's own."""
    deadline = time.monotonic() + DEADLINE
    while len(asyncio.all_tasks()) > 1:
        assert time.monotonic() < deadline, asyncio.all_tasks()
        await asyncio.sleep(0)


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_of_five_thousand_hits_exactly_the_limit_is_admitted(
    redis_url: str, clock: Clock, technique: Literal["fixed", "sliding"]
) -> None:
    said: list[str] = []
    async with limiters(redis_url, clock, said) as workers:
        assert await admitted(workers, 5000, RateLimit(500, 600, technique)) == 500
    assert said == []


async def test_what_is_asked_in_one_tick_travels_together(redis: Server, clock: Clock) -> None:
    wide = RateLimit(1000, 60)
    async with limiter(redis, clock, []) as one:
        await one.admit(client(), None, config(wide))
        before = reads(redis)
        assert await admitted([one], 100, wide, wide, wide) == 100
        assert reads(redis) - before <= 8  # one batch is a few network buffers long


async def test_what_is_asked_beyond_a_batch_is_not_sent_before_that_is_back(
    redis: Server, clock: Clock
) -> None:
    limit = RateLimit(1000, 60)
    async with limiter(redis, clock, []) as one:
        await one.admit(client(), None, config(limit, "another"))
        redis.freeze()
        tasks = await asked(one, limit, 300)
        await ticks()
        for task in tasks:
            task.cancel()
        redis.thaw()
        await until_alone()
        assert counted(redis, clock, "config1") == 128
        assert await admitted([one], 300, limit) == 300


async def test_three_limits_are_asked_in_one_go(redis: Server, clock: Clock) -> None:
    wide = RateLimit(1000, 60)
    async with limiter(redis, clock, []) as one:
        await admitted([one], 1, wide, wide, wide)
        before = reads(redis)
        assert await admitted([one], 1, wide, wide, wide) == 1
        assert reads(redis) - before <= 3  # two of them are the looks at this figure


async def test_a_limit_that_refuses_holds_no_room_of_the_others(
    redis: Server, clock: Clock
) -> None:
    gateway = ("gateway:acme/main", RateLimit(6, 60))
    used_up, other = client(RateLimit(1, 60), "used-up"), client(RateLimit(5, 60), "other")
    async with limiter(redis, clock, []) as one:
        await one.admit(used_up, gateway, config())
        with pytest.raises(RateLimited):
            await one.admit(used_up, gateway, config())
        tries = [one.admit(who, gateway, config()) for who in [*[used_up] * 50, *[other] * 4]]
        answers = await asyncio.gather(*tries, return_exceptions=True)
    assert [answer is None for answer in answers] == [False] * 50 + [True] * 4


async def test_who_leaves_before_the_question_is_sent_is_not_counted(
    redis: Server, clock: Clock
) -> None:
    async with limiter(redis, clock, []) as one:
        tasks = await asked(one, RateLimit(100, 60), 10)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer is None for answer in answers] == [False, True] * 5
        assert counted(redis, clock, "config1") == 5


async def test_who_leaves_under_way_fails_nobody_and_loses_no_count(
    redis: Server, clock: Clock
) -> None:
    said: list[str] = []
    async with limiter(redis, clock, said) as one:
        await one.admit(client(), None, config(RateLimit(1, 60), "another"))
        redis.freeze()
        tasks = await asked(one, RateLimit(10, 60), 40)
        await ticks()
        # Eight that are to be admitted, and twenty that are to be refused and given back.
        for task in [*tasks[:8], *tasks[20:]]:
            task.cancel()
        redis.thaw()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer is None for answer in answers] == [False] * 8 + [True] * 2 + [False] * 30
        await until_alone()
        assert counted(redis, clock, "config1") == 10
        assert said == []


async def test_closing_answers_who_waits_and_leaves_no_task(redis: Server, clock: Clock) -> None:
    limit = RateLimit(200, 60)
    async with limiter(redis, clock, []) as one:
        await one.admit(client(), None, config(limit))
        redis.freeze()
        tasks = await asked(one, limit, 300)
        await ticks()
        await one.aclose()
        await ticks()
        assert all(task.done() for task in tasks)
        assert sum(task.exception() is None for task in tasks) == 200  # this worker's share
        await until_alone()
        # Nobody is asked any more.
        assert await admitted([one], 9, RateLimit(5, 30)) == 5
        assert len(asyncio.all_tasks()) == 1


async def test_closing_in_the_tick_of_a_question_answers_it(redis: Server, clock: Clock) -> None:
    async with limiter(redis, clock, []) as one:
        tasks = await asked(one, RateLimit(3, 60), 5)
        await one.aclose()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(answer is None for answer in answers) == 3
        await until_alone()


async def test_redis_that_forgot_the_scripts_is_told_them_again(
    redis: Server, clock: Clock
) -> None:
    said: list[str] = []
    fixed, sliding = RateLimit(9, 60), RateLimit(9, 60, "sliding")
    async with limiter(redis, clock, said) as one:
        assert await admitted([one], 5, fixed, sliding) == 5
        assert servers.redis_command(redis.port, "SCRIPT FLUSH") == b"+OK\r\n"
        assert await admitted([one], 30, fixed, sliding) == 4
        assert said == []


async def test_a_connection_closed_while_idle_is_made_anew(redis: Server, clock: Clock) -> None:
    said: list[str] = []
    limit = RateLimit(9, 60)
    async with limiter(redis, clock, said) as one:
        assert await admitted([one], 5, limit) == 5
        assert servers.redis_command(redis.port, "CLIENT KILL TYPE normal") == b":1\r\n"
        await ticks()
        assert await admitted([one], 30, limit) == 4
        assert said == []


async def test_a_redis_that_only_reads_counts_as_away(redis: Server, clock: Clock) -> None:
    said: list[str] = []
    async with limiters(servers.redis_url(redis), clock, said) as workers:
        assert await admitted(workers, 4, RateLimit(10, 60)) == 4
        servers.redis_command(redis.port, "REPLICAOF 127.0.0.1 1")
        assert await admitted(workers, 100, RateLimit(20, 60)) == 20  # the shares
        assert said == ["Redis is away (ReadOnlyError): limits are not shared"] * 4
        servers.redis_command(redis.port, "REPLICAOF NO ONE")
        clock.now += 1.1
        for worker in workers:
            await worker.admit(client(), None, config(RateLimit(1000, 600)))
        assert said[4:] == ["Redis is back: limits are shared again"] * 4
        assert await admitted(workers, 100, RateLimit(20, 600)) == 16


async def test_what_redis_refuses_to_one_is_counted_for_the_others(
    redis: Server, clock: Clock
) -> None:
    said: list[str] = []
    async with limiter(redis, clock, said) as one:
        odd = f"wardgate:config/odd/60/{int(clock.now // 60)}"
        assert servers.redis_command(redis.port, f"LPUSH {odd} text") == b":1\r\n"
        await asyncio.gather(*await asked(one, RateLimit(20, 60), 20, "odd"))
        assert counted(redis, clock, "config1") == 20
        assert said == ["Redis is away (ResponseError): limits are not shared"]


@pytest.mark.parametrize("outage", ["frozen", "reads only"])
async def test_who_waits_for_a_batch_that_fails_waits_for_none_of_its_own(
    redis: Server, clock: Clock, outage: str
) -> None:
    said: list[str] = []
    limit = RateLimit(400, 60)
    async with limiter(redis, clock, said) as one:
        await one.admit(client(), None, config(limit))
        if outage == "frozen":
            redis.freeze()
        else:
            servers.redis_command(redis.port, "REPLICAOF 127.0.0.1 1")
        tasks = await asked(one, limit, 400)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await ticks(2)
        assert all(task.done() for task in tasks)
        redis.thaw()
    assert len(said) == 1


def be_busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


async def test_redis_is_not_blamed_when_this_process_is_busy(redis: Server, clock: Clock) -> None:
    said: list[str] = []
    limit = RateLimit(9, 60)
    async with limiter(redis, clock, said) as one:
        await one.admit(client(), None, config(limit))
        tasks = await asked(one, limit, 20)
        await ticks(3)
        be_busy(0.25)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(answer is None for answer in answers) == 8
        assert said == []
