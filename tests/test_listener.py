"""The listener on a real socket before an app of one function: how requests are read, one after
another, and how answers are framed. What the other `test_listener_*.py` stand on is here, too.

When a test is through nothing of it may be left: no connection, no request, no task.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest
from uvicorn.server import ServerState

from gateway.client.body import read_whole
from gateway.client.config import server_config
from gateway.client.head import Head
from gateway.client.listener import Listener
from gateway.client.turn import Turn
from tests.engines import soon
from tests.serve import RawClient, request_bytes
from tests.world import settings

MOST = 1 << 30
Reply = Callable[[Turn], Awaitable[None]]


async def say(turn: Turn, body: bytes = b"", status: int = 200, *, counted: bool = True) -> None:
    """Answer with all of `body` at once."""
    length = b"content-length: %d\r\n" % len(body) if counted else b""
    turn.start(status, length, counted=counted)
    await turn.write(body, more=False)


async def echo(turn: Turn) -> None:
    """Answer with what arrived."""
    turn.expects = Head(turn.headers).expects
    body = await read_whole(turn, MOST)
    await say(turn, b" ".join([turn.method.encode(), turn.path, turn.query, body]))


@dataclass
class Door:
    """The app: answers by `reply`. `turns` are all requests so far, `ended` says how they ended."""

    reply: Reply
    turns: list[Turn] = field(default_factory=list)
    ended: dict[int, BaseException | None] = field(default_factory=dict)

    async def serve(self, turn: Turn) -> None:
        self.turns.append(turn)
        number, how = len(self.turns), cast("BaseException | None", None)
        try:
            await self.reply(turn)
        except BaseException as error:
            how = error
            raise
        finally:
            self.ended[number] = how
            turn.end()

    async def __call__(self, scope: Any, take: Any, send: Any) -> None:
        for kind in ("startup", "shutdown"):
            await take()
            await send({"type": f"lifespan.{kind}.complete"})


class Portions(Listener):
    """A listener that gets what arrives in portions of exactly these sizes, the last for good."""

    def __init__(self, sizes: Sequence[int], **named: Any) -> None:
        super().__init__(**named)
        self._sizes, self._kept = list(sizes), b""

    def data_received(self, data: bytes) -> None:
        self._kept += data
        while len(self._kept) >= self._sizes[0] and not self.transport.is_closing():
            size = self._sizes.pop(0) if len(self._sizes) > 1 else self._sizes[0]
            portion, self._kept = self._kept[:size], self._kept[size:]
            super().data_received(portion)


@dataclass
class House:
    """A listener's port, its app, and what uvicorn's server would know of them."""

    port: int
    door: Door
    state: ServerState = field(default_factory=ServerState)

    def client(self, timeout: float = 2.0) -> RawClient:
        return RawClient(self.port, timeout=timeout)

    async def turn(self, number: int = 1) -> Turn:
        """The number-th request, once it has begun."""
        await soon(lambda: len(self.door.turns) >= number)
        return self.door.turns[number - 1]

    async def over(self, number: int = 1) -> BaseException | None:
        """What ended the number-th request, once it is served."""
        await soon(lambda: number in self.door.ended)
        return self.door.ended[number]

    async def deserted(self) -> None:
        """Within a second nobody is connected and nothing is under way."""
        await soon(lambda: not self.state.connections, lambda: self.state.connections)
        await soon(lambda: not self.state.tasks, lambda: self.state.tasks)
        await soon(lambda: len(self.door.ended) == len(self.door.turns))


@contextlib.asynccontextmanager
async def listening(
    reply: Reply = echo, *, portions: int | Sequence[int] | None = None, **changed: Any
) -> AsyncIterator[House]:
    """A listener before `reply`, as `wardgate serve` would have it with these settings."""
    loop, before = asyncio.get_running_loop(), asyncio.all_tasks()
    house = House(0, Door(reply))
    config = server_config(house.door, settings(**changed))
    config.load()
    given = cast("partial[Listener]", config.http_protocol_class).keywords
    given |= {"config": config, "server_state": house.state, "app_state": {}}
    made: Callable[[], Listener] = partial(Listener, **given)
    if portions is not None:
        made = partial(Portions, [portions] if isinstance(portions, int) else portions, **given)
    # What a request dies of stands in `ended`, and is judged below.
    loop.set_exception_handler(lambda loop, context: None)
    server = await loop.create_server(made, "127.0.0.1", 0)
    house.port = server.sockets[0].getsockname()[1]
    try:
        yield house
    finally:
        server.close()
    await house.deserted()
    await soon(lambda: asyncio.all_tasks() <= before, lambda: asyncio.all_tasks() - before)
    assert {type(how) for how in house.door.ended.values()} <= {type(None), asyncio.CancelledError}


async def bodies(client: RawClient, count: int) -> list[bytes]:
    """The bodies of the next answers, each of them whole."""
    answers = [await client.answer() for _ in range(count)]
    assert {answer.ending for answer in answers} == {"clean"}
    return [answer.body for answer in answers]


COUNTED = request_bytes("POST", "/counted?a=%20&b", body=b"GET / HTTP/1.1\r\n\r\n")
CHUNKED = (
    request_bytes("POST", "/chunked?", [(b"transfer-encoding", b"chunked")])
    + b'2;ext;more="a;b"\r\nhe\r\n0003\r\nllo\r\n0;last\r\nx-trailer: 1\r\nhost: other\r\n\r\n'
)
BARE = request_bytes("GET", "/bare")
MIXED = COUNTED + CHUNKED + BARE + CHUNKED + COUNTED
HEARD = [
    b"POST /counted a=%20&b GET / HTTP/1.1\r\n\r\n",
    b"POST /chunked  hello",
    b"GET /bare  ",
    b"POST /chunked  hello",
    b"POST /counted a=%20&b GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, None])
async def test_pipelined_requests_are_answered_in_order_however_they_are_split(
    size: int | None,
) -> None:
    # Whole portions only: what is left of the last one is made up by line ends nobody minds.
    filling = b"\r\n" * 32
    async with listening(portions=size) as house, house.client() as client:
        await client.send(MIXED + filling)
        assert await bodies(client, 5) == HEARD
        await client.send(MIXED + filling)
        assert await bodies(client, 5) == HEARD
    assert house.state.total_requests == 10


@pytest.mark.parametrize("size", [1, None])
async def test_headers_are_heard_in_order_with_their_names_in_lower_case(size: int | None) -> None:
    sent = [(b"Host", b"a"), (b"X-Twice", b"1"), (b"x-odd", b"\xc3\xa9 \t b"), (b"X-TWICE", b"2")]
    async with listening(portions=size) as house, house.client() as client:
        await client.request("GET", "/", sent)
    assert house.door.turns[0].headers == [(name.lower(), value) for name, value in sent]


async def test_big_batch_is_answered_in_order_and_whole() -> None:
    async def reply(turn: Turn) -> None:
        body = await read_whole(turn, MOST)
        await say(turn, turn.path + body[:8], counted=len(body) % 2 == 0)

    numbers = range(500)
    batch = [request_bytes("POST", f"/{n}", body=b"%08d" % n + b"x" * (n * 3)) for n in numbers]
    async with listening(reply) as house, house.client() as client:
        sending = asyncio.create_task(client.send(b"".join(batch)))
        assert await bodies(client, 500) == [b"/%d%08d" % (n, n) for n in numbers]
        await sending
        assert (await client.request("GET", "/alive")).body == b"/alive"


async def test_batch_is_no_large_head_when_it_ends_inside_one() -> None:
    """The bytes of the requests before it are not the last head's."""
    large = request_bytes("POST", "/large", body=b"x" * 70_000)
    portions = len(large) + 10, len(BARE) - 10
    async with listening(portions=portions) as house, house.client() as client:
        await client.send(large + BARE)
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]


