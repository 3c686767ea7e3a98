"""Heads read in one pass, both ways, against the rules in their plain words: what passes, in which
order, what it says; what is on the wire; and how large a head may be, to the byte."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import credential
from gateway.client import edge
from gateway.client.back import ABOUT_THE_BODY, LENGTH, Back, wire
from gateway.client.head import CREDENTIAL_HEADERS, Head
from gateway.client.hygiene import may_come_back, may_go_upstream
from gateway.client.turn import Turn
from gateway.credential import stands_in
from gateway.errors import HeadTooLarge
from gateway.shapes import Headers
from tests.recorded import Recorded, recorded

KEY = credential.mint("wg").text.encode()
ORDINARY = [b"content-type", b"content-encoding", b"content-range", b"accept", b"user-agent"]
ORDINARY += [b"x-a", b"x-b", b"close", b"traceparent", b"x-request-id", b"x-stainless-os"]
SECRET = [*CREDENTIAL_HEADERS, b"cookie", b"set-cookie", b"x-my-token", b"subscription-key"]
SECRET += [b"proxy-authorization", b"www-authenticate", b"x-secret-thing", b"x-amz-security-token"]
HOPS = [b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"]
BETWEEN = [b"host", b"content-length", b"expect", b"accept-encoding", b"via", b"x-forwarded-for"]
BETWEEN += [b"cf-ray", b"wardgate-config", b"cf-aig-byok-alias", b"sec-fetch-mode", b"alt-svc"]
BETWEEN += [b"wardgate-request-id", b"cache-control", b"x-accel-buffering", b"date", b"server"]
ODD = [b"", b"x odd", b"x\xff", b"x:y", b"(", b"x\x00", b"X-Upper"]
KNOWN = [*ORDINARY, *SECRET, *HOPS, *BETWEEN, *ODD]
WEIGHED = [b"host", b"content-length", b"content-encoding", b"expect", b"wardgate-config"]
TELLING = [b"content-length", b"content-type", b"content-encoding", b"x-request-id", b"x-a"]

TEXTS = [b"", b"identity", b"Identity", b"gzip", b"chunked", b"100-continue", b"100-Continue"]
TEXTS += [b"5", b"007", b"no number", b"text/Event-Stream; charset=utf-8", b"caf\xc3\xa9 \xff"]
TEXTS += [b"keep-alive", b"close", b"a\tb", b"wg", b"wg_short_x", b"Wg_" + KEY[3:], b" spaced "]
KEYS = [KEY, b"Bearer " + KEY, b"a " + KEY + b", b", KEY[:-9], b"wga" + KEY[2:], b"wg%5F" + KEY[3:]]
CONTROLS = [b"a%cb" % byte for byte in b"\0\t\n\r\v\x1f\x7f\x80"] + [b"a\r\nx-smuggled: 1"]
COMMAS = [b",", b", ", b" ,\t", b",,"]


@st.composite
def heads(draw: st.DrawFn, names: list[bytes], values: list[bytes]) -> Headers:
    """Headers, and now and then a connection header that lists some of them, in any spelling."""
    pairs = st.integers(0, len(names) * len(values) - 1)
    drawn = [divmod(number, len(values)) for number in draw(st.lists(pairs, max_size=10))]
    headers = [(names[name], values[value]) for name, value in drawn]
    hops = [*(name for name, _ in headers), b"keep-alive", b"close", b"x-a"]
    hops += [name.title() for name in hops]
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        several = draw(st.lists(st.sampled_from(hops), max_size=3))
        connection = b"connection", draw(st.sampled_from(COMMAS)).join(several)
        headers.insert(draw(st.integers(0, len(headers))), connection)
    return headers


ASKED = heads([*KNOWN, *WEIGHED * 4], [*TEXTS, *KEYS])
# A line's name ends at its first colon, so that none has one.
ANSWERED = heads(
    [name for name in [*KNOWN, *TELLING * 5] if b":" not in name], [*TEXTS, *KEYS, *CONTROLS * 2]
)
WITHOUT = st.sampled_from([frozenset(), LENGTH, ABOUT_THE_BODY, frozenset({b"x-a", b"date"})])


def values_of(headers: Headers, *names: bytes) -> list[bytes]:
    return [value for name, value in headers if name in names]


def listed(headers: Headers) -> set[bytes]:
    """The names a connection header puts between two neighbours."""
    parts = [part for value in values_of(headers, b"connection") for part in value.split(b",")]
    return {part.strip().lower() for part in parts}


@given(ASKED)
@example([(b"x-a", b"1"), (b"connection", b"keep-alive, X-A"), (b"x-b", b"2")])
@example([(b"content-encoding", KEY), (b"content-encoding", b"gzip")])
@example([(b"connection", b"x-a"), (b"x-a", b"1"), (b"connection", b"x-b"), (b"x-b", b"2")])
def test_what_goes_upstream_is_what_the_rules_allow_in_order(headers: Headers) -> None:
    hops = listed(headers)
    assert Head(headers).passing == [
        (name, value)
        for name, value in headers
        if name != b"connection" and may_go_upstream(name) and name not in hops
        if not (b"wg" in value and stands_in(value))
    ]


@given(ASKED)
@example([(b"wardgate-config", b" a"), (b"cf-aig-byok-alias", b"b"), (b"expect", b"100-Continue")])
@example([(b"content-length", b"5"), (b"content-length", b"6"), (b"expect", b"100-continue")])
@example([(b"content-encoding", b"gzip"), (b"content-encoding", b"identity"), (b"expect", b"")])
def test_what_is_known_of_a_head_is_what_its_headers_say(headers: Headers) -> None:
    head = Head(headers)
    lengths = values_of(headers, b"content-length")
    encodings = values_of(headers, b"transfer-encoding")
    narrowing = values_of(headers, b"wardgate-config", b"cf-aig-byok-alias")
    assert head.count == len(headers)
    assert head.hosts == len(values_of(headers, b"host"))
    assert (head.lengths, head.encodings) == (len(lengths), len(encodings))
    assert head.length == (lengths[0] if lengths else None)
    assert head.framed is bool(lengths or encodings)
    assert head.credentials == values_of(headers, *CREDENTIAL_HEADERS)
    assert head.narrow == (narrowing[0].decode("latin-1").strip() if narrowing else None)
    assert head.encoded is any(v != b"identity" for v in values_of(headers, b"content-encoding"))
    expected = [value.lower() for value in values_of(headers, b"expect")]
    assert head.expects is (b"100-continue" in expected)


@pytest.mark.parametrize("exchange", list(recorded()), ids=lambda r: r.name)
def test_recorded_clients_headers_pass_as_the_rules_allow(exchange: Recorded) -> None:
    head = Head(exchange.headers)
    allowed = [pair for pair in exchange.headers if may_go_upstream(pair[0])]
    assert head.passing == allowed
    assert head.credentials or b"key=" in exchange.query or exchange.method == "HEAD"


def on_the_wire(headers: Headers) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)


def line_of(name: bytes, value: bytes) -> bytes:
    """A header as one upstream or another writes it."""
    spelled = (name, name.title(), name.upper())[len(value) % 3]
    return spelled + (b": ", b":", b": \t")[len(name) % 3] + value


def back_of(headers: Headers) -> Back:
    return Back([line_of(*pair) for pair in headers])


def as_it_came(headers: Headers) -> bytes:
    return b"".join(line_of(*pair) + b"\r\n" for pair in headers)


def is_bad(value: bytes) -> bool:
    return any((byte < 32 and byte != 9) or byte == 127 for byte in value)


def coming_back(headers: Headers) -> Headers:
    """What may reach the client, by the rules in their plain words, which are of lower case."""
    kept = listed(headers) - {b"keep-alive", b"close"} | {b"connection"}
    return [
        (name, value)
        for name, value in headers
        if may_come_back(name.lower()) and name.lower() not in kept and not is_bad(value)
    ]


@given(ANSWERED, WITHOUT)
@example([(b"connection", b"x-a"), (b"x-a", b"1"), (b"connection", b"x-b")], frozenset())
@example([(b"X-Upper", b"")], frozenset())
@example([(b"connection", b"x-upper"), (b"X-Upper", b"")], frozenset())
def test_what_comes_back_is_what_the_rules_allow_in_order(
    headers: Headers, without: frozenset[bytes]
) -> None:
    back = back_of(headers)
    passing = [pair for pair in coming_back(headers) if pair[0] not in without]
    assert back.lines(without=without) == as_it_came(passing)


@given(ANSWERED, WITHOUT)
def test_nobody_may_keep_or_gather_up_an_event_stream(
    headers: Headers, without: frozenset[bytes]
) -> None:
    left_out = without | {b"cache-control", b"x-accel-buffering"}
    passing = [pair for pair in coming_back(headers) if pair[0] not in left_out]
    ours = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    lines = back_of(headers).lines(events=True, without=without)
    assert lines == as_it_came(passing) + on_the_wire(ours)


@pytest.mark.parametrize("byte", [*range(256)])
def test_value_with_a_control_character_never_comes_back(byte: int) -> None:
    odd = [(b"x-a", b"1"), (b"x-odd", b"a%cb" % byte), (b"x-b", b"2")]
    kept = odd if not is_bad(b"%c" % byte) else [odd[0], odd[2]]
    assert back_of(odd).lines() == as_it_came(kept)
    assert back_of(odd[1:2]).lines() == as_it_came(kept[1:2] if len(kept) == 3 else [])


@given(ANSWERED)
@example([(b"content-type", b"Text/Plain"), (b"content-type", b"text/event-stream")])
@example([(b"content-encoding", b"gzip"), (b"content-encoding", b"Identity")])
def test_kind_and_coding_of_an_answer_are_what_its_headers_say(headers: Headers) -> None:
    back = back_of(headers)
    kinds = [v.lower().strip(b" \t") for v in values_of(headers, b"content-type") if v]
    codings = {value.lower().strip(b" \t") for value in values_of(headers, b"content-encoding")}
    assert back.kind == (kinds[0] if kinds else b"")
    assert back.encoded is bool(codings - {b"identity"})


@given(ANSWERED)
@example([(b"content-length", b"5"), (b"connection", b"Content-Length")])
def test_answer_is_counted_when_its_lines_say_so(headers: Headers) -> None:
    """Or the client would wait for an end that nothing tells it."""
    back = back_of(headers)
    assert (b"\r\ncontent-length:" in b"\r\n" + back.lines().lower()) is back.counted


@given(ANSWERED)
@example([(b"x-request-id", b"1"), (b"connection", b"X-Request-Id")])
@example([(b"x-request-id", b"a\0b")])
def test_answer_is_named_when_its_lines_say_so(headers: Headers) -> None:
    """Or it would have no request id at all."""
    back = back_of(headers)
    assert (b"\r\nx-request-id:" in b"\r\n" + back.lines().lower()) is back.named


@given(ANSWERED)
def test_wire_is_a_line_for_each_header(headers: Headers) -> None:
    assert wire(headers) == wire(tuple(headers)) == on_the_wire(headers)


def weighed(headers: Headers, received: int) -> str:
    """What the edge says of such a head, when so many bytes had come."""
    target = (b"/v1/models", b"", False)
    turn = Turn(cast(Any, None), "GET", target, headers, "1.1")
    turn.received = received
    try:
        edge.check(turn, Head(headers))
    except HeadTooLarge:
        return "too large"
    return "fine"


def of_size(size: int, count: int) -> Headers:
    """So many headers of together so many bytes, names and values."""
    headers = [(b"host", b"h")] + [(b"x%04d" % number, b"v") for number in range(count - 1)]
    have = sum(len(name) + len(value) for name, value in headers)
    return [*headers[:-1], (headers[-1][0], b"v" * (1 + size - have))]


@pytest.mark.parametrize("count", [2, 63, 64, 65, 66])
@pytest.mark.parametrize("size", [1000, 32_767, 32_768, 32_769, 60_000])
def test_head_may_have_64_headers_and_32_kib_of_them(count: int, size: int) -> None:
    headers = of_size(size, count)
    told = "fine" if count <= 64 and size <= 32_768 else "too large"
    # What came with it, its own line and ends at least, makes it no larger.
    for more in (4 * count + 20, 500_000):
        assert weighed(headers, size + more) == told
