"""The `limits` library's scripts for Redis as commands, and what their replies mean.

The library would send each by itself and wait; packed here, those of many requests travel together.
Keys, scripts and arguments are the library's, so its own strategies see the same windows. Never
sends anything. Called by redis.py.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any

from limits.aio.storage.redis.bridge import RedisBridge

from gateway.windows.memory import Bucket, Command, Left

PREFIX = "wardgate"


class Scripts:
    """Commands for the windows of a `limits` storage whose keys begin with PREFIX."""

    def __init__(self) -> None:
        scripts = (
            RedisBridge.SCRIPT_INCR_EXPIRE,
            RedisBridge.SCRIPT_ACQUIRE_MOVING_WINDOW,
            RedisBridge.SCRIPT_MOVING_WINDOW,
        )
        # Redis knows a script by this hash of it.
        self._incr, self._acquire, self._moving = (sha1(text).hexdigest() for text in scripts)
        self.loading = [packed("SCRIPT", "LOAD", text.decode()) for text in scripts]

    def hit(self, bucket: Bucket, now: float) -> Command:
        """Count one more; a fixed window counts what it refuses, too."""
        if bucket.sliding:
            period, most = str(bucket.period), str(bucket.limit.amount)
            return self._run(self._acquire, bucket, now, repr(now), most, period, "1")
        number = now // bucket.period
        if bucket.packed_for != number:
            bucket.packed = self._run(self._incr, bucket, now, str(bucket.period), "1")
            bucket.packed_for = number
        return bucket.packed

    def give_back(self, bucket: Bucket, now: float) -> Command:
        if bucket.sliding:
            # The library cannot take an entry back; the newest is as good as ours.
            return self._plain("LPOP", bucket, now)
        return self._run(self._incr, bucket, now, str(bucket.period), "-1")

    def look(self, bucket: Bucket, now: float) -> Command:
        """Ask what is counted."""
        if bucket.sliding:
            start, most = repr(now - bucket.period), str(bucket.limit.amount)
            return self._run(self._moving, bucket, now, start, most)
        return self._plain("GET", bucket, now)

    def _plain(self, word: str, bucket: Bucket, now: float) -> Command:
        key = _key(bucket, now)
        return key, packed(word, key)

    def _run(self, sha: str, bucket: Bucket, now: float, *arguments: str) -> Command:
        key = _key(bucket, now)
        return key, packed("EVALSHA", sha, "1", key, *arguments)


def _key(bucket: Bucket, now: float) -> str:
    return f"{PREFIX}:{bucket.whole.key_for(bucket.window(now))}"


def packed(*parts: str) -> bytes:
    """One command in Redis' protocol; the client library's own packing is four times as long."""
    encoded = [part.encode() for part in parts]
    items = [b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded]
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def admitted(bucket: Bucket, reply: Any) -> bool:
    """Whether a hit was within the limit, by what Redis replied to it."""
    return bool(reply) if bucket.sliding else reply <= bucket.limit.amount


def left(bucket: Bucket, reply: Any, now: float) -> Left:
    """What a look found: how many are left, and when the window has room again."""
    amount = bucket.limit.amount
    if not bucket.sliding:
        return max(0, amount - int(reply or 0)), bucket.ends_in(now)
    oldest, count = (float(reply[0]), reply[1]) if reply else (now, 0)
    return amount - count, max(0.0, oldest + bucket.period - now)
