"""How a Redis is reached by WARDGATE_REDIS_URL: for limits, and for announcements.

Nothing is connected or asked here. Called by windows/, channel.py and the doctor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway import redis_url
from gateway.errors import StartRefused
from gateway.redis_url import Node, RedisUrl


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for a connection, and for each answer (None: somebody else counts)."""

    connecting: float
    answering: float | None


def read(raw: str) -> RedisUrl:
    """Raises StartRefused for a URL that is none."""
    try:
        return redis_url.parse(raw)
    except ValueError as error:
        raise StartRefused(f"WARDGATE_REDIS_URL cannot be used: {error}") from None


def clients(url: RedisUrl, patience: Patience) -> list[Redis]:
    """Of a cluster each node that is named, else the one there is; raises StartRefused.

    What one of them is told, the subscribers of all others hear.
    """
    if url.kind == "sentinel":
        return [_primary(url, patience)]
    return [_client(one, patience) for one in map(url.of, url.named)] or [
        _client(url.whole, patience)
    ]


def node(url: RedisUrl, at: Node, patience: Patience) -> Redis:
    """A node of the cluster, named by the URL or not."""
    return _client(url.of(at), patience)


def _client(url: str, patience: Patience) -> Redis:
    try:
        made = Redis.from_url(url, **_options(patience))
        _try_out(made)
    except (TypeError, ValueError):
        raise _unusable() from None
    return made


def _primary(url: RedisUrl, patience: Patience) -> Redis:
    asked = [_client(one, patience) for one in map(url.of_sentinel, url.named)]
    try:
        given = dict(parse_url(url.of_primary))
        secure = given.pop("connection_class", None) is SSLConnection
        options = {**given, **_options(patience), **({"ssl": True} if secure else {})}
        made: Redis = _Sentinels(asked, options).master_for(url.service, redis_class=_Primary)
        _try_out(made)
    except (TypeError, ValueError):
        raise _unusable() from None
    return made


def _try_out(client: Redis) -> None:
    """Raises TypeError for an option nobody knows; connects to nobody."""
    cast(Any, client.connection_pool).make_connection()


def _options(patience: Patience) -> dict[str, Any]:
    return {
        "socket_timeout": patience.answering,
        "socket_connect_timeout": patience.connecting,
        # The client's own three retries would outlast the timeout.
        "retry": Retry(NoBackoff(), 0),
        # In the third protocol redis-py 8.1 does not see that Redis closed an idle connection.
        "protocol": 2,
    }


def _unusable() -> StartRefused:
    # The URL is not repeated: it may hold a password.
    return StartRefused("WARDGATE_REDIS_URL cannot be used: redis-py does not know an option of it")


class _Sentinels(Sentinel):
    """All are asked at once: the library asks one after another, and one that is gone would cost
    the others the time in which a limit has to be counted."""

    def __init__(self, asked: list[Redis], options: dict[str, Any]) -> None:
        cast(Any, super()).__init__([], **options)
        self.sentinels = asked

    async def discover_master(self, service_name: str) -> Node:
        """Raises MasterNotFoundError, which is a RedisError."""
        tasks = [
            asyncio.ensure_future(sentinel.sentinel_master(service_name))
            for sentinel in self.sentinels
        ]
        try:
            for next_one in asyncio.as_completed(tasks):
                found = await self._node_in(next_one, service_name)
                if found is not None:
                    return found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise MasterNotFoundError("no sentinel knows a primary that is up")

    async def _node_in(self, answer: Any, service_name: str) -> Node | None:
        try:
            state = await answer
        except (RedisError, OSError):
            return None
        if not self.check_master_state(state, service_name):
            return None
        return state["ip"], state["port"]


class _Primary(Redis):
    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await cast(Any, self.connection_pool).sentinel_manager.aclose()
