"""Connections spread evenly over the workers of one socket: who holds fewest takes the next one.

How many each worker holds stands in a small file that all of them have mapped. One that holds more
than another leaves the newcomer to it for a moment, and takes it if nobody has by then: never waits
for a process that is busy, stopped or gone. Made by supervise.py, used by worker.py.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_AWAY = 2**31 - 1  # who takes nobody
_MOMENT = 0.003  # seconds a newcomer is left to others
_PAUSE = 0.5  # seconds after a failure to accept: out of descriptors, say


def counts_file(folder: Path) -> Path:
    return folder / "connections"


class Counts:
    """How many connections each of `number` workers holds; shared by whoever opens `path`."""

    def __init__(self, path: Path, number: int) -> None:
        with path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 4 * number)).cast("i")

    @classmethod
    def make(cls, path: Path, number: int) -> Counts:
        """A new file, in which nobody is here yet."""
        path.write_bytes(bytes(4 * number))
        made = cls(path, number)
        for index in range(number):
            made.leave(index)
        return made

    def __repr__(self) -> str:
        return f"<Counts: {self.numbers}>"

    @property
    def numbers(self) -> list[int | None]:
        """Of every worker; None for one that takes nobody."""
        return [None if number == _AWAY else number for number in self._numbers]

    def put(self, index: int, number: int) -> None:
        self._numbers[index] = number

    def leave(self, index: int) -> None:
        """This worker takes nobody, or is gone."""
        self._numbers[index] = _AWAY

    def least_but(self, index: int) -> int:
        """What the one of all others that holds fewest holds."""
        numbers = self._numbers.tolist()
        del numbers[index]
        return min(numbers, default=_AWAY)


class Crowd(set[Any]):
    """A worker's connections, as its server keeps them; tells when one is gone."""

    def __init__(self, gone: Callable[[], None]) -> None:
        super().__init__()
        self._tell = gone

    def discard(self, element: Any) -> None:
        if element in self:
            super().discard(element)
            self._tell()


class Turnstile:
    """Takes connections for one worker, the one at `index`."""

    def __init__(self, counts: Counts, index: int) -> None:
        self._counts, self._index = counts, index
        self._held = 0
        self._waited = False  # the newcomer has been left to others
        self._made: Callable[[], asyncio.Protocol] | None = None
        self._timers = dict[socket.socket, asyncio.TimerHandle]()
        self._sockets: list[socket.socket] = []
        self._tasks = set[asyncio.Task[None]]()
        self.crowd = Crowd(self._fewer)

    def __repr__(self) -> str:
        return f"<Turnstile: {self._held} held, of {self._counts.numbers}>"

    def open(self, sockets: Sequence[socket.socket], made: Callable[[], asyncio.Protocol]) -> None:
        """Take who comes to `sockets`, each with a protocol that is `made` for it."""
        self._made, self._sockets = made, list(sockets)
        self._counts.put(self._index, self._held)
        for sock in sockets:
            sock.setblocking(False)
            self._watch(sock)

    def close(self) -> None:
        """Take nobody any more."""
        self._counts.leave(self._index)
        for timer in self._timers.values():
            timer.cancel()
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
        self._made = None

    def _watch(self, sock: socket.socket) -> None:
        self._timers.pop(sock, None)
        asyncio.get_running_loop().add_reader(sock, self._come, sock)

    def _look_away(self, sock: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        self._timers[sock] = loop.call_later(seconds, self._watch, sock)

    def _come(self, sock: socket.socket) -> None:
        """Somebody is at the door, or has been: another worker may have been quicker."""
        if self._held > self._counts.least_but(self._index) and not self._waited:
            self._waited = True
            self._look_away(sock, _MOMENT)
            return
        self._waited = False
        try:
            client, _ = sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            self._look_away(sock, _PAUSE)
            return
        self._held += 1
        self._counts.put(self._index, self._held)
        task = asyncio.get_running_loop().create_task(self._let_in(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _let_in(self, client: socket.socket) -> None:
        assert self._made is not None
        try:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(self._made, client)
        except OSError:  # it has left already
            client.close()
            self._fewer()

    def _fewer(self) -> None:
        self._held -= 1
        if self._made is not None:
            self._counts.put(self._index, self._held)
