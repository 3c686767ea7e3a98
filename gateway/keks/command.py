"""Runs the command an operator named for the master keys: no shell, bounded in bytes and in time.

Its stdout is a key set; its stderr is thrown away, since a secret may stand in it. One that takes
too long is killed with all it has started. Called by load.py, at start and never later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL, Process

from gateway.errors import StartRefused
from gateway.keks.keyset import Key, parse
from gateway.settings import Settings

NAME = "WARDGATE_KEK_COMMAND"
LARGEST = 64 * 1024


async def from_command(settings: Settings) -> list[Key]:
    """The keys it prints, in its order. Raises StartRefused."""
    try:
        async with asyncio.timeout(settings.kek_timeout):
            code, said = await _run(shlex.split(settings.kek_command))
    except TimeoutError:
        words = f"{NAME} was not done in {settings.kek_timeout:g} s (WARDGATE_KEK_TIMEOUT)"
        raise StartRefused(words) from None
    if code != 0:
        raise StartRefused(f"{NAME} ended with exit code {code}; run it by hand to see why")
    return parse(said.decode("utf-8", "replace").splitlines(), NAME)


async def _run(words: list[str]) -> tuple[int, bytes]:
    """Exit code and stdout; on any other way out nothing of it is left running."""
    # A pipe of our own can be left before its end, whoever still holds the other one.
    ours, theirs = os.pipe()
    try:
        process = await _started(words, theirs)
        try:
            said = await _read(ours)
            return await process.wait(), said
        except BaseException:
            await _end(process)
            raise
    finally:
        os.close(ours)


async def _started(words: list[str], stdout: int) -> Process:
    try:
        # A session of its own, so that all of it can be ended.
        return await asyncio.create_subprocess_exec(
            *words, stdin=DEVNULL, stdout=stdout, stderr=DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise StartRefused(f"{NAME}: {words[0]} cannot be run: {error.strerror}") from None
    finally:
        os.close(stdout)


async def _read(stdout: int) -> bytes:
    loop, news, said = asyncio.get_running_loop(), asyncio.Event(), bytearray()
    os.set_blocking(stdout, False)
    loop.add_reader(stdout, news.set)
    try:
        while await news.wait():
            news.clear()
            with contextlib.suppress(BlockingIOError):
                piece = os.read(stdout, LARGEST)
                if not piece:
                    break
                said += piece
            if len(said) > LARGEST:
                raise StartRefused(f"{NAME} prints more than {LARGEST >> 10} KiB: no key set")
    finally:
        loop.remove_reader(stdout)
    return bytes(said)


async def _end(process: Process) -> None:
    # The command itself may have ended; its group has its number as long as anybody is in it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