async def test_request_waits_for_the_answer_before_it() -> None:
    gate = asyncio.Event()

    async def reply(turn: Turn) -> None:
        if turn.path == b"/slow":
            turn.start(200, b"", counted=False)
            await turn.write(b"begun ", more=True)
            await gate.wait()
            await turn.write(b"ended", more=False)
        else:
            await echo(turn)

    async with listening(reply) as house, house.client() as client:
        await client.send(request_bytes("GET", "/slow") + COUNTED)
        head = await client.head()
        await client.read_until(b"begun \r\n")
        await client.send(CHUNKED)
        assert len(house.door.turns) == 1
        gate.set()
        assert (await client.body_of(head)).body == b"ended"
        assert await bodies(client, 2) == HEARD[:2]


async def test_body_is_read_when_only_its_head_came_with_the_request_before() -> None:
    head, _, body = COUNTED.partition(b"\r\n\r\n")
    async with listening() as house, house.client() as client:
        await client.send(BARE + head + b"\r\n\r\n")
        assert await bodies(client, 1) == HEARD[2:3]
        await client.send(body)
        assert await bodies(client, 1) == HEARD[:1]


async def test_connection_is_used_again() -> None:
    async with listening() as house, house.client() as client:
        for _ in range(50):
            assert (await client.request("GET", "/bare")).body == HEARD[2]
            assert len(house.state.connections) == 1


