"""Figures of a config's health: the histogram's error, sums in any order, windows, the rule."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import health
from gateway.health import (
    PROVEN,
    REFUSED,
    RULE,
    WINDOWS,
    Attempts,
    Counts,
    Health,
    Look,
    Samples,
    Window,
    assess,
    bucket_of,
    fold,
    pack,
    percentile,
    samples,
    unpack,
)
from gateway.shapes import ProviderConfig
from gateway.store import proofs

NOW = 1_750_000_000.0
CONFIG = ProviderConfig(
    id="c", scope="global", provider="openai", alias="a", dialect="openai", base_url="http://x"
)
# From a millisecond to three hours: where the bound is promised.
seconds = st.floats(0.001, 10_000)
histograms = st.dictionaries(st.integers(0, 170), st.integers(1, 10**9), max_size=20)
counted = st.builds(
    Counts,
    requests=st.integers(0, 10**9),
    last=st.floats(0, 2e9),
    errors=st.dictionaries(
        st.sampled_from(["http_429", "http_500", "upstream_timeout"]), st.just(1)
    ),
    took=histograms,
    first=histograms,
)


def seen_of(*ended: tuple[ProviderConfig, int, str | None, float | None, float | None]) -> Samples:
    """Attempts in this order: config, status, code, seconds to the end and to the first byte."""
    seen = samples()
    for now, (config, status, code, took, first) in enumerate(ended):
        Attempts(seen, config, status, code).add(now, took, first)
    return seen


def total(*parts: Counts) -> Counts:
    whole = Counts()
    for part in parts:
        whole.add(part)
    return whole


@given(st.lists(seconds, min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentile_is_within_five_percent_of_the_exact_one(
    values: list[float], share: float
) -> None:
    histogram: dict[int, int] = {}
    for value in values:
        histogram[bucket_of(value)] = histogram.get(bucket_of(value), 0) + 1
    exact = sorted(values)[math.ceil(share * len(values)) - 1] * 1000
    shown = percentile(histogram, share)
    assert shown is not None
    # Half a millisecond for rounding; what takes less than one is shown as one.
    assert abs(shown - exact) <= 0.049 * exact + 0.5


def test_buckets_grow_and_the_last_takes_everything_longer() -> None:
    values = [0.0, 0.0009, 0.001, 0.0011, 0.01, 1.0, 60.0, 3600.0, 10_000.0]
    buckets = [bucket_of(value) for value in values]
    assert buckets == sorted(buckets)
    assert bucket_of(0.0) == 0
    assert bucket_of(1e9) == bucket_of(86_400.0) == 170
    assert percentile({}, 0.5) is None
    assert percentile({0: 1}, 0.99) == 1


@given(counted, counted, counted)
def test_counts_add_up_in_any_order(one: Counts, two: Counts, three: Counts) -> None:
    whole = total(one, two, three)
    assert whole == total(three, one, two)
    assert whole == total(one, total(two, three))
    assert total(one) == one


@given(counted)
def test_counts_survive_being_packed(counts: Counts) -> None:
    assert unpack(pack(counts)) == counts


@pytest.mark.parametrize("data", [b"", b"\x00", b"junk", pack(Counts())[:-1], b"\x91\xa1x"])
def test_counts_of_another_kind_are_left_out(data: bytes) -> None:
    assert unpack(data) == Counts()


def test_packed_counts_are_small() -> None:
    busy = Counts(10**6, NOW, {"http_500": 9}, dict.fromkeys(range(40, 90), 10**4), {})
    assert len(pack(busy)) < 300


@pytest.mark.parametrize(
    ("status", "code", "says", "fails", "key"),
    [
        (200, None, True, False, PROVEN),
        (304, None, True, False, None),
        (0, None, False, False, None),  # a defect of ours, or stopped with the gateway
        (400, "http_400", True, False, None),
        (404, "http_404", True, False, None),
        (422, "http_422", True, False, None),
        (401, "http_401", True, True, REFUSED),
        (403, "http_403", True, True, REFUSED),
        (402, "http_402", True, True, None),
        (408, "http_408", True, True, None),
        (429, "http_429", True, True, None),
        (500, "http_500", True, True, None),
        (529, "http_529", True, True, None),
        (502, "upstream_failed", True, True, None),
        (502, "upstream_redirect", True, True, None),
        (502, "upstream_denied", True, True, None),
        (504, "upstream_timeout", True, True, None),
        (200, "upstream_timeout", True, True, PROVEN),  # in the middle of a stream
        (200, "upstream_incomplete", True, True, PROVEN),
        (503, "secret_unavailable", True, True, None),
        (200, "client_closed_request", True, False, PROVEN),  # left while it was answered
        (0, "client_closed_request", False, False, None),
        (499, "client_closed_request", False, False, None),
        (408, "request_timeout", False, False, None),  # the client's upload stalled
        (413, "body_too_large", False, False, None),
    ],
)
def test_who_is_at_fault(
    status: int, code: str | None, says: bool, fails: bool, key: str | None
) -> None:
    report = fold(seen_of((CONFIG, status, code, None, None)), NOW)
    counts = report.counts.get("c", Counts())
    assert (counts.requests == 1, counts.failures == 1) == (says, fails)
    assert counts.errors == ({code: 1} if fails else {})
    assert report.looks.get("c", (0, None))[1] == key


def test_every_code_of_an_upstream_is_somebody_s_fault() -> None:
    from gateway.errors import CODES

    upstream = {code for code in CODES if code.startswith("upstream_")} | {"secret_unavailable"}
    assert {code for code in CODES if health.is_failure(502, code)} == upstream


def test_fold_counts_per_config_and_the_last_look_at_a_key_counts() -> None:
    other = ProviderConfig(
        id="d", scope="global", provider="groq", alias="a", dialect="openai", base_url="http://x",
        secret_version=7,
    )  # fmt: skip
    seen = seen_of(
        (CONFIG, 200, None, 0.5, 0.1),
        (other, 200, None, 2.0, None),
        (other, 401, "http_401", None, None),
        (CONFIG, 500, "http_500", None, None),
    )
    report = fold(seen, NOW)
    assert report.counts["c"] == Counts(
        2, NOW, {"http_500": 1}, {bucket_of(0.5): 1}, {bucket_of(0.1): 1}
    )
    assert report.counts["d"].errors == {"http_401": 1}
    assert report.looks == {"c": (0, PROVEN), "d": (7, REFUSED)}


def test_attempts_that_ended_alike_count_as_many_and_by_the_newest() -> None:
    seen = samples()
    refused = Attempts(seen, CONFIG, 401, "http_401")
    answered = Attempts(seen, CONFIG, 200, None)
    for now, attempts in enumerate((refused, answered, answered, refused)):
        attempts.add(now, took=0.01 if attempts is answered else None)
    report = fold(seen, NOW)
    assert report.counts["c"] == Counts(4, NOW, {"http_401": 2}, {bucket_of(0.01): 2}, {})
    assert report.looks == {"c": (0, REFUSED)}


def test_samples_are_counted_once() -> None:
    seen = samples()
    attempts = Attempts(seen, CONFIG, 200, None)
    attempts.add(1.0, 0.5, 0.1)
    assert fold(seen, NOW) == fold(seen, NOW)
    seen.clear()
    assert fold(seen, NOW).counts == {}
    attempts.add(2.0, 0.25)
    assert fold(seen, NOW).counts["c"] == Counts(1, NOW, {}, {bucket_of(0.25): 1}, {})


def test_samples_nobody_folds_are_bounded() -> None:
    seen = samples()
    attempts = Attempts(seen, CONFIG, 200, None)
    for _ in range(health.MOST_TIMES + 10):
        attempts.add(1.0, 0.5, 0.1)
    assert (len(attempts.took), len(attempts.first)) == (10, 10)
    assert fold(seen, NOW).counts["c"].requests == 10


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.name)
@given(now=st.floats(1e9, 2e9), age=st.floats(0, 2))
def test_window_misses_nothing_younger_and_counts_nothing_much_older(
    window: Window, now: float, age: float
) -> None:
    then = now - age * window.seconds
    inside = int(then // window.width) >= window.begins(now)
    if now - then <= window.seconds:
        assert inside
    if now - then > window.seconds + window.width:
        assert not inside


def test_windows_are_read_from_slots_that_fit_into_them() -> None:
    assert [window.name for window in WINDOWS] == ["1m", "5m", "1h", "24h"]
    assert all(window.seconds % window.width == 0 for window in WINDOWS)
    assert all(window.width * 6 <= window.seconds for window in WINDOWS)
    assert all(short.seconds < long.seconds for short, long in pairwise(WINDOWS))


def tell(ok: int, failed: int = 0, last: float = NOW) -> Counts:
    errors = {"http_500": failed} if failed else {}
    return Counts(ok + failed, last, errors, {bucket_of(0.3): ok} if ok else {}, {})


@pytest.mark.parametrize(
    ("minute", "five", "hour", "look", "state"),
    [
        (tell(0), tell(0), tell(0), None, "unknown"),
        (tell(0), tell(0), tell(0), Look(PROVEN, NOW - 3601), "unknown"),
        (tell(0), tell(0), tell(0), Look(PROVEN, NOW - 3600), "healthy"),
        (tell(0), tell(0), tell(0), Look("unreachable", NOW), "unknown"),
        (tell(0), tell(0), tell(0), Look(REFUSED, NOW - 9e6), "unhealthy"),
        (tell(99), tell(99), tell(99), Look(REFUSED, NOW), "unhealthy"),
        (tell(0), tell(0), tell(1), None, "healthy"),
        (tell(0), tell(0), tell(0, 4), None, "degraded"),  # too few to call it broken
        (tell(0), tell(0), tell(0, 5), None, "unhealthy"),
        (tell(2, 3), tell(99, 3), tell(99, 3), None, "unhealthy"),
        (tell(3, 3), tell(99, 3), tell(99, 3), None, "degraded"),
        (tell(19, 1), tell(19, 1), tell(19, 1), None, "healthy"),  # 95 % exactly
        (tell(18, 1), tell(18, 1), tell(18, 1), None, "degraded"),
        (tell(5), tell(5, 50), tell(5, 50), None, "healthy"),  # it is over: the last minute says so
        (tell(4), tell(5, 50), tell(5, 50), None, "unhealthy"),  # too few to say so
        (tell(4), tell(4), tell(4, 50), None, "unhealthy"),
    ],
)
def test_state(minute: Counts, five: Counts, hour: Counts, look: Look | None, state: str) -> None:
    assert assess({"1m": minute, "5m": five, "1h": hour}, look, NOW).state == state


def test_every_line_of_the_rule_is_reached_and_the_last_always_applies() -> None:
    assert [state for state, _, _ in RULE] == [
        "unhealthy",
        "unhealthy",
        "degraded",
        "healthy",
        "healthy",
        "unknown",
    ]
    assert assess({}, None, NOW) == Health(
        "unknown", None, None, tuple(health.figures(w.name, Counts()) for w in WINDOWS)
    )


def test_figures_say_what_was_counted_and_nothing_of_what_was_not() -> None:
    minute = Counts(4, NOW - 5, {"http_500": 1}, {bucket_of(0.32): 3}, {bucket_of(0.05): 2})
    found = assess({"1m": minute, "5m": minute, "1h": minute}, Look(PROVEN, NOW - 2), NOW)
    first, *_, last = found.windows
    assert (first.requests, first.success_rate, first.error_codes) == (4, 0.75, {"http_500": 1})
    assert first.p50_latency_ms == pytest.approx(320, rel=0.05)
    assert first.ttft_p50_ms == pytest.approx(50, rel=0.05)
    assert found.p50_latency_ms == first.p50_latency_ms
    assert (last.window, last.requests, last.success_rate) == ("24h", 0, None)
    assert (last.p99_latency_ms, last.ttft_p50_ms) == (None, None)
    assert found.last_check_at == NOW - 2


def test_proofs_of_traffic_are_spelled_as_the_store_spells_them() -> None:
    assert (PROVEN, REFUSED) == (proofs.PROVEN, proofs.REFUSED)
