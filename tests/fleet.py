"""Two gateways on one store, for a front to stand before, and callers who say what failed.

Each gateway is `wardgate serve gateway`, on a port it comes back to. Called by tests of the fronts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from admin.configure import configs, keys
from admin.configure.configs import NewConfig
from admin.configure.keys import NewKey
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway.shapes import GLOBAL
from tests.backends import Backend
from tests.desks import of_house, secret
from tests.houses import Running, house
from tests.serve import Answer, RawClient, request_bytes

CHAT = "/v1/chat/completions"
# With SOAK as fast as this machine can; else calm enough for what runs beside.
CALLERS, _PAUSE = (24, 0.0) if os.environ.get("SOAK") else (4, 0.02)


@dataclass
class Member:
    """One place of the fleet: its port is the same whoever serves there. `words` say what, and end
    with the option that takes the port.
    """

    data: Path
    port: int
    env: dict[str, str]
    words: tuple[str, ...] = ("gateway", "--port")
    running: Running | None = None
    _life: AsyncExitStack = field(default_factory=AsyncExitStack, repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve; it does when this returns."""
        words = (*self.words, str(self.port))
        self.running = await self._life.enter_async_context(house(self.data, *words, **self.env))

    async def stop(self) -> None:
        """Leave in order, as a restart does."""
        assert self.running is not None
        assert await self.running.stop() == 0
        await self.aclose()

    async def kill(self) -> None:
        """As in a power cut."""
        self.signal(signal.SIGKILL)
        await self.aclose()

    def signal(self, number: int) -> None:
        """To all of it at once: the parent stands still until its worker has it."""
        assert self.running is not None
        os.kill(self.running.pid, signal.SIGSTOP)
        for pid in (*self.running.children, self.running.pid):
            os.kill(pid, number)

    async def aclose(self) -> None:
        life, self._life = self._life, AsyncExitStack()
        await life.aclose()


@dataclass
class Fleet:
    """`key` is a client's; the model `demo/any` is what `upstream` answers."""

    members: list[Member]
    upstream: Upstream
    key: str

    def request(self, *, stream: bool = False, path: str = CHAT, orders: str = "") -> bytes:
        """A chat request as it stands on the wire; `orders` are the demo upstream's."""
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        headers |= {"x-demo": orders} if orders else {}
        message = {"role": "user", "content": "hi"}
        body = {"model": "demo/any", "stream": stream, "messages": [message]}
        return request_bytes("POST", path, headers, json.dumps(body).encode())

    async def restart(self, member: Member) -> None:
        await member.stop()
        await member.start()


@contextlib.asynccontextmanager
async def fleet(folder: Path, limit: int | None = None, **env: str) -> AsyncIterator[Fleet]:
    """Both gateways serve when the block begins; both are gone when it is left.

    `limit`: requests an hour that the provider config admits.
    """
    data, given = folder / "data", {"WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8", **env}
    members = [Member(data, quiet_port(), given) for _ in range(2)]
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream())
        for member in members:
            stack.push_async_callback(member.aclose)
        await members[0].start()
        key = await _furnish(data, upstream.url, limit)
        await members[1].start()
        made = Fleet(members, upstream, key)
        await _until_known(made)
        yield made


async def _furnish(data: Path, upstream: str, limit: int | None) -> str:
    """A provider and a client key, in some store: a front knows of none."""
    async with of_house(Backend(data)) as desk:
        new = NewConfig(
            scope=GLOBAL, provider="custom:demo", alias="demo", base_url=upstream,
            dialect="openai", secret=secret(), rate_limit=limit, rate_limit_period=3600,
        )  # fmt: skip
        await configs.create(desk, LOCAL, new)
        _, key = await keys.create(desk, LOCAL, NewKey(name="app"))
    return key


async def _until_known(made: Fleet) -> None:
    """Until the gateway that was there before the key has heard of it."""
    async with asyncio.timeout(10):
        while await failure(made, made.members[0].port):  # noqa: ASYNC110 # another process
            await asyncio.sleep(0.05)


def quiet_port() -> int:
    """A free port that no system hands out by itself: nobody takes it while its owner restarts."""
    while True:
        port = Random().randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port


async def failure(made: Fleet, port: int, *, stream: bool = False, orders: str = "") -> str:
    """What is wrong with the answer to one request on a connection of its own; "" if nothing is."""
    try:
        async with RawClient(port, timeout=60) as client:
            return await _failure_on(client, made, stream=stream, orders=orders)
    except (OSError, EOFError) as error:  # TimeoutError is an OSError
        return repr(error)


async def _failure_on(client: RawClient, made: Fleet, *, stream: bool, orders: str) -> str:
    await client.send(made.request(stream=stream, orders=orders))
    return flaw(await client.answer("POST"), stream=stream)


async def failure_of_many(made: Fleet, port: int, count: int) -> str:
    """The same for `count` requests, one after another on one connection."""
    try:
        async with RawClient(port, timeout=60) as client:
            for _ in range(count):
                wrong = await _failure_on(client, made, stream=False, orders="")
                if wrong:
                    return wrong
                await asyncio.sleep(_PAUSE)
    except (OSError, EOFError) as error:
        return repr(error)
    return ""


def flaw(answer: Answer, *, stream: bool) -> str:
    whole = b"data: [DONE]" in answer.body if stream else answer.body.endswith(b"}")
    if (answer.status, answer.ending, whole) == (200, "clean", True):
        return ""
    return f"{answer.status} {answer.ending}: {answer.wire[-300:]!r}"


@dataclass
class Load:
    """Callers who ask one request after another until `stop` is set: short ones, on a connection
    each or (`kept`) many on one, and streams of a second.
    """

    made: Fleet
    port: int
    kept: bool = True
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[str] = field(default_factory=list)
    asked: int = 0

    async def __aenter__(self) -> Load:
        self._callers = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.gather(*self._callers)

    async def _call(self, number: int) -> None:
        while not self.stop.is_set():
            wrong = await self._ask(number % 4)
            self.asked += 1
            if wrong:
                self.failures.append(wrong)
            await asyncio.sleep(_PAUSE)

    async def _ask(self, kind: int) -> str:
        if kind == 0:
            orders = "chunks=20; chunk_delay=0.05"
            return await failure(self.made, self.port, stream=True, orders=orders)
        if kind == 1 and self.kept:
            return await failure_of_many(self.made, self.port, 100)
        return await failure(self.made, self.port, stream=kind == 2)
