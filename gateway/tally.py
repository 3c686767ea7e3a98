"""Counts requests: those that ended alike together, in plain numbers and lists.

Labels come from stored configuration and closed lists only. Nothing of a request is kept but
numbers. Used by record.py; brought to the instruments by metrics.py when somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from gateway import metrics
from gateway.blame import blame
from gateway.catalog import Catalog, Model
from gateway.cost import cost
from gateway.endpoints import Endpoint
from gateway.exchange import Attempt, Outcome
from gateway.health import Attempts, Samples
from gateway.shapes import Candidate, ProviderConfig, Usage

# Statuses providers are known to answer errors with; anything else shares one label.
_KNOWN_ERRORS = frozenset(
    {400, 401, 402, 403, 404, 408, 409, 413, 422, 424, 429, 500, 502, 503, 504, 529}
)
_LIMITED = "rate_limit_exceeded"  # by us: nobody was asked
_MOST_KINDS = 4096  # then they are met anew: configs come and go
_LARGEST = 2**53  # a float, which is what instruments hold, is exact up to here
_NO_MODELS: Mapping[str, Model] = {}
NOWHERE = Endpoint("", "openai", "", "", template="unknown")

Place = tuple[str, str, str]  # provider, alias, scope


class Labels(NamedTuple):
    """What everything measured of a kind of requests is labelled with."""

    provider: str
    alias: str
    scope: str
    operation: str
    model: str  # one the catalog lists, "other", or "" where none was named
    error_type: str

    @property
    def genai(self) -> tuple[str, str, str]:
        return self.operation, self.provider, self.model


_NO_LABELS = Labels("", "", "", "", "", "")


class Kind:
    """Requests that ended alike: their number, and what was measured of each since written out."""

    __slots__ = (
        "_attempts", "_cost", "_counters", "_first", "_input", "_labels", "_lasted", "_output",
        "_overhead", "_priced", "_streams", "_whole", "number", "place",
    )  # fmt: skip

    def __init__(
        self,
        place: Place | None,
        labels: Labels,
        counters: Iterable[metrics.Counter],
        priced: Model | None,
        attempts: Attempts | None,
        streams: bool,
    ) -> None:
        self._labels, self._counters, self._priced = labels, tuple(counters), priced
        self._attempts, self._streams, self._whole = attempts, streams, not labels.error_type
        self.place = place or (None, None, None)  # as lines of the log name it
        self.number = self._cost = 0
        self._overhead: list[float] = []
        self._lasted: list[float] = []
        self._first: list[float] = []
        self._input: list[float] = []
        self._output: list[float] = []

    def end(
        self,
        started: float,
        left: float,
        sent: float,
        first: float | None,
        now: float,
        stream: bool,
    ) -> None:
        """One was sent: it first `left` this house, was `sent` the last time, had its first byte
        and ended. For its config's health times begin with `sent`: before, it was here.
        """
        self.number += 1
        self._overhead.append(left - started)
        self._lasted.append(now - started)
        waited = None
        if first is not None:
            self._first.append(first - started)
            if stream or self._streams:
                waited = first - sent
        if self._attempts is not None:
            self._attempts.add(now, now - sent if self._whole else None, waited)

    def fail(self, now: float) -> None:
        """One was not: refused, or given up."""
        self.number += 1
        if self._attempts is not None:
            self._attempts.add(now)

    def use(self, usage: Usage) -> int | None:
        """What one used, and so cost in micro-dollars where its price is known.

        Numbers that cannot be are not counted: a provider may say anything.
        """
        read, said = usage.input, usage.output
        if read is not None and 0 <= read <= _LARGEST:
            self._input.append(read)
        if said is not None and 0 <= said <= _LARGEST:
            self._output.append(said)
        spent = cost(usage, self._priced) if self._priced is not None else None
        if spent is None or not 0 <= spent <= _LARGEST:
            return None
        self._cost += spent
        return spent

    def write_out(self) -> None:
        labels, genai = self._labels, self._labels.genai
        for counter in self._counters:
            counter.inc(self.number)
        self.number = 0
        _bring(self._overhead, metrics.overhead)
        _bring(self._lasted, metrics.operation_duration, *genai, labels.error_type)
        _bring(self._first, metrics.first_chunk, *genai)
        _bring(self._input, metrics.token_usage, *genai, "input")
        _bring(self._output, metrics.token_usage, *genai, "output")
        if self._cost:
            where = (labels.provider, labels.alias, labels.scope, labels.model)
            metrics.cost_microdollars.labels(*where).inc(self._cost)
            self._cost = 0


def _bring(values: list[float], instrument: metrics.Histogram, *labels: str) -> None:
    if values:
        child = metrics.child(instrument, *labels) if labels else instrument
        child.observe_all(values)
        values.clear()


class Ending(NamedTuple):
    """How requests of one kind ended."""

    status: int
    outcome: Outcome
    code: str | None
    policy: str | None  # which of our limits refused them
    sent: bool  # to an upstream, the last time it was tried

    @property
    def error_type(self) -> str:
        return "" if self.outcome == "ok" else reason(self.code or self.outcome, self.status)

    @property
    def tells_of_config(self) -> bool:
        """Whether it says how the config did: without its key nothing could be sent."""
        return self.sent or self.code == "secret_unavailable"


class Tally:
    """What requests add up to, by the models and prices of one catalog; health goes to `seen`."""

    def __init__(self, catalog: Catalog, seen: Samples) -> None:
        self.catalog, self.seen = catalog, seen
        self._models = {name: provider.models for name, provider in catalog.providers.items()}
        self._kinds: dict[tuple[object, ...], Kind] = {}

    def kind(
        self,
        endpoint: Endpoint,
        candidate: Candidate | None,
        status: int,
        outcome: Outcome,
        code: str | None,
        policy: str | None,
        sent: bool,
    ) -> Kind:
        """Where a request that ended so is counted; NOWHERE is the endpoint of an unknown path."""
        model = ""
        if candidate is None:
            key: tuple[object, ...] = endpoint.template, status, outcome, code, policy
        else:
            config, model = candidate.config, candidate.model or ""
            if model and model not in self._models.get(config.provider, _NO_MODELS):
                model = "other"
            # By what rows say: a new routing table has new ones of the same.
            key = (
                endpoint.template, endpoint.name, endpoint.operation,
                config.id, config.secret_version, config.provider, config.alias, config.scope,
                model, status, outcome, code, policy, sent,
            )  # fmt: skip
        kind = self._kinds.get(key)
        if kind is None:
            ending = Ending(status, outcome, code, policy, sent)
            kind = self._meet(endpoint, candidate.config if candidate else None, model, ending)
            self._keep(key, kind)
        return kind

    def _meet(
        self, endpoint: Endpoint, config: ProviderConfig | None, model: str, ending: Ending
    ) -> Kind:
        place = (config.provider, config.alias, config.scope) if config is not None else None
        labels = Labels(*(place or ("", "", "")), endpoint.operation, model, ending.error_type)
        attempts = None
        if config is not None and ending.tells_of_config:
            attempts = Attempts(self.seen, config, ending.status, ending.code)
        counters = _counters(endpoint.template, labels, ending)
        priced = self._models.get(labels.provider, _NO_MODELS).get(model)
        return Kind(place, labels, counters, priced, attempts, "stream" in endpoint.name)

    def abandoned(self, tried: Attempt) -> Kind:
        """The same for an attempt that failed without ending its request."""
        config, status, code = tried.config, tried.status or 0, tried.code or ""
        key = "abandoned", config.id, config.secret_version, config.provider, status, code
        kind = self._kinds.get(key)
        if kind is None:
            why = reason(code, status)
            counters = [metrics.fallbacks.labels(config.provider, why)]
            if code != _LIMITED:
                counters.append(metrics.upstream_errors.labels(config.provider, why))
            # The provider did no better for it.
            attempts = Attempts(self.seen, config, status, tried.code)
            kind = Kind(None, _NO_LABELS, counters, None, attempts, streams=False)
            self._keep(key, kind)
        return kind

    def _keep(self, key: tuple[object, ...], kind: Kind) -> None:
        if len(self._kinds) >= _MOST_KINDS:
            self.write_out()
            self._kinds.clear()
        self._kinds[key] = kind

    def write_out(self) -> None:
        for kind in self._kinds.values():
            if kind.number:
                kind.write_out()


def _counters(template: str, labels: Labels, ending: Ending) -> Iterator[metrics.Counter]:
    """What goes up by one with every request of a kind."""
    provider, alias, scope, code = *labels[:3], ending.code
    status_class = f"{ending.status // 100}xx" if ending.status else "none"
    where = (template, provider, alias, scope)
    yield metrics.requests.labels(*where, status_class, ending.outcome)
    blamed = blame(ending.outcome, ending.status, code)
    if blamed is not None:
        yield metrics.errors.labels(blamed, provider, ending.error_type)
    if code == _LIMITED:
        yield metrics.rate_limited.labels(ending.policy or "client")
    elif ending.outcome == "incomplete":
        yield metrics.stream_incomplete.labels(provider)
        yield metrics.upstream_errors.labels(provider, code or "upstream_incomplete")
    elif ending.outcome == "upstream_error" and provider:
        yield metrics.upstream_errors.labels(provider, ending.error_type)


def reason(code: str, status: int) -> str:
    """A closed list: statuses no provider is known for are one of it."""
    known = status in _KNOWN_ERRORS or not code.startswith("http_")
    return code if known else "http_other"
