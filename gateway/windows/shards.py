"""Questions for a cluster of Redis: each command goes to the node that keeps what it is about.

Every node has a pipeline and a breaker of its own, so one that is away takes along only what it
keeps. Who keeps what is asked of any node: at first, and when one is away or names another. Never
knows what a command means. Called by redis.py.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, RedisError

from gateway import redis_client
from gateway.redis_client import Patience
from gateway.redis_url import Node, RedisUrl
from gateway.windows.breaker import PAUSE, Breaker
from gateway.windows.memory import Away, Command
from gateway.windows.pipeline import Pipeline, Question, Steps, patience

T = TypeVar("T")
# For a node that is asked who keeps what; no question waits for that longer than its own time.
_LOOKING = Patience(connecting=0.5, answering=0.5)
_ASKING: Command = ("", b"*1\r\n$6\r\nASKING\r\n")  # before what another node does not keep yet
_NOBODY = -1  # whose number the reply to that has


class Shards:
    """The nodes of one cluster; `scripts` are loaded where they are unknown."""

    def __init__(
        self,
        url: RedisUrl,
        scripts: Sequence[bytes],
        clock: Callable[[], float],
        say: Callable[[str], None],
        timeout: float,
    ) -> None:
        self._url = url
        self._scripts = scripts
        self._clock = clock
        self._say = say
        self._timeout = timeout
        self._breaker = Breaker(clock, say, "Redis' cluster")
        self._named = [redis_client.node(url, at, _LOOKING) for at in url.named]
        self._keeper: list[Node | None] = []  # by slot; empty: nobody has said yet
        self._pipelines: dict[Node, Pipeline] = {}
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # that, who waits for it, who takes leave
        self._closed = False

    @property
    def away(self) -> bool:
        """Whether any part of it did not answer when it was asked last."""
        return self._breaker.away or any(each.away for each in self._pipelines.values())

    def ask(self, steps: Steps[T]) -> Awaitable[T]:
        """What the question found, or Away: then some of its commands may have been carried out.

        Who leaves before any of it is sent has asked nothing.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        walk = _Walk(self, steps, answer)
        if self._keeper:
            walk.begin()
        else:
            self._do(self._begin(walk))
        return answer

    def put(self, question: Question, node: Node) -> None:
        pipeline = self._pipelines.get(node)
        if pipeline is None and not self._closed:
            pipeline = self._pipelines[node] = self._pipeline(node)
        if pipeline is None:
            question.give_up()
        else:
            pipeline.put(question)

    def keeper(self, key: str) -> Node | None:
        """Who keeps `key`, as far as is known."""
        return self._keeper[key_slot(key.encode())] if self._keeper else None

    def moved(self, slot: int, node: Node) -> None:
        """So says who kept it before; others may have moved with it."""
        self._keeper[slot] = node
        self.look()

    def look(self) -> None:
        """Begin to find out who keeps what, unless that was begun within the last second."""
        now = self._clock()
        # A clock set back must not lengthen the pause.
        if self._looking is None and not self._closed and not 0.0 <= now - self._looked_at < PAUSE:
            self._looked_at = now
            self._looking = self._do(self._look())

    async def aclose(self) -> None:
        """Whoever still waits is told Away."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        await asyncio.gather(*(each.aclose() for each in self._pipelines.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(client.aclose() for client in self._named))

    async def _begin(self, walk: _Walk) -> None:
        self.look()
        if self._looking is not None and not self._breaker.away:
            await asyncio.wait([self._looking], timeout=self._timeout)
            if not self._keeper:
                # Whoever comes while it is still looked for need not wait, too.
                self._breaker.trip(TimeoutError())
        walk.begin()

    def _pipeline(self, node: Node) -> Pipeline:
        client = redis_client.node(self._url, node, patience(self._timeout))
        breaker = Breaker(self._clock, self._say, f"Redis at {node[0]}:{node[1]}")
        return Pipeline(client, self._scripts, breaker, self._timeout, answers=(AskError,))

    async def _look(self) -> None:
        try:
            self._keeper = await self._found()
            self._breaker.reset()
        except (RedisError, OSError) as error:
            self._breaker.trip(error)
        finally:
            self._looking = None
        for node in set(self._pipelines) - set(self._keeper):
            self._part_from(node)

    async def _found(self) -> list[Node | None]:
        """By whichever node answers first; raises the last one's error."""
        others = set(self._pipelines) - set(self._url.named)
        clients = [redis_client.node(self._url, node, _LOOKING) for node in others]
        try:
            return await _slots([*self._named, *clients])
        finally:
            await asyncio.gather(*(client.aclose() for client in clients))

    def _part_from(self, node: Node) -> None:
        """It keeps nothing any more, and may never be seen again."""
        pipeline = self._pipelines.pop(node)
        if pipeline.away:
            self._say(f"Redis at {node[0]}:{node[1]} is replaced: limits are shared again")
        self._do(pipeline.aclose())

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Walk:
    """A question on its way through the nodes: its commands are put to all of them at once."""

    __slots__ = ("answer", "failed", "missing", "replies", "shards", "steps", "under_way")

    def __init__(self, shards: Shards, steps: Steps[Any], answer: asyncio.Future[Any]) -> None:
        self.shards = shards
        self.steps = steps
        self.answer = answer
        self.under_way = self.failed = False

    def begin(self) -> None:
        self._ask(next(self.steps))

    def take(self, number: int, reply: Any) -> None:
        """The reply to the command of this number; the last one lets it go on."""
        self.replies[number] = reply
        self.missing -= 1
        if self.missing or self.failed:
            return
        try:
            commands = self.steps.send(self.replies)
        except StopIteration as end:
            if not self.answer.done():
                self.answer.set_result(end.value)
        else:
            self._ask(commands)

    def give_up(self) -> None:
        self.failed = True
        self.shards.look()
        if not self.answer.done():
            self.answer.set_exception(Away())

    def _ask(self, commands: Sequence[Command]) -> None:
        self.replies: list[Any] = [None] * len(commands)
        self.missing = len(commands)
        parts: dict[Node, list[int]] = defaultdict(list)
        for number, (key, _) in enumerate(commands):
            node = self.shards.keeper(key)
            if node is None:
                self.give_up()
                return
            parts[node].append(number)
        for node, numbers in parts.items():
            self.shards.put(_Part(self, node, numbers, [commands[n] for n in numbers]), node)


