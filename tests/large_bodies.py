"""Requests of 10 MiB, again and again, from a process of its own that is their provider, too.

Who measures what others feel of them must not be who sends and takes them. Says on stdout how many
were answered, or what went wrong. Started by test_endurance.py through `posting`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from functools import partial

from tests.caller import Caller
from tests.endurance import PATIENCE, Book, Provider, plain

LARGE = 10 * 1024 * 1024
_TURN, _TEXT = b'{"role":"user","content":"%b"}', "du texte déjà vu\\n".encode()


def _one_string() -> bytes:
    return _TURN % (_TEXT * (LARGE // len(_TEXT)))


def _many_messages() -> bytes:
    return b",".join([_TURN % (_TEXT * 1000)] * (LARGE // 20_000))


def _many_keys() -> bytes:
    keys = b",".join(b'"%06x":1' % number for number in range(LARGE // 10))
    return b'%b],"tools":[{"type":"function","function":{"name":"f","parameters":{%b}}}' % (
        _TURN % b"Hello",
        keys,
    )


# A model with its config's name in front of it is spelled anew on its way.
BODIES = {
    "one string": (b"gpt-4o-mini", _one_string),
    "one string, renamed": (b"openai/gpt-4o-mini", _one_string),
    "many messages": (b"gpt-4o-mini", _many_messages),
    "many messages, renamed": (b"openai/gpt-4o-mini", _many_messages),
    "a million keys": (b"gpt-4o-mini", _many_keys),
}


@contextlib.asynccontextmanager
async def posting(port: int, provider: socket.socket, key: bytes, name: str) -> AsyncIterator[None]:
    """Post the body called `name` while the block runs; more than one must have been answered."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tests.large_bodies"),
        *(str(port), str(provider.fileno()), key.decode(), name),
        pass_fds=[provider.fileno()], stdout=PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        begun = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        assert begun == b"begun\n", begun
        yield
        process.send_signal(signal.SIGTERM)
        said = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        assert int(said) > 1, said
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def _post(port: int, listener: socket.socket, key: bytes, name: str) -> None:
    loop, book, over = asyncio.get_running_loop(), Book(key), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    model, make = BODIES[name]
    job, times = plain(key, b'{"model":"%b","messages":[%b]}' % (model, make())), 0
    async with await loop.create_server(partial(Provider, book), sock=listener):
        _, caller = await loop.create_connection(partial(Caller, book), "127.0.0.1", port)
        while not over.is_set() and not book.wrong:
            await caller.play(job)
            times += 1
            if times == 1 and not book.wrong:
                _say("begun")
        caller.transport.close()
        book.hang_up()
    _say(book.wrong or times)


if __name__ == "__main__":
    _port, _fd, _key, _name = sys.argv[1:]
    asyncio.run(_post(int(_port), socket.socket(fileno=int(_fd)), _key.encode(), _name))
