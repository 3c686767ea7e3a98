"""What others say of the store's revision, and when to look at it.

Whoever looks tells the others, so of many gateways one looks at a time. Nothing is believed: a
newer revision is a reason to look, and nobody goes long without a look of his own. Where nothing is
heard everybody looks for himself. Called by publish.py.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.shapes import Secret

if TYPE_CHECKING:
    from gateway.channel import Channel

# This, and the time to compile and swap, is within the second a change may take.
LOOK_EVERY = 0.4
# What is told on and on is looked at no oftener.
_GAP = 0.05


class Hearsay:
    """`ours` is the revision the routing table has; without news a look is due `every` seconds.
    Silent until it is opened.
    """

    def __init__(self, every: float = LOOK_EVERY) -> None:
        self._every = every
        # Who looked last is the first to look again; of the others one at a time takes its place.
        self._late = random.uniform(0.05, 0.35) * every
        self.ours = -1
        self.announced = 0
        self.vouched_at = float("-inf")
        self._claimed = self._sought = -1
        self._news = asyncio.Event()
        self._channel: Channel | None = None

    def __repr__(self) -> str:
        return f"<Hearsay: at {self.ours}, {self._channel or 'no channel'}>"

    @property
    def subscribed(self) -> bool | None:
        """Whether announcements can come; None without a Redis."""
        return self._channel.up if self._channel is not None else None

    def open(self, url: str, hash_key: Secret, say: Callable[[str], None]) -> None:
        """Listen on the store's channel of the Redis at `url`; once is enough."""
        if self._channel is not None:
            return
        from gateway.channel import Channel  # brings redis-py with it

        self._channel = Channel(url, hash_key, say)
        self._channel.listen(self._hear)

    def tell(self, revision: int) -> None:
        """The store was just seen at `revision`."""
        if self._channel is not None:
            self._channel.tell(revision)

    def begin(self) -> None:
        """A look begins: it is for what others claim now."""
        self._sought = self._claimed

    def vouches(self) -> bool:
        """Whether somebody else just saw the store at our revision, and nobody says otherwise."""
        return self._claimed <= self.ours and time.monotonic() - self.vouched_at < self._every

    async def pause(self, closing: asyncio.Event) -> None:
        """Until the next look, or until `closing`; a look brings other work, so not for long."""
        if self._channel is None:
            await _first(self._every, closing)
            return
        began, gap = time.monotonic(), _GAP
        if self._sought > self.ours:  # looked for and not found: nobody is heeded for a while
            self._claimed = self._sought = self.ours
            gap = self._every
        if self._claimed <= self.ours:
            self._news.clear()
        if await _first(gap, closing):
            return
        while (left := self._due(began) - time.monotonic()) > 0:
            if await _first(left, self._news, closing):
                return

    def _due(self, began: float) -> float:
        latest = began + 2 * self._every
        return min(max(began, self.vouched_at + self._late) + self._every, latest)

    async def aclose(self) -> None:
        if self._channel is not None:
            await self._channel.aclose()

    def _hear(self, revision: int) -> None:
        if revision == self.ours:
            self.vouched_at = time.monotonic()
        elif revision > max(self.ours, self._claimed):
            self._claimed = revision
            self.announced += 1
            self._news.set()


async def _first(seconds: float, *events: asyncio.Event) -> bool:
    """Whether one of `events` came within `seconds`."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return bool(done)
