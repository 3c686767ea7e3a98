"""One place in the house for a process: starts it, boots it, starts another one when it dies.

A child is a fresh interpreter running the parent's own code; it hears from its parent over a
socketpair only, and exits when that closes. Nothing here knows what a child does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import gateway
from gateway import tracing
from gateway.process.pipe import Boot, Message, Pipe, Serving, Stop, connect
from gateway.settings import PREFIX, REFERENCE_PREFIX

# A process that lived less than this long died of its start, not of its work.
SHORT_LIFE = 5.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
# Its end of the pipe is closed but it still runs: it hangs on its way out.
EXIT_GRACE = 2.0
# How the catalog's variables that hold keys end.
_KEY_ENDINGS = ("_KEY", "_TOKEN", "_PAT", "_TOKEN_BEDROCK")


@dataclass(frozen=True)
class Role:
    """What a child is: `words` follow `python -m`, `sockets` are the listeners it inherits.

    `needs_store`: it serves nobody while the store is away.
    """

    name: str
    words: tuple[str, ...]
    sockets: Sequence[socket.socket] = ()
    needs_store: bool = False


@dataclass(frozen=True)
class Hooks:
    """Whom a child's news goes to. `died` gets the exit code; not called once told to stop."""

    heard: Callable[[Child, Message], None]
    died: Callable[[Child, int], None]


def pause(failures: int) -> float:
    """Seconds to wait before the next start, after so many short lives in a row."""
    return min(FIRST_PAUSE * 2.0 ** (failures - 1), LONGEST_PAUSE) if failures else 0.0


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: ours without settings and keys, this very code first on its path.

    Settings come with the boot message; of keys, only references (`$env:UPSTREAM_…`) are read.
    OpenTelemetry's variables may hold credentials: they are for workers that export, added there.
    """
    code = str(Path(gateway.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (code, env.get("PYTHONPATH"))))
    return {**{name: env[name] for name in env if not _private(name)}, "PYTHONPATH": path}


def _private(name: str) -> bool:
    if name.startswith(REFERENCE_PREFIX):
        return False
    return name.startswith((PREFIX, tracing.PREFIX)) or name.endswith(_KEY_ENDINGS)


class Child:
    """Keeps one process running from `start` to `stop`."""

    def __init__(self, role: Role, env: Mapping[str, str], hooks: Hooks) -> None:
        self.role = role
        self.ready = asyncio.Event()
        self.revision = 0
        self.failures = 0
        self.pid = 0
        self._env = env
        self._hooks = hooks
        self._boot: Boot | None = None
        self._stopping = asyncio.Event()
        self._process: Process | None = None
        self._pipe: Pipe | None = None
        self._born = 0.0
        self._life: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "ready" if self.ready.is_set() else "starting"
        return f"<Child {self.role.name} pid={self.pid} {state} failures={self.failures}>"

    async def start(self) -> None:
        """Start the interpreter; it imports its code, then waits for `boot` if that is to come."""
        await self._spawn()
        if self._boot is not None:
            self.send(self._boot)
        self._life = asyncio.create_task(self._keep())

    def boot(self, boot: Boot) -> None:
        """Tell it what it is; a replacement is told the same."""
        self._boot = boot
        self.send(boot)

    def send(self, message: Message) -> None:
        """Nothing is sent before the boot message: what it would say is in there."""
        if self._pipe is not None and self._boot is not None:
            self._pipe.send(message)

    def stop(self) -> None:
        """Ask it to finish. One that was never booted has nothing to finish."""
        self._stopping.set()
        self.send(Stop())
        if self._boot is None:
            self.kill()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def gone(self, within: float) -> None:
        """Wait until it has finished; one that takes longer than `within` seconds is killed."""
        if self._life is not None:
            await asyncio.wait([self._life], timeout=within)
            self.kill()
            await self._life

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with ExitStack() as undo, theirs:
            undo.enter_context(ours)
            self._process = await self._interpreter(theirs)
            self._pipe = await connect(ours)
            undo.pop_all()
        self.pid = self._process.pid
        self._born = time.monotonic()

    async def _interpreter(self, control: socket.socket) -> Process:
        fds = [control.fileno(), *(sock.fileno() for sock in self.role.sockets)]
        command = [sys.executable, "-P", "-m", *self.role.words, *map(str, fds)]
        # A session of its own: Ctrl-C in a terminal is the parent's to act on.
        return await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, pass_fds=fds, env=self._env, start_new_session=True
        )

    async def _keep(self) -> None:
        """Listen and replace until stopped. The process is gone when this returns."""
        while True:
            code = await self._live()
            if self._stopping.is_set():
                return
            short = time.monotonic() - self._born < SHORT_LIFE
            self.failures = self.failures + 1 if short else 0
            self._hooks.died(self, code)
            if not await self._again():
                return

    async def _live(self) -> int:
        """From a process's start to its exit code, hearing what it says."""
        assert self._process is not None
        assert self._pipe is not None
        while (message := await self._pipe.receive()) is not None:
            if isinstance(message, Serving):
                self.revision = message.revision
                self.ready.set()
            self._hooks.heard(self, message)
        self.ready.clear()
        code = await _exit_code(self._process)
        await self._pipe.aclose()
        return code

    async def _again(self) -> bool:
        """Start another one, as often as it takes; False when told to stop meanwhile."""
        while not await self._rest():
            try:
                await self._spawn()
            except OSError:  # no memory or no descriptors at this moment
                self.failures += 1
                continue
            if self._stopping.is_set():
                self.kill()
            elif self._boot is not None:
                self.send(self._boot)
            return True
        return False

    async def _rest(self) -> bool:
        """Wait before another start; True when told to stop meanwhile."""
        try:
            await asyncio.wait_for(self._stopping.wait(), pause(self.failures))
        except TimeoutError:
            return self._stopping.is_set()
        return True


async def _exit_code(process: Process) -> int:
    try:
        return await asyncio.wait_for(process.wait(), EXIT_GRACE)
    except TimeoutError:
        process.kill()
        return await process.wait()
