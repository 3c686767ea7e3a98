"""Every Prometheus instrument, and how they are shown; nothing else.

Labels come from stored configuration and closed lists only: never a key's id, never a client's
string. With several workers the numbers meet in files of a directory (prometheus_client's
multiprocess mode). Fed by tally.py, shown by the admin app.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import prometheus_client
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, Metric
from prometheus_client import generate_latest as _latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gateway import backlog, bulletin
from gateway.bulletin import Bulletin
from gateway.health import Figures, Judged

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Grown(Protocol):
    """What has been counted in memory."""

    def write_out(self) -> None:
        """Bring it to the instruments, once."""


grown: list[Grown] = []  # since it was last written out


def write_out() -> None:
    """Bring what was counted to where /metrics looks; a worker does so every second.

    Not at every count: prometheus_client's, with their locks and files, would be dearer than
    everything else that is recorded.
    """
    with backlog.lock:
        backlog.settle()
        while grown:
            grown.pop().write_out()


class Counter(prometheus_client.Counter):
    """Shows what was counted up to the moment somebody looks."""

    def collect(self) -> Iterable[Metric]:
        write_out()
        return super().collect()


class Histogram(prometheus_client.Histogram):
    """The same, and it takes many values at a time."""

    def collect(self) -> Iterable[Metric]:
        write_out()
        return super().collect()

    def observe_all(self, values: list[float]) -> None:
        """Count `values`, which are sorted for it."""
        values.sort()
        below = 0
        for bucket, bound in zip(self._buckets, self._upper_bounds, strict=True):
            upto = bisect_right(values, bound)
            if upto > below:
                bucket.inc(upto - below)
            below = upto
        self._sum.inc(sum(values))


# Buckets of the OpenTelemetry GenAI conventions.
_DURATIONS = tuple(0.01 * 2**n for n in range(14))
_FIRST_CHUNK = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
)
_TOKENS = tuple(4**n for n in range(14))
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)

_GENAI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

operation_duration = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "From the request's arrival to the end of its answer.",
    (*_GENAI, "error_type"),
    buckets=_DURATIONS,
)
first_chunk = Histogram(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "From the request's arrival to the first byte of its answer.",
    _GENAI,
    buckets=_FIRST_CHUNK,
)
token_usage = Histogram(
    "gen_ai_client_token_usage",
    "Tokens a request used, as the provider counted them.",
    (*_GENAI, "gen_ai_token_type"),
    buckets=_TOKENS,
)
requests = Counter(
    "wardgate_requests_total",
    "Requests, by what became of them.",
    ("route", "provider", "alias", "scope", "status_class", "outcome"),
)
errors = Counter(
    "wardgate_errors_total",
    "Those of them that did not end well, by who is to blame and the code of their error.",
    ("blame", "provider", "error_type"),
)
overhead = Histogram(
    "wardgate_overhead_seconds",
    "Time spent in the gateway before the upstream request was sent.",
    buckets=_OVERHEAD,
)
inflight = Gauge("wardgate_inflight", "Requests being served now.", multiprocess_mode="livesum")
workers = Gauge("wardgate_workers", "Workers that serve.", multiprocess_mode="livesum")
worker_cpu = Counter(
    "wardgate_worker_cpu_seconds_total",
    "Processor time of the workers; each can use one second of it a second.",
)
redis_away = Gauge(
    "wardgate_redis_away",
    "1 while a worker finds Redis away, so that limits are not shared; 0 without Redis, too.",
    multiprocess_mode="livemax",
)
rate_limited = Counter(
    "wardgate_rate_limited_total", "Requests refused by a limit of ours.", ("policy",)
)
upstream_errors = Counter(
    "wardgate_upstream_errors_total",
    "Upstream failures and error answers.",
    ("provider", "error_type"),
)
fallbacks = Counter(
    "wardgate_fallbacks_total",
    "Targets of routes that were given up for the next one, by their provider and why.",
    ("provider", "reason"),
)
stream_incomplete = Counter(
    "wardgate_stream_incomplete_total",
    "Streams the provider cut before their end.",
    ("provider",),
)
cost_microdollars = Counter(
    "wardgate_cost_microdollars_total",
    "What requests cost by the catalog's prices, in millionths of a dollar, where it is known.",
    ("provider", "alias", "scope", "model"),
)
spans = Counter(
    "wardgate_spans_total",
    "Spans of traces, by whether a collector took them; dropped ones were never sent.",
    ("outcome",),
)
snapshot_age = Gauge(
    "wardgate_snapshot_age_seconds",
    "Age of the routing table the oldest worker serves from, since it was compiled.",
    multiprocess_mode="livemax",
)
snapshot_revision = Gauge(
    "wardgate_snapshot_revision",
    "Revision of the routing table; the lowest of all workers.",
    multiprocess_mode="livemin",
)
catalog_age = Gauge(
    "wardgate_catalog_age_seconds",
    "Age of the model catalog.",
    multiprocess_mode="livemax",
)
build_info = Gauge(
    "wardgate_build_info", "1; the version is a label.", ("version",), multiprocess_mode="livemax"
)


@lru_cache(maxsize=8192)
def child(instrument: Histogram, *labels: str) -> Histogram:
    """The histogram for one set of labels; looked up once, then kept."""
    return instrument.labels(*labels)


_CONFIG = ("provider", "alias", "scope")
_LATENCY = "wardgate_provider_latency_seconds"
_FIRST = "wardgate_provider_time_to_first_token_seconds"
# Not counted here but read from the store when somebody asks: name, labels, meaning.
HEALTH: dict[str, tuple[tuple[str, ...], str]] = {
    "wardgate_provider_health": (
        _CONFIG,
        "1 healthy, 0.5 degraded, 0 unhealthy; not there while it is unknown.",
    ),
    "wardgate_provider_requests": (
        (*_CONFIG, "window"),
        "Requests that say something of the provider, in a rolling window.",
    ),
    "wardgate_provider_success_ratio": (
        (*_CONFIG, "window"),
        "Share of those that were no failure of the provider or its key.",
    ),
    "wardgate_provider_errors": (
        (*_CONFIG, "window", "error_type"),
        "Those that were, by their kind.",
    ),
    _LATENCY: (
        (*_CONFIG, "window", "quantile"),
        "From the request sent upstream to the end of a whole answer.",
    ),
    _FIRST: (
        (*_CONFIG, "window", "quantile"),
        "From the request sent upstream to the first byte of a stream.",
    ),
}
_DEATHS = "wardgate_process_deaths_total"
_STORE_AWAY = "wardgate_store_away"
_STORE_REVISION = "wardgate_store_revision"
_UNCONFIRMED = "wardgate_snapshot_unconfirmed_seconds"
_SUBSCRIBED = "wardgate_announcements_subscribed"
_ANNOUNCED = "wardgate_announcements_total"
_KEPT = "wardgate_reports_kept"
# Nor these: of the house as its parent knows it, and of the store as it is when somebody asks.
# Name: type, labels, meaning.
HOUSE: dict[str, tuple[str, tuple[str, ...], str]] = {
    _DEATHS: (
        "counter",
        ("process",),
        "Processes that ended without being asked; each was replaced.",
    ),
    _STORE_AWAY: ("gauge", (), "1 while the store cannot be read, else 0."),
    _STORE_REVISION: (
        "gauge",
        (),
        "Revision the store is at; workers follow within a second. Not there while it is away.",
    ),
    _UNCONFIRMED: (
        "gauge",
        (),
        "Since the routing table was last known to be the store's; about a second at most.",
    ),
    _SUBSCRIBED: (
        "gauge",
        (),
        "1 while changes are announced to the gateway by Redis, else 0; not there without Redis.",
    ),
    _ANNOUNCED: (
        "counter",
        (),
        "Changes the gateway heard of by Redis before it had seen them itself.",
    ),
    _KEPT: (
        "gauge",
        (),
        "0 while the database role may not keep what workers report (last use, health), else 1.",
    ),
}
# Shown before the first of them dies: of a counter that begins with 1 nobody sees it grow.
_MORTAL = {"worker": 0, "admin": 0}
_STATES = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}


class _Fleet(Collector):
    """Everybody's health as gauges; made for one scrape."""

    def __init__(self, fleet: Iterable[Judged]) -> None:
        self._gauges = {
            name: GaugeMetricFamily(name, meaning, labels=labels)
            for name, (labels, meaning) in HEALTH.items()
        }
        for one in fleet:
            self._add(one)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._gauges.values()

    def _add(self, one: Judged) -> None:
        config = (one.provider, one.alias, one.scope)
        self._set("wardgate_provider_health", config, _STATES.get(one.health.state))
        for seen in one.health.windows:
            if seen.requests:
                self._add_window((*config, seen.window), seen)

    def _add_window(self, labels: tuple[str, ...], seen: Figures) -> None:
        self._set("wardgate_provider_requests", labels, seen.requests)
        self._set("wardgate_provider_success_ratio", labels, seen.success_rate)
        for code, number in seen.error_codes.items():
            self._set("wardgate_provider_errors", (*labels, code), number)
        self._set(_LATENCY, (*labels, "0.5"), _seconds(seen.p50_latency_ms))
        self._set(_LATENCY, (*labels, "0.95"), _seconds(seen.p95_latency_ms))
        self._set(_LATENCY, (*labels, "0.99"), _seconds(seen.p99_latency_ms))
        self._set(_FIRST, (*labels, "0.5"), _seconds(seen.ttft_p50_ms))

    def _set(self, name: str, labels: tuple[str, ...], value: float | None) -> None:
        if value is not None:
            self._gauges[name].add_metric(labels, value)


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds is not None else None


