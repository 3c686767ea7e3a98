"""A request may be cancelled at any moment: its connection is closed within a second, nobody else
loses a place, nothing stays behind. At each await, at each turn of the loop, and at random."""

from __future__ import annotations

import asyncio
import os
import random
import socket

import pytest

from gateway.upstream.seam import Engine, Outbound
from tests import engines
from tests.engines import LARGE, PIECE, Sent, Stand, names, soon, whole
from tests.test_disconnect import full_listener, until_half_open
from tests.test_engine_origin import CLOSING, HELLO, Script, Wire, answering, in_turn

stand = engines.stand
SOAK = os.environ.get("SOAK")
CANCELS = 10_000 if SOAK else 300
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"


async def cancelled(task: asyncio.Task[str]) -> None:
    """Cancel and see that the cancellation comes through, at once."""
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=1)
    assert done
    assert task.cancelled()


def start(stand: Stand, engine: Engine, target: bytes = b"/") -> asyncio.Task[str]:
    return asyncio.ensure_future(stand.get(engine, target))


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.until(lambda: False)


async def test_connection_is_closed_when_cancelled_before_the_head(stand: Stand) -> None:
    stand.origin.script = silent
    engine = stand.engine()
    task = start(stand, engine)
    await stand.origin.until(lambda: bool(stand.origin.requests))
    await cancelled(task)
    await stand.empty(engine)


async def test_answer_of_a_cancelled_request_is_nobodys(stand: Stand) -> None:
    """It comes when the next request is already under way."""
    late = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await stand.origin.until(late.is_set)
        wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst")

    stand.origin.script = in_turn(script, answering(HELLO))
    engine = stand.engine(most=1)
    task = start(stand, engine)
    await stand.origin.until(lambda: bool(stand.origin.requests))
    following = start(stand, engine)
    await asyncio.sleep(0)
    late.set()
    stand.origin.noticed()
    task.cancel()
    assert await following == "200 b'hello'"
    assert len(stand.origin.wires) == 2


async def test_connection_is_closed_when_cancelled_while_reading(stand: Stand) -> None:
    stand.origin.script = answering(CHUNKED)
    engine = stand.engine()

    async def read() -> str:
        answer = await engine.send(stand.outbound())
        try:
            return str(await whole(answer))
        finally:
            answer.abort()

    task = asyncio.ensure_future(read())
    await stand.origin.until(lambda: bool(stand.origin.requests))
    await asyncio.sleep(0.01)
    await cancelled(task)
    await stand.empty(engine)


async def test_connection_is_closed_when_cancelled_while_the_body_is_awaited(stand: Stand) -> None:
    stand.origin.script = silent
    engine = stand.engine()
    sent = Sent(b"begun", None)
    outbound = stand.outbound(b"/", "POST", body=sent.stream())
    task = asyncio.ensure_future(stand.outcome(engine, outbound))
    await stand.origin.until(lambda: any(b"begun" in wire.received for wire in stand.origin.wires))
    await cancelled(task)
    await stand.empty(engine)
    await soon(lambda: sent.closed)


@LARGE
@pytest.mark.parametrize("body", ["bytes", "an iterator"])
async def test_connection_is_closed_when_cancelled_while_the_upstream_does_not_read(
    stand: Stand, body: str
) -> None:
    async def deaf(wire: Wire) -> None:
        await wire.head()
        wire.stop_reading()

    stand.origin.script = deaf
    engine = stand.engine()
    sent = Sent(*[PIECE] * 256)
    data = PIECE * 256 if body == "bytes" else sent.stream()
    outbound = stand.outbound(b"/", "POST", body=data)
    task = asyncio.ensure_future(stand.outcome(engine, outbound))
    await stand.origin.until(lambda: bool(stand.origin.requests))
    for _ in range(20):
        await asyncio.sleep(0)
    await cancelled(task)
    await stand.empty(engine)
    await soon(lambda: sent.closed or body == "bytes")


async def test_nothing_stays_behind_when_cancelled_while_connecting(stand: Stand) -> None:
    with full_listener() as port:
        engine = stand.engine(most=1)
        outbound = stand.outbound()
        outbound.origin = f"http://127.0.0.1:{port}"
        for _ in range(2):
            task = asyncio.ensure_future(stand.outcome(engine, outbound))
            async with asyncio.timeout(5):
                await until_half_open(port, 1)
            await cancelled(task)
            async with asyncio.timeout(1):
                await until_half_open(port, 0)
    await stand.empty(engine)


async def test_nothing_stays_behind_when_cancelled_during_the_handshake(stand: Stand) -> None:
    async def never(wire: Wire) -> None:
        await wire.until(lambda: False)

    stand.origin.script = never
    engine = stand.engine()
    outbound = stand.outbound()
    outbound.origin = stand.origin.url.replace("http:", "https:")
    task = asyncio.ensure_future(stand.outcome(engine, outbound))
    await stand.origin.until(lambda: any(wire.received for wire in stand.origin.wires))
    await cancelled(task)
    await stand.empty(engine)


async def test_nothing_stays_behind_when_cancelled_while_resolving(stand: Stand) -> None:
    with names({"slow.test": None}) as asked:
        engine = stand.engine(most=1)
        outbound = stand.outbound()
        outbound.origin = f"http://slow.test:{stand.origin.port}"
        task = asyncio.ensure_future(stand.outcome(engine, outbound))
        await soon(lambda: asked == ["slow.test"])
        await cancelled(task)
    await stand.empty(engine)


