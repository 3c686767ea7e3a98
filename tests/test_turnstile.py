"""Connections are shared out evenly among workers, and none waits for one that takes nobody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gateway.process.turnstile import Counts, Turnstile, counts_file
from tests.houses import gone, house, until
from tests.serve import RawClient, request_bytes


class Greeter(asyncio.Protocol):
    """Says hello to whoever is let in."""

    def __init__(self, turnstile: Turnstile) -> None:
        self._crowd = turnstile.crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = transport.get_extra_info("socket")
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        self._crowd.add(self)
        cast(asyncio.Transport, transport).write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.discard(self)


@contextlib.asynccontextmanager
async def doors(folder: Path, workers: int, opened: int) -> AsyncIterator[tuple[Counts, int]]:
    """So many workers of one socket, and its port; the first `opened` take connections."""
    counts = Counts.make(counts_file(folder), workers)
    assert counts.numbers == [None] * workers
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        made = []
        for index in range(opened):
            turnstile = Turnstile(Counts(counts_file(folder), workers), index)
            # Each process has a descriptor of its own.
            own = sock.dup()
            turnstile.open([own], lambda turnstile=turnstile: Greeter(turnstile))  # type: ignore[misc]
            made.append((turnstile, own))
        try:
            yield counts, sock.getsockname()[1]
        finally:
            for turnstile, own in made:
                turnstile.close()
                own.close()
        assert counts.numbers[:opened] == [None] * opened


async def enter(port: int, number: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """So many connections at once, each greeted."""

    async def one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
        return reader, writer

    return list(await asyncio.gather(*(one() for _ in range(number))))


async def leave(crowd: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    for _, writer in crowd:
        writer.close()
        await writer.wait_closed()


def even(counts: Counts, number: int) -> bool:
    """Whether so many are held, by none a fifth more or less than by another; whoever was left a
    moment too long was taken by somebody else."""
    held = [count or 0 for count in counts.numbers]
    return sum(held) == number and max(held) - min(held) <= 1 + number // len(held) // 5


@pytest.mark.parametrize(("workers", "number"), [(2, 4), (2, 101), (3, 9), (4, 64)])
async def test_each_worker_holds_as_many_as_any_other(
    tmp_path: Path, workers: int, number: int
) -> None:
    async with doors(tmp_path, workers, workers) as (counts, port):
        crowd = await enter(port, number)
        assert even(counts, number)
        await leave(crowd[::2])
        await until(lambda: sum(n or 0 for n in counts.numbers) == number // 2, "who left to go")
        more = await enter(port, number - number // 2)
        assert even(counts, number)
        await leave(crowd[1::2] + more)
        await until(lambda: counts.numbers == [0] * workers, "everybody to go")


async def test_a_worker_that_takes_nobody_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with doors(tmp_path, 2, 1) as (counts, port):
        counts.put(1, 0)  # here, but stopped or too busy to look
        crowd = await enter(port, 20)
        assert counts.numbers == [20, 0]
        counts.leave(1)  # gone
        crowd += await enter(port, 20)
        assert counts.numbers == [40, None]
        await leave(crowd)


async def test_who_leaves_before_being_let_in_is_not_counted(tmp_path: Path) -> None:
    async with doors(tmp_path, 2, 2) as (counts, port):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        crowd = await enter(port, 4)
        await until(lambda: counts.numbers == [2, 2], "nobody else to be counted")
        await leave(crowd)


async def ask(port: int) -> RawClient:
    """A connection that stays, and has been served."""
    client = await RawClient(port, timeout=20).__aenter__()
    await client.send(request_bytes("GET", "/readyz"))
    assert (await client.answer()).status == 200
    return client


async def test_two_workers_share_connections_and_one_does_the_work_of_a_dead_one(
    tmp_path: Path,
) -> None:
    async with house(tmp_path / "data", "--workers", "2") as running:
        port = int(running.gateway.rpartition(":")[2])
        [file] = (tmp_path / "data").glob("metrics-*/connections")
        counts, before = Counts(file, 2), running.workers()
        clients = [await ask(port) for _ in range(4)]
        assert counts.numbers == [2, 2]
        clients += await asyncio.gather(*(ask(port) for _ in range(252)))
        assert even(counts, 256)
        os.kill(before[0], signal.SIGSTOP)
        clients += await asyncio.gather(*(ask_in_time(port) for _ in range(8)))
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: gone(before[0]), "the worker to die")
        clients += await asyncio.gather(*(ask_in_time(port) for _ in range(8)))
        await until(lambda: None not in counts.numbers, "another worker")
        for client in clients:
            await client.__aexit__()


async def ask_in_time(port: int) -> RawClient:
    """The same, if need be by another connection: one that the dead worker took is lost."""
    for _ in range(3):
        with contextlib.suppress(TimeoutError, ConnectionError, AssertionError):
            async with asyncio.timeout(2):
                return await ask(port)
    raise AssertionError("nobody is served")
