"""How many instructions one request and one event take: the same number however busy the machine.

A worker's app between transports that hold no socket, so the kernel's part is not in it. valgrind
counts. `python -m tests.bench.instructions`; nothing of it runs in a worker.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
from functools import partial
from typing import Any, Final, cast

import uvloop

from gateway import catalog, logs
from gateway.addresses import AddressPolicy
from gateway.app import build
from gateway.client.listener import Listener, Patience
from gateway.deadlines import Deadlines
from gateway.masking import mask
from gateway.outbox import Outbox
from gateway.shapes import RateLimit
from gateway.upstream.connection import Connection
from gateway.upstream.dial import Place
from gateway.upstream.engine import HttpEngine
from gateway.upstream.pool import Pool
from gateway.upstream.seam import Pooling, Timeouts
from tests.bench.load import BenchFailed
from tests.world import LOOPBACK, World, settings

WARM: Final = 200
MANY: Final = 1000
_ORIGIN: Final = "http://127.0.0.1:9"
_COLLECTED: Final = re.compile(rb"Collected : (\d+)")
_WORDS: Final = b"Say hello to the world in one short sentence, please. " + b"pad " * 400
_ASKED: Final = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"%b"}]%b}'
_SAID: Final = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hello there."},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":9}}'
)
_EVENT: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" word"},'
    b'"finish_reason":null}]}\n\n'
)
_HEAD: Final = b"HTTP/1.1 200 OK\r\ndate: Sat, 28 Nov 2026 16:00:00 GMT\r\nserver: x\r\n"
WHOLE: Final = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    _HEAD,
    len(_SAID),
    _SAID,
)
BEGUN: Final = _HEAD + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK: Final = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


class Wire(asyncio.Transport):
    """A transport that keeps what was written; `answer` is what comes back for it, if anything.

    Its socket is one on which nothing ever comes.
    """

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        super().__init__({"socket": self.ends[0]})
        self.closed = False
        self.written: list[bytes] = []
        self.wrote = asyncio.Event()
        self.answer: partial[None] | None = None

    def write(self, data: Any) -> None:
        self.written.append(data)
        self.wrote.set()
        if self.answer is not None:
            asyncio.get_running_loop().call_soon(self.answer)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing comes unasked."""

    def resume_reading(self) -> None:
        """It comes when it was asked for."""

    def close(self) -> None:
        self.closed = True

    abort = close


class _ServerState:
    """What uvicorn's server shares with its connections."""

    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.tasks: set[object] = set()
        self.total_requests = 0


class Lane:
    """One client, a gateway with everything on, and one provider."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        world = World()
        world.config("openai", f"{_ORIGIN}/v1", limit=RateLimit(10**9, 60))
        self.key = world.key().encode()
        chosen = settings(heartbeat=15.0)
        engine = _Engine(self)
        app = build(chosen, world.ring, catalog.load(), world.snapshot(), engine=engine)
        self.client, self.provider = Wire(), Wire()
        self.connection: Connection | None = None
        self._listener = Listener(
            serve=app.serve,
            patience=Patience(10, 30, 75),
            deadlines=Deadlines(10),
            outbox=Outbox(),
            config=cast(Any, None),
            server_state=_ServerState(),
            app_state=None,
            _loop=loop,
        )
        self._listener.connection_made(self.client)

    def ask(self, *, streams: bool) -> None:
        body = _ASKED % (_WORDS, b',"stream":true' if streams else b"")
        self._listener.data_received(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\naccept: */*\r\nuser-agent: OpenAI/Python\r\n"
            b"content-length: %d\r\n\r\n%b" % (self.key, len(body), body)
        )

    def come(self, data: bytes) -> None:
        """Bytes from the provider."""
        assert self.connection is not None
        self.connection.data_received(data)

    async def requests(self, number: int) -> bytes:
        """So many, one after another; the last answer."""
        self.provider.answer = partial(self.come, WHOLE)
        for _ in range(number):
            await self._answered(streams=False)
        return self._last()

    async def _answered(self, *, streams: bool) -> None:
        self.client.written.clear()
        self.client.wrote.clear()
        self.ask(streams=streams)
        await self.client.wrote.wait()

    async def stream(self) -> None:
        """Open one."""
        self.provider.answer = partial(self.come, BEGUN + CHUNK)
        await self._answered(streams=True)
        self.provider.answer = None

    async def events(self, number: int) -> bytes:
        """So many in one turn of the loop; what came out last."""
        over = asyncio.Event()

        def come() -> None:
            self.client.written.clear()
            for _ in range(number):
                self.come(CHUNK)
            over.set()

        asyncio.get_running_loop().call_soon(come)
        await over.wait()
        return self._last()

    def _last(self) -> bytes:
        if self.client.closed or self.provider.closed:
            raise BenchFailed(f"a connection was closed behind {self.client.written!r:.300}")
        return self.client.written[-1]

    def close(self) -> None:
        for end in (*self.client.ends, *self.provider.ends):
            end.close()


class _Engine(HttpEngine):
    """The real one, whose connections lead to a wire of ours."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(AddressPolicy(LOOPBACK), Timeouts())
        place = Place.of(_ORIGIN)
        self._pools[_ORIGIN] = Pool(place.header, Pooling(), self._lead, 10)
        self._lane = lane

    async def _lead(self, pool: Pool) -> Connection:
        made = Connection(pool, Timeouts(), self._outbox, asyncio.get_running_loop())
        made.connection_made(self._lane.provider)
        self._lane.connection = made
        return made


async def run(what: str) -> None:
    """Warm up, then do it MANY times with the counting switched on."""
    logs.configure("info", mask, fd=os.open(os.devnull, os.O_WRONLY))
    lane = Lane()
    if what == "event":
        await lane.stream()
    doing = lane.events if what == "event" else lane.requests
    await doing(WARM)
    _count("on")
    await doing(MANY)
    _count("off")
    lane.close()


def _count(state: str) -> None:
    subprocess.run(
        ["callgrind_control", "-i", state, str(os.getpid())], check=True, stdout=subprocess.DEVNULL
    )


def counted(what: str) -> int:
    """Instructions of one. Raises BenchFailed without valgrind."""
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    with tempfile.TemporaryDirectory() as folder:
        command += [f"--callgrind-out-file={folder}/out", sys.executable, "-P", "-m", __spec__.name]
        env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
        try:
            done = subprocess.run([*command, what], env=env, capture_output=True, check=True)
        except FileNotFoundError:
            raise BenchFailed("valgrind is not here; Debian calls its package so, too") from None
    found = _COLLECTED.search(done.stderr)
    if found is None:
        raise BenchFailed(done.stderr.decode()[-500:])
    return int(found[1]) // MANY


def main() -> None:
    if sys.argv[1:]:
        uvloop.run(run(sys.argv[1]))
        return
    for what in ("request", "event"):
        sys.stdout.write(f"one {what}: {counted(what):,} instructions\n")


if __name__ == "__main__":
    main()