async def test_only_the_cancelled_leave_the_line(stand: Stand) -> None:
    stand.origin.script = silent
    engine = stand.engine(most=1)
    tasks = [start(stand, engine, b"/%d" % number) for number in range(6)]
    await stand.origin.until(lambda: bool(stand.origin.requests))
    for number in (3, 4, 5, 0, 1):
        await cancelled(tasks[number])
    await stand.origin.until(lambda: stand.origin.targets == [b"/0", b"/2"])
    await cancelled(tasks[2])
    await stand.empty(engine)


def asking(stand: Stand, kind: str) -> Outbound:
    if kind == "get":
        return stand.outbound()
    body = PIECE if kind == "bytes" else Sent(b"x" * 10, b"y" * 10).stream()
    return stand.outbound(b"/", "POST", body=body)


@pytest.mark.parametrize("kept", ["on a new connection", "on a kept one"])
@pytest.mark.parametrize("kind", ["get", "bytes", "an iterator"])
async def test_request_may_be_cancelled_at_every_turn_of_the_loop(
    stand: Stand, kind: str, kept: str
) -> None:
    """With room for one connection alone, a place lost at any of them would be the last."""
    stand.origin.script = answering(CHUNKED, b"5\r\nworld\r\n", b"0\r\n\r\n")
    engine = stand.engine(most=1, connect=1.0)
    for turns in range(1000):
        if kept == "on a kept one":
            assert await stand.get(engine) == "200 b'helloworld'"
        task = asyncio.ensure_future(stand.outcome(engine, asking(stand, kind)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        await asyncio.wait([task], timeout=1)
        await asyncio.sleep(0)
        await stand.origin.until(lambda: stand.origin.open <= 1)
    assert task.result() == "200 b'helloworld'"
    assert turns > 4
    assert await stand.get(engine) == "200 b'helloworld'"
    await engine.aclose()
    await stand.empty(engine)


def moody(chance: random.Random, calm: asyncio.Event) -> Script:
    """Answers of all kinds, with pauses everywhere, until it calms down."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            kinds = [HELLO, CLOSING, *[CHUNKED, b"5\r\nworld\r\n", b"0\r\n\r\n"]]
            pieces = chance.choice([kinds[:1], kinds[1:2], kinds[2:]])
            for piece in [HELLO] if calm.is_set() else pieces:
                if not calm.is_set() and chance.random() < 0.5:
                    await asyncio.sleep(chance.random() * 0.01)
                wire.send(piece)

    return script


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_storm_of_cancellations_leaves_nothing_behind(stand: Stand) -> None:
    """Then 100 of 100 requests succeed, and no task and no descriptor is left."""
    chance, calm = random.Random(int(SOAK or "1")), asyncio.Event()
    stand.origin.script = moody(chance, calm)
    before = descriptors()
    engine = stand.engine(most=8, connect=60.0, first_byte=60.0)
    running: set[asyncio.Task[str]] = set()
    spared: list[asyncio.Task[str]] = []
    for number in range(CANCELS + CANCELS // 5):
        kind = chance.choice(["get", "get", "bytes", "an iterator"])
        task = asyncio.ensure_future(stand.outcome(engine, asking(stand, kind), within=60.0))
        if number % 6:
            asyncio.get_running_loop().call_later(chance.random() * 0.02, task.cancel)
        else:
            spared.append(task)
        running.add(task)
        task.add_done_callback(running.discard)
        if len(running) >= 24:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait(running)
    assert {task.result() for task in spared} <= {"200 b'hello'", "200 b'helloworld'"}
    assert stand.origin.most <= 8
    calm.set()
    hundred = await asyncio.gather(*(stand.get(engine) for _ in range(100)))
    assert hundred == ["200 b'hello'"] * 100
    await engine.aclose()
    await stand.empty(engine)
    known = {wire.task for wire in stand.origin.wires} | {asyncio.current_task()}
    await soon(lambda: asyncio.all_tasks() <= known, asyncio.all_tasks)
    await soon(lambda: descriptors() == before, descriptors)


async def test_answer_that_comes_with_the_cancellation_leaves_its_connection_alone(
    stand: Stand,
) -> None:
    """In one turn of the loop: it may be somebody else's when the cancellation gets through."""
    waiting: list[Wire] = []

    async def script(wire: Wire) -> None:
        await wire.request()
        if not waiting:
            waiting.append(wire)
            await wire.request()
        wire.send(HELLO)

    stand.origin.script = script
    engine = stand.engine()
    task = start(stand, engine)
    await stand.origin.until(lambda: bool(waiting))
    bell, ringer = socket.socketpair()
    with bell, ringer:
        bell.setblocking(False)
        asyncio.get_running_loop().add_reader(bell, task.cancel)
        for _ in range(3):  # from then on the loop hears the bell, and before the answer
            await asyncio.sleep(0)
        ringer.send(b"!")
        waiting[0].send(HELLO)
        with pytest.raises(asyncio.CancelledError):
            await task
        asyncio.get_running_loop().remove_reader(bell)
    assert await stand.get(engine) == "200 b'hello'"
    shares = [len(wire.requests) for wire in stand.origin.wires]
    assert shares == stand.expect([2])
