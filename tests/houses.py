"""Starts `wardgate serve` as a person would, in a process of its own, and reads what it says.

Every process started here is ended by its own id before the block is left. Called by tests only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0
RULE = "─" * 78  # above and below the welcome


@dataclass
class Running:
    """A started house. `said`: its stderr up to the end of the welcome."""

    process: Process
    said: str
    log: Path
    children: dict[int, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def gateway(self) -> str:
        return self._find(r"gateway  (http://\S+)/v1")

    @property
    def admin(self) -> str:
        return self._find(r"admin    (http://\S+)")

    @property
    def token(self) -> str:
        return self._find(r"(wga_\S+)")

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.said)
        assert found, f"no {pattern} in:\n{self.said}"
        return found[1]

    def workers(self) -> list[int]:
        return [
            pid for pid, words in children(self.pid).items() if "gateway.process.worker" in words
        ]

    def neighbour(self, which: str) -> int:
        return next(pid for pid, words in children(self.pid).items() if f" {which} " in words)

    def lines(self) -> list[dict[str, object]]:
        """The JSON lines on stdout so far."""
        return [msgspec.json.decode(line) for line in self.log.read_bytes().splitlines()]

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to leave, wait, and give its exit code."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """This process's environment without anybody's keys or settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "WARDGATE_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT), **more}


@contextlib.asynccontextmanager
async def house(data_dir: Path, *words: str, **env: str) -> AsyncIterator[Running]:
    """`wardgate serve WORDS` on free ports, serving; it is gone when the block is left."""
    log = data_dir.parent / f"{data_dir.name}.log"
    command = [sys.executable, "-P", "-m", "admin.cli", "serve", *words]
    with log.open("ab") as stdout:
        process = await asyncio.create_subprocess_exec(
            *command, *_ports(words), env=environment(data_dir, **env), stdin=DEVNULL,
            stdout=stdout, stderr=PIPE,
        )  # fmt: skip
    try:
        running = Running(process, await asyncio.wait_for(_welcome(process), PATIENCE), log)
        reading = asyncio.create_task(_drain(process))
        running.children = children(process.pid)
        yield running
        reading.cancel()
    finally:
        await _end(process)


async def wardgate(
    data_dir: Path, *words: str, stdin: bytes = b"", **env: str
) -> tuple[int, str, str]:
    """Run a command to its end: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "admin.cli", *words),
        env=environment(data_dir, **env), stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(stdin), PATIENCE)
    return process.returncode or 0, out.decode(), err.decode()


def children(pid: int) -> dict[int, str]:
    """A process's children: id → command line."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child): _command(int(child)) for child in listed}


def gone(pid: int) -> bool:
    """True when no such process runs any more; one that waits to be reaped is gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def accepts(url: str) -> bool:
    """True when somebody listens at that URL."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1).close()
    except OSError:
        return False
    return True


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something no event tells of; TimeoutError names it."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 # another process: no event tells of it
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise TimeoutError(f"waited {PATIENCE:.0f} s for: {what}") from None


def _ports(words: tuple[str, ...]) -> list[str]:
    named = [name for name in ("--port", "--admin-port") if name not in words]
    return [word for name in named for word in (name, "0")]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def _welcome(process: Process) -> str:
    assert process.stderr is not None
    said, rules = "", 0
    while rules < 2:
        line = (await process.stderr.readline()).decode()
        assert line, f"it ended before it served:\n{said}"
        said += line
        rules += line.strip() == RULE
    return said


async def _drain(process: Process) -> None:
    assert process.stderr is not None
    while await process.stderr.readline():
        pass


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()
