"""Request bodies at the listener: how they arrive, wait, stop arriving, or are refused before they
are here; and "100 Continue", which is said only where somebody wants the body."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from gateway.client.body import read_whole
from gateway.client.head import Head
from gateway.client.turn import Turn
from gateway.errors import SlowClient
from tests.engines import soon
from tests.serve import Pair, RawClient, request_bytes
from tests.test_listener import BARE, HEARD, MOST, bodies, echo, listening, say
from tests.world import World, served

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = (b"expect", b"100-continue")
CHUNKS: Pair = (b"transfer-encoding", b"chunked")
HIGH_WATER = 64 * 1024
READ = 256 * 1024  # at most so much comes in one read


def post(path: str, *headers: Pair, length: int | None = None) -> bytes:
    """A POST's head; `length` announces a body that is sent by itself."""
    announced = [] if length is None else [(b"content-length", b"%d" % length)]
    return request_bytes("POST", path, [*headers, *announced])


async def refuse(turn: Turn) -> None:
    """Answer without a look at the body."""
    await say(turn, b"no", 401)


class Taking:
    """Takes a body when told, piece by piece, and remembers the pieces."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.pieces: list[bytes] = []

    async def __call__(self, turn: Turn) -> None:
        await self.told.wait()
        while not turn.exhausted:
            self.pieces.append(await turn.piece())
        await say(turn, b"%d" % sum(map(len, self.pieces)))


EMPTY = {
    "no body": request_bytes("POST", "/"),
    "length 0": request_bytes("POST", "/", body=b""),
    "chunked nothing": post("/", CHUNKS) + b"0\r\n\r\n",
}


@pytest.mark.parametrize("case", EMPTY)
async def test_empty_body_is_read_at_once(case: str) -> None:
    async with listening() as house, house.client() as client:
        await client.send(EMPTY[case] * 2)
        assert await bodies(client, 2) == [b"POST /  "] * 2


async def test_trailers_never_become_headers() -> None:
    trailers = b"authorization: Bearer x\r\nHost: other\r\n" + b"x-more: 1\r\n" * 500
    sent = post("/", CHUNKS) + b"2\r\nhi\r\n0\r\n" + trailers + b"\r\n"
    for size in (1, None):
        async with listening(portions=size) as house, house.client() as client:
            await client.send(sent + BARE)
            assert await bodies(client, 2) == [b"POST /  hi", HEARD[2]]
        host = (b"host", b"127.0.0.1")
        assert [turn.headers for turn in house.door.turns] == [[host, CHUNKS], [host]]


async def test_key_in_a_trailer_lets_nobody_in() -> None:
    world = World()
    key = world.key()
    async with served(world) as house, RawClient(house.port) as client:
        trailer = f"0\r\nauthorization: Bearer {key}\r\n\r\n".encode()
        await client.send(post("/v1/chat/completions", CHUNKS) + b"2\r\n{}\r\n" + trailer)
        assert (await client.answer()).status == 401


async def test_pieces_come_as_they_arrive_and_are_never_empty() -> None:
    taking = Taking()
    taking.told.set()
    async with listening(taking) as house, house.client() as client:
        await client.send(post("/", CHUNKS))
        for number in range(1, 5):
            await client.send(b"3\r\nabc\r\n")
            await soon(lambda: b"".join(taking.pieces) == b"abc" * number)  # noqa: B023
        await client.send(b"0\r\n\r\n")
        assert await bodies(client, 1) == [b"12"]
    assert all(taking.pieces[:-1])


async def test_continue_is_said_when_the_body_is_asked_for() -> None:
    async with listening() as house, house.client() as client:
        for _ in range(2):
            await client.send(post("/", (b"Expect", b"100-Continue"), length=5))
            assert await client.read_until(b"\r\n\r\n") == CONTINUE
            for byte in (b"h", b"e", b"l", b"l", b"o"):
                await client.send(byte)
            answer = await client.answer()
            assert (answer.body, answer.wire.count(CONTINUE)) == (b"POST /  hello", 0)


async def test_continue_is_not_said_when_the_body_is_here() -> None:
    async with listening() as house, house.client() as client:
        await client.send(post("/", EXPECT, length=5) + b"hello")
        answer = await client.answer()
        assert (answer.body, answer.wire.count(CONTINUE)) == (b"POST /  hello", 0)


async def test_continue_is_not_said_of_other_expectations() -> None:
    async with listening() as house, house.client() as client:
        await client.send(post("/", (b"expect", b"a pony"), length=5))
        await house.turn()
        await client.send(b"hello")
        answer = await client.answer()
        assert (answer.body, answer.wire.count(CONTINUE)) == (b"POST /  hello", 0)


async def test_continue_waits_for_the_answer_before_it() -> None:
    gate = asyncio.Event()

    async def reply(turn: Turn) -> None:
        if turn.path == b"/slow":
            await gate.wait()
        await echo(turn)

    async with listening(reply) as house, house.client() as client:
        await client.send(request_bytes("GET", "/slow") + post("/", EXPECT, length=5))
        await house.turn()
        gate.set()
        assert await bodies(client, 1) == [b"GET /slow  "]
        assert await client.read_until(b"\r\n\r\n") == CONTINUE
        await client.send(b"hello")
        assert await bodies(client, 1) == [b"POST /  hello"]


async def test_continue_is_not_said_of_a_body_that_is_refused() -> None:
    async def reply(turn: Turn) -> None:
        turn.expects = Head(turn.headers).expects
        await refuse(turn)

    async with listening(reply) as house, house.client() as client:
        await client.send(post("/", EXPECT, length=5))
        answer = await client.answer()
        assert (answer.status, answer.wire.count(CONTINUE)) == (401, 0)
        await client.send(b"hello" + BARE)
        assert (await client.answer()).status == 401


@pytest.mark.parametrize("why", ["no key", "too large", "no such path"])
async def test_gateway_says_continue_only_to_what_it_will_read(why: str) -> None:
    world = World()
    own: list[Pair] = [(b"authorization", b"Bearer " + world.key().encode())]
    path = "/v1/nonsense" if why == "no such path" else "/v1/chat/completions"
    headers = [] if why == "no key" else own
    length = 5_000 if why == "too large" else 500
    async with served(world, max_body_bytes=1_000) as house, RawClient(house.port) as client:
        await client.send(post(path, EXPECT, *headers, length=length))
        answer = await client.answer()
        assert answer.status == {"no key": 401, "too large": 413}.get(why, 404)
        assert CONTINUE not in answer.wire


async def test_gateway_says_continue_and_reads_on() -> None:
    world = World()
    own = (b"authorization", b"Bearer " + world.key().encode())
    async with served(world) as house, RawClient(house.port) as client:
        await client.send(post("/v1/chat/completions", EXPECT, own, length=2))
        assert await client.read_until(b"\r\n\r\n") == CONTINUE
        await client.send(b"[]")
        assert (await client.answer()).status == 400


@pytest.mark.parametrize("size", [1, None])
@pytest.mark.parametrize("framing", ["counted", "chunked"])
async def test_next_request_is_served_when_a_refused_bodys_rest_comes(
    framing: str, size: int | None
) -> None:
    head, rest = post("/", length=9000), b"x" * 9000
    if framing == "chunked":
        head, rest = post("/", CHUNKS), b"2328\r\n" + rest + b"\r\n0\r\nx-trailer: 1\r\n\r\n"

    async def reply(turn: Turn) -> None:
        await (refuse(turn) if turn.method == "POST" else echo(turn))

    async with listening(reply, portions=size) as house, house.client() as client:
        for _ in range(3):
            await client.send(head + rest[:1000])
            assert (await client.answer()).status == 401
            await client.send(rest[1000:] + BARE + head + rest + BARE)
            assert await bodies(client, 3) == [HEARD[2], b"no", HEARD[2]]


async def test_connection_is_closed_in_time_when_a_refused_bodys_rest_goes_on_and_on() -> None:
    loop = asyncio.get_running_loop()
    async with listening(refuse, header_timeout=0.08) as house, house.client() as client:
        await client.send(post("/", CHUNKS))
        assert (await client.answer()).status == 401
        answered, ended = loop.time(), asyncio.create_task(client.at_end())
        with contextlib.suppress(ConnectionError):
            while not ended.done():
                await client.send(b"1\r\nx\r\n")
                await asyncio.wait([ended], timeout=0.005)
        assert await ended
        assert 0.07 < loop.time() - answered < 0.5


async def test_nonsense_behind_a_refused_body_is_not_answered() -> None:
    async with listening(refuse) as house, house.client() as client:
        await client.send(post("/", CHUNKS))
        assert (await client.answer()).status == 401
        await client.send(b"x is no size\r\n")
        assert await client.at_end()


async def test_nonsense_in_a_body_ends_its_request_without_a_word() -> None:
    async with listening() as house, house.client() as client:
        await client.send(post("/", CHUNKS) + b"3\r\nabc\r\n")
        await house.turn()
        await client.send(b"3\r\nabcd\r\n")
        assert await client.at_end()
        assert isinstance(await house.over(), asyncio.CancelledError)


async def test_refused_body_is_dropped_as_it_comes() -> None:
    large = b"x" * (8 * READ)
    async with listening(refuse) as house, house.client() as client:
        await client.send(post("/", length=len(large)))
        assert (await client.answer()).status == 401
        await client.send(large + BARE)
        assert (await client.answer()).status == 401
        assert house.door.turns[0].exhausted


async def test_client_is_held_while_its_body_is_not_taken() -> None:
    taking, large = Taking(), b"x" * (128 * READ)
    async with listening(taking) as house, house.client(timeout=5) as client:
        await client.send(post("/", CHUNKS) + b"%x\r\n" % len(large))
        await house.turn()
        sending = asyncio.create_task(client.send(large + b"\r\n0\r\n\r\n"))
        for _ in range(500):
            await asyncio.sleep(0)
        assert not sending.done()
        taking.told.set()
        assert await bodies(client, 1) == [b"%d" % len(large)]
        await sending
    # The first piece is what had been kept.
    assert len(taking.pieces[0]) > HIGH_WATER
    assert max(map(len, taking.pieces)) <= HIGH_WATER + READ


async def test_connection_is_read_on_when_a_body_was_held_at_its_very_end() -> None:
    taking = Taking()
    async with listening(taking) as house, house.client() as client:
        for number in range(1, 3):
            taking.told.clear()
            await client.send(post("/", length=HIGH_WATER + 1))
            turn = await house.turn(number)
            await client.send(b"x" * (HIGH_WATER + 1))
            await soon(lambda: turn.whole)  # noqa: B023
            taking.told.set()
            assert await bodies(client, 1) == [b"%d" % (number * (HIGH_WATER + 1))]


def quiet(seconds: float) -> asyncio.Event:
    """An event that is set after so long."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, event.set)
    return event


