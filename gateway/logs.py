"""Log lines: one JSON object a line on stdout, for our own events and the libraries' warnings.

Nothing secret is passed in; warnings, errors and library lines are masked all the same.
A log that cannot be written never ends a request. Called by every process at its start.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

Mask = Callable[[bytes], bytes]
LEVELS = ("debug", "info", "warning", "error")
_STDOUT = 1
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(level: str = "info", mask: Mask = bytes, fd: int = _STDOUT) -> None:
    """Set this process's log up; `mask` sees every line that is not a plain info line."""
    structlog.configure(
        processors=[_Line(mask)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Out(fd),
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


class _Out:
    """Writes a line with one system call, so that lines of several processes do not mix."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def msg(self, line: bytes) -> None:
        try:
            os.write(self._fd, line)
        except OSError:
            return  # a reader that went away is no reason to fail a request

    debug = info = warning = error = critical = msg


class _Line:
    """The only processor: orders, stamps, renders, masks."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def __call__(self, _: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": now, "level": level, "event": event.pop("event", "")}
        raised = event.pop("exc_info", None)
        line.update(event)
        if raised:
            line["exception"] = _traceback(raised)
        plain = level == "info" and "library" not in line
        rendered = _encode(line)
        return (rendered if plain else self._mask(rendered)) + b"\n"


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
