"""Log lines: one JSON object a line on stdout, for our own events and the libraries' warnings.

Nothing secret is passed in; warnings, errors and library lines are masked all the same.
A log that cannot be written never ends a request. Called by every process at its start.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import lru_cache
from select import PIPE_BUF
from typing import Any, Protocol

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.backlog import settle

Mask = Callable[[bytes], bytes]
LEVELS = ("debug", "info", "warning", "error")
_STDOUT = 1
_json = msgspec.json.Encoder(enc_hook=str)


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """The beginning of a line whose fields are known beforehand; `time` by `spell`."""

    time: str
    level: str
    event: str


class Log(FilteringBoundLogger, Protocol):
    """structlog's logger, and a way to write many lines together."""

    def together(self, lines: Sequence[Line]) -> None:
        """Write lines in this order: at once, as they are, whatever their level."""


def configure(level: str = "info", mask: Mask = bytes, fd: int = _STDOUT) -> None:
    """Set this process's log up; `mask` sees every line but plain info lines and `together`'s."""
    out = _Out(fd)
    atexit.register(settle)
    structlog.configure(
        processors=[_Line(mask)],
        wrapper_class=_wrapper(level),
        logger_factory=lambda *_: out,
        cache_logger_on_first_use=True,
    )
    # Libraries speak up only when something is wrong: their info lines are our request lines.
    root = logging.getLogger()
    root.handlers = [_FromLibraries()]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))


def request_logger() -> Log:
    """A logger bound to what `configure` said; call it after `configure`, keep the result."""
    if isinstance(structlog.get_config()["logger_factory"](), _Out):
        logger: Log = structlog.get_logger().bind()
    else:  # not said anything yet
        out, line = _Out(_STDOUT), _Line(bytes)
        logger = structlog.wrap_logger(out, [line], wrapper_class=_wrapper("info")).bind()
    return logger


def _wrapper(level: str) -> type[Any]:
    """structlog's logger that heeds `level`, with our `together`."""
    plain: type[Any] = structlog.make_filtering_bound_logger(level)
    return type("_Log", (plain,), {"together": lambda self, lines: self._logger.together(lines)})


def flush() -> None:
    """Write what waits: before a server says that it has stopped."""
    settle()


class _Out:
    """Writes whole lines, and before them what requests have left to be written.

    What is written at once is no larger than a pipe takes in one piece: lines of several
    processes do not mix.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def msg(self, line: bytes) -> None:
        settle()
        self._write(line)

    debug = info = warning = error = critical = msg

    def together(self, lines: Sequence[Line]) -> None:
        for piece in _pieces(_json.encode_lines(lines)):
            self._write(piece)

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._fd, data)
        except OSError:
            return  # a reader that went away is no reason to fail a request


def _pieces(lines: bytes) -> Iterator[bytes]:
    """As many whole lines at a time as a pipe takes in one piece, at least one."""
    start = 0
    while len(lines) - start > PIPE_BUF:
        end = lines.rfind(b"\n", start, start + PIPE_BUF) + 1
        end = end or lines.find(b"\n", start) + 1
        yield lines[start:end]
        start = end
    yield lines[start:]


class _Line:
    """The only processor: orders, stamps, renders, masks."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def __call__(self, _: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
        line: dict[str, Any] = {
            "time": spell(time.time()),
            "level": level,
            "event": event.pop("event", ""),
        }
        raised = event.pop("exc_info", None)
        line.update(event)
        if raised:
            line["exception"] = _traceback(raised)
        plain = level == "info" and "library" not in line
        rendered = _json.encode(line)
        return (rendered if plain else self._mask(rendered)) + b"\n"


_THOUSANDTHS = tuple(f".{number:03d}Z" for number in range(1000))


def spell(moment: float) -> str:
    """Unix seconds as UTC with milliseconds."""
    return _second(moment // 1) + _THOUSANDTHS[int(moment % 1 * 1000)]


@lru_cache(maxsize=2)  # lines of one batch may be from either side of a second's end
def _second(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


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
