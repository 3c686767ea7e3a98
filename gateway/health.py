"""Health of a config: what is counted of its attempts, over which windows, and how it is judged.

Counts add up, whoever counted them: workers, parents, slots of time. Nothing of a request but how
it ended and how long it took is kept. Pure; time comes in as an argument. Used by the worker (to
fold), the parent (to gather) and whoever shows it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, exp, log
from operator import attrgetter
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from gateway.backlog import settle
from gateway.shapes import ProviderConfig

State = Literal["healthy", "degraded", "unhealthy", "unknown"]
Key = TypeVar("Key", int, str)
PROVEN: Final = "ok"
REFUSED: Final = "key_refused"

# What is the provider's fault or the key's. Any other 4xx is the client's: the provider worked.
_FAULTS: Final = frozenset(
    {
        "secret_unavailable",
        "upstream_denied",
        "upstream_failed",
        "upstream_incomplete",
        "upstream_redirect",
        "upstream_timeout",
    }
)
_FAULT_STATUSES: Final = frozenset({401, 402, 403, 408, 429, *range(500, 600)})
_KEY_STATUSES: Final = frozenset({401, 403})
_GONE: Final = "client_closed_request"

# Bucket n ends at 1.1^n milliseconds; what falls into it is shown as its geometric middle, so a
# percentile is at most 4.9 % off. The last one ends at three hours.
_GROWTH: Final = log(1.1)
_LAST_BUCKET: Final = 170
_ENDS: Final = tuple(1.1**n / 1000 for n in range(_LAST_BUCKET))  # of all others, in seconds

MOST_TIMES: Final = 65_536  # of attempts that ended alike; a worker folds them every second


class Attempts:
    """Attempts at one config that ended alike since the last fold; their times in plain lists."""

    __slots__ = ("_samples", "code", "config_id", "first", "last", "number", "secret_version",
                 "status", "took")  # fmt: skip

    def __init__(
        self, samples: Samples, config: ProviderConfig, status: int, code: str | None
    ) -> None:
        self.config_id, self.secret_version = config.id, config.secret_version
        self.status, self.code = status, code
        self._samples = samples
        self.clear()

    def add(self, now: float, took: float | None = None, first: float | None = None) -> None:
        """One more, ended at `now`: seconds to the end of a whole answer, and to the first byte of
        a stream. Nobody folding, they are counted anew after MOST_TIMES.
        """
        if self.number == MOST_TIMES:
            self.clear()
        elif not self.number:
            self._samples.grown.append(self)
        self.number += 1
        self.last = now
        if took is not None:
            self.took.append(took)
        if first is not None:
            self.first.append(first)

    def clear(self) -> None:
        self.number, self.last = 0, 0.0
        self.took: list[float] = []
        self.first: list[float] = []


class Samples:
    """How attempts at providers ended, until they are folded."""

    def __init__(self) -> None:
        self.grown: list[Attempts] = []

    def clear(self) -> None:
        for attempts in self.grown:
            attempts.clear()
        self.grown.clear()


def samples() -> Samples:
    """Where a worker keeps samples until they are folded."""
    return Samples()


class Counts(msgspec.Struct, array_like=True):
    """Attempts at one config; buckets and codes that were not seen are not there."""

    requests: int = 0
    last: float = 0.0  # Unix seconds of the newest
    errors: dict[str, int] = {}
    took: dict[int, int] = {}
    first: dict[int, int] = {}

    @property
    def failures(self) -> int:
        return sum(self.errors.values())

    def add(self, other: Counts) -> None:
        """Count `other` in; in whatever order this is done, the sum is the same."""
        self.requests += other.requests
        self.last = max(self.last, other.last)
        _grow(self.errors, other.errors)
        _grow(self.took, other.took)
        _grow(self.first, other.first)


def _grow(mine: dict[Key, int], more: Mapping[Key, int]) -> None:
    for key, number in more.items():
        mine[key] = mine.get(key, 0) + number


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Counts)


def pack(counts: Counts) -> bytes:
    return _encode(counts)


def unpack(data: bytes) -> Counts:
    """Counts of a version that counts otherwise are no reason to fail: they are left out."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError:
        return Counts()


class Report(msgspec.Struct, frozen=True):
    """What one process saw until `at` (Unix seconds), by config id.

    `looks`: the version of the key that was used last, and what the provider thought of it.
    """

    at: float
    counts: dict[str, Counts]
    looks: dict[str, tuple[int, str]]


def fold(seen: Samples, at: float) -> Report:
    """Samples as counts. Those that say nothing of the provider are left out."""
    settle()
    report = Report(at, {}, {})
    for attempts in sorted(seen.grown, key=attrgetter("last")):  # the last look at a key counts
        status, code = attempts.status, attempts.code
        if not says_something(status, code):
            continue
        counts = report.counts.setdefault(attempts.config_id, Counts(last=at))
        counts.requests += attempts.number
        if code is not None and is_failure(status, code):
            counts.errors[code] = counts.errors.get(code, 0) + attempts.number
        _grow(counts.took, _histogram(attempts.took))
        _grow(counts.first, _histogram(attempts.first))
        outcome = _of_key(status, code)
        if outcome is not None:
            report.looks[attempts.config_id] = (attempts.secret_version, outcome)
    return report


