"""Traces to a collector: spans made of requests that have ended, exported by a thread of its own.

The only module that imports OpenTelemetry, and imported only where traces are wanted. No request
waits for it: what the queue does not hold is dropped and counted. Called by worker.py.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from time import perf_counter_ns, time_ns
from typing import Any, Final

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

from gateway import __version__, metrics
from gateway.catalog import Catalog
from gateway.exchange import Traced
from gateway.logs import Log
from gateway.settings import Settings
from gateway.spans import Address, Span, of_attempts, of_request

GRACE: Final = 2.0  # seconds the last spans may take; the parent kills after five
_ANYWHERE: Final = frozenset({"", "0.0.0.0", "::"})
_KEPT: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET, _FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_NOBODY: Final = Context()  # nothing that runs here is anybody's parent


class _Collector(SpanExporter):
    """The exporter, and how it fares: numbers that the loop's thread looks at."""

    def __init__(self) -> None:
        self.begun = 0  # spans that have left the queue
        self.taken = self.refused = 0
        self.status: int | None = None  # of the last answer, if there was one
        self._exporter = OTLPSpanExporter(session=self._session())

    def _session(self) -> Any:
        session = requests.Session()
        # No proxy steers what leaves here, and no .netrc replaces the credentials that were given.
        session.trust_env = False
        session.hooks["response"].append(self._see)
        return session

    def _see(self, response: Any, *_: object, **__: object) -> None:
        self.status = response.status_code
        if 300 <= response.status_code < 400:  # not followed, and nobody took anything
            response.close()
            raise requests.RequestException("a redirect")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun += len(spans)
        self.status, result = None, SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.taken += len(spans)
            else:
                self.refused += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call] # untyped there


class _Queue(BatchSpanProcessor):
    """What waits for the collector, and how many spans ever did."""

    handed = 0

    def on_end(self, span: ReadableSpan) -> None:
        super().on_end(span)
        if span.context and span.context.trace_flags.sampled:
            self.handed += 1


class OtelTraces:
    """One worker's traces. `most`: spans that may wait for the collector."""

    def __init__(self, settings: Settings, most: int, log: Log) -> None:
        self._most, self._log = most, log
        self._address = _address(settings)
        self._collector = _Collector()
        self._queue = _Queue(self._collector, most)
        # For what it reads from the environment. Its tracers would make a span that can still be
        # changed, behind a lock, for five times the price: ours have ended when they are made.
        provider = TracerProvider(shutdown_on_exit=False)
        self._sampler, self._ids = provider.sampler, provider.id_generator
        self._resource = _resource(provider.resource)
        self._scope = InstrumentationScope("wardgate", __version__)
        self._dropped = 0
        self._told = (0, 0, 0)
        self._failing = False
        # What it says of failed exports may repeat an endpoint with its query; `report` says it.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)

    def __repr__(self) -> str:
        taken, refused = self._collector.taken, self._collector.refused
        return f"<OtelTraces: {taken} exported, {refused} failed, {self._dropped} dropped>"

    @property
    def _waiting(self) -> int:
        return self._queue.handed - self._collector.begun

    def take(self, exchange: Traced, ended: float, catalog: Catalog) -> None:
        """Make the request's spans, unless sampling says no or too many wait already."""
        try:
            self._take(exchange, ended, catalog)
        except Exception as error:  # noqa: BLE001 # a sampler may be anybody's code
            self._log.error("trace lost", id=exchange.id, error=type(error).__name__)

    def _take(self, exchange: Traced, ended: float, catalog: Catalog) -> None:
        around = _extract(exchange.parent) if exchange.parent else _NOBODY
        parent = get_current_span(around).get_span_context()
        known = parent.is_valid
        trace = parent.trace_id if known else self._ids.generate_trace_id()
        told = of_request(exchange, ended, self._address)
        asked = self._sampler.should_sample(
            around, trace, told.name, SpanKind.SERVER, told.attributes
        )
        if asked.decision is not Decision.RECORD_AND_SAMPLE:
            return
        inner = list(of_attempts(exchange, ended, catalog))
        if self._waiting + len(inner) >= self._most:
            self._dropped += len(inner) + 1
            return
        # Both clocks once a request: all its times are moved alike.
        since = time_ns() - perf_counter_ns()
        own = self._context(trace)
        for one in inner:
            self._end(one, SpanKind.CLIENT, self._context(trace), own, since)
        self._end(told, SpanKind.SERVER, own, parent if known else None, since)

    def _context(self, trace: int) -> SpanContext:
        return SpanContext(trace, self._ids.generate_span_id(), is_remote=False, trace_flags=_KEPT)

    def _end(
        self, told: Span, kind: SpanKind, own: SpanContext, parent: SpanContext | None, since: int
    ) -> None:
        self._queue.on_end(
            ReadableSpan(
                told.name,
                own,
                parent,
                self._resource,
                told.attributes,
                kind=kind,
                status=_FAILED if told.failed else _UNSET,
                start_time=_ns(told.started, since),
                end_time=_ns(told.ended, since),
                instrumentation_scope=self._scope,
            )
        )

    def report(self) -> None:
        """Bring what was counted to /metrics, and say when the collector begins or ends to fail."""
        now = self._collector.taken, self._collector.refused, self._dropped
        taken, refused, dropped = (n - before for n, before in zip(now, self._told, strict=True))
        self._told = now
        for outcome, number in ("exported", taken), ("failed", refused), ("dropped", dropped):
            if number:
                metrics.spans.labels(outcome).inc(number)
        if refused and not self._failing:
            self._failing = True
            self._log.warning("collector takes no traces", status=self._collector.status)
        elif taken and not refused and self._failing:
            self._failing = False
            self._log.info("collector takes traces again")

    async def aclose(self) -> None:
        """Export what waits, for so long as GRACE; what is left then is lost, and counted."""
        closing = threading.Thread(target=self._queue.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, GRACE)
        done = self._collector.taken + self._collector.refused
        self._dropped += self._queue.handed - done
        self.report()


def _ns(moment: float, since: int) -> int:
    return int(moment * 1e9) + since


def _address(settings: Settings) -> Address | None:
    return None if settings.host in _ANYWHERE else (settings.host, settings.port)


def _resource(said: Resource) -> Resource:
    """As OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say; what they leave open is ours."""
    ours: dict[str, str] = {}
    if str(said.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        ours[SERVICE_NAME] = "wardgate"
    if SERVICE_VERSION not in said.attributes:
        ours[SERVICE_VERSION] = __version__
    return said.merge(Resource(ours))


def _extract(parent: bytes) -> Context:
    """The context a traceparent names; nobody's where it is malformed."""
    return _propagator.extract({"traceparent": parent.decode("latin-1")}, _NOBODY)


_propagator: Final = TraceContextTextMapPropagator()
