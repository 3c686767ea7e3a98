"""The pool: what is kept and reused, never more than `most`, first come first served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from gateway.upstream.seam import Answer, Engine
from tests import engines
from tests.engines import Stand, whole
from tests.test_engine_origin import CLOSING, HELLO, Origin, Script, Wire, answering, in_turn

stand = engines.stand
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
)
HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhello"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
NOTHING = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def gate() -> tuple[Script, Callable[[], None]]:
    """A script that holds every answer until the gate is opened."""
    opened = asyncio.Event()

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await opened.wait()
            wire.send(HELLO)

    return script, opened.set


def start(stand: Stand, engine: Engine, *targets: bytes) -> list[asyncio.Task[str]]:
    return [asyncio.ensure_future(stand.get(engine, target)) for target in targets]


async def settled() -> None:
    """Whoever was just started has come as far as it can without the origin."""
    for _ in range(10):
        await asyncio.sleep(0)


async def in_line(stand: Stand, engine: Engine, count: int) -> list[asyncio.Task[str]]:
    """Requests /0, /1, …, each as far as it gets: one under way, the others waiting in order."""
    tasks = start(stand, engine, *(b"/%d" % number for number in range(count)))
    await settled()
    return tasks


KEPT = {"content-length": HELLO, "chunked": CHUNKED, "no content": NO_CONTENT, "nothing": NOTHING}


@pytest.mark.parametrize("framing", KEPT)
async def test_connection_is_reused_when_an_answer_is_complete(stand: Stand, framing: str) -> None:
    stand.origin.script = answering(KEPT[framing])
    engine = stand.engine()
    first = [await stand.get(engine, b"/%d" % number) for number in range(5)]
    assert len(set(first)) == 1
    assert len(stand.origin.wires) == 1
    assert stand.origin.targets == [b"/0", b"/1", b"/2", b"/3", b"/4"]


NOT_KEPT = {
    "close": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    "Close": b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 5\r\n\r\nhello",
    "in a list": b"HTTP/1.1 200 OK\r\nconnection: x-y, close\r\ncontent-length: 5\r\n\r\nhello",
    "in two lines": b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nconnection: close\r\n"
    b"content-length: 5\r\n\r\nhello",
    "chunked": CHUNKED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1),
    "no content": b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    "1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "1.0 keep-alive": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n"
    b"content-length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("case", NOT_KEPT)
async def test_connection_is_closed_when_the_answer_says_so(stand: Stand, case: str) -> None:
    """Closed by the engine: the origin waits for it and never closes itself."""
    stand.origin.script = answering(NOT_KEPT[case])
    engine = stand.engine()
    outcomes = [await stand.get(engine), await stand.get(engine)]
    assert outcomes[0] == outcomes[1]
    assert len(stand.origin.wires) == stand.expect(2)
    if len(stand.origin.wires) == 2:
        await stand.empty(engine)


async def test_close_delimited_body_ends_with_its_connection(stand: Stand) -> None:
    stand.origin.script = answering(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo", then="fin")
    engine = stand.engine()
    assert await stand.get(engine) == "200 b'hello'"
    assert await stand.get(engine) == "200 b'hello'"
    assert len(stand.origin.wires) == 2
    await stand.empty(engine)


@pytest.mark.parametrize("most", [1, 3])
async def test_most_is_never_exceeded(stand: Stand, most: int) -> None:
    stand.origin.script, release = gate()
    engine = stand.engine(most=most)
    tasks = start(stand, engine, *(b"/%d" % number for number in range(12)))
    await stand.origin.until(lambda: len(stand.origin.requests) == most)
    release()
    assert set(await asyncio.gather(*tasks)) == {"200 b'hello'"}
    assert stand.origin.most == most


async def test_most_counts_for_each_origin_by_itself(stand: Stand) -> None:
    stand.origin.script, release = gate()
    engine = stand.engine(most=1)
    [held] = start(stand, engine, b"/held")
    await stand.origin.until(lambda: bool(stand.origin.requests))
    async with Origin() as other:
        outbound = stand.outbound()
        outbound.origin = other.url
        assert await stand.outcome(engine, outbound) == "200 b'hello'"
    release()
    assert await held == "200 b'hello'"


async def test_most_holds_when_answers_close_their_connections(stand: Stand) -> None:
    stand.origin.script = answering(CLOSING)
    engine = stand.engine(most=2)
    tasks = start(stand, engine, *(b"/%d" % number for number in range(10)))
    assert set(await asyncio.gather(*tasks)) == {"200 b'hello'"}
    assert len(stand.origin.wires) == 10


async def test_line_is_served_in_the_order_of_coming(stand: Stand) -> None:
    stand.origin.script, release = gate()
    engine = stand.engine(most=1)
    tasks = await in_line(stand, engine, 8)
    release()
    await asyncio.gather(*tasks)
    assert stand.origin.targets == [b"/%d" % number for number in range(8)]


@pytest.mark.parametrize("answer", ["kept", "closed"])
async def test_newcomer_does_not_overtake_the_line(stand: Stand, answer: str) -> None:
    """The place that just got free is whose who waited, not of who asks at that very moment."""
    rest = asyncio.Event()
    whole_answer = HELLO if answer == "kept" else CLOSING

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            wire.send(whole_answer[:-3])
            await rest.wait()
            wire.send(whole_answer[-3:])

    stand.origin.script = script
    engine = stand.engine(most=1)
    first = await engine.send(stand.outbound(b"/first"))
    [waiting] = start(stand, engine, b"/waited")
    await settled()
    assert await first.read() == b"he"
    rest.set()
    assert await first.read() == b"llo"
    newcomer = await engine.send(stand.outbound(b"/newcomer"))
    assert await whole(newcomer) == b"hello"
    assert await waiting == "200 b'hello'"
    assert stand.origin.targets == stand.expect([b"/first", b"/waited", b"/newcomer"])
    assert stand.origin.most == 1


async def test_who_is_cancelled_in_line_costs_nobody_a_place(stand: Stand) -> None:
    stand.origin.script, release = gate()
    engine = stand.engine(most=1)
    tasks = await in_line(stand, engine, 8)
    for number in (1, 2, 5, 7):
        tasks[number].cancel()
    await asyncio.gather(*(tasks[n] for n in (1, 2, 5, 7)), return_exceptions=True)
    release()
    async with asyncio.timeout(2):
        await asyncio.gather(*(tasks[n] for n in (0, 3, 4, 6)))
    assert stand.origin.targets == [b"/0", b"/3", b"/4", b"/6"]


async def test_turn_passes_on_when_who_got_it_is_cancelled_at_that_moment(stand: Stand) -> None:
    """Between being called and running lies a turn of the loop: the place must not be lost."""
    engine = stand.engine(most=1)
    for _ in range(5):
        answer = await engine.send(stand.outbound(b"/first"))
        called, next_one = await in_line(stand, engine, 2)
        assert await whole(answer) == b"hello"
        called.cancel()
        async with asyncio.timeout(2):
            assert await next_one == "200 b'hello'"
        await asyncio.gather(called, return_exceptions=True)


async def test_abandoned_answer_gives_its_place_to_the_next(stand: Stand) -> None:
    stand.origin.script = answering(HALF)
    engine = stand.engine(most=1)
    answer = await engine.send(stand.outbound())
    [waiting] = start(stand, engine, b"/next")
    await settled()
    answer.abort()
    await stand.origin.until(lambda: stand.origin.targets == [b"/", b"/next"])
    assert stand.origin.wires[0].ended
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await stand.empty(engine)


async def test_line_moves_on_when_connections_fail(stand: Stand) -> None:
    """Each one's own failure; none waits for a place that a failure took with it."""
    stand.origin.script = dies
    engine = stand.engine(most=1)
    outcomes = await asyncio.gather(*await in_line(stand, engine, 6))
    assert set(outcomes) == {"UpstreamError upstream_failed"}
    await stand.empty(engine)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_line_is_served_when_the_upstream_closes_behind_each_answer(
    stand: Stand, method: str
) -> None:
    """Without having said so: who is next gets a connection that is good, and in his turn."""

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(HELLO)
        wire.cut()
        await wire.until(lambda: False)

    stand.origin.script = script
    engine = stand.engine(most=1)
    body = b"x" if method == "POST" else None
    asked = [stand.outbound(b"/%d" % number, method, body=body) for number in range(8)]
    outcomes = await asyncio.gather(*(stand.outcome(engine, outbound) for outbound in asked))
    assert set(outcomes) == {"200 b'hello'"}
    assert stand.origin.targets == [b"/%d" % number for number in range(8)]
    assert stand.origin.most == 1