def says_something(status: int, code: str | None) -> bool:
    """Whether the provider answered, or is known to be why it did not.

    A client that left before there was an answer, and what we refused ourselves, say nothing.
    """
    if code is None or code == _GONE:
        return 200 <= status < 400
    return code in _FAULTS or code.startswith("http_")


def is_failure(status: int, code: str) -> bool:
    """The provider's fault or the key's, not the client's."""
    return code in _FAULTS or (code.startswith("http_") and status in _FAULT_STATUSES)


def _of_key(status: int, code: str | None) -> str | None:
    if code is not None and code.startswith("http_"):
        return REFUSED if status in _KEY_STATUSES else None
    return PROVEN if 200 <= status < 300 else None


def bucket_of(seconds: float) -> int:
    return bisect_left(_ENDS, seconds)


def _histogram(times: Iterable[float]) -> Mapping[int, int]:
    return Counter(map(partial(bisect_left, _ENDS), times))


def percentile(histogram: Mapping[int, int], share: float) -> int | None:
    """Milliseconds that `share` of the values do not exceed (nearest rank); None without values.

    At most 4.9 % off, and rounded to whole milliseconds, at least 1.
    """
    rank = ceil(share * sum(histogram.values()))
    for bucket in sorted(histogram):
        rank -= histogram[bucket]
        if rank <= 0:
            return max(1, round(exp(_GROWTH * (bucket - 0.5))))
    return None


@dataclass(frozen=True, slots=True)
class Window:
    """A rolling window: `seconds` long, read from slots of `width` seconds.

    Nothing younger than the window is missing, nothing older than window and slot is counted.
    """

    name: str
    seconds: int
    width: int

    def begins(self, now: float) -> int:
        """The oldest slot that belongs to it."""
        return int((now - self.seconds) // self.width)


WINDOWS: Final = (
    Window("1m", 60, 10),
    Window("5m", 300, 10),
    Window("1h", 3600, 300),
    Window("24h", 86_400, 3600),
)
# The longest window of each width: it says how long a slot is kept.
LONGEST: Final = {window.width: window for window in WINDOWS}


class Place(NamedTuple):
    """Whose counts, and of which slot of time: number `slot` of those `width` seconds wide."""

    config_id: str
    width: int
    slot: int


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of the present key: PROVEN, REFUSED or anything else for neither."""

    outcome: str
    at: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One window in numbers; None where nothing was measured."""

    window: str
    requests: int
    success_rate: float | None  # 0 to 1
    p50_latency_ms: int | None
    p95_latency_ms: int | None
    p99_latency_ms: int | None
    ttft_p50_ms: int | None
    error_codes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Health:
    """`p50_latency_ms` is of the window that was judged; `last_check_at` Unix seconds."""

    state: State
    last_check_at: float | None
    p50_latency_ms: int | None
    windows: tuple[Figures, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A config by the names it is shown under, and its health."""

    config_id: str
    provider: str
    alias: str
    scope: str
    health: Health


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rule judges by."""

    judged: Counts
    look: Look | None
    now: float

    @property
    def success(self) -> float:
        return 1 - self.judged.failures / self.judged.requests if self.judged.requests else 1.0

    @property
    def refused(self) -> bool:
        return self.look is not None and self.look.outcome == REFUSED

    @property
    def proven(self) -> bool:
        look = self.look
        return look is not None and look.outcome == PROVEN and self.now - look.at <= RECENT


ENOUGH: Final = 5
RECENT: Final = 3600.0
# The first line that applies; docs/health.md shows this table.
RULE: Final[tuple[tuple[State, str, Callable[[Evidence], bool]], ...]] = (
    ("unhealthy", "the provider refused the key when last asked (401, 403)", lambda e: e.refused),
    (
        "unhealthy",
        f"of at least {ENOUGH} requests, fewer than half succeeded",
        lambda e: e.judged.requests >= ENOUGH and e.success < 0.5,
    ),
    ("degraded", "fewer than 95 % of the requests succeeded", lambda e: e.success < 0.95),
    ("healthy", "there were requests", lambda e: e.judged.requests > 0),
    ("healthy", "the key was proven within the last hour", lambda e: e.proven),
    ("unknown", "none of these", lambda e: True),
)


def assess(counts: Mapping[str, Counts], look: Look | None, now: float) -> Health:
    """Judge by counts per window name. A window that is not there saw nothing."""
    judged = _judged(counts)
    evidence = Evidence(judged, look, now)
    state = next(state for state, _, applies in RULE if applies(evidence))
    seen = [one.last for one in counts.values() if one.requests]
    seen += [look.at] if look is not None else []
    return Health(
        state,
        max(seen, default=None),
        percentile(judged.took, 0.5),
        tuple(figures(window.name, counts.get(window.name, Counts())) for window in WINDOWS),
    )


def _judged(counts: Mapping[str, Counts]) -> Counts:
    """The last minute when it saw enough, else five minutes when they did, else the last hour."""
    for name in ("1m", "5m"):
        if name in counts and counts[name].requests >= ENOUGH:
            return counts[name]
    return counts.get("1h", Counts())


def figures(window: str, counts: Counts) -> Figures:
    requests = counts.requests
    return Figures(
        window,
        requests,
        (requests - counts.failures) / requests if requests else None,
        percentile(counts.took, 0.50),
        percentile(counts.took, 0.95),
        percentile(counts.took, 0.99),
        percentile(counts.first, 0.50),
        dict(counts.errors),
    )
