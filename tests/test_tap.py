"""What a tap learns by a look at whole events is what reading every one of them would tell."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.table import DIALECTS, Dialect
from gateway.paths import match
from gateway.shapes import DialectName, Unread, Usage
from gateway.sse import Reader
from gateway.tap import EventTap, JsonTap
from tests.dialect_cases import ended
from tests.recorded import Recorded, recorded

STREAMS = [r for r in recorded() if r.kind.startswith("text/event-stream")]
RULES: list[tuple[DialectName, str | None]] = [
    ("openai", "chat"),
    ("openai", "responses"),
    ("openai", None),
    ("azure", "chat"),
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
]
# What ends streams, what reports usage, and what nearly does either.
DATA = st.sampled_from(
    [
        "[DONE]",
        " [DONE]",
        '{"choices":[]}',
        '{"choices":[{"delta":{"content":"error, usage, [DONE]"}}]}',
        '{"usage":null}',
        '{"usage" : {"prompt_tokens":3,"completion_tokens":4}}',
        '{"usage":{"input_tokens":3,"output_tokens":4}}',
        '{"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":2}}}',
        '{"error":{"message":"no"}}',
        '{"error":null}',
        '{"type":"error"}',
        '{"type":"message_stop"}',
        '{"type":"message_start","message":{"usage":{"input_tokens":5}}}',
        '{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":1}}}',
        '{"type":"response.f\\u0061iled"}',
        '{"type":"response.\\u0063ancelled"}',
        '{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3}}',
        '{"promptFeedback":{"blockReason":"SAFETY"}}',
        "two\ndata: lines",
    ]
)
NAMES = st.sampled_from(
    ["", "error", "message_stop", "ping", "response.completed", "response.incomplete"]
    + ["response.failed", "response.cancelled", "response.output_text.delta"]
)
ENDS = st.sampled_from(["\n", "\r\n"])
EVENTS = st.lists(st.tuples(NAMES, DATA, ENDS), max_size=6)


def written(name: str, data: str, end: str) -> bytes:
    lines = [f"event: {name}"] * bool(name) + [f"data: {data}", "", ""]
    return "\n".join(lines).replace("\n", end).encode()


def known(dialect: Dialect, stream: bytes) -> Usage | None:
    usage: Usage | None = None
    for event in Reader().feed(stream):
        usage = dialect.usage(event.data, usage)
    return usage


def check(dialect: Dialect, rule: str | None, pieces: list[bytes]) -> EventTap:
    """Feed the pieces; the tap knows what all of them as one stream say."""
    tap, stream = EventTap(dialect, rule, Reader()), b"".join(pieces)
    for piece in pieces:
        tap.see(piece)
    assert tap.usage == known(dialect, stream)
    assert tap.over is (rule is not None and any(ended(dialect, rule, stream)))
    assert tap.complete is (tap.over or rule is None)
    reader = Reader()
    reader.feed(stream)
    assert tap.between_events is not reader.partial
    return tap


@pytest.mark.parametrize("rule", RULES)
@given(events=EVENTS)
def test_whole_events_one_by_one(
    rule: tuple[DialectName, str | None], events: list[tuple[str, str, str]]
) -> None:
    check(DIALECTS[rule[0]], rule[1], [written(*event) for event in events])


@pytest.mark.parametrize("rule", RULES)
@given(events=EVENTS, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_events_cut_anywhere(
    rule: tuple[DialectName, str | None], events: list[tuple[str, str, str]], cuts: list[int]
) -> None:
    stream = b"".join(written(*event) for event in events)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    check(DIALECTS[rule[0]], rule[1], [stream[a:b] for a, b in pairwise(places)])


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda r: r.name)
def test_recorded_streams_event_by_event(exchange: Recorded) -> None:
    endpoint = match(exchange.method, exchange.path).endpoint
    pieces = [piece for piece in re.split(rb"(?<=\n\n)|(?<=\n\r\n)", exchange.answer) if piece]
    assert len(pieces) > 1
    tap = check(DIALECTS[endpoint.dialect], endpoint.terminal, pieces)
    assert tap.over


@pytest.mark.parametrize("size", [200, 16 * 1024, 16 * 1024 + 1, 1024 * 1024, 1024 * 1024 + 1])
def test_usage_of_a_whole_answer_is_found_at_once_or_later(size: int) -> None:
    """A small one is left to be read, a very large one is not kept."""
    answer = b'{"usage":{"prompt_tokens":3,"completion_tokens":5},"said":"%b"}'
    answer %= b"x" * (size - len(answer) + 2)
    tap = JsonTap(DIALECTS["openai"])
    for at in range(0, size, 7_000):
        tap.see(answer[at : at + 7_000])
    tap.finish()
    found = tap.usage
    assert isinstance(found, Unread) is (size <= 16 * 1024)
    if isinstance(found, Unread):
        assert found.body == answer
        found = found.read(found.body, None)
    assert found == (Usage(input=3, output=5) if size <= 1024 * 1024 else None)
