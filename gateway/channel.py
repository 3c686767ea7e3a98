"""A channel of Redis on which revisions of one store are told: after a change, and after a look.

Told is a number and who tells it, nothing secret; the channel's name is a keyed hash, so stores
that share a Redis do not hear each other. Telling delays nobody and fails nobody: whoever misses
it looks for himself. Used by the desk (tells) and by process/hearsay.py (both).
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from redis.exceptions import RedisError

from gateway import redis_client
from gateway.redis_client import Patience
from gateway.shapes import Secret

PATIENCE = 0.5  # seconds for Redis to take what is told
_PATIENCE = Patience(connecting=PATIENCE, answering=PATIENCE)
SILENCE = 1.5  # without a sign of life, pongs included, it is subscribed anew
_PING_EVERY = 0.5
_PAUSE = 1.0  # between two tries to subscribe, give or take a half
_COMPLAIN_EVERY = 30.0
_MESSAGE = re.compile(rb"([0-9a-f]{16}) ([0-9]{1,18})")

Hear = Callable[[int], None]


class Channel:
    """`say` is told now and then that Redis is away. Raises StartRefused for a URL that is none."""

    def __init__(self, url: str, hash_key: Secret, say: Callable[[str], None]) -> None:
        self.name = name(hash_key)
        self.up = False
        # The first one is used. Any of a cluster's nodes will do: what one is told, all pass on.
        self._clients = deque(redis_client.clients(redis_client.read(url), _PATIENCE))
        self._say = say
        self._me = secrets.token_hex(8)
        self._next: int | None = None
        self._telling: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._closed = False
        self._complained = float("-inf")

    def __repr__(self) -> str:
        return f"<Channel {self.name}: {'subscribed' if self.up else 'not subscribed'}>"

    def tell(self, revision: int) -> None:
        """Tell everybody, soon and at most once; of several that wait only the last is told."""
        self._next = revision
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    def listen(self, hear: Hear) -> None:
        """Hand `hear` what others tell; subscribes again when Redis was away."""
        self._listening = asyncio.get_running_loop().create_task(self._listen(hear))

    async def _listen(self, hear: Hear) -> None:
        while not self._closed:
            try:
                await self._follow(hear)
            except (RedisError, OSError) as error:
                self._clients.rotate(-1)
                self._complain("no announcements of changes come in", error)
            finally:
                self.up = False
            await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))

    async def aclose(self) -> None:
        """What is being told may finish, if Redis takes it within PATIENCE."""
        self._closed = True
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=PATIENCE)
        for task in (self._telling, self._listening):
            # Until Python 3.12 wait_for, under redis-py's sending, may swallow a cancellation.
            while task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=PATIENCE)
        for client in self._clients:
            await client.aclose()

    async def _tell(self) -> None:
        try:
            while self._next is not None:
                revision, self._next = self._next, None
                await self._publish(f"{self._me} {revision}")
        except (RedisError, OSError) as error:
            self._next = None
            self._complain("changes are not announced", error)
        finally:
            self._telling = None

    async def _publish(self, told: str) -> None:
        for tries_left in reversed(range(len(self._clients))):
            try:
                await self._clients[0].publish(self.name, told)
            except (RedisError, OSError):
                self._clients.rotate(-1)
                if not tries_left:
                    raise
            else:
                return

    async def _follow(self, hear: Hear) -> None:
        async with self._clients[0].pubsub() as pubsub:
            await pubsub.subscribe(self.name)
            heard_at = time.monotonic()
            while not self._closed:
                message = await pubsub.get_message(timeout=_PING_EVERY)
                if message is not None:
                    heard_at, self.up = time.monotonic(), True
                    self._take(message, hear)
                elif time.monotonic() - heard_at > SILENCE:
                    raise TimeoutError
                else:
                    await pubsub.ping()

    def _take(self, message: dict[str, Any], hear: Hear) -> None:
        """Whatever is no message of ours, or one that we sent, is passed over."""
        if message["type"] != "message":
            return
        found = _MESSAGE.fullmatch(message["data"])
        if found is not None and found[1] != self._me.encode():
            hear(int(found[2]))

    def _complain(self, what: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained > _COMPLAIN_EVERY:
            self._complained = now
            # Only the kind: the message may hold the URL, and the URL a password.
            self._say(f"{what} by Redis ({type(error).__name__}): gateways look for themselves")


def name(hash_key: Secret) -> str:
    """The channel of the store that hashes with this key."""
    key = hash_key.expose()
    return "wardgate:revision:" + blake2b(b"channel 1", key=key, digest_size=16).hexdigest()
