"""How a Redis is reached by WARDGATE_REDIS_URL: for limits, and for announcements.

Nothing is connected or asked here. Called by windows/redis.py and channel.py.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.errors import StartRefused


def options(connecting: float, answering: float | None) -> dict[str, Any]:
    """For redis-py: seconds for a connection, and for each answer (None: somebody else counts)."""
    return {
        "socket_timeout": answering,
        "socket_connect_timeout": connecting,
        # The client's own three retries would outlast the timeout.
        "retry": Retry(NoBackoff(), 0),
        # In the third protocol redis-py 8.1 does not see that Redis closed an idle connection.
        "protocol": 2,
    }


def client(url: str, patience: float) -> Redis:
    """One that gives up after `patience` seconds. Raises StartRefused for a URL that is none."""
    try:
        return Redis.from_url(url.replace("redis+unix", "unix", 1), **options(patience, patience))
    except ValueError:
        raise unusable() from None


def unusable() -> StartRefused:
    # The URL is not repeated: it may hold a password.
    return StartRefused("WARDGATE_REDIS_URL cannot be used: write redis://host:port/database")
