"""The place to wait: the waiting task goes on inside the very call that wakes it, and in everything
else it is a Future to its task: cancelled, timed out, used again, on both loops."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest
import uvloop

from gateway.wake import Wake

Loops = Callable[[], AbstractEventLoop]
LOOPS: list[Loops] = [uvloop.new_event_loop, asyncio.new_event_loop]
both_loops = pytest.mark.parametrize("loops", LOOPS, ids=["uvloop", "stock"])
NAME = ContextVar("NAME", default="nobody")


def run(loops: Loops, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's story on such a loop; whatever else fails there fails the test."""
    failures: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=loops) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: failures.append(context))
        runner.run(story())
    assert failures == []


def in_the_loop(call: Callable[[], object]) -> asyncio.Future[None]:
    """Let the loop make this call, as it calls protocols; done when the call has returned."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def called() -> None:
        call()
        done.set_result(None)

    loop.call_soon(called)
    return done


async def at_its_wait(wake: Wake) -> None:
    """Until a task waits."""
    async with asyncio.timeout(1):
        while not wake.awaited:  # noqa: ASYNC110 - there is nothing else to tell of it
            await asyncio.sleep(0)


class Waiting:
    """A task that waits again and again, and says what it is at."""

    def __init__(self, times: int = 1) -> None:
        self.said: list[str] = []
        self.wake = Wake(asyncio.get_running_loop())
        self.task = asyncio.create_task(self._wait(times))

    async def _wait(self, times: int) -> None:
        try:
            for number in range(times):
                await self.wake
                self.said.append(f"woken {number}")
        except asyncio.CancelledError:
            self.said.append("cancelled")
            raise

    def up(self) -> None:
        """Wake it, and say when that has returned."""
        self.said.append("up")
        self.wake.up()
        self.said.append("returned")


@both_loops
def test_task_goes_on_inside_the_call_when_the_loop_makes_it(loops: Loops) -> None:
    async def story() -> None:
        waiting = Waiting(3)
        for _ in range(3):
            await at_its_wait(waiting.wake)
            await in_the_loop(waiting.up)
        await waiting.task
        assert waiting.said == [
            *("up", "woken 0", "returned"),
            *("up", "woken 1", "returned"),
            *("up", "woken 2", "returned"),
        ]

    run(loops, story)


@both_loops
def test_task_goes_on_later_when_another_task_makes_the_call(loops: Loops) -> None:
    async def story() -> None:
        waiting = Waiting()
        await at_its_wait(waiting.wake)
        waiting.up()
        assert waiting.said == ["up", "returned"]
        assert not waiting.wake.awaited
        await waiting.task
        assert waiting.said == ["up", "returned", "woken 0"]

    run(loops, story)


@both_loops
def test_task_that_a_woken_one_wakes_goes_on_after_it(loops: Loops) -> None:
    async def story() -> None:
        first, second = Wake(asyncio.get_running_loop()), Waiting()

        async def wakes_another() -> None:
            await first
            second.up()
            second.said.append("the first is through")

        task = asyncio.create_task(wakes_another())
        await at_its_wait(first)
        await at_its_wait(second.wake)
        await in_the_loop(first.up)
        await asyncio.wait([task, second.task], timeout=1)
        assert second.said == ["up", "returned", "the first is through", "woken 0"]

    run(loops, story)


@both_loops
def test_nothing_is_kept_when_nobody_waits(loops: Loops) -> None:
    async def story() -> None:
        wake = Wake(asyncio.get_running_loop())
        for _ in range(3):
            wake.up()
            await in_the_loop(wake.up)
        assert not wake.awaited
        task = asyncio.ensure_future(_wait_for(wake))
        for _ in range(5):
            await asyncio.sleep(0)
        assert (wake.awaited, task.done()) == (True, False)
        await in_the_loop(wake.up)
        assert task.result() == "woken"

    run(loops, story)


@both_loops
def test_second_call_wakes_nobody_when_the_task_has_not_waited_again(loops: Loops) -> None:
    async def story() -> None:
        waiting = Waiting(2)
        await at_its_wait(waiting.wake)
        waiting.wake.up()
        waiting.wake.up()
        for _ in range(5):
            await asyncio.sleep(0)
        assert waiting.said == ["woken 0"]
        waiting.wake.up()
        await waiting.task
        assert waiting.said == ["woken 0", "woken 1"]

    run(loops, story)


async def _wait_for(wake: Wake) -> str:
    await wake
    return "woken"


# When a task is cancelled: the calls of one turn of the loop, and what comes of them.
CANCELS: dict[str, tuple[list[str], bool, list[str]]] = {
    "before it is woken": (["cancel", "up"], False, ["up", "returned", "cancelled"]),
    "after it was, by the loop": (["up", "cancel"], False, ["up", "woken 0", "returned"]),
    "before, by a task": (["cancel", "up"], True, ["up", "returned", "cancelled"]),
    "between waking and going on": (["up", "cancel"], True, ["up", "returned", "cancelled"]),
    "twice": (["cancel", "cancel"], False, ["cancelled"]),
    "alone": (["cancel"], False, ["cancelled"]),
}


@both_loops
@pytest.mark.parametrize("when", CANCELS)
def test_cancellation_comes_through(when: str, loops: Loops) -> None:
    calls, by_a_task, said = CANCELS[when]

    async def story() -> None:
        waiting = Waiting()
        await at_its_wait(waiting.wake)
        known: dict[str, Callable[[], object]]
        known = {"up": waiting.up, "cancel": waiting.task.cancel}

        def make() -> None:
            for call in calls:
                known[call]()

        if by_a_task:
            make()
        else:
            await in_the_loop(make)
        await asyncio.wait([waiting.task], timeout=1)
        assert waiting.said == said
        assert waiting.task.cancelled() is (said[-1] == "cancelled")
        assert not waiting.wake.awaited

    run(loops, story)


@both_loops
def test_cancellation_is_in_time_for_a_task_that_has_not_begun_to_wait(loops: Loops) -> None:
    async def story() -> None:
        waiting = Waiting()
        waiting.task.cancel()
        await asyncio.wait([waiting.task])
        assert (waiting.task.cancelled(), waiting.said) == (True, [])

        async def cancels_itself() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await waiting.wake

        task = asyncio.create_task(cancels_itself())
        await asyncio.wait([task], timeout=1)
        assert (task.cancelled(), waiting.wake.awaited) == (True, False)

    run(loops, story)


@both_loops
def test_wake_is_used_again_after_a_cancellation(loops: Loops) -> None:
    async def story() -> None:
        wake = Wake(asyncio.get_running_loop())

        async def stubborn() -> list[str]:
            said = []
            for _ in range(4):
                try:
                    await wake
                    said.append("woken")
                except asyncio.CancelledError:
                    said.append("cancelled")
            return said

        task = asyncio.create_task(stubborn())
        for call in (task.cancel, wake.up, task.cancel, wake.up):
            await at_its_wait(wake)
            await in_the_loop(call)
        assert await task == ["cancelled", "woken", "cancelled", "woken"]

    run(loops, story)


@both_loops
def test_message_of_a_cancellation_is_not_needed(loops: Loops) -> None:
    """As uvicorn gives one when a server stops."""

    async def story() -> None:
        waiting = Waiting()
        await at_its_wait(waiting.wake)
        waiting.task.cancel("the server stops")
        await asyncio.wait([waiting.task], timeout=1)
        assert waiting.said == ["cancelled"]

    run(loops, story)


@both_loops
def test_context_of_the_waiting_task_is_kept(loops: Loops) -> None:
    async def story() -> None:
        wake, names = Wake(asyncio.get_running_loop()), list[str]()

        async def named() -> None:
            NAME.set("waiting")
            for _ in range(3):
                await wake
                names.append(NAME.get())

        def called() -> None:
            NAME.set("loop")
            wake.up()
            names.append(NAME.get())

        NAME.set("story")
        task = asyncio.create_task(named())
        await at_its_wait(wake)
        await in_the_loop(called)
        wake.up()
        await at_its_wait(wake)
        names.append(NAME.get())
        wake.up()
        await task
        assert names == ["waiting", "loop", "waiting", "story", "waiting"]

    run(loops, story)


@both_loops
def test_timeout_ends_the_wait_and_only_the_wait(loops: Loops) -> None:
    async def story() -> None:
        wake = Wake(asyncio.get_running_loop())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await wake
        assert not wake.awaited
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        asyncio.get_running_loop().call_soon(wake.up)
        async with asyncio.timeout(1):
            await wake

    run(loops, story)


@both_loops
def test_wait_for_and_gather_take_it_like_any_other(loops: Loops) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        wakes = [Wake(loop) for _ in range(3)]
        for wake in reversed(wakes):
            loop.call_soon(loop.call_soon, wake.up)
        assert await asyncio.gather(*map(_wait_for, wakes)) == ["woken"] * 3
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_wait_for(wakes[0]), 0.001)

    run(loops, story)


@both_loops
def test_error_of_the_woken_task_is_its_own(loops: Loops) -> None:
    async def story() -> None:
        wake = Wake(asyncio.get_running_loop())

        async def fails() -> None:
            await wake
            raise ValueError("its own")

        task = asyncio.create_task(fails())
        await at_its_wait(wake)
        await in_the_loop(wake.up)
        with pytest.raises(ValueError, match="its own"):
            await task

    run(loops, story)


@both_loops
def test_a_thousand_tasks_wait_each_at_its_own(loops: Loops) -> None:
    async def story() -> None:
        waiting = [Waiting(2) for _ in range(1000)]
        for one in waiting:
            await at_its_wait(one.wake)
        for _ in range(2):
            for one in waiting:
                await in_the_loop(one.wake.up)
        assert all(one.task.done() and one.said == ["woken 0", "woken 1"] for one in waiting)

    run(loops, story)
