"""A client's connection over time: what may take how long, who waits for whom, and who
leaves when: who has left costs nothing more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop

from gateway.client.body import read_whole
from gateway.client.head import Head
from gateway.client.turn import Turn
from gateway.errors import ClientGone
from tests.engines import soon
from tests.serve import Answer, RawClient, request_bytes
from tests.test_listener import BARE, HEARD, MOST, Reply, bodies, echo, listening, say
from tests.test_listener_bodies import HIGH_WATER, quiet

PIECE = b"x" * 65_536
HALF = BARE[:12]
Leave = Callable[[RawClient], Awaitable[None]]


# How long things may take.


async def test_head_must_arrive_in_time_whichever_request_it_begins() -> None:
    async with listening(header_timeout=0.08) as house, house.client() as client:
        for _ in range(2):
            await client.send(BARE)
            assert await bodies(client, 1) == [HEARD[2]]
        await client.send(HALF)
        late = await client.answer()
        assert (late.status, late.header(b"connection")) == (408, b"close")
        assert await client.at_end()


async def test_head_that_trickles_is_late_all_the_same() -> None:
    async with listening(header_timeout=0.08) as house, house.client() as client:
        heard = asyncio.create_task(client.answer())
        sent = 0
        while not heard.done() and sent < 100:
            await client.send(b"GET / HTTP/1.1\r\nx-long: " if not sent else b"x")
            sent += 1
            await asyncio.wait([heard], timeout=0.01)
        assert (await heard).status == 408


async def test_head_begun_during_an_answer_has_its_time_from_that_answers_end() -> None:
    slowly = iter([quiet(0.12)])

    async def reply(turn: Turn) -> None:
        for event in slowly:
            await event.wait()
        await echo(turn)

    async with listening(reply, header_timeout=0.08) as house, house.client() as client:
        await client.send(BARE + HALF)
        assert await bodies(client, 1) == [HEARD[2]]
        await client.send(BARE[12:] + HALF)
        assert await bodies(client, 1) == [HEARD[2]]
        assert (await client.answer()).status == 408
        assert await client.at_end()


async def test_idle_connection_is_closed_without_a_word() -> None:
    patience: dict[str, Any] = {"keep_alive_timeout": 0.12, "header_timeout": 0.06}
    async with listening(**patience) as house, house.client() as client:
        for _ in range(2):
            await client.send(BARE)
            assert await bodies(client, 1) == [HEARD[2]]
        started = asyncio.get_running_loop().time()
        assert await client.at_end()
        assert 0.11 < asyncio.get_running_loop().time() - started < 0.5


async def test_connection_is_not_idle_while_it_is_served() -> None:
    async def reply(turn: Turn) -> None:
        await quiet(0.1).wait()
        await echo(turn)

    patience: dict[str, Any] = {
        "keep_alive_timeout": 0.06,
        "header_timeout": 0.06,
        "body_timeout": 0.06,
    }
    async with listening(reply, **patience) as house, house.client() as client:
        await client.send(BARE + BARE)
        assert await bodies(client, 2) == [HEARD[2]] * 2


# Who waits for whom.


async def test_answer_waits_for_a_client_that_does_not_read() -> None:
    written: list[int] = []

    async def reply(turn: Turn) -> None:
        turn.start(200, b"", counted=False)
        for number in range(512):
            await turn.write(PIECE, more=True)
            written.append(number)
        await turn.write(b"", more=False)

    async with listening(reply) as house, house.client(timeout=5) as client:
        await client.send(BARE)
        head = await client.head()
        for _ in range(500):
            await asyncio.sleep(0)
        assert len(written) < 400
        answer = await client.body_of(head)
        assert (len(answer.body), answer.ending) == (512 * len(PIECE), "clean")


async def fill(turn: Turn) -> None:
    """Begin an answer, and write until the client, which does not read, takes no more."""
    turn.start(200, b"", counted=False)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            while not turn.gone:
                await turn.write(PIECE, more=True)


@pytest.mark.parametrize("given_up", [True, False])
def test_writes_that_wait_go_out_in_order_but_for_one_that_is_given_up(given_up: bool) -> None:
    """A heartbeat may wait for a slow client when the answer goes on, or breaks off."""

    async def reply(turn: Turn) -> None:
        await fill(turn)
        beat = asyncio.create_task(turn.write(b"beat", more=True))
        await asyncio.sleep(0)
        if given_up:
            beat.cancel()
        await turn.write(b"last", more=True)
        await asyncio.wait([beat])
        assert beat.cancelled() is given_up
        await turn.write(b"", more=False)

    async def ask() -> Answer:
        async with listening(reply) as house, house.client() as client:
            await client.send(BARE)
            head = await client.head()
            await quiet(0.1).wait()
            return await client.body_of(head)

    # A task that nothing wakes or cancels any more would keep a Runner waiting for ever.
    loop = uvloop.new_event_loop()
    try:
        answer = loop.run_until_complete(ask())
    finally:
        loop.close()
        gc.collect()
    assert answer.ending == "clean"
    assert answer.body.lstrip(b"x") == (b"last" if given_up else b"beatlast")


# Who leaves when.


class Waits:
    """Waits somewhere for good; when cancelled, notes why, and answers although nobody hears."""

    def __init__(self, where: Reply) -> None:
        self.where = where
        self.left: list[object] = []

    async def __call__(self, turn: Turn) -> None:
        try:
            await self.where(turn)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left.append(type(turn.reason()))
            # The cancellation was the request's own: its task goes on as if there had been none.
            assert cast("asyncio.Task[None]", asyncio.current_task()).cancelling() == 0
            await say(turn, b"too late")


async def for_a_body(turn: Turn) -> None:
    await read_whole(turn, MOST)


async def for_an_upstream(turn: Turn) -> None:
    turn.watch()


async def amid_its_answer(turn: Turn) -> None:
    turn.watch()
    turn.start(200, b"", counted=False)
    await turn.write(b"begun", more=True)


async def for_the_client_to_read(turn: Turn) -> None:
    turn.watch()
    await fill(turn)
    await turn.write(PIECE, more=True)


async def without_watching_first(turn: Turn) -> None:
    while not turn.gone:  # noqa: ASYNC110 - as when a limiter's answer is waited for
        await asyncio.sleep(0.001)
    turn.watch()


async def before_it_asks_for_the_body(turn: Turn) -> None:
    while not turn.gone:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    turn.expects = Head(turn.headers).expects
    await turn.piece()


async def closes(client: RawClient) -> None:
    await client.__aexit__()


async def resets(client: RawClient) -> None:
    client.reset()


async def finishes(client: RawClient) -> None:
    """Half-closed is closed: who sends nothing more does not wait for an answer either."""
    client.finish()


PLACES: list[Reply] = [for_a_body, for_an_upstream, amid_its_answer, for_the_client_to_read]
PLACES += [without_watching_first, before_it_asks_for_the_body]
LEAVES: list[Leave] = [closes, resets, finishes]
LARGE = b"%d" % (HIGH_WATER + 1)
POST = request_bytes("POST", "/", [(b"expect", b"100-continue"), (b"content-length", b"9")])


@pytest.mark.parametrize("leave", LEAVES, ids=lambda leave: str(leave.__name__))
@pytest.mark.parametrize("place", PLACES, ids=lambda place: str(place.__name__))
async def test_request_is_cancelled_and_says_nothing_more_when_its_client_leaves(
    place: Reply, leave: Leave
) -> None:
    waits = Waits(place)
    async with listening(waits) as house, house.client() as client:
        await client.send(POST)
        await house.turn()
        if place is amid_its_answer:
            await client.read_until(b"begun\r\n")
        elif place is for_the_client_to_read:
            await client.head()
            await quiet(0.1).wait()
        else:
            await asyncio.sleep(0)
        await leave(client)
        if leave is finishes:
            # What had been written before comes; nothing behind it.
            heard = b""
            while piece := await client.read_some():
                heard += piece
            assert b"too late" not in heard
        assert await house.over() is None
    assert waits.left == [ClientGone]
    assert house.door.turns[0].gone


async def test_clients_leaving_is_noticed_when_its_body_was_held_at_its_very_end() -> None:
    async def place(turn: Turn) -> None:
        while not turn.whole:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        turn.watch()
        await turn.piece()

    waits = Waits(place)
    async with listening(waits) as house, house.client() as client:
        await client.send(request_bytes("POST", "/", [(b"content-length", LARGE)]))
        turn = await house.turn()
        await client.send(b"x" * int(LARGE))
        await soon(lambda: turn.exhausted)
        await closes(client)
        await house.over()
    assert waits.left == [ClientGone]


async def test_clients_leaving_is_noticed_by_the_last_of_its_requests() -> None:
    waits = Waits(for_an_upstream)

    async def reply(turn: Turn) -> None:
        await (echo(turn) if turn.path == b"/bare" else waits(turn))

    async with listening(reply) as house, house.client() as client:
        await client.send(BARE + request_bytes("GET", "/waits"))
        assert await bodies(client, 1) == [HEARD[2]]
        await house.turn(2)
        await closes(client)
        await house.over(2)
    assert waits.left == [ClientGone]


@pytest.mark.parametrize("when", ["answered", "answered early", "unwatched"])
async def test_request_is_not_cancelled_when_nothing_of_it_is_left_to_break(when: str) -> None:
    gone, ended = asyncio.Event(), asyncio.Event()

    async def reply(turn: Turn) -> None:
        turn.watch()
        if when == "unwatched":
            turn.unwatch()
        else:
            await say(turn)
        await gone.wait()
        ended.set()

    async with listening(reply) as house, house.client() as client:
        await client.send(POST if when == "answered early" else BARE)
        await house.turn()
        await closes(client)
        await soon(lambda: not house.state.connections)
        gone.set()
        assert await house.over() is None
    assert ended.is_set()


async def test_nothing_of_a_connection_stays_in_memory() -> None:
    known = weakref.WeakSet[object]()
    async with listening(Waits(for_an_upstream), portions=1) as house:
        for number, leave in enumerate(LEAVES * 3, 1):
            async with house.client() as client:
                await client.send(BARE)
                await house.turn(number)
                known.update(house.state.connections)
                await leave(client)
        async with house.client() as client:
            await client.send(HALF)
            await soon(lambda: bool(house.state.connections))
            known.update(house.state.connections)
        await house.deserted()
        house.door.turns.clear()
        house.door.ended.clear()
        gc.collect()
        assert len(known) == 0
