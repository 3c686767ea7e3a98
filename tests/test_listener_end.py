"""How it all ends: an answer that is not whole never does so cleanly, and a server that stops takes
nothing new, finishes what is under way and closes the rest."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.client.listener import Listener
from gateway.client.turn import Turn
from tests.engines import soon
from tests.serve import RawClient, request_bytes, serving
from tests.test_listener import BARE, HEARD, Door, House, Reply, bodies, echo, listening, say
from tests.world import settings

HALF = BARE[:12]
PIECE = b"x" * 65_536


def unfinished(framing: str, written: bytes) -> Reply:
    async def reply(turn: Turn) -> None:
        counted = framing == "counted"
        turn.start(200, b"content-length: 99999\r\n" if counted else b"", counted=counted)
        if written:
            await turn.write(written, more=True)

    return reply


@pytest.mark.parametrize("written", [b"", b"some", PIECE], ids=len)
@pytest.mark.parametrize("framing", ["counted", "chunked", "until close"])
async def test_answer_that_is_not_whole_never_ends_cleanly(framing: str, written: bytes) -> None:
    version = b"HTTP/1.0" if framing == "until close" else b"HTTP/1.1"
    async with listening(unfinished(framing, written)) as house, house.client() as client:
        await client.send(BARE.replace(b"HTTP/1.1", version))
        answer = await client.answer()
    assert answer.ending in ("cut", "reset")


async def test_nothing_is_served_behind_an_answer_that_is_not_whole() -> None:
    async with listening(unfinished("chunked", b"some")) as house, house.client() as client:
        await client.send(BARE + BARE)
        assert (await client.answer()).ending == "cut"
    assert len(house.door.turns) == 1


def shut(house: House) -> None:
    """What uvicorn does first when it is told to stop."""
    for connection in list(house.state.connections):
        connection.shutdown()


@pytest.mark.parametrize("sent", [b"", HALF, BARE, BARE + HALF], ids=len)
async def test_connection_that_is_not_served_is_closed_on_shutdown(sent: bytes) -> None:
    async with listening() as house, house.client() as client:
        await client.send(sent)
        if BARE in sent:
            assert await bodies(client, 1) == [HEARD[2]]
        await soon(lambda: bool(house.state.connections))
        shut(house)
        assert await client.at_end()


async def test_connection_whose_refused_body_still_comes_is_closed_on_shutdown() -> None:
    async with listening(say) as house, house.client() as client:
        await client.send(request_bytes("POST", "/", [(b"content-length", b"9")]))
        await bodies(client, 1)
        shut(house)
        assert await client.at_end()


@pytest.mark.parametrize("begun", [False, True])
async def test_running_answer_is_finished_on_shutdown(begun: bool) -> None:
    gate = asyncio.Event()

    async def reply(turn: Turn) -> None:
        if begun:
            turn.start(200, b"", counted=False)
            await turn.write(b"begun, ", more=True)
            await gate.wait()
            await turn.write(b"ended", more=False)
        else:
            await gate.wait()
            await echo(turn)

    async with listening(reply) as house, house.client() as client:
        await client.send(BARE)
        await house.turn()
        shut(house)
        gate.set()
        answer = await client.answer()
        assert (answer.ending, answer.body) == ("clean", b"begun, ended" if begun else HEARD[2])
        # What could not be said any more in its head, the connection itself says.
        assert answer.values(b"connection") == ([] if begun else [b"close"])
        assert await client.at_end()


async def test_queued_request_is_not_served_any_more_on_shutdown() -> None:
    gate = asyncio.Event()

    async def reply(turn: Turn) -> None:
        await gate.wait()
        await echo(turn)

    async with listening(reply) as house, house.client() as client:
        await client.send(BARE + BARE)
        await house.turn()
        shut(house)
        gate.set()
        assert await bodies(client, 1) == [HEARD[2]]
        assert await client.at_end()
    assert len(house.door.turns) == 1


async def test_request_that_came_just_before_is_answered_on_shutdown() -> None:
    async with listening() as house, house.client() as client:
        await soon(lambda: bool(house.state.connections))
        # As if both came in one turn of the loop.
        for connection in list(house.state.connections):
            cast(Listener, connection).data_received(BARE)
            connection.shutdown()
        answer = await client.answer()
        assert (answer.body, answer.header(b"connection")) == (HEARD[2], b"close")
        assert await client.at_end()


async def test_server_stops_when_the_last_answer_is_written() -> None:
    gate = asyncio.Event()

    async def reply(turn: Turn) -> None:
        await gate.wait()
        await echo(turn)

    door = Door(reply)
    running = serving(door, settings(), grace=5)
    url = await running.__aenter__()
    async with RawClient.to(url) as client, RawClient.to(url) as idle:
        await client.send(BARE)
        await soon(lambda: bool(door.turns))
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        assert await idle.at_end()
        assert not stopping.done()
        gate.set()
        assert await bodies(client, 1) == [HEARD[2]]
        await stopping