class _Part(Question):
    """What one node is asked of a question; the second node a command is sent on to is the last."""

    __slots__ = ("again", "node", "numbers", "walk")

    def __init__(
        self,
        walk: _Walk,
        node: Node,
        numbers: Sequence[int],
        commands: Sequence[Command],
        again: bool = False,
    ) -> None:
        super().__init__(commands)
        self.walk = walk
        self.node = node
        self.numbers = numbers
        self.again = again

    def begins(self) -> bool:
        walk = self.walk
        if not walk.under_way:
            walk.under_way = not walk.answer.cancelled()
        return walk.under_way

    def goes_on(self, replies: Sequence[Any]) -> bool:
        for number, reply, command in zip(self.numbers, replies, self.commands, strict=True):
            if isinstance(reply, AskError):
                self._send_on(number, reply, command)
            elif number != _NOBODY:
                self.walk.take(number, reply)
        return False

    def give_up(self) -> None:
        self.walk.give_up()

    def _send_on(self, number: int, there: AskError, command: Command) -> None:
        if self.again:
            self.give_up()
            return
        # Who does not know its own address means the one it was asked at.
        node = (there.host or self.node[0], there.port)
        numbers, commands = [number], [command]
        if isinstance(there, MovedError):
            self.walk.shards.moved(there.slot_id, node)
        else:
            numbers, commands = [_NOBODY, number], [_ASKING, command]
        self.walk.shards.put(_Part(self.walk, node, numbers, commands, again=True), node)


async def _slots(clients: list[Any]) -> list[Node | None]:
    # In any order, so that one which is behind the others is not asked by everybody.
    random.shuffle(clients)
    error: Exception = ConnectionError()
    for client in clients:
        try:
            found = await client.execute_command("CLUSTER SLOTS")
        except (RedisError, OSError) as failed:
            error = failed
        else:
            return _table(found, client.get_connection_kwargs()["host"])
    raise error


def _table(found: Any, asked: str) -> list[Node | None]:
    """From what CLUSTER SLOTS says: ranges of slots, each with its primary and its replicas."""
    keeper: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    for first, last, (host, port, *_), *_ in found:
        node = (host.decode() if host else asked, int(port))
        keeper[first : last + 1] = [node] * (last + 1 - first)
    return keeper
