"""Step: what became of a request, exactly once, for refusals too: metrics, health, one log line.

Never a body, never a key, never a client's own string as a label. Called by receive.py, last.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

from gateway import metrics
from gateway.catalog import Catalog
from gateway.cost import cost
from gateway.exchange import Attempt, Exchange
from gateway.health import Samples
from gateway.masking import mask
from gateway.shapes import ProviderConfig

# Statuses providers are known to answer errors with; anything else shares one label.
_KNOWN_ERRORS = frozenset(
    {400, 401, 402, 403, 404, 408, 409, 413, 422, 424, 429, 500, 502, 503, 504, 529}
)


class RequestLog(Protocol):
    """What a request's line is written to."""

    def info(self, event: str, **fields: Any) -> Any: ...

    def error(self, event: str, **fields: Any) -> Any: ...


def record(
    exchange: Exchange, catalog: Catalog, log: RequestLog, now: float, seen: Samples
) -> None:
    """Count `exchange`, which ended at `now` (`perf_counter`'s), and log it.

    How the provider did goes to `seen`, and is counted there out of the requests' way.
    """
    config = exchange.candidate.config if exchange.candidate else None
    provider, alias = (config.provider, config.alias) if config else ("", "")
    status_class = f"{exchange.status // 100}xx" if exchange.status else "none"
    metrics.requests_child(
        exchange.template,
        provider,
        alias,
        config.scope if config else "",
        status_class,
        exchange.outcome,
    ).inc()
    _count_failure(exchange, provider)
    for tried in exchange.abandoned:
        _count_abandoned(tried, seen)
    if exchange.candidate is not None and exchange.sent is not None:
        _observe(exchange, catalog, now)
        _sample(exchange, exchange.candidate.config, exchange.sent, now, seen)
    elif config is not None and exchange.code == "secret_unavailable":
        seen.append((config, exchange.status, exchange.code, None, None))
    log.info("request", **_line(exchange, now))


def _count_abandoned(tried: Attempt, seen: Samples) -> None:
    """An attempt that failed without ending its request: the provider did no better for it."""
    code, status = tried.code or "", tried.status or 0
    reason = code if status in _KNOWN_ERRORS or not status else "http_other"
    metrics.fallbacks.labels(tried.config.provider, reason).inc()
    if code != "rate_limit_exceeded":  # a limit of ours, the provider was not asked
        metrics.upstream_errors.labels(tried.config.provider, reason).inc()
    seen.append((tried.config, status, tried.code, None, None))


def _sample(
    exchange: Exchange, config: ProviderConfig, sent: float, now: float, seen: Samples
) -> None:
    """From the request sent upstream: what came before was spent in this house."""
    took = now - sent if exchange.outcome == "ok" else None
    first = exchange.first_byte
    if first is not None:
        first = first - sent if _streams(exchange) else None
    seen.append((config, exchange.status, exchange.code, took, first))


def _streams(exchange: Exchange) -> bool:
    """Whether the client asked for pieces: in the body or, Google's and Amazon's way, by path."""
    return exchange.stream or (
        exchange.match is not None and "stream" in exchange.match.endpoint.name
    )


def _count_failure(exchange: Exchange, provider: str) -> None:
    code = exchange.code
    if code == "rate_limit_exceeded":
        metrics.rate_limited.labels(exchange.policy or "client").inc()
    elif exchange.outcome == "incomplete":
        metrics.stream_incomplete.labels(provider).inc()
        metrics.upstream_errors.labels(provider, code or "upstream_incomplete").inc()
    elif exchange.outcome == "upstream_error" and provider:
        metrics.upstream_errors.labels(provider, _error_type(exchange)).inc()


def _observe(exchange: Exchange, catalog: Catalog, now: float) -> None:
    assert exchange.candidate is not None
    assert exchange.match is not None
    sent = exchange.first_sent
    assert sent is not None
    config, operation = exchange.candidate.config, exchange.match.endpoint.operation
    model = _model_label(exchange, catalog)
    metrics.overhead.observe(sent - exchange.started)
    error_type = "" if exchange.outcome == "ok" else _error_type(exchange)
    metrics.duration_child(operation, config.provider, model, error_type).observe(
        now - exchange.started
    )
    if exchange.first_byte is not None:
        metrics.first_chunk_child(operation, config.provider, model).observe(
            exchange.first_byte - exchange.started
        )
    usage = exchange.usage
    if usage is not None:
        if usage.input is not None:
            metrics.tokens_child(operation, config.provider, model, "input").observe(usage.input)
        if usage.output is not None:
            metrics.tokens_child(operation, config.provider, model, "output").observe(usage.output)
        _count_cost(exchange, catalog, model)


def _count_cost(exchange: Exchange, catalog: Catalog, model: str) -> None:
    assert exchange.candidate is not None
    assert exchange.usage is not None
    config = exchange.candidate.config
    provider = catalog.providers.get(config.provider)
    priced = provider.models.get(model) if provider is not None else None
    exchange.cost = cost(exchange.usage, priced) if priced is not None else None
    if exchange.cost:
        metrics.cost_microdollars.labels(config.provider, config.alias, config.scope, model).inc(
            exchange.cost
        )


def _model_label(exchange: Exchange, catalog: Catalog) -> str:
    candidate = exchange.candidate
    if candidate is None or candidate.model is None:
        return ""
    listed = catalog.lists(candidate.config.provider, candidate.model)
    return candidate.model if listed else "other"


def _error_type(exchange: Exchange) -> str:
    code = exchange.code or exchange.outcome
    if not code.startswith("http_"):
        return code
    return code if exchange.status in _KNOWN_ERRORS else "http_other"


@lru_cache(maxsize=1024)
def _shown(model: str) -> str:
    """A client's own word, fit for the log: somebody may have put a key there."""
    return mask(model.encode("utf-8", "replace")).decode("utf-8", "replace")


def _line(exchange: Exchange, now: float) -> dict[str, Any]:
    line: dict[str, Any] = {
        "id": exchange.id,
        "method": exchange.method,
        "route": exchange.template,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "ms": round((now - exchange.started) * 1000, 2),
    }
    if exchange.code is not None:
        line["code"] = exchange.code
    if exchange.client is not None:
        line["key"] = exchange.client.id
    if exchange.candidate is not None:
        config = exchange.candidate.config
        line.update(provider=config.provider, config=config.alias, scope=config.scope)
    if exchange.abandoned:
        line["abandoned"] = [
            f"{one.config.provider}/{one.config.alias} {one.code}" for one in exchange.abandoned
        ]
    if exchange.model is not None:
        line["model"] = _shown(exchange.model[:128])
    if exchange.first_byte is not None:
        line["first_byte_ms"] = round((exchange.first_byte - exchange.started) * 1000, 2)
    if exchange.usage is not None:
        line["usage"] = exchange.usage
        line["partial"] = exchange.partial
        line["cost_microdollars"] = exchange.cost
    return line
