"""Questions for Redis: those of one loop tick leave together, the next when these are answered.

A question is a generator: it yields commands and gets their replies until it returns what it found.
One connection, so what is asked first is counted first. Never knows what a command means. Called by
redis.py and, for each node of a cluster, shards.py.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Generator, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway.redis_client import Patience
from gateway.windows.breaker import Breaker
from gateway.windows.memory import Away, Command

# The time of a question is counted in beats of the loop. One that is late because we are busy, or
# were not given a processor, counts once, and what Redis sent meanwhile is read before the next.
_BEATS = 10
# Questions that travel together. More would wait for each other within the timeout of each: a
# command is 0.01 ms of our own processor time, and the timeout is to measure Redis.
_MOST = 128

T = TypeVar("T")
Steps = Generator[Sequence[Command], Sequence[Any], T]
Refusals = tuple[type[ResponseError], ...]


class Question(ABC):
    """What a pipeline asks: some request's, or, once it is under way, perhaps nobody's any more."""

    __slots__ = ("beats", "commands")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.beats = _BEATS

    @abstractmethod
    def begins(self) -> bool:
        """Whether somebody still wants to know; then it is sent, and asked to its end."""

    @abstractmethod
    def goes_on(self, replies: Sequence[Any]) -> bool:
        """Take the replies to its commands; whether it has more to ask."""

    @abstractmethod
    def give_up(self) -> None:
        """Redis is away."""


class _Steps(Question):
    __slots__ = ("answer", "steps")

    def __init__(self, steps: Steps[Any], answer: asyncio.Future[Any]) -> None:
        super().__init__(next(steps))
        self.steps = steps
        self.answer = answer

    def begins(self) -> bool:
        return not self.answer.cancelled()

    def goes_on(self, replies: Sequence[Any]) -> bool:
        try:
            self.commands = self.steps.send(replies)
        except StopIteration as end:
            if not self.answer.done():
                self.answer.set_result(end.value)
            return False
        return True

    def give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(Away())


class Pipeline:
    """Asks over `client`, a redis-py one; `scripts` are loaded when Redis does not know one.

    `timeout`: seconds for all commands of one question, a connection where there is none included.
    What Redis refuses is Away, but for refusals of a kind in `answers`: these are replies.
    """

    _timer: asyncio.TimerHandle  # of the batch under way

    def __init__(
        self,
        client: Any,
        scripts: Iterable[bytes],
        breaker: Breaker,
        timeout: float,
        answers: Refusals = (),
    ) -> None:
        self._client = client
        # Taking one from the pool and bringing it back would cost a fifth of a question.
        self._connection = client.connection_pool.make_connection()
        self._scripts = list(scripts)
        self._breaker = breaker
        self._beat_length = timeout / _BEATS
        self._answers = answers
        self._waiting: deque[Question] = deque()
        self._under_way: list[Question] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def away(self) -> bool:
        """Whether Redis did not answer when it was asked last."""
        return self._breaker.away

    def ask(self, steps: Steps[T]) -> Awaitable[T]:
        """What the question found, or Away. Who leaves before it is sent has asked nothing."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.put(_Steps(steps, answer))
        return answer

    def put(self, question: Question) -> None:
        """Ask it with the others; it is given up at once while Redis is left alone."""
        if self._closed or not self._breaker.lets_pass():
            question.give_up()
            return
        self._waiting.append(question)
        if self._task is None:
            # It begins with the loop's next tick: whoever asks in this one travels along.
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Whoever still waits is told Away."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._give_up()  # a task that is cancelled before its first step runs nothing
        await self._connection.disconnect()
        await self._client.aclose()

    async def _run(self) -> None:
        try:
            while self._gather():
                self._settle(await self._exchange())
        except (RedisError, OSError) as error:
            self._breaker.trip(error)
        finally:
            self._task = None
            self._give_up()

    def _gather(self) -> bool:
        """Add who waits to who has more to ask; whether there is anybody."""
        while self._waiting and len(self._under_way) < _MOST:
            question = self._waiting.popleft()
            if question.begins():
                self._under_way.append(question)
        return bool(self._under_way)

    async def _exchange(self) -> list[Any]:
        commands = [each for question in self._under_way for _, each in question.commands]
        self._wait_a_beat()
        try:
            # Connects when it must; a connection that Redis closed while it was idle is none.
            await self._client.connection_pool.ensure_connection(self._connection)
            return await self._replies(commands)
        finally:
            self._timer.cancel()

    def _wait_a_beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._beat_length, self._beat)

    def _beat(self) -> None:
        for question in self._under_way:
            question.beats -= 1
        if all(question.beats for question in self._under_way):
            self._wait_a_beat()
        elif self._task is not None:
            self._breaker.trip(TimeoutError())
            self._task.cancel()

    async def _replies(self, commands: Sequence[bytes]) -> list[Any]:
        replies = await _sent(self._connection, commands)
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = [*self._scripts, *(commands[n] for n in unknown)]
            found = await _sent(self._connection, again)
            for n, reply in zip(unknown, found[len(self._scripts) :], strict=True):
                replies[n] = reply
        return replies

    def _settle(self, replies: Sequence[Any]) -> None:
        taken = iter(replies)
        refused = [reply for reply in replies if self._refuses(reply)]
        going_on = []
        for question in self._under_way:
            own = list(islice(taken, len(question.commands)))
            if refused and any(map(self._refuses, own)):
                question.give_up()
            elif question.goes_on(own):
                going_on.append(question)
        self._under_way = going_on
        if refused:
            self._breaker.trip(refused[0])
            self._give_up_waiting()
        else:
            self._breaker.reset()

    def _refuses(self, reply: Any) -> bool:
        return isinstance(reply, ResponseError) and not isinstance(reply, self._answers)

    def _give_up(self) -> None:
        for question in self._under_way:
            question.give_up()
        self._under_way.clear()
        self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        for question in self._waiting:
            question.give_up()
        self._waiting.clear()


def patience(timeout: float) -> Patience:
    """For the client of a pipeline, which counts the time of answers itself, for all of a batch."""
    return Patience(connecting=timeout, answering=None)


async def _sent(connection: Any, commands: Sequence[bytes]) -> list[Any]:
    """What Redis replied to each command; a refusal is a reply, too."""
    await connection.send_packed_command(b"".join(commands), check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies
