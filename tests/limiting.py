"""Limiters over one Redis, and requests for them to admit: what the tests of limits share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.errors import RateLimited
from gateway.limit import Limiter
from gateway.shapes import Client, ProviderConfig, RateLimit
from tests.redis_fleets import eventually

WORKERS = 4
TIMEOUT = 0.2  # seconds, unless told otherwise
PATIENT = 3.0  # for a Redis that is well, on a machine that has other work


@dataclass
class Clock:
    """Stands still, so that no window ends while a test runs. Redis forgets by the time of day,
    which is why this starts there."""

    now: float

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Twenty seconds into a minute of today."""
    return Clock(time.time() // 60 * 60 + 20)


HOUR = 3600
WIDE = RateLimit(10**6, HOUR)


@pytest.fixture
def hour_clock() -> Clock:
    """So early in an hour that it does not end, however often a pause of Redis' is over."""
    return Clock(time.time() // HOUR * HOUR + 20)


async def until_shared(workers: list[Limiter], clock: Clock, name: str = "other") -> None:
    """Every worker counts in Redis again, this config's requests too; each tries after a pause."""

    async def met() -> bool:
        clock.now += 1.1
        for worker in workers:
            await worker.admit(client(), None, config(WIDE, name))
        return not any(worker.redis_away for worker in workers)

    await eventually(met, "limits that are shared again")


@asynccontextmanager
async def limiters(
    url: str,
    clock: Clock,
    said: list[str],
    without: Mapping[str, str] | None = None,
    timeout: float = PATIENT,
) -> AsyncIterator[list[Limiter]]:
    """One limiter a worker, each of which knows its share."""
    made = [
        Limiter(clock, (n, WORKERS), url, said.append, without, timeout) for n in range(WORKERS)
    ]
    try:
        yield made
    finally:
        for limiter in made:
            await limiter.aclose()


def client(limit: RateLimit | None = None, name: str = "key1") -> Client:
    return Client(id=name, digest=b"", scope="global", name="test", limit=limit)


def config(limit: RateLimit | None = None, name: str = "config1") -> ProviderConfig:
    return ProviderConfig(
        id=name,
        scope="global",
        provider="openai",
        alias="a",
        dialect="openai",
        base_url="https://api.openai.com/v1",
        limit=limit,
    )


async def admitted(
    workers: list[Limiter],
    times: int,
    what: RateLimit | None,
    who: RateLimit | None = None,
    where: RateLimit | None = None,
) -> int:
    """How many of `times` requests, spread over the workers and started at once, are admitted."""
    gateway = ("gateway:acme/main", where) if where else None
    key, row = client(who), config(what)
    tries = (workers[n % len(workers)].admit(key, gateway, row) for n in range(times))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert all(answer is None or isinstance(answer, RateLimited) for answer in answers), answers
    return sum(answer is None for answer in answers)
