"""Log lines: one JSON object a line on stdout, for our own events and the libraries' warnings.

Nothing secret is passed in; warnings, errors and library lines are masked all the same.
A log that cannot be written never ends a request. Called by every process at its start.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from select import PIPE_BUF
from typing import Any

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

Mask = Callable[[bytes], bytes]
LEVELS = ("debug", "info", "warning", "error")
_STDOUT = 1
_WAIT = 0.05  # seconds an info line may wait for company
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(level: str = "info", mask: Mask = bytes, fd: int = _STDOUT) -> None:
    """Set this process's log up; `mask` sees every line that is not a plain info line."""
    out = _Out(fd)
    atexit.register(out.flush)
    structlog.configure(
        processors=[_Line(mask)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: out,
        cache_logger_on_first_use=True,
    )
    # Libraries speak up only when something is wrong: their info lines are our request lines.
    root = logging.getLogger()
    root.handlers = [_FromLibraries()]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))


def request_logger() -> FilteringBoundLogger:
    """A logger bound to what `configure` said; call it after `configure`, keep the result."""
    logger: FilteringBoundLogger = structlog.get_logger().bind()
    return logger


def flush() -> None:
    """Write what waits: before a server says that it has stopped."""
    out = structlog.get_config()["logger_factory"]()
    if isinstance(out, _Out):
        out.flush()


class _Out:
    """Writes whole lines. Info lines wait a moment, so that busy workers share system calls.

    What is written at once is no larger than a pipe takes in one piece: lines of several
    processes do not mix.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def info(self, line: bytes) -> None:
        """Write with the next flush, or at once where no event loop runs."""
        if self._size + len(line) > PIPE_BUF:
            self.flush()
        self._waiting.append(line)
        self._size += len(line)
        self._arm()

    def msg(self, line: bytes) -> None:
        """Write now: what is wrong must not wait, nor go missing."""
        self.flush()
        self._write(line)

    debug = warning = error = critical = msg

    def flush(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waiting:
            self._write(b"".join(waiting))

    def _arm(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if self._timer is None or self._loop is not loop:
            self._loop, self._timer = loop, loop.call_later(_WAIT, self.flush)

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._fd, data)
        except OSError:
            return  # a reader that went away is no reason to fail a request


class _Line:
    """The only processor: orders, stamps, renders, masks."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._second = -1
        self._spelled = ""

    def __call__(self, _: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
        line: dict[str, Any] = {
            "time": self._now(),
            "level": level,
            "event": event.pop("event", ""),
        }
        raised = event.pop("exc_info", None)
        line.update(event)
        if raised:
            line["exception"] = _traceback(raised)
        plain = level == "info" and "library" not in line
        rendered = _encode(line)
        return (rendered if plain else self._mask(rendered)) + b"\n"

    def _now(self) -> str:
        """UTC with milliseconds; the seconds are spelled once each."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._spelled = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._spelled}{int((now - second) * 1000):03d}Z"


class _FromLibraries(logging.Handler):
    """What uvicorn, aiohttp and asyncio say through `logging`, in our format."""

    def emit(self, record: logging.LogRecord) -> None:
        request_logger().log(
            record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info
        )


def _traceback(raised: Any) -> str:
    if isinstance(raised, BaseException):
        return "".join(traceback.format_exception(raised))
    return "".join(traceback.format_exception(*(raised if raised is not True else sys.exc_info())))
