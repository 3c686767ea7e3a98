"""What tests of all dialects share: a config, a match, one error of every status."""

from __future__ import annotations

from typing import Any

from gateway import errors
from gateway.dialects.table import DIALECTS, Dialect, ModelEntry
from gateway.paths import match
from gateway.shapes import DialectName, ProviderConfig, Usage
from gateway.sse import Event, Reader
from tests.recorded import Recorded

ENTRIES = [ModelEntry("gpt-4o", "openai", 1_700_000_000), ModelEntry("a/b", "x", 0)]
ERRORS: list[errors.GatewayError] = [
    errors.Malformed("no", param="model"),
    errors.Unauthorized("who"),
    errors.Forbidden("not you"),
    errors.NotFound("where", code="model_not_found"),
    errors.WrongMethod("how"),
    errors.SlowClient("when"),
    errors.TooLarge("much"),
    errors.RateLimited("often", retry_after=3),
    errors.HeadTooLarge("long"),
    errors.UpstreamError('it said "no"\n'),
    errors.Unavailable("later"),
    errors.UpstreamTimeout("slow"),
]


def config(dialect: DialectName, base_url: str, **changed: Any) -> ProviderConfig:
    given = {"id": "c1", "scope": "global", "provider": "custom:x", "alias": "default", **changed}
    return ProviderConfig(dialect=dialect, base_url=base_url, **given)


def target(conf: ProviderConfig, path: str, query: str = "", method: str = "POST") -> str:
    """Path and query at the provider, for a client's path."""
    found = match(method, path.encode())
    raw, raw_query = DIALECTS[conf.dialect].target(conf, found, query.encode())
    return (raw + b"?" + raw_query if raw_query else raw).decode()


def ended(dialect: Dialect, rule: str, stream: bytes) -> list[bool]:
    """For every event of a stream whether it ends it."""
    return [dialect.ends(rule, event) for event in Reader().feed(stream)]


def used(dialect: Dialect, exchange: Recorded) -> Usage | None:
    """What is known of the usage after a recorded answer has passed."""
    if not exchange.kind.startswith("text/event-stream"):
        return dialect.usage(exchange.answer, None)
    known: Usage | None = None
    for event in Reader().feed(exchange.answer):
        known = dialect.usage(event.data, known)
    return known


def event(data: str, name: str = "") -> Event:
    return Event(name.encode(), data.encode())
