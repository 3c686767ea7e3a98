"""The event reader against the rules of the HTML standard, any split, and large events."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import Event, Reader
from tests.recorded import Recorded, recorded

STREAMS = [r for r in recorded() if r.kind.startswith("text/event-stream")]
# Pieces that make line ends, fields, comments and byte-order marks meet in every way.
PIECES = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"\n\n", b"data", b"data:", b"data: ", b"data: x", b"event: e", b":"]
    + [b": c", b"id: 1", b"retry: 2", b" ", b"\xef\xbb\xbf", b"\xe2\x82\xac", b"event", b"{}"]
)
TEXTS = st.lists(PIECES, max_size=30).map(b"".join)


def whole(data: bytes, limit: int = 1 << 20) -> list[Event]:
    return Reader(limit).feed(data)


def by_the_book(data: bytes) -> list[Event]:
    """The standard's own words, slowly."""
    lines = re.split(rb"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf"))
    events: list[Event] = []
    collected: list[bytes] = []
    name = b""
    for line in lines[:-1]:
        if not line:
            if collected:
                events.append(Event(name, b"\n".join(collected)))
            name, collected = b"", []
        elif not line.startswith(b":"):
            key, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if key == b"data":
                collected.append(value)
            name = value if key == b"event" else name
    return events


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


@given(TEXTS)
def test_events_are_those_of_the_standard(data: bytes) -> None:
    assert whole(data) == by_the_book(data)


@given(TEXTS, st.lists(st.integers(min_value=0)), st.sampled_from([4, 9, 64, 1 << 20]))
def test_events_are_the_same_when_the_bytes_are_split(
    data: bytes, cuts: list[int], limit: int
) -> None:
    reader = Reader(limit)
    assert [e for part in split(data, cuts) for e in reader.feed(part)] == whole(data, limit)


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda r: r.name)
def test_recorded_streams_read_alike_byte_by_byte(exchange: Recorded) -> None:
    reader = Reader()
    single = [e for i in range(len(exchange.answer)) for e in reader.feed(exchange.answer[i:][:1])]
    assert single == whole(exchange.answer)
    assert len(single) == len(re.findall(rb"^data:", exchange.answer, re.MULTILINE))
    assert not reader.partial


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_ends_a_line(end: bytes) -> None:
    data = end.join([b"event: e", b"data: 1", b"data:2", b"", b"data", b"", b""])
    assert whole(data) == [Event(b"e", b"1\n2"), Event(b"", b"")]


def test_partial_is_true_inside_an_event_only() -> None:
    seen = []
    reader = Reader()
    for part in (b": comment\n", b"\n", b"da", b"ta: x", b"\n", b"\n", b"event: e\n", b"\n"):
        reader.feed(part)
        seen.append(reader.partial)
    assert seen == [False, False, True, True, True, False, True, False]


def test_a_large_event_keeps_its_name_and_costs_no_memory() -> None:
    reader = Reader(limit=1000)
    events = reader.feed(b"event: big\ndata: ")
    for _ in range(1000):
        events += reader.feed(b"x" * 1000)
    assert len(reader._line) <= 2000
    events += reader.feed(b"\n\ndata: next\n\n")
    assert events == [Event(b"big", b""), Event(b"", b"next")]


def test_many_lines_of_one_event_count_together() -> None:
    reader = Reader(limit=1000)
    assert reader.feed(b"data: 123456789\n" * 5000) == []
    assert len(reader._data) <= 200
    assert reader.feed(b"\ndata: y\n\n") == [Event(b"", b""), Event(b"", b"y")]
