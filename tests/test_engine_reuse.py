"""A kept connection: what died is replaced only where nothing can happen twice, and bytes that
nobody asked for never become somebody's answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests import engines
from tests.engines import Stand
from tests.test_engine_origin import HELLO, Script, Wire, answering, in_turn

stand = engines.stand
EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
ENDINGS = ["fin", "rst"]
FAILED = "UpstreamError upstream_failed"


def dying(ending: str, *, before: bytes = b"", after: int = 1) -> Script:
    """A connection that serves `after` requests and ends at the next one, after `before`."""

    async def script(wire: Wire) -> None:
        for _ in range(after):
            await wire.request()
            wire.send(HELLO)
        await wire.head()
        if before:
            await wire.send_pieces(before)
            await wire.flushed()
        wire.fin() if ending == "fin" else wire.rst()

    return script


async def arriving() -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.parametrize("ending", ENDINGS)
async def test_get_is_tried_once_more_when_its_kept_connection_died(
    stand: Stand, ending: str
) -> None:
    stand.origin.script = in_turn(dying(ending), answering(HELLO))
    engine = stand.engine(most=1)
    assert await stand.get(engine, b"/1") == "200 b'hello'"
    assert await stand.get(engine, b"/2") == "200 b'hello'"
    assert stand.origin.targets == [b"/1", b"/2", b"/2"]
    assert [len(wire.requests) for wire in stand.origin.wires] == [2, 1]


LARGE_BODY = b"x" * 100_000  # more than may wait for a reader, and all of it in one read
LARGE_ANSWERS = {
    "counted": b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + LARGE_BODY,
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n"
    + LARGE_BODY
    + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("framing", LARGE_ANSWERS)
async def test_connection_serves_again_behind_a_large_answer_that_came_at_once(
    stand: Stand, framing: str
) -> None:
    stand.origin.script = answering(LARGE_ANSWERS[framing])
    engine = stand.engine(most=1, first_byte=stand.patience)
    for _ in range(6):
        assert await stand.get(engine) == f"200 {LARGE_BODY!r}"
    assert [len(wire.requests) for wire in stand.origin.wires] == [6]


BODIES = {"bytes": b"x", "empty": b"", "no body": None, "an iterator": ()}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("body", BODIES)
async def test_post_is_never_sent_twice(stand: Stand, ending: str, body: str) -> None:
    stand.origin.script = in_turn(dying(ending), answering(HELLO))
    engine = stand.engine()
    assert await stand.get(engine) == "200 b'hello'"
    sent = arriving() if body == "an iterator" else BODIES[body]
    outbound = stand.outbound(b"/post", "POST", body=sent)  # type: ignore[arg-type] # of the table
    assert await stand.outcome(engine, outbound) == FAILED
    assert stand.origin.targets == [b"/", b"/post"]
    await stand.empty(engine)


@pytest.mark.parametrize("case", ["GET", "PUT", "DELETE", "PATCH", "DELETE of nothing"])
async def test_body_is_never_sent_twice_whatever_the_method(stand: Stand, case: str) -> None:
    """Nor is a method that changes something, with a body or without."""
    stand.origin.script = in_turn(dying("fin"), answering(HELLO))
    engine = stand.engine()
    assert await stand.get(engine) == "200 b'hello'"
    body = None if case.endswith("nothing") else b"once"
    outcome = await stand.outcome(engine, stand.outbound(b"/", case.split()[0], body=body))
    assert (outcome, len(stand.origin.requests)) == stand.expect((FAILED, 2))


@pytest.mark.parametrize("ending", ENDINGS)
async def test_second_try_is_the_last(stand: Stand, ending: str) -> None:
    stand.origin.script = in_turn(dying(ending), dying(ending, after=0))
    engine = stand.engine()
    assert await stand.get(engine, b"/1") == "200 b'hello'"
    assert await stand.get(engine, b"/2") == FAILED
    assert stand.origin.targets == [b"/1", b"/2", b"/2"]
    await stand.empty(engine)


async def test_second_try_is_on_a_fresh_connection_when_others_lie_idle(stand: Stand) -> None:
    """What closed one kept connection has most likely closed them all."""

    async def pair(wire: Wire) -> None:
        await wire.request()
        await stand.origin.until(lambda: len(stand.origin.wires) == 2)
        wire.send(HELLO)
        await wire.head()
        wire.fin()

    stand.origin.script = in_turn(pair, pair, answering(HELLO))
    engine = stand.engine()
    assert set(await asyncio.gather(stand.get(engine), stand.get(engine))) == {"200 b'hello'"}
    outcome = await stand.get(engine)
    assert (outcome, len(stand.origin.wires)) == stand.expect(("200 b'hello'", 3))


@pytest.mark.parametrize("ending", ENDINGS)
async def test_fresh_connection_that_dies_is_not_replaced(stand: Stand, ending: str) -> None:
    stand.origin.script = dying(ending, after=0)
    engine = stand.engine()
    assert await stand.get(engine) == FAILED
    assert len(stand.origin.wires) == stand.expect(1)
    await stand.empty(engine)


BEGUN = {
    "one byte": b"H",
    "status line": b"HTTP/1.1 200 OK\r\n",
    "nearly a head": HELLO[:-7],
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("begun", BEGUN)
async def test_request_is_not_repeated_when_an_answer_had_begun(stand: Stand, begun: str) -> None:
    stand.origin.script = in_turn(dying("fin", before=BEGUN[begun]), answering(HELLO))
    engine = stand.engine()
    assert await stand.get(engine) == "200 b'hello'"
    outcome = await stand.get(engine)
    assert (outcome, len(stand.origin.requests)) == stand.expect((FAILED, 2))


@pytest.mark.parametrize("ending", ENDINGS)
async def test_idle_connection_that_the_upstream_closed_is_not_used(
    stand: Stand, ending: str
) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.send_pieces(HELLO)
        wire.fin() if ending == "fin" else wire.rst()

    stand.origin.script = in_turn(once, answering(HELLO))
    engine = stand.engine()
    assert await stand.get(engine) == "200 b'hello'"
    await stand.empty(engine)
    posted = stand.outbound(b"/post", "POST", body=b"x")
    assert await stand.outcome(engine, posted) == "200 b'hello'"
    assert [len(wire.requests) for wire in stand.origin.wires] == [1, 1]


async def test_connection_whose_end_came_with_the_answer_is_not_used_again(stand: Stand) -> None:
    """The kernel has it already; that the loop has not told yet is no reason to send there."""

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(HELLO)
        wire.cut()
        await wire.until(lambda: False)

    stand.origin.script = script
    engine = stand.engine()
    posts = [stand.outbound(b"/%d" % number, "POST", body=b"x") for number in range(6)]
    outcomes = {await stand.outcome(engine, post) for post in posts}
    assert outcomes == stand.expect({"200 b'hello'"})


UNASKED = {"an answer": EVIL, "a byte": b"H", "a line end": b"\r\n", "an interim": BEGUN["interim"]}


@pytest.mark.parametrize("unasked", UNASKED)
async def test_bytes_that_nobody_asked_for_close_an_idle_connection(
    stand: Stand, unasked: str
) -> None:
    async def talkative(wire: Wire) -> None:
        await wire.request()
        await wire.send_pieces(HELLO)
        await stand.origin.until(idle.is_set)
        wire.send(UNASKED[unasked])
        await wire.until(lambda: False)

    idle = asyncio.Event()
    stand.origin.script = in_turn(talkative, answering(HELLO))
    engine = stand.engine(first_byte=0.1)
    assert await stand.get(engine) == "200 b'hello'"
    idle.set()
    stand.origin.noticed()
    with contextlib.suppress(TimeoutError):
        await stand.origin.all_closed(stand.patience)
    closed = not stand.origin.open
    outcome, shares = await stand.get(engine), [len(wire.requests) for wire in stand.origin.wires]
    assert (closed, outcome, shares) == stand.expect((True, "200 b'hello'", [1, 1]))


COMPLETE = {
    "counted": (HELLO, "200 b'hello'"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "200 b'hello'",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "204 b''"),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "304 b''"),
    "nothing": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "200 b''"),
}
# A line end too much is in no answer, and harms none.
SURPLUS = {"an answer": EVIL, "bytes": b"hello", "half a head": EVIL[:30]}
BEHIND = [*(f"{framing}, an answer" for framing in COMPLETE), *(f"counted, {s}" for s in SURPLUS)]


@pytest.mark.parametrize("case", sorted(set(BEHIND)))
async def test_surplus_behind_a_whole_answer_is_nobodys(stand: Stand, case: str) -> None:
    """The answer itself is good; its connection is not used again."""
    framing, _, surplus = case.partition(", ")
    whole_answer, outcome = COMPLETE[framing]
    stand.origin.script = in_turn(answering(whole_answer + SURPLUS[surplus]), answering(HELLO))
    engine = stand.engine()
    outcomes = [await stand.get(engine), await stand.get(engine)]
    shares = [len(wire.requests) for wire in stand.origin.wires]
    assert (outcomes, shares) == stand.expect(([outcome, "200 b'hello'"], [1, 1]))


async def test_body_of_a_head_answer_is_nobodys(stand: Stand) -> None:
    stand.origin.script = in_turn(answering(HELLO, EVIL), answering(HELLO))
    engine = stand.engine()
    headed = await stand.outcome(engine, stand.outbound(b"/", "HEAD"))
    assert headed == stand.expect("200 b''")
    assert await stand.get(engine) == "200 b'hello'"
    assert [len(wire.requests) for wire in stand.origin.wires] == [1, 1]
