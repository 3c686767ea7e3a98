"""Our own response headers: the same as headers and as lines of the wire."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.notes import head_notes, notes_of
from gateway.exchange import Attempt, Exchange
from gateway.paths import match
from gateway.shapes import Candidate, ProviderConfig

CONFIG = ProviderConfig(
    id="c",
    scope="global",
    provider="custom:grün",
    alias="a",
    dialect="openai",
    base_url="http://x",
)
PATHS = ["", "/v1/chat/completions", "/v1/0123456789abcdef0123456789abcdef/gw/openai/responses"]
TIMES = st.floats(0, 1e6)


def exchange_of(path: str = "", tried: int = 1, sent: float | None = None) -> Exchange:
    """One that went to this path, was tried so often, and was sent at `sent` for the last."""
    exchange = Exchange("req_0123456789abcdef00000001", "POST", path.encode(), [], 100.0)
    exchange.match = match("POST", path.encode()) if path else None
    exchange.candidate = Candidate(CONFIG, "m", "rule") if tried else None
    exchange.abandoned = tuple(Attempt(CONFIG, 100.5 + n) for n in range(tried - 1))
    exchange.sent = sent
    return exchange


def lines_of(exchange: Exchange, named: bool, now: float) -> bytes:
    answered = [(b"x-request-id", b"theirs")] if named else [(b"date", b"x")]
    return b"".join(b"%b: %b\r\n" % note for note in notes_of(exchange, answered, now))


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("path", "tried", "sent"), list(product(PATHS, [0, 1, 3], [None, 100.25, 103.0]))
)
def test_both_say_the_same_of_every_kind_of_exchange(
    path: str, tried: int, sent: float | None, named: bool
) -> None:
    exchange = exchange_of(path, tried, sent)
    assert head_notes(exchange, named, 104.0) == lines_of(exchange, named, 104.0)


@given(TIMES, TIMES, TIMES)
def test_both_tell_the_same_times(started: float, here: float, there: float) -> None:
    exchange = exchange_of(sent=started + here)
    exchange.started, now = started, started + here + there
    assert head_notes(exchange, False, now) == lines_of(exchange, False, now)


def test_lines_name_the_request_the_config_and_where_the_time_went() -> None:
    exchange = exchange_of(PATHS[2], tried=2, sent=103.0)
    assert head_notes(exchange, False, 104.0).decode().split("\r\n") == [
        "wardgate-request-id: req_0123456789abcdef00000001",
        "x-request-id: req_0123456789abcdef00000001",
        "cf-aig-cache-status: BYPASS",
        "wardgate-provider: custom:grün",
        "wardgate-config: a",
        "wardgate-attempts: 2",
        "server-timing: upstream;dur=3500.0, gateway;dur=500.0",
        "",
    ]


def test_refusals_say_nothing_of_times_and_the_upstreams_id_is_left_alone() -> None:
    assert notes_of(exchange_of(tried=0)) == [
        (b"wardgate-request-id", b"req_0123456789abcdef00000001"),
        (b"x-request-id", b"req_0123456789abcdef00000001"),
    ]
    assert b"\r\nx-request-id" not in head_notes(exchange_of(sent=101.0), True, 102.0)