def keeping(told: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nkeep-alive: %s\r\ncontent-length: 2\r\n\r\nok" % told.encode()


async def dies(wire: Wire) -> None:
    await wire.head()
    wire.rst()


async def test_idle_connection_is_closed_after_its_time_and_not_before(stand: Stand) -> None:
    engine = stand.engine(idle=0.2)
    for _ in range(3):
        assert await stand.get(engine) == "200 b'hello'"
        await asyncio.sleep(0.05)
    assert len(stand.origin.wires) == 1
    await stand.empty(engine)
    assert await stand.get(engine) == "200 b'hello'"
    assert len(stand.origin.wires) == 2


async def test_busy_connection_is_not_idle(stand: Stand) -> None:
    """Its idle time neither runs on from before nor starts while an answer is under way."""

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(HELLO)
        await wire.request()
        for piece in (b"HTTP/1.1 200 OK\r\n", b"content-length: 5\r\n\r\nhe", b"llo"):
            await asyncio.sleep(0.1)
            wire.send(piece)
        await wire.until(lambda: False)

    stand.origin.script = script
    engine = stand.engine(idle=0.2)
    assert await stand.get(engine) == "200 b'hello'"
    assert await stand.get(engine) == "200 b'hello'"
    assert len(stand.origin.wires) == 1
    await stand.empty(engine)


@pytest.mark.parametrize("told", ["timeout=0", "max=9, Timeout=0", "timeout=0, timeout=9"])
async def test_connection_is_not_kept_when_the_upstream_keeps_it_no_time(
    stand: Stand, told: str
) -> None:
    stand.origin.script = answering(keeping(told))
    engine = stand.engine()
    assert {await stand.get(engine), await stand.get(engine)} == {"200 b'ok'"}
    assert len(stand.origin.wires) == stand.expect(2)


async def test_upstreams_own_keep_alive_shortens_the_idle_time(stand: Stand) -> None:
    """Closed before the upstream does it itself: in less than the second it gives."""
    stand.origin.script = answering(keeping("timeout=1, max=9"))
    engine = stand.engine()
    assert await stand.get(engine) == "200 b'ok'"
    with contextlib.suppress(TimeoutError):
        await stand.origin.all_closed(1.05)
    assert stand.origin.open == stand.expect(0)


@pytest.mark.parametrize("told", ["timeout=600", "timeout=x", "timeout=-1", "timeout=", "", "9"])
async def test_upstreams_own_keep_alive_never_lengthens_the_idle_time(
    stand: Stand, told: str
) -> None:
    stand.origin.script = answering(keeping(told))
    engine = stand.engine(idle=0.05)
    assert await stand.get(engine) == "200 b'ok'"
    await stand.empty(engine)


async def test_answer_is_used_up_when_its_end_came_with_the_head(stand: Stand) -> None:
    """What has no body needs no reading: the connection is free at once."""
    stand.origin.script = answering(NO_CONTENT)
    engine = stand.engine(most=1)
    answers: list[Answer] = [await engine.send(stand.outbound()) for _ in range(3)]
    assert [answer.status for answer in answers] == [204, 204, 204]
    assert len(stand.origin.wires) == 1


async def test_nothing_is_open_when_the_engine_is_closed(stand: Stand) -> None:
    stand.origin.script = in_turn(answering(HALF), answering(HELLO))
    engine = stand.engine()
    answer = await engine.send(stand.outbound())
    assert await stand.get(engine) == "200 b'hello'"
    assert (await answer.read(), stand.origin.open) == (b"hello", 2)
    await engine.aclose()
    await stand.empty(engine)
    answer.abort()


async def test_closed_engine_sends_nothing(stand: Stand) -> None:
    engine = stand.engine()
    assert await stand.get(engine) == "200 b'hello'"
    await engine.aclose()
    await engine.aclose()
    outcome = await stand.get(engine)
    assert (outcome, len(stand.origin.wires)) == stand.expect(
        ("UpstreamError upstream_failed unsent", 1)
    )


async def test_requests_under_way_fail_when_the_engine_is_closed(stand: Stand) -> None:
    stand.origin.script, _ = gate()
    engine = stand.engine(most=1)
    tasks = await in_line(stand, engine, 2)
    await stand.origin.until(lambda: bool(stand.origin.requests))
    await engine.aclose()
    await asyncio.wait(tasks, timeout=0.3)
    assert [how_it_went(task) for task in tasks] == stand.expect(["failed", "failed"])
    await stand.empty(engine)


def how_it_went(task: asyncio.Task[str]) -> str:
    if not task.done():
        task.cancel()
        return "goes on"
    if task.cancelled():
        return "was cancelled"
    return "failed" if task.result().startswith("UpstreamError") else task.result()