async def test_body_that_stops_arriving_cancels_its_request() -> None:
    told: list[object] = []

    async def reply(turn: Turn) -> None:
        try:
            await read_whole(turn, MOST)
        except asyncio.CancelledError:
            told.append(type(turn.reason()))
            # The cancellation was the request's own: it goes on as if there had been none.
            told.append(cast("asyncio.Task[None]", asyncio.current_task()).cancelling())
            turn.keep_alive = False
            await say(turn, b"late", 408)

    async with listening(reply, body_timeout=0.05) as house, house.client() as client:
        started = asyncio.get_running_loop().time()
        await client.send(post("/", length=10) + b"hello")
        assert await bodies(client, 1) == [b"late"]
        assert 0.049 <= asyncio.get_running_loop().time() - started < 0.5
        assert await client.at_end()
    assert told == [SlowClient, 0]


async def test_body_may_take_its_time_while_it_goes_on() -> None:
    async with listening(body_timeout=0.15) as house, house.client() as client:
        await client.send(post("/", length=6))
        for _ in range(6):
            await quiet(0.03).wait()
            await client.send(b"x")
        assert await bodies(client, 1) == [b"POST /  xxxxxx"]


Abandon = Callable[[Turn], Awaitable[None]]


async def by_a_timeout(turn: Turn) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await turn.piece()


async def by_a_task(turn: Turn) -> None:
    """As an upload's task is stopped when the upstream has answered."""
    waiting = asyncio.create_task(turn.piece())
    await quiet(0.01).wait()
    waiting.cancel()
    await asyncio.wait([waiting])


async def by_nobody(turn: Turn) -> None:
    """Not asked for yet."""


@pytest.mark.parametrize("abandon", [by_nobody, by_a_timeout, by_a_task])
async def test_body_nobody_waits_for_is_never_late(abandon: Abandon) -> None:
    async def reply(turn: Turn) -> None:
        await abandon(turn)
        await quiet(0.1).wait()
        await echo(turn)

    async with listening(reply, body_timeout=0.06) as house, house.client() as client:
        await client.send(post("/", length=5))
        await quiet(0.08).wait()
        await client.send(b"hello")
        assert await bodies(client, 1) == [b"POST /  hello"]
