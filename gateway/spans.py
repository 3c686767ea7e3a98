"""What a request's trace says: one span for the request, one for each attempt at an upstream.

Names and attributes follow OpenTelemetry's conventions (docs/tracing.md). They come from stored
configuration, closed lists and what the log's line says; never a body, a path, a query, a header,
a key or a key's id. Pure, and without OpenTelemetry. Used by process/otel.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from gateway.catalog import Catalog
from gateway.exchange import Exchange, Traced
from gateway.masking import shown
from gateway.shapes import ProviderConfig, Unread, Usage
from gateway.tally import reason

Attributes = dict[str, str | int | float | bool]
Address = tuple[str, int]  # host and port

# What the conventions call providers that they know; others go by the catalog's name.
PROVIDERS: Final = {
    "amazon-bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure-cognitive-services": "azure.ai.inference",
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "google-vertex-anthropic": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "moonshotai-cn": "moonshot_ai",
    "xai": "x_ai",
}
_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
# Rules that take the model from a row of the store; every other takes the client's word.
_STORED: Final = frozenset({"route", "default"})
_BROKEN: Final = frozenset({"upstream_error", "incomplete", "failed"})
_UNHEARD: Final = 499  # stands in the log alone: nothing was sent
_LARGEST: Final = 2**53  # tokens; a number OTLP cannot hold would cost its whole batch
_PORTS: Final = {"http": 80, "https": 443}


class Span(NamedTuple):
    """One span; times are `perf_counter`'s."""

    name: str
    attributes: Attributes
    started: float
    ended: float
    failed: bool


class Traces(Protocol):
    """Where requests go that become traces."""

    def take(self, exchange: Traced, ended: float, catalog: Catalog) -> None:
        """Make its spans, or none. Never waits, never raises."""


def of_request(exchange: Exchange, ended: float, address: Address | None) -> Span:
    """The request as its client saw it; `address` is where this house listens."""
    known = exchange.method in _METHODS
    said: Attributes = {
        "http.request.method": exchange.method if known else "_OTHER",
        "url.scheme": "http",
        "wardgate.request.id": exchange.id,
        "wardgate.outcome": exchange.outcome,
    }
    name = exchange.method if known else "HTTP"
    if exchange.match is not None:
        said["http.route"] = exchange.template
        name = f"{name} {exchange.template}"
    if address is not None:
        said["server.address"], said["server.port"] = address
    if exchange.status not in (0, _UNHEARD):
        said["http.response.status_code"] = exchange.status
    if exchange.outcome != "ok":
        said["error.type"] = reason(exchange.code or exchange.outcome, exchange.status)
    if exchange.policy is not None:
        said["wardgate.limit"] = exchange.policy
    if exchange.candidate is not None:
        _place(said, exchange.candidate.config)
    failed = exchange.status >= 500 or exchange.outcome in ("incomplete", "failed")
    return Span(name, said, exchange.started, ended, failed)


def of_attempts(exchange: Exchange, ended: float, catalog: Catalog) -> Iterator[Span]:
    """What was sent upstream, in that order; what never left this house is not among it."""
    operation = exchange.match.endpoint.operation if exchange.match is not None else ""
    for tried in exchange.abandoned:
        if tried.ended > tried.sent:
            name, said = _asked(operation, tried.config, tried.model, known=True)
            code, status = tried.code or "upstream_failed", tried.status
            _tell_end(said, status, reason(code, status or 0))
            yield Span(name, said, tried.sent, tried.ended, failed=True)
    candidate, sent = exchange.candidate, exchange.sent
    if candidate is None or sent is None:
        return
    known = candidate.rule in _STORED or _lists(catalog, candidate.config, candidate.model)
    name, said = _asked(operation, candidate.config, candidate.model, known=known)
    error = None
    if exchange.outcome != "ok":
        error = reason(exchange.code or exchange.outcome, exchange.status)
    _tell_end(said, _answered(exchange), error)
    if exchange.stream or (exchange.match and "stream" in exchange.match.endpoint.name):
        said["gen_ai.request.stream"] = True
        if exchange.first_byte is not None:
            said["gen_ai.response.time_to_first_chunk"] = exchange.first_byte - sent
    if exchange.usage is not None and not isinstance(exchange.usage, Unread):
        _count(said, exchange.usage)
        if exchange.partial:
            said["wardgate.usage.partial"] = True
    yield Span(name, said, sent, ended, exchange.outcome in _BROKEN)


def _asked(
    operation: str, config: ProviderConfig, model: str | None, *, known: bool
) -> tuple[str, Attributes]:
    """A span's name and what is known before the answer. A client's own word is in no name."""
    said: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDERS.get(config.provider, config.provider),
    }
    name = operation
    if model:
        said["gen_ai.request.model"] = model if known else shown(model)
        name = f"{operation} {model}" if known else operation
    said["server.address"], said["server.port"] = _address(config.base_url)
    _place(said, config)
    return name, said


def _place(said: Attributes, config: ProviderConfig) -> None:
    said["wardgate.provider"] = config.provider
    said["wardgate.config"] = config.alias
    said["wardgate.scope"] = config.scope


def _tell_end(said: Attributes, status: int | None, error: str | None) -> None:
    if status is not None:
        said["http.response.status_code"] = status
    if error is not None:
        said["error.type"] = error


def _answered(exchange: Exchange) -> int | None:
    """The upstream's own status; None where the one the client got, if any, was ours."""
    passed = exchange.outcome in ("ok", "incomplete") or (exchange.code or "").startswith("http_")
    left = exchange.outcome == "client_gone" and exchange.status != _UNHEARD
    return exchange.status if passed or left else None


def _count(said: Attributes, usage: Usage) -> None:
    for name, number in (
        ("gen_ai.usage.input_tokens", usage.input),
        ("gen_ai.usage.output_tokens", usage.output),
        ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
        ("gen_ai.usage.cache_write.input_tokens", usage.cache_write),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
    ):
        if number is not None and 0 <= number <= _LARGEST:
            said[name] = number


def _lists(catalog: Catalog, config: ProviderConfig, model: str | None) -> bool:
    provider = catalog.providers.get(config.provider)
    return provider is not None and model in provider.models


@lru_cache(maxsize=1024)
def _address(base_url: str) -> Address:
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
