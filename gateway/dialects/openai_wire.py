"""Shapes of OpenAI's API that its own and Azure's endpoints share: errors, streams, usage, lists.

Pure. `Usage.input` counts all input tokens, cached ones included, as OpenAI does; `cache_read` is
the part of it that was cached; `output` includes reasoning. Used by the openai and azure dialects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from gateway.dialects.dialect import ModelEntry
from gateway.errors import GatewayError
from gateway.shapes import Rendered, Usage
from gateway.sse import Event

HEARTBEAT: Final[bytes | None] = b": keep-alive\n\n"
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_exceeded"}
_JSON: Final = (b"content-type", b"application/json")

_RESPONSE_ENDS: Final = frozenset(
    {
        b"response.completed",
        b"response.failed",
        b"response.incomplete",
        b"response.cancelled",
        b"error",
    }
)
_TELLING: Final = (b"usage", b"error", b"[DONE]")
# A type is compared after decoding, in which letters may have been escapes.
_TELLING_RESPONSES: Final = (b"usage", b"error", b"complete", b"failed", b"cancelled", b"\\u00")
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')


class _Chunk(msgspec.Struct):
    error: Any = None


class _Typed(msgspec.Struct):
    type: str = ""


class _Inner(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Reported(msgspec.Struct):
    """Chat and embeddings: `usage`; Responses events: in `response`; Groq: in `x_groq`."""

    usage: dict[str, Any] | None = None
    response: _Inner | None = None
    x_groq: _Inner | None = None


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class _ChatCounts(msgspec.Struct):
    """Other APIs' names may not stand beside chat's."""

    prompt_tokens: _Count
    input_tokens: None = None
    output_tokens: None = None
    input_tokens_details: None = None
    output_tokens_details: None = None
    completion_tokens: _Count | None = None
    prompt_cache_hit_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Chat(msgspec.Struct):
    """What nearly every answer is: read in one go, without a dictionary on the way."""

    usage: _ChatCounts


_NO_DETAILS: Final = _Details()
_chat: Final = msgspec.json.Decoder(_Chat)
_chunk: Final = msgspec.json.Decoder(_Chunk)
_typed: Final = msgspec.json.Decoder(_Typed)
_reported: Final = msgspec.json.Decoder(_Reported)


def render(error: GatewayError, request_id: str) -> Rendered:
    return Rendered(error.status, [_JSON], _encoded(error))


def error_event(error: GatewayError, request_id: str) -> bytes:
    return b"data: " + _encoded(error) + b"\n\n"


def _encoded(error: GatewayError) -> bytes:
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    facts = {
        "message": error.message,
        "type": _TYPES.get(error.status, kind),
        "param": error.param,
        "code": error.code,
    }
    return msgspec.json.encode({"error": facts})


def ends(rule: str, event: Event) -> bool:
    """Chat: `[DONE]` or an error chunk. Responses: completed, failed, incomplete or cancelled."""
    if rule == "responses":
        return event.event in _RESPONSE_ENDS or (not event.event and _typed_end(event.data))
    if event.data == b"[DONE]":
        return True
    return (event.data.find(b'"error"') >= 0 or event.event == b"error") and _is_error(event)


def telling(rule: str | None) -> tuple[bytes, ...]:
    return _TELLING_RESPONSES if rule == "responses" else _TELLING


def _typed_end(data: bytes) -> bool:
    if data.find(b'"response.') < 0 and data.find(b'"error"') < 0:
        return False
    try:
        return _typed.decode(data).type.encode() in _RESPONSE_ENDS
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


def _is_error(event: Event) -> bool:
    try:
        return event.event == b"error" or bool(_chunk.decode(event.data).error)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


def usage(payload: bytes, so_far: Usage | None) -> Usage | None:
    """The newest report wins: where a provider sends several, each counts from the beginning."""
    if payload.find(b'"usage"') < 0 or _USAGE.search(payload) is None:
        return so_far
    return _usual(payload) or _unusual(payload, so_far)


def _usual(payload: bytes) -> Usage | None:
    """Chat's own words; None for what is not quite that, and is then read with more care."""
    try:
        counts = _chat.decode(payload).usage
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    prompt = counts.prompt_tokens_details or _NO_DETAILS
    completion = counts.completion_tokens_details or _NO_DETAILS
    read = prompt.cached_tokens
    return Usage(
        counts.prompt_tokens,
        counts.completion_tokens,
        read if read is not None else counts.prompt_cache_hit_tokens,
        prompt.cache_write_tokens,
        completion.reasoning_tokens,
    )


def _unusual(payload: bytes, so_far: Usage | None) -> Usage | None:
    try:
        found = _reported.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return so_far
    inner = found.response or found.x_groq
    counts = found.usage or (inner.usage if inner else None)
    return _counted(counts) or so_far if counts else so_far


def _counted(counts: Mapping[str, Any]) -> Usage | None:
    prompt = _details(counts, "prompt_tokens_details", "input_tokens_details")
    completion = _details(counts, "completion_tokens_details", "output_tokens_details")
    read = count(prompt, "cached_tokens")
    found = Usage(
        input=count(counts, "prompt_tokens", "input_tokens"),
        output=count(counts, "completion_tokens", "output_tokens"),
        cache_read=read if read is not None else count(counts, "prompt_cache_hit_tokens"),
        cache_write=count(prompt, "cache_write_tokens"),
        reasoning=count(completion, "reasoning_tokens"),
    )
    return None if found == Usage() else found


def _details(counts: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if isinstance(found := counts.get(name), dict):
            return found
    return {}


def count(counts: Mapping[str, Any], *names: str) -> int | None:
    """The first of `names` that is a whole number, not negative."""
    for name in names:
        value = counts.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def list_models(entries: Sequence[ModelEntry]) -> bytes:
    return msgspec.json.encode({"object": "list", "data": [_listed(e) for e in entries]})


def one_model(entry: ModelEntry) -> bytes:
    return msgspec.json.encode(_listed(entry))


def _listed(entry: ModelEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": entry.owner,
    }