class Asked(NamedTuple):
    """What the store said when somebody scraped; no revision: it is away."""

    fleet: Sequence[Judged] = ()
    revision: int | None = None


class _House(Collector):
    """What HOUSE lists; made for one scrape."""

    def __init__(self, said: Bulletin, asked: Asked) -> None:
        self._said, self._revision = said, asked.revision

    def collect(self) -> Iterator[Metric]:
        died = _counter(_DEATHS)
        for process, number in {**_MORTAL, **self._said.deaths}.items():
            died.add_metric((process,), number)
        yield died
        yield from self._followed()
        yield _gauge(_STORE_AWAY, self._revision is None)
        if self._revision is not None:
            yield _gauge(_STORE_REVISION, self._revision)

    def _followed(self) -> Iterator[Metric]:
        """How the parent follows the store, where it does."""
        said = self._said
        if said.current_at is not None:
            yield _gauge(_UNCONFIRMED, max(0.0, time.monotonic() - said.current_at))
        if said.subscribed is not None:
            yield _gauge(_SUBSCRIBED, said.subscribed)
            heard = _counter(_ANNOUNCED)
            heard.add_metric((), said.announced)
            yield heard
        if said.reports_kept is not None:
            yield _gauge(_KEPT, said.reports_kept)


def _counter(name: str) -> CounterMetricFamily:
    _, labels, meaning = HOUSE[name]
    return CounterMetricFamily(name, meaning, labels=labels)


def _gauge(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, HOUSE[name][2], value=value)


def exposition(directory: str | None = None, asked: Asked | None = None) -> bytes:
    """Prometheus text: of all processes that share `directory`, else of this process alone.

    `asked`: what the store said just now.
    """
    directory = directory or os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    registry = REGISTRY
    if directory is not None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call] # untyped there
    more = CollectorRegistry()
    if asked is not None:
        said = bulletin.read(directory) if directory is not None else Bulletin()
        more.register(_House(said, asked))
        if asked.fleet:
            more.register(_Fleet(asked.fleet))
    return _latest(registry) + _latest(more)
