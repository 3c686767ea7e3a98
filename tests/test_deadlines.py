"""One timer for many deadlines, in a loop whose clock leaps: hours pass in no time, to the tick."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable
from contextvars import Context
from math import inf
from typing import Any, TypeVarTuple

import pytest

from gateway.deadlines import Deadlines

Args = TypeVarTuple("Args")
NEVER = 10_000_000.0


class _Leaping(selectors.SelectSelector):
    """Nothing ever comes: the time it would be waited for has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += NEVER if timeout is None else max(0.0, timeout)
        return super().select(0)


class Clockwork(asyncio.SelectorEventLoop):
    """A loop that waits for nothing but its timers. `armed`: how many there have been so far."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        self.armed = 0
        self.failures: list[object] = []
        super().__init__(self._leaping)
        self.set_exception_handler(lambda _, context: self.failures.append(context["exception"]))

    def time(self) -> float:
        return self._leaping.now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.armed += 1
        return super().call_at(when, callback, *args, context=context)

    def until(self, seconds: float) -> None:
        """Let the clock go to there."""
        super().call_at(seconds, self.stop)
        self.run_forever()
        assert self.time() == pytest.approx(seconds)

    def do(self, call: Callable[[], object]) -> None:
        """Make the call inside the loop, now."""
        self.call_soon(call)
        self.call_soon(self.stop)
        self.run_forever()


class Member:
    """Notes when it hears that it is late, and does `then`. Waits for nothing afterwards."""

    def __init__(
        self, loop: Clockwork, deadline: float, then: Callable[[], object] = lambda: None
    ) -> None:
        self.loop, self.deadline, self.then = loop, deadline, then
        self.heard: list[float] = []

    def late(self) -> None:
        self.heard.append(self.loop.time())
        self.deadline = inf
        self.then()


@pytest.fixture
def loop() -> Any:
    made = Clockwork()
    yield made
    made.close()
    assert made.failures == []


def watched(loop: Clockwork, deadlines: Deadlines, *members: Member) -> None:
    loop.do(bringing(deadlines, *members))


def bringing(deadlines: Deadlines, *members: Member) -> Callable[[], None]:
    def bring() -> None:
        for member in members:
            deadlines.add(member)

    return bring


def granting(member: Member, deadline: float) -> Callable[[], None]:
    def grant() -> None:
        member.deadline = deadline

    return grant


# The shortest wait that occurs, and the tick that follows from it.
TICKS = {0.0: 0.001, 0.004: 0.001, 0.08: 0.01, 2.0: 0.25, 8.0: 1.0, 600.0: 1.0}


@pytest.mark.parametrize("shortest", TICKS)
def test_member_hears_within_a_tick_after_its_deadline_and_never_before(
    loop: Clockwork, shortest: float
) -> None:
    tick, rng = TICKS[shortest], random.Random(1)
    members = [Member(loop, rng.uniform(0, 50 * tick)) for _ in range(200)]
    members += [Member(loop, number * tick) for number in range(50)]
    due = {member: member.deadline for member in members}
    watched(loop, Deadlines(shortest), *members)
    loop.until(60 * tick)
    for member in members:
        (heard,) = member.heard
        # A loop counts what is due within its clock's resolution.
        assert due[member] <= heard + 1e-9
        # The first tick may be from the timer's beginning.
        assert heard <= due[member] + tick + 1e-6


def test_member_that_waits_for_nothing_hears_nothing(loop: Clockwork) -> None:
    idle, waiting = Member(loop, inf), Member(loop, 5.0)
    watched(loop, Deadlines(1.0), idle, waiting)
    loop.until(1000.0)
    assert (idle.heard, len(waiting.heard)) == ([], 1)


def test_deadline_may_be_moved_while_it_is_watched(loop: Clockwork) -> None:
    member = Member(loop, 5.0)
    watched(loop, Deadlines(1.0), member)
    for now in range(1, 100):
        loop.until(float(now))
        member.deadline = now + 5.0
    assert member.heard == []
    member.deadline = 100.0
    loop.until(101.0)
    assert len(member.heard) == 1


def test_deadline_that_is_not_moved_is_heard_of_again(loop: Clockwork) -> None:
    deadlines, member = Deadlines(8.0), Member(loop, 4.5)
    member.then = granting(member, 4.5)
    watched(loop, deadlines, member)
    loop.until(10.5)
    assert member.heard == [pytest.approx(second) for second in (5, 6, 7, 8, 9, 10)]


def test_there_is_one_timer_however_many_members(loop: Clockwork) -> None:
    deadlines = Deadlines(8.0)
    members = [Member(loop, 1e6) for _ in range(10_000)]
    watched(loop, deadlines, *members)
    assert loop.armed == 1
    loop.until(10.5)
    assert loop.armed == 11
    for member in members:
        deadlines.discard(member)
    watched(loop, deadlines, *members)
    assert loop.armed == 11


def test_timer_stops_when_nobody_is_left_and_starts_again(loop: Clockwork) -> None:
    deadlines, member = Deadlines(8.0), Member(loop, inf)
    for beginning in (0.0, 1_000.0):
        loop.until(beginning)
        before = loop.armed
        member.deadline = beginning + 2.5
        watched(loop, deadlines, member)
        loop.until(beginning + 4.5)
        assert member.heard[-1] == pytest.approx(beginning + 3)
        deadlines.discard(member)
        loop.until(beginning + 900.0)
        assert loop.armed - before == 5
    assert len(member.heard) == 2


def test_discarding_a_stranger_is_nothing(loop: Clockwork) -> None:
    deadlines, member = Deadlines(8.0), Member(loop, 1.0)
    deadlines.discard(member)
    watched(loop, deadlines, member, member)
    loop.until(3.5)
    assert len(member.heard) == 1
    deadlines.discard(member)
    deadlines.discard(member)
    assert "0 watched" in repr(deadlines)


def test_member_may_leave_when_it_hears(loop: Clockwork) -> None:
    deadlines, member = Deadlines(8.0), Member(loop, 1.5)

    def leave() -> None:
        deadlines.discard(member)
        member.deadline = 1.5

    member.then = leave
    watched(loop, deadlines, member)
    loop.until(10.5)
    assert (len(member.heard), loop.armed) == (1, 2)


def test_member_may_bring_others_when_it_hears(loop: Clockwork) -> None:
    deadlines = Deadlines(8.0)
    brought = [Member(loop, 1.0) for _ in range(100)]
    first = Member(loop, 1.5, bringing(deadlines, *brought))
    watched(loop, deadlines, first)
    loop.until(3.5)
    assert first.heard == [pytest.approx(2)]
    # They are late already: this tick or the next one, and once.
    assert {len(member.heard) for member in brought} == {1}
    assert loop.armed == 4


def test_last_member_may_be_replaced_when_it_hears(loop: Clockwork) -> None:
    deadlines, second = Deadlines(8.0), Member(loop, 5.0)
    first = Member(loop, 1.0)

    def make_way() -> None:
        deadlines.discard(first)
        deadlines.add(second)

    first.then = make_way
    watched(loop, deadlines, first)
    loop.until(10.5)
    assert (len(first.heard), len(second.heard), loop.armed) == (1, 1, 11)


def test_member_that_another_one_sends_away_hears_nothing(loop: Clockwork) -> None:
    """Whoever is first to hear closes the other: it is no member any more."""
    deadlines, pair = Deadlines(8.0), [Member(loop, 1.5), Member(loop, 1.5)]
    pair[0].then = lambda: deadlines.discard(pair[1])
    pair[1].then = lambda: deadlines.discard(pair[0])
    watched(loop, deadlines, *pair)
    loop.until(5.5)
    assert sorted(len(member.heard) for member in pair) == [0, 1]


def test_member_that_another_one_gives_more_time_is_not_late(loop: Clockwork) -> None:
    deadlines, pair = Deadlines(8.0), [Member(loop, 1.5), Member(loop, 1.5)]
    pair[0].then, pair[1].then = granting(pair[1], 7.5), granting(pair[0], 7.5)
    watched(loop, deadlines, *pair)
    loop.until(5.5)
    assert sorted(len(member.heard) for member in pair) == [0, 1]
    loop.until(8.5)
    assert min(len(member.heard) for member in pair) == 1


def test_timer_goes_on_when_a_member_fails(loop: Clockwork) -> None:
    def fails() -> None:
        raise ValueError("its own")

    deadlines = Deadlines(8.0)
    others = [Member(loop, 1.5) for _ in range(10)] + [Member(loop, 5.5) for _ in range(10)]
    watched(loop, deadlines, Member(loop, 1.5, fails), *others)
    loop.until(9.5)
    assert [str(failure) for failure in loop.failures] == ["its own"]
    loop.failures.clear()
    assert {len(member.heard) for member in others} == {1}


def test_many_members_each_hear_of_their_own_deadline(loop: Clockwork) -> None:
    rng, deadlines = random.Random(2), Deadlines(1.0)
    members = [Member(loop, float(rng.randrange(1, 100))) for _ in range(5000)]
    due = {member: member.deadline for member in members}
    leaving = set(rng.sample(members, 2500))
    watched(loop, deadlines, *members)
    loop.until(50.5)
    for member in leaving:
        deadlines.discard(member)
    loop.until(101.0)
    for member in members:
        assert len(member.heard) == (member not in leaving or due[member] <= 50)
