"""Redis killed, frozen, slow or read-only: what becomes of limits is what the operator chose,
nobody waits longer than the timeout, it is told once a second at most, and it ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from admin.demo.upstream import Upstream
from gateway.errors import LimitsAway, RateLimited
from gateway.limit import Limiter
from gateway.shapes import RateLimit
from tests import limiting, servers
from tests.limiting import TIMEOUT, WORKERS, Clock, client, config, limiters
from tests.serve import RawClient
from tests.servers import Server
from tests.world import World, served

clock = limiting.clock
FAULTS = ("killed", "frozen", "slow", "read-only")
LIMIT = RateLimit(20, 60)
GATEWAY = ("gateway:acme/main", LIMIT)
# What else the machine does is waited for, too.
SLACK = 1.0


class End(asyncio.Protocol):
    """One end of a proxied connection; what it hears leaves at the other end `delay()` later."""

    other: End
    transport: asyncio.Transport

    def __init__(self, delay: Callable[[], float] = lambda: 0.0) -> None:
        self._delay = delay
        self._early: list[bytes] = []  # before there was another end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def join(self, other: End) -> None:
        self.other, other.other = other, self
        for piece in self._early:
            other.transport.write(piece)

    def data_received(self, data: bytes) -> None:
        if not hasattr(self, "other"):
            self._early.append(data)
        elif seconds := self._delay():
            asyncio.get_running_loop().call_later(seconds, self._pass_on, data)
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "other"):
            self.other.transport.abort()


class Line:
    """A TCP proxy before Redis; what Redis says is `delay` seconds on its way."""

    def __init__(self, port: int) -> None:
        self._redis = port
        self._joining: set[asyncio.Task[None]] = set()
        self.delay = 0.0

    async def __aenter__(self) -> Line:
        self._server = await asyncio.get_running_loop().create_server(self._take, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _take(self) -> End:
        near = End()
        task = asyncio.get_running_loop().create_task(self._join(near))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        return near

    async def _join(self, near: End) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, far = await loop.create_connection(
                lambda: End(lambda: self.delay), "127.0.0.1", self._redis
            )
        except OSError:
            near.transport.abort()
            return
        near.join(far)
        if near.transport.is_closing():
            far.transport.abort()


@contextlib.contextmanager
def away(fault: str, redis: Server, line: Line) -> Iterator[None]:
    """Redis is, until the block is left."""
    begin, end = {
        "killed": (redis.kill, redis.start),
        "frozen": (redis.freeze, redis.thaw),
        "slow": (lambda: setattr(line, "delay", 2 * TIMEOUT), lambda: setattr(line, "delay", 0.0)),
        "read-only": (
            lambda: servers.redis_command(redis.port, "REPLICAOF 127.0.0.1 1"),
            lambda: servers.redis_command(redis.port, "REPLICAOF NO ONE"),
        ),
    }[fault]
    begin()
    try:
        yield
    finally:
        end()


async def outcomes(workers: list[Limiter], times: int, *, gateway: bool = False) -> dict[str, int]:
    """What becomes of `times` requests that the workers take in turn, all at once; none waits for
    longer than the timeout.
    """

    async def one(worker: Limiter) -> str:
        began = time.monotonic()
        try:
            await worker.admit(client(), GATEWAY if gateway else None, config(LIMIT))
        except (RateLimited, LimitsAway) as error:
            return error.code
        finally:
            assert time.monotonic() - began < TIMEOUT + SLACK
        return "admitted"

    ended = await asyncio.gather(*(one(workers[n % WORKERS]) for n in range(times)))
    return {what: ended.count(what) for what in sorted(set(ended))}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("choice", "while_away"),
    [
        ("local", {"admitted": 20, "rate_limit_exceeded": 20}),
        ("deny", {"unavailable": 40}),
        ("allow", {"admitted": 40}),
    ],
)
async def test_limit_is_held_as_chosen_while_redis_is_away(
    redis: Server, clock: Clock, fault: str, choice: str, while_away: dict[str, int]
) -> None:
    said: list[str] = []
    async with (
        Line(redis.port) as line,
        limiters(line.url, clock, said, {"config": choice}, TIMEOUT) as workers,
    ):
        assert await outcomes(workers, 12) == {"admitted": 12}
        with away(fault, redis, line):
            assert await outcomes(workers, 40) == while_away
            assert len(said) == WORKERS
            for _ in range(3):  # the same moment, however often it is asked
                await outcomes(workers, 40)
            assert len(said) == WORKERS
            clock.now += 1.1
            await outcomes(workers, 40)
            assert len(said) == 2 * WORKERS
        assert all(one.startswith("Redis is away (") for one in said)
        clock.now += 1.1
        for worker in workers:
            await worker.admit(client(), None, config(RateLimit(10**6, 600)))
        assert said[2 * WORKERS :] == ["Redis is back: limits are shared again"] * WORKERS
        found = (await outcomes(workers, 40)).get("admitted", 0)
        # Killed, it kept nothing; what it got late it counted, for nobody any more.
        assert found <= 8 if fault in ("frozen", "slow") else found == {"killed": 20}.get(fault, 8)


async def test_one_kind_of_limit_may_be_denied_and_another_let_go(
    redis: Server, clock: Clock
) -> None:
    redis.kill()
    url = servers.redis_url(redis)
    async with limiters(url, clock, [], {"gateway": "deny", "config": "allow"}, TIMEOUT) as workers:
        assert await outcomes(workers, 40) == {"admitted": 40}
        assert await outcomes(workers, 8, gateway=True) == {"unavailable": 8}
    async with limiters(url, clock, [], {"gateway": "allow"}, TIMEOUT) as workers:
        found = await outcomes(workers, 40, gateway=True)
        assert found == {"admitted": 20, "rate_limit_exceeded": 20}  # the config's shares


async def test_slow_redis_within_the_timeout_counts_exactly(redis: Server, clock: Clock) -> None:
    said: list[str] = []
    async with (
        Line(redis.port) as line,
        limiters(line.url, clock, said, timeout=TIMEOUT) as workers,
    ):
        line.delay = TIMEOUT / 4
        assert await outcomes(workers, 40) == {"admitted": 20, "rate_limit_exceeded": 20}
        assert said == []


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/v1/chat/completions", b'{"model":"gpt-4o-mini"}', b'"code":"unavailable"'),
        ("/v1/messages", b'{"model":"claude-sonnet-4-5"}', b'{"type":"error",'),
        ("/v1beta/models/gemini-2.5-flash:generateContent", b"{}", b'"status":"UNAVAILABLE"'),
    ],
)
async def test_denied_request_is_a_503_that_reaches_no_provider(
    upstream: Upstream, redis: Server, path: str, body: bytes, shape: bytes
) -> None:
    redis.kill()
    world = World()
    world.config("openai", upstream.url, limit=LIMIT)
    world.config("anthropic", upstream.url, dialect="anthropic", limit=LIMIT)
    world.config("google", upstream.url, dialect="gemini", limit=LIMIT)
    headers = {"authorization": f"Bearer {world.key()}", "content-type": "application/json"}
    given: dict[str, Any] = {"redis_away": {"config": "deny"}, "redis_timeout": TIMEOUT}
    given["redis_url"] = servers.redis_url(redis)
    async with served(world, **given) as house, RawClient.to(house.url) as caller:
        answer = await caller.request("POST", path, headers, body)
    assert (answer.status, answer.header(b"x-should-retry")) == (503, b"true"), answer.wire
    assert answer.header(b"retry-after") == b"1"
    assert shape in answer.body
    assert upstream.received == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_gateway_serves_on_whatever_redis_does(
    upstream: Upstream, redis: Server, fault: str
) -> None:
    world = World()
    world.config("openai", upstream.url, limit=RateLimit(5, 3600))
    world.config("anthropic", upstream.url, dialect="anthropic")
    headers = {"authorization": f"Bearer {world.key()}", "content-type": "application/json"}
    counted = ("POST", "/v1/chat/completions", headers, b'{"model":"gpt-4o-mini"}')
    free = ("POST", "/v1/messages", headers, b'{"model":"claude-sonnet-4-5"}')
    async with (
        Line(redis.port) as line,
        served(world, redis_url=line.url, redis_timeout=TIMEOUT) as house,
        RawClient.to(house.url) as caller,
    ):
        with away(fault, redis, line):
            began = time.monotonic()
            assert (await caller.request(*free)).status == 200
            assert time.monotonic() - began < TIMEOUT + SLACK
            statuses = [(await caller.request(*counted)).status for _ in range(7)]
            assert statuses == [200] * 5 + [429] * 2
            # It is tried once a second: who tries may wait, and nobody else does.
            assert time.monotonic() - began < 3 * (TIMEOUT + SLACK)
            assert house.gateway._house.limiter.redis_away


async def test_redis_that_may_take_longer_is_not_away(upstream: Upstream, redis: Server) -> None:
    world = World()
    world.config("openai", upstream.url, limit=RateLimit(2, 3600))
    headers = {"authorization": f"Bearer {world.key()}", "content-type": "application/json"}
    asked = ("POST", "/v1/chat/completions", headers, b'{"model":"gpt-4o-mini"}')
    async with Line(redis.port) as line:
        line.delay = 2 * TIMEOUT
        given: dict[str, Any] = {"redis_url": line.url}
        async with (
            served(world, **given, redis_timeout=10.0) as house,
            RawClient.to(house.url) as caller,
        ):
            statuses = [(await caller.request(*asked)).status for _ in range(3)]
            assert statuses == [200, 200, 429]
            assert not house.gateway._house.limiter.redis_away
    assert b"wardgate:config/" in servers.redis_command(redis.port, "KEYS *")