async def test_nothing_is_served_behind_a_request_that_closes() -> None:
    closing = request_bytes("GET", "/last", [(b"connection", b"close")])
    async with listening() as house, house.client() as client:
        await client.send(BARE + closing + BARE)
        assert (await client.answer()).header(b"connection") is None
        answer = await client.answer()
        assert (answer.body, answer.header(b"connection")) == (b"GET /last  ", b"close")
        assert await client.at_end()
    assert len(house.door.turns) == 2


async def test_line_end_too_much_is_no_request() -> None:
    closing = request_bytes("POST", "/", [(b"connection", b"close")], b"x")
    async with listening() as house, house.client() as client:
        await client.send(COUNTED + b"\r\n" + closing + b"\r\n\r\n")
        assert await bodies(client, 2) == [HEARD[0], b"POST /  x"]
        assert await client.at_end()


# How an answer ends: its status, whether it is counted, and by how many pieces it is written.
ENDINGS = [(200, True, 1), (200, False, 1), (200, False, 3), (200, True, 3), (500, False, 0)]
ENDINGS += [(204, False, 0), (204, False, 2), (304, False, 1), (304, True, 1)]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("status", "counted", "pieces"), ENDINGS)
async def test_answer_is_framed_as_its_reader_knows(
    status: int, counted: bool, pieces: int, method: str, version: bytes, large: bool
) -> None:
    piece = b"x" * (100_000 if large else 5)
    body = piece * pieces

    async def reply(turn: Turn) -> None:
        length = b"content-length: %d\r\n" % len(body) if counted else b""
        turn.start(status, length, counted=counted)
        for _ in range(pieces):
            await turn.write(piece, more=True)
        await turn.write(b"", more=False)

    bodiless = method == "HEAD" or status in (204, 304)
    request = request_bytes(method, "/").replace(b"HTTP/1.1", b"HTTP/" + version)
    async with listening(reply) as house, house.client() as client:
        for _ in range(2 if version == b"1.1" else 1):
            await client.send(request)
            answer = await client.answer(method)
            assert (answer.status, answer.ending) == (status, "clean")
            assert answer.body == (b"" if bodiless else body)
            assert answer.header(b"content-length") == (b"%d" % len(body) if counted else None)
            chunked = version == b"1.1" and not counted and not bodiless
            assert answer.values(b"transfer-encoding") == [b"chunked"] * chunked
        closes = version == b"1.0"
        assert answer.values(b"connection") == [b"close"] * closes
        assert not closes or await client.at_end()


async def test_old_client_that_would_keep_the_connection_is_told_that_it_ends() -> None:
    request = request_bytes("GET", "/bare", [(b"connection", b"keep-alive")])
    async with listening() as house, house.client() as client:
        await client.send(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await client.answer()).values(b"connection") == [b"close"]
        assert await client.at_end()


# A target as it is sent -> the path, the query, and whether it is no path.
TARGETS: dict[bytes, tuple[bytes, bytes, bool]] = {
    b"/": (b"/", b"", False),
    b"/a/b%2Fc": (b"/a/b%2Fc", b"", False),
    b"/a?": (b"/a", b"", False),
    b"/a?b?c=/d": (b"/a", b"b?c=/d", False),
    b"/a#b?c": (b"/a", b"", False),
    b"/a?b#c": (b"/a", b"b", False),
    b"//evil/a": (b"//evil/a", b"", False),
    b"*": (b"*", b"", True),
    b"http://evil.example/a?b": (b"/a", b"", True),
    b"http://evil.example": (b"/", b"", True),
}


@pytest.mark.parametrize("target", TARGETS)
async def test_target_is_told_apart(target: bytes) -> None:
    async def reply(turn: Turn) -> None:
        await say(turn)

    async with listening(reply) as house, house.client() as client:
        answer = await client.request("OPTIONS", target)
    assert answer.status == 200
    turn = house.door.turns[0]
    assert (turn.path, turn.query, turn.absolute) == TARGETS[target]


async def test_what_follows_an_upgrade_is_nobodys() -> None:
    asked = [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    async with listening() as house, house.client() as client:
        await client.send(request_bytes("GET", "/bare", asked) + b"\x81\x05hello" + BARE)
        answer = await client.answer()
        assert (answer.body, answer.header(b"connection")) == (HEARD[2], b"close")
        assert await client.at_end()
    assert [turn.upgrade for turn in house.door.turns] == [True]
