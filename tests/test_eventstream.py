"""AWS's event stream: frames out of any split, checksums, headers of every type; and into bytes."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped] # no types
from hypothesis import given
from hypothesis import strategies as st

from gateway.eventstream import EXCEPTION, LIMIT, Reader, encode
from gateway.sse import Event
from tests.recorded import one

STREAM = one("py-boto3/converse_stream").answer
BROKEN = one("py-boto3/converse_stream_err").answer
NAMES = [
    *(b"messageStart", b"contentBlockDelta", b"contentBlockDelta"),
    *(b"contentBlockStop", b"messageStop", b"metadata"),
]


def framed(heads: bytes, payload: bytes = b"{}") -> bytes:
    """A frame of raw headers, whatever they are."""
    prelude = struct.pack(">II", 16 + len(heads) + len(payload), len(heads))
    whole = prelude + struct.pack(">I", crc32(prelude)) + heads + payload
    return whole + struct.pack(">I", crc32(whole))


def text(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_frames_are_found_however_the_stream_is_split(cuts: list[int]) -> None:
    reader, events, at = Reader(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        events += reader.feed(STREAM[at:cut])
        at = cut
    assert [event.event for event in events] == NAMES
    assert not reader.partial


def test_a_stream_is_partial_everywhere_but_between_frames() -> None:
    ends, reader = {0}, Reader()
    for at in range(len(STREAM)):
        assert reader.partial == (at not in ends)
        if reader.feed(STREAM[at : at + 1]):
            ends.add(at + 1)
    assert len(ends) == len(NAMES) + 1


def test_exceptions_have_a_name_of_their_own() -> None:
    [*_, last] = Reader().feed(BROKEN)
    assert (last.event, last.data) == (EXCEPTION, b'{"message": "boom"}')
    heads = text(b":message-type", b"error") + text(b":error-code", b"x")
    assert Reader().feed(framed(heads)) == [Event(EXCEPTION, b"{}")]


def test_payload_stands_between_headers_and_checksum() -> None:
    last = Reader().feed(STREAM)[-1]
    assert last.data.startswith(b'{"metrics"')
    assert last.data.endswith(b"}}")


def test_headers_of_every_type_are_read_over() -> None:
    odd = b"".join(
        [
            *(b"\x01a\x00", b"\x01b\x01", b"\x01c\x02x", b"\x01d\x03xx", b"\x01e\x04xxxx"),
            *(b"\x01f\x05xxxxxxxx", b"\x01g\x06\x00\x03xxx", b"\x01h\x08xxxxxxxx"),
            b"\x01i\x09xxxxxxxxxxxxxxxx",
        ]
    )
    heads = odd + text(b":message-type", b"event") + text(b":event-type", b"e")
    assert Reader().feed(framed(heads)) == [Event(b"e", b"{}")]


@pytest.mark.parametrize(
    "bad",
    [
        *(bytes(12), b"data: {}\n\ndata: {}\n\n", framed(b"\x01a\x0a"), framed(b"\x01a")),
        *(framed(b"\x01a\x07"), framed(b"\x05a"), framed(b"\x01a\x07\x00\x05ab")),
        STREAM[:20] + b"\xff" + STREAM[21:],  # one byte of the first frame
        STREAM[:8] + bytes(4) + STREAM[12:],
    ],
)
def test_bytes_that_are_no_frame_never_end_well(bad: bytes) -> None:
    reader = Reader()
    assert reader.feed(bad) == []
    assert reader.partial
    assert reader.feed(STREAM) == []
    assert reader.partial


@pytest.mark.parametrize(("length", "heads"), [(15, 0), (16, 1), (LIMIT + 1, 0), (2**32 - 1, 0)])
def test_lengths_that_cannot_be_are_not_waited_for(length: int, heads: int) -> None:
    prelude = struct.pack(">II", length, heads)
    reader = Reader()
    assert reader.feed(prelude + struct.pack(">I", crc32(prelude))) == []
    assert reader.partial
    reader.feed(bytes(100_000))
    assert not reader._held


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=20), st.text(max_size=50)))
def test_what_is_written_is_read_by_awss_own_reader(payload: bytes, more: dict[str, str]) -> None:
    headers = {**more, ":message-type": "event", ":event-type": "e"}
    frame = encode(headers, payload)
    buffer = EventStreamBuffer()
    buffer.add_data(frame)
    [read] = list(buffer)
    assert (read.headers, read.payload) == (headers, payload)
    assert Reader().feed(frame) == [Event(b"e", payload)]
