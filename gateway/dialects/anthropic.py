"""The anthropic dialect: the Messages API of Anthropic and of those who imitate it.

Pure. `input_tokens` leaves cached tokens out; `Usage.input` adds them, so that every dialect counts
alike. Stream reports are cumulative. Satisfies gateway.dialects.dialect.Dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.dialects.dialect import ModelEntry, base_path, bearer, below, without_credentials
from gateway.errors import GatewayError
from gateway.paths import Match
from gateway.shapes import Headers, ProviderConfig, Rendered, Usage
from gateway.sse import Event

HEARTBEAT: Final[bytes | None] = b'event: ping\ndata: {"type": "ping"}\n\n'
API_VERSION: Final = b"2023-06-01"
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_ENDS: Final = (b"message_stop", b"error")
_TELLING: Final = (b"usage", *_ENDS)


class _Typed(msgspec.Struct):
    type: str = ""


class _Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _Counts | None = None


class _Reported(msgspec.Struct):
    usage: _Counts | None = None
    message: _Message | None = None


_typed: Final = msgspec.json.Decoder(_Typed)
_reported: Final = msgspec.json.Decoder(_Reported)


def target(config: ProviderConfig, match: Match, query: bytes) -> tuple[bytes, bytes]:
    return below(base_path(config.base_url), match.rest), without_credentials(query)


def authorize(config: ProviderConfig, secret: bytes) -> Headers:
    if config.auth_type == "api_key":
        return [(b"x-api-key", secret)]
    return bearer(config, secret)


def defaults(config: ProviderConfig) -> Headers:
    """Anthropic refuses a request without a version; the client's own is never changed."""
    return [(b"anthropic-version", API_VERSION)]


def render(error: GatewayError, request_id: str) -> Rendered:
    headers = [(b"content-type", b"application/json"), (b"request-id", request_id.encode())]
    return Rendered(error.status, headers, _encoded(error, request_id))


def error_event(error: GatewayError, request_id: str) -> bytes:
    return b"event: error\ndata: " + _encoded(error, request_id) + b"\n\n"


def _encoded(error: GatewayError, request_id: str) -> bytes:
    kind = _TYPES.get(error.status, "invalid_request_error")
    facts = {"type": kind, "message": error.message}
    return msgspec.json.encode({"type": "error", "error": facts, "request_id": request_id})


def ends(rule: str, event: Event) -> bool:
    """`message_stop` or `error`, by the event's name, or by its data's type where it has none."""
    if event.event:
        return event.event in _ENDS
    if event.data.find(b'"message_stop"') < 0 and event.data.find(b'"error"') < 0:
        return False
    try:
        return _typed.decode(event.data).type.encode() in _ENDS
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


def telling(rule: str | None) -> tuple[bytes, ...]:
    return _TELLING


def usage(payload: bytes, so_far: Usage | None) -> Usage | None:
    """Merge a report into the earlier one: message_start has the input, message_delta the rest."""
    if payload.find(b'"usage"') < 0:
        return so_far
    try:
        found = _reported.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return so_far
    counts = found.usage or (found.message.usage if found.message else None)
    return so_far if counts is None else _merged(counts, so_far or Usage())


def _merged(counts: _Counts, known: Usage) -> Usage:
    read = _newer(counts.cache_read_input_tokens, known.cache_read)
    write = _newer(counts.cache_creation_input_tokens, known.cache_write)
    fresh = _newer(counts.input_tokens, _uncached(known))
    return Usage(
        input=None if fresh is None else fresh + (read or 0) + (write or 0),
        output=_newer(counts.output_tokens, known.output),
        cache_read=read,
        cache_write=write,
    )


def _newer(value: int | None, known: int | None) -> int | None:
    return known if value is None or value < 0 else value


def _uncached(known: Usage) -> int | None:
    if known.input is None:
        return None
    return known.input - (known.cache_read or 0) - (known.cache_write or 0)


def list_models(entries: Sequence[ModelEntry]) -> bytes:
    listed = {
        "data": [_listed(entry) for entry in entries],
        "has_more": False,
        "first_id": entries[0].id if entries else None,
        "last_id": entries[-1].id if entries else None,
    }
    return msgspec.json.encode(listed)


def one_model(entry: ModelEntry) -> bytes:
    return msgspec.json.encode(_listed(entry))


def _listed(entry: ModelEntry) -> dict[str, Any]:
    created = datetime.fromtimestamp(entry.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": entry.id, "display_name": entry.id, "created_at": created}
