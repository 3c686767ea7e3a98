"""Log lines: JSON, one a line, masked where a library or an error speaks."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import PIPE_BUF
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import logs, masking
from gateway.shapes import Secret

KEY = "sk-proj-canary-0123456789abcdefghij"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers, root.level
    yield
    root.handlers = before
    root.setLevel(level)
    structlog.reset_defaults()


@contextmanager
def lines(tmp_path: Path, level: str = "info") -> Iterator[list[dict[str, Any]]]:
    """What is logged in the block, once it has ended."""
    path, found = tmp_path / "log", []  # type: tuple[Path, list[dict[str, Any]]]
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    logs.configure(level, masking.mask, fd)
    yield found
    os.close(fd)
    found += [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_line_is_json_with_time_level_and_event_first(tmp_path: Path) -> None:
    with lines(tmp_path) as found:
        logs.request_logger().info("request", status=200, path=Path("/v1"), key=Secret(b"x"))
    [line] = found
    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["level"], line["event"], line["status"]) == ("info", "request", 200)
    assert (line["path"], line["key"]) == ("/v1", "Secret(***)")


def test_level_below_the_one_set_is_not_written(tmp_path: Path) -> None:
    with lines(tmp_path, "warning") as found:
        logs.request_logger().info("request")
        logs.request_logger().warning("careful")
    assert [line["event"] for line in found] == ["careful"]


def test_errors_are_masked(tmp_path: Path) -> None:
    with lines(tmp_path) as found:
        logs.request_logger().error("defect", exc_info=ValueError(f"bad key {KEY}"))
    [line] = found
    assert "ValueError" in line["exception"]
    assert "canary" not in str(line)


def test_traceback_of_the_error_being_handled_is_written(tmp_path: Path) -> None:
    with lines(tmp_path) as found:
        try:
            raise KeyError("lost")
        except KeyError:
            logs.request_logger().error("defect", exc_info=True)
    assert "KeyError: 'lost'" in found[0]["exception"]


def test_libraries_speak_in_the_same_format_and_masked(tmp_path: Path) -> None:
    with lines(tmp_path) as found:
        logging.getLogger("aiohttp.client").warning("odd header %s", KEY)
        logging.getLogger("uvicorn.error").info("Started server process")
    [line] = found
    assert (line["level"], line["library"]) == ("warning", "aiohttp.client")
    assert "canary" not in line["event"]


class Said(logs.Line):
    """A line of one field."""

    text: str = ""


def said(*texts: str) -> list[Said]:
    return [Said(logs.spell(0), "info", "said", text) for text in texts]


def test_lines_written_together_are_lines_of_their_own_in_their_order(tmp_path: Path) -> None:
    with lines(tmp_path) as found:
        logs.request_logger().together(said("one", "two"))
        logs.request_logger().warning("careful")
        logs.request_logger().together(said(""))
    assert [line["event"] for line in found] == ["said", "said", "careful", "said"]
    assert [line.get("text") for line in found] == ["one", "two", None, None]
    assert list(found[0]) == ["time", "level", "event", "text"]


@pytest.mark.parametrize(
    ("length", "number", "writes"),
    [(1, 100, 2), (PIPE_BUF // 3, 10, 5), (PIPE_BUF, 10, 10), (2 * PIPE_BUF, 1, 1)],
)
def test_a_write_is_whole_lines_and_no_more_than_a_pipe_takes_in_one_piece(
    length: int, number: int, writes: int
) -> None:
    # What is written at once into a socket of this kind is read at once.
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reading:
        logs.configure("info", masking.mask, writing.fileno())
        logs.request_logger().together(said(*["x" * length] * number))
        writing.close()
        written = list(iter(lambda: reading.recv(4 * PIPE_BUF), b""))
    assert (len(written), b"".join(written).count(b"\n")) == (writes, number)
    assert all(piece.endswith(b"\n") for piece in written)
    assert all(len(piece) <= PIPE_BUF or piece.count(b"\n") == 1 for piece in written)


@given(st.integers(0, 4_000_000_000_000))
def test_time_is_spelled_in_utc_with_milliseconds(milliseconds: int) -> None:
    second, rest = divmod(milliseconds, 1000)
    spelled = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) + f".{rest:03d}Z"
    assert logs.spell(second + (rest + 0.5) / 1000) == spelled


def test_log_that_was_not_set_up_writes_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    logs.request_logger().together(said("hello"))
    logs.request_logger().error("oops", code=1)
    first, second = map(msgspec.json.decode, capfd.readouterr().out.splitlines())
    assert (first["text"], second["event"], second["code"]) == ("hello", "oops", 1)


def test_log_nobody_reads_does_not_raise() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    logs.configure("info", masking.mask, writing)
    logs.request_logger().info("request")
    logs.request_logger().together(said("x"))
    os.close(writing)
    logs.request_logger().info("request")
    logs.request_logger().together(said("x"))


@pytest.mark.parametrize("level", logs.LEVELS)
def test_every_level_of_the_settings_is_known(level: str) -> None:
    logs.configure(level)
    assert logs.request_logger() is not None
