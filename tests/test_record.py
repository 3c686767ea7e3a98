"""What a request leaves behind: its line, its counts, its samples; once, and within 50 ms."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from prometheus_client import REGISTRY

from gateway import catalog, logs, masking, metrics
from gateway.exchange import Attempt, Exchange
from gateway.health import PROVEN, Report, Samples, bucket_of, fold, samples
from gateway.paths import match
from gateway.record import record
from gateway.shapes import Candidate, Client, ProviderConfig, Usage

CONFIG = ProviderConfig(
    id="c",
    scope="group:gr_1",
    provider="openai",
    alias="main",
    dialect="openai",
    base_url="http://x",
    sealed=b"sealed",
    secret_version=3,
)
SPARE = replace(CONFIG, id="d", alias="spare")
CLIENT = Client(id="abcd", digest=b"digest", scope="global", name="app")
WHERE = {"provider": "openai", "alias": "main", "scope": "group:gr_1"}
GENAI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "gpt-4o",
}
KEY = "sk-proj-canary-0123456789abcdefghij"
STARTED, ENDED = 100.0, 100.0123456


def refused(**known: Any) -> Exchange:
    """An exchange that was refused at once, unless something else is `known` of it."""
    exchange = Exchange("req_1", "POST", b"/v1/secret?path", [(b"authorization", b"x")], STARTED)
    exchange.status, exchange.outcome = 401, "refused"
    for name, value in known.items():
        setattr(exchange, name, value)
    return exchange


def answered(**known: Any) -> Exchange:
    """One that took 12.3456 ms: 0.2 in this house, 10 until its first byte."""
    usual = {
        "match": match("POST", b"/v1/chat/completions"),
        "client": CLIENT,
        "candidate": Candidate(CONFIG, "gpt-4o", "rule"),
        "model": "gpt-4o",
        "sent": STARTED + 0.0002,
        "first_byte": STARTED + 0.01,
        "status": 200,
        "outcome": "ok",
    }
    return refused(**{**usual, **known})


@dataclass
class Place:
    """Where requests are recorded."""

    path: Path
    log: logs.Log
    seen: Samples = field(default_factory=samples)

    def record(self, *exchanges: Exchange) -> None:
        for exchange in exchanges:
            record(exchange, catalog.load(), self.log, ENDED, self.seen)

    def written(self) -> list[dict[str, Any]]:
        """The lines that were written until now."""
        return [msgspec.json.decode(line) for line in self.path.read_bytes().splitlines()]

    def line(self, exchange: Exchange) -> dict[str, Any]:
        self.record(exchange)
        logs.flush()
        return self.written()[-1]

    def report(self, exchange: Exchange) -> Report:
        self.record(exchange)
        return fold(self.seen, 1.0)


@contextmanager
def opened(path: Path, level: str = "info") -> Iterator[Place]:
    root = logging.getLogger()
    handlers, before = root.handlers, root.level
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    logs.configure(level, masking.mask, fd)
    yield Place(path, logs.request_logger())
    logs.flush()
    os.close(fd)
    root.handlers = handlers
    root.setLevel(before)
    structlog.reset_defaults()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "log") as made:
        yield made


class Growth:
    """How much a sample of /metrics has grown since."""

    def __init__(self, name: str, **labels: str) -> None:
        self._asked = name, labels
        self._before = self._value()

    def _value(self) -> float:
        return REGISTRY.get_sample_value(*self._asked) or 0.0

    def __call__(self) -> float:
        return round(self._value() - self._before, 9)


def test_line_of_an_answer_says_all_this_in_this_order(place: Place) -> None:
    line = place.line(answered(usage=Usage(1000, 100, 0, None, 0)))
    ended = time.time() - (time.perf_counter() - ENDED)
    assert abs(datetime.fromisoformat(line.pop("time")).timestamp() - ended) < 0.1
    usage = {"input": 1000, "output": 100, "cache_read": 0, "cache_write": None, "reasoning": 0}
    assert list(line.items()) == [
        ("level", "info"),
        ("event", "request"),
        ("id", "req_1"),
        ("method", "POST"),
        ("route", "/v1/chat/completions"),
        ("status", 200),
        ("outcome", "ok"),
        ("ms", 12.35),
        ("key", "abcd"),
        ("provider", "openai"),
        ("config", "main"),
        ("scope", "group:gr_1"),
        ("model", "gpt-4o"),
        ("first_byte_ms", 10.0),
        ("usage", usage),
        ("partial", False),
        ("cost_microdollars", 3500),
    ]


def test_what_does_not_apply_is_not_in_the_line(place: Place) -> None:
    line = place.line(refused(code="invalid_key"))
    always = ["time", "level", "event", "id", "method", "route", "status", "outcome", "ms"]
    assert list(line) == [*always, "code"]
    assert (line["route"], line["code"]) == ("unknown", "invalid_key")


def test_cost_that_is_not_known_is_null(place: Place) -> None:
    line = place.line(answered(usage=Usage(input=7), partial=True))
    assert (line["partial"], line["cost_microdollars"]) == (True, None)


def test_a_clients_own_word_is_masked_and_cut(place: Place) -> None:
    assert place.line(refused(model=KEY))["model"] == "sk-proj-...ghij"
    assert place.line(refused(model="m" * 1000))["model"] == "m" * 128
    assert place.line(refused(model="\ud800"))["model"] == "?"


async def test_line_is_written_within_fifty_milliseconds(place: Place) -> None:
    started = time.perf_counter()
    place.record(answered(id="req_1"), answered(id="req_2"))
    assert place.written() == []
    async with asyncio.timeout(5):
        while not (written := place.written()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert time.perf_counter() - started >= 0.04
    assert [line["id"] for line in written] == ["req_1", "req_2"]


async def test_the_next_one_after_a_pause_is_written_as_soon(place: Place) -> None:
    for number in range(3):
        started = time.perf_counter()
        record(answered(), catalog.load(), place.log, started, place.seen)
        async with asyncio.timeout(5):
            while len(place.written()) == number:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_many_do_not_wait(place: Place) -> None:
    place.record(*(answered(id=f"req_{number}") for number in range(200)))
    written = place.written()
    assert 100 < len(written) < 200
    logs.flush()
    assert [line["id"] for line in place.written()] == [f"req_{number}" for number in range(200)]


def test_nothing_waits_where_no_loop_runs(place: Place) -> None:
    record(answered(), catalog.load(), place.log, time.perf_counter() + 60, place.seen)
    assert len(place.written()) == 1


async def test_what_is_wrong_is_written_at_once_and_takes_along_what_waits(place: Place) -> None:
    place.record(answered(id="req_1"), answered(id="req_2"))
    place.log.error("defect", id="req_2")
    place.record(answered(id="req_3"))
    logging.getLogger("aiohttp").warning("odd")
    assert [line.get("id", line["event"]) for line in place.written()] == [
        "req_1",
        "req_2",
        "req_2",
        "req_3",
        "odd",
    ]


def test_requests_are_counted_though_the_level_leaves_out_their_lines(tmp_path: Path) -> None:
    served = Growth(
        "wardgate_requests_total",
        route="unknown",
        **dict.fromkeys(WHERE, ""),
        status_class="4xx",
        outcome="refused",
    )
    with opened(tmp_path / "log", "warning") as place:
        place.record(refused())
        assert served() == 1
        logs.flush()
        assert place.written() == []


async def test_every_house_has_its_own_lines_and_samples(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        for place in (one, two, one):
            place.record(answered(usage=Usage(1, 1)))
        reports = [fold(place.seen, 1.0) for place in (one, two)]
        assert [len(place.written()) for place in (one, two)] == [2, 1]
    assert [report.counts["c"].requests for report in reports] == [2, 1]


async def test_what_waits_keeps_nothing_of_a_request_but_what_is_counted(place: Place) -> None:
    from gateway.record import _desk

    place.record(answered(usage=Usage(1, 1), abandoned=(Attempt(SPARE, STARTED, 503, "http_503"),)))
    [note] = _desk.waiting
    assert not [part for part in note if isinstance(part, bytes | list | Exchange | Client)]


def test_an_answer_is_measured_at_once_for_whoever_looks(place: Place) -> None:
    counted = {**WHERE, "route": "/v1/chat/completions", "status_class": "2xx", "outcome": "ok"}
    grown = {
        "requests": Growth("wardgate_requests_total", **counted),
        "lasted": Growth("gen_ai_client_operation_duration_seconds_sum", **GENAI, error_type=""),
        "first": Growth("gen_ai_client_operation_time_to_first_chunk_seconds_sum", **GENAI),
        "read": Growth("gen_ai_client_token_usage_sum", **GENAI, gen_ai_token_type="input"),
        "said": Growth("gen_ai_client_token_usage_sum", **GENAI, gen_ai_token_type="output"),
        "asked": Growth("gen_ai_client_token_usage_count", **GENAI, gen_ai_token_type="input"),
        "here": Growth("wardgate_overhead_seconds_sum"),
        "quick": Growth("wardgate_overhead_seconds_bucket", le="0.00025"),
        "cost": Growth("wardgate_cost_microdollars_total", **WHERE, model="gpt-4o"),
    }
    place.record(answered(usage=Usage(1000, 100)), answered(usage=Usage(2000, 0)), answered())
    assert {name: growth() for name, growth in grown.items()} == {
        "requests": 3,
        "lasted": pytest.approx(3 * 0.0123456),
        "first": pytest.approx(0.03),
        "read": 3000,
        "said": 100,
        "asked": 2,
        "here": pytest.approx(0.0006),
        "quick": 3,
        "cost": 3500 + 5000,
    }


def test_models_no_catalog_lists_share_a_label(place: Place) -> None:
    labels = {**GENAI, "gen_ai_request_model": "other", "error_type": ""}
    lasted = Growth("gen_ai_client_operation_duration_seconds_count", **labels)
    for model in ("mine", "yours", KEY):
        place.record(answered(candidate=Candidate(CONFIG, model, "rule")))
    assert lasted() == 3
    assert KEY not in metrics.exposition().decode()


@pytest.mark.parametrize(
    ("known", "name", "labels"),
    [
        (
            {"status": 429, "code": "rate_limit_exceeded", "policy": "gateway", "sent": None},
            "wardgate_rate_limited_total",
            {"policy": "gateway"},
        ),
        (
            {"status": 503, "outcome": "upstream_error", "code": "http_503"},
            "wardgate_upstream_errors_total",
            {"provider": "openai", "error_type": "http_503"},
        ),
        (
            {"status": 418, "outcome": "upstream_error", "code": "http_418"},
            "wardgate_upstream_errors_total",
            {"provider": "openai", "error_type": "http_other"},
        ),
        (
            {"outcome": "incomplete"},
            "wardgate_stream_incomplete_total",
            {"provider": "openai"},
        ),
        (
            {"outcome": "incomplete"},
            "wardgate_upstream_errors_total",
            {"provider": "openai", "error_type": "upstream_incomplete"},
        ),
        (
            {"status": 418, "outcome": "upstream_error", "code": "http_418"},
            "gen_ai_client_operation_duration_seconds_count",
            {**GENAI, "error_type": "http_other"},
        ),
    ],
)
def test_failures_are_counted_by_their_kind(
    place: Place, known: dict[str, Any], name: str, labels: dict[str, str]
) -> None:
    grown = Growth(name, **labels)
    place.record(answered(**known), answered(**known))
    assert grown() == 2


def test_attempts_that_were_given_up_count_for_their_configs(place: Place) -> None:
    busy = Attempt(SPARE, STARTED + 0.001, 503, "http_503", STARTED + 0.002)
    limited = Attempt(CONFIG, STARTED + 0.003, None, "rate_limit_exceeded")
    labels = {"provider": "openai"}
    grown = [
        Growth("wardgate_fallbacks_total", **labels, reason="http_503"),
        Growth("wardgate_fallbacks_total", **labels, reason="rate_limit_exceeded"),
        Growth("wardgate_upstream_errors_total", **labels, error_type="http_503"),
        Growth("wardgate_upstream_errors_total", **labels, error_type="rate_limit_exceeded"),
        Growth("wardgate_overhead_seconds_sum"),
    ]
    exchange = answered(abandoned=(busy, limited), sent=STARTED + 0.004)
    line = place.line(exchange)
    report = place.report(exchange)
    assert [growth() for growth in grown] == [2, 2, 2, 0, 0.002]
    assert line["abandoned"] == ["openai/spare http_503", "openai/main rate_limit_exceeded"]
    assert report.counts["d"].errors == {"http_503": 2}
    assert (report.counts["c"].requests, report.counts["c"].failures) == (2, 0)


def test_health_is_timed_from_what_was_sent_to_the_provider(place: Place) -> None:
    sent = STARTED + 0.002
    report = place.report(answered(sent=sent))
    assert report.looks == {"c": (3, PROVEN)}
    assert report.counts["c"].took == {bucket_of(ENDED - sent): 1}
    assert report.counts["c"].first == {}
    stream = place.report(answered(sent=sent, stream=True)).counts["c"]
    assert stream.first == {bucket_of(STARTED + 0.01 - sent): 1}
    failed = answered(sent=sent, status=500, code="http_500", outcome="upstream_error")
    counts = place.report(failed).counts["c"]
    assert (counts.requests, counts.errors, sum(counts.took.values())) == (3, {"http_500": 1}, 2)


def test_key_that_does_not_open_is_held_against_its_config(place: Place) -> None:
    failed = {"sent": None, "first_byte": None, "status": 503, "outcome": "failed"}
    assert place.report(answered(**failed)).counts == {}
    counts = place.report(answered(**failed, code="secret_unavailable")).counts["c"]
    assert counts.errors == {"secret_unavailable": 1}


@pytest.mark.parametrize("number", [-1, 10**400])
def test_numbers_of_tokens_that_cannot_be_are_not_counted(place: Place, number: int) -> None:
    read = Growth("gen_ai_client_token_usage_count", **GENAI, gen_ai_token_type="input")
    spent = Growth("wardgate_cost_microdollars_total", **WHERE, model="gpt-4o")
    line = place.line(answered(usage=Usage(number, number)))
    assert (line["usage"]["input"], line["cost_microdollars"]) == (number, None)
    assert (read(), spent()) == (0, 0)


async def test_counts_nobody_writes_out_are_bounded(place: Place) -> None:
    before = metrics.overhead._sum.get()
    exchange = answered()
    for _ in range(33_000):  # twice as many as are kept: others may have left some
        place.record(exchange)
    assert metrics.overhead._sum.get() - before > 16_000 * 0.0002 * 0.99


async def test_ever_new_kinds_of_endings_are_all_counted(place: Place) -> None:
    labels = {**dict.fromkeys(WHERE, ""), "status_class": "4xx", "outcome": "refused"}
    grown = Growth("wardgate_requests_total", route="unknown", **labels)
    for number in range(4_500):
        place.record(refused(code=f"code_{number}"))
    assert grown() == 4_500
