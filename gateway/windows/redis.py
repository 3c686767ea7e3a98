"""Windows of rate limits kept in Redis, so that they are exact across workers and machines.

Every question ends within the timeout, counted from when it is sent; one that fails raises Away,
and Redis is then left alone for a second. Never decides what happens without Redis. Called by
limit.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gateway import redis_client
from gateway.redis_url import RedisUrl
from gateway.windows.breaker import Breaker
from gateway.windows.memory import Bucket, Left
from gateway.windows.pipeline import Pipeline, Steps, patience
from gateway.windows.scripts import Scripts, admitted, left
from gateway.windows.shards import Shards

Refusal = tuple[Bucket, float]  # the limit that is used up, and for how long


class RedisWindows:
    """The same windows for everybody. `say` is told, at most once a second, that Redis is away.

    Raises StartRefused for a URL that is none. Nothing is connected before it is asked.
    """

    def __init__(
        self, url: str, clock: Callable[[], float], say: Callable[[str], None], timeout: float
    ) -> None:
        self._scripts = Scripts()
        self._redis = _reached(redis_client.read(url), self._scripts.loading, clock, say, timeout)

    def __repr__(self) -> str:
        return f"<RedisWindows: {'away' if self.away else 'in use'}>"

    @property
    def away(self) -> bool:
        """Whether it, or a node of it, did not answer when it was asked last."""
        return self._redis.away

    def admit(self, buckets: Sequence[Bucket], now: float) -> Awaitable[Refusal | None]:
        """Count one request in all buckets, or in none: then say which is full, and how long.

        Raises Away. Between two workers a refusal may pass while the other gives its count back.
        """
        return self._redis.ask(self._admit(buckets, now))

    def left(self, buckets: Sequence[Bucket], now: float) -> Awaitable[list[Left]]:
        """What each bucket still holds; counts nothing. Raises Away."""
        return self._redis.ask(self._left(buckets, now))

    async def aclose(self) -> None:
        await self._redis.aclose()

    def _admit(self, buckets: Sequence[Bucket], now: float) -> Steps[Refusal | None]:
        held: list[Bucket] = []
        for step in _steps(buckets, now):
            replies = yield [self._scripts.hit(bucket, now) for bucket in step]
            answers = zip(step, replies, strict=True)
            refused = [bucket for bucket, reply in answers if not admitted(bucket, reply)]
            if refused:
                # A fixed window counts what it refuses, too.
                held += [bucket for bucket in step if bucket not in refused or not bucket.sliding]
                wait = yield from self._give_back(held, refused, now)
                return refused[0], wait
            held += step
        return None

    def _give_back(
        self, held: Sequence[Bucket], refused: Sequence[Bucket], now: float
    ) -> Steps[float]:
        """Also looks for how long who refused has no room; returns it of the first."""
        back = [self._scripts.give_back(bucket, now) for bucket in held]
        replies = yield [*back, *(self._scripts.look(bucket, now) for bucket in refused)]
        found = zip(refused, replies[len(back) :], strict=True)
        waits = [left(bucket, reply, now)[1] for bucket, reply in found]
        for bucket, wait in zip(refused, waits, strict=True):
            bucket.full_until = now + wait
        return waits[0]

    def _left(self, buckets: Sequence[Bucket], now: float) -> Steps[list[Left]]:
        replies = yield [self._scripts.look(bucket, now) for bucket in buckets]
        answers = zip(buckets, replies, strict=True)
        return [left(bucket, reply, now) for bucket, reply in answers]


def _steps(buckets: Sequence[Bucket], now: float) -> list[Sequence[Bucket]]:
    """All at once, but first each by itself that was full when asked last.

    It will likely refuse again, and would meanwhile have held room of the others, whose other
    requests might then be refused.
    """
    full = [bucket for bucket in buckets if now < bucket.full_until]
    if not full:
        return [buckets]
    rest = [bucket for bucket in buckets if bucket not in full]
    return [*([bucket] for bucket in full), *([rest] if rest else ())]


def _reached(
    url: RedisUrl,
    scripts: Sequence[bytes],
    clock: Callable[[], float],
    say: Callable[[str], None],
    timeout: float,
) -> Pipeline | Shards:
    if url.kind == "cluster":
        return Shards(url, scripts, clock, say, timeout)
    client = redis_client.clients(url, patience(timeout))[0]
    return Pipeline(client, scripts, Breaker(clock, say), timeout)
