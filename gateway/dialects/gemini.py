"""The gemini dialect: Google's generateContent API with an API key.

Pure. The key never goes into the query. Answers hold CRLF line ends and no comments: its client
dies on them. Thinking is counted beside the candidates; `Usage.output` has both. Satisfies
gateway.dialects.dialect.Dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.dialects.dialect import ModelEntry, base_path, bearer, below, without_credentials
from gateway.errors import GatewayError
from gateway.paths import Match
from gateway.shapes import Headers, ProviderConfig, Rendered, Usage
from gateway.sse import Event

HEARTBEAT: Final[bytes | None] = None
_STATUSES: Final = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens")
_TELLING: Final = (b"usageMetadata", b"finishReason", b"promptFeedback", b"error")
_UNFINISHED: Final = (None, "", "FINISH_REASON_UNSPECIFIED")


class _Candidate(msgspec.Struct):
    finishReason: str | None = None


class _Chunk(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    promptFeedback: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class _Counts(msgspec.Struct):
    promptTokenCount: int | None = None
    toolUsePromptTokenCount: int | None = None
    candidatesTokenCount: int | None = None
    thoughtsTokenCount: int | None = None
    cachedContentTokenCount: int | None = None


class _Reported(msgspec.Struct):
    usageMetadata: _Counts | None = None


_chunk: Final = msgspec.json.Decoder(_Chunk)
_reported: Final = msgspec.json.Decoder(_Reported | list[_Reported])


def target(config: ProviderConfig, match: Match, query: bytes) -> tuple[bytes, bytes]:
    return below(base_path(config.base_url), match.rest), without_credentials(query)


def authorize(config: ProviderConfig, secret: bytes) -> Headers:
    if config.auth_type == "api_key":
        return [(b"x-goog-api-key", secret)]
    return bearer(config, secret)


def defaults(config: ProviderConfig) -> Headers:
    return []


def render(error: GatewayError, request_id: str) -> Rendered:
    return Rendered(error.status, [(b"content-type", b"application/json")], _encoded(error))


def error_event(error: GatewayError, request_id: str) -> bytes:
    return b"data: " + _encoded(error) + b"\r\n\r\n"


def _encoded(error: GatewayError) -> bytes:
    """`code` has to be a number: google-genai fails with a TypeError on anything else."""
    status = _STATUSES.get(error.status, "INVALID_ARGUMENT")
    facts = {"code": error.status, "message": error.message, "status": status}
    return msgspec.json.encode({"error": facts})


def ends(rule: str, event: Event) -> bool:
    """A finishReason in a candidate, a promptFeedback block, or an error."""
    data = event.data
    told = data.find(b'"finishReason"') >= 0 or data.find(b'"promptFeedback"') >= 0
    if not told and data.find(b'"error"') < 0:
        return False
    try:
        chunk = _chunk.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    finished = any(c.finishReason not in _UNFINISHED for c in chunk.candidates or ())
    blocked = bool(chunk.promptFeedback and chunk.promptFeedback.get("blockReason"))
    return finished or blocked or bool(chunk.error)


def telling(rule: str | None) -> tuple[bytes, ...]:
    return _TELLING


def usage(payload: bytes, so_far: Usage | None) -> Usage | None:
    """Merge a report into the earlier one. Every chunk counts from the stream's beginning.

    Without `alt=sse` an answer is a list of chunks: the last report in it counts.
    """
    if payload.find(b'"usageMetadata"') < 0:
        return so_far
    try:
        found = _reported.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return so_far
    for chunk in found if isinstance(found, list) else (found,):
        if chunk.usageMetadata is not None:
            so_far = _merged(chunk.usageMetadata, so_far or Usage())
    return so_far


def _merged(counts: _Counts, known: Usage) -> Usage:
    thoughts = _newer(counts.thoughtsTokenCount, known.reasoning)
    spoken = _newer(counts.candidatesTokenCount, _spoken(known))
    prompt = counts.promptTokenCount
    total = None if prompt is None else prompt + (counts.toolUsePromptTokenCount or 0)
    output = None if spoken is None and thoughts is None else (spoken or 0) + (thoughts or 0)
    return Usage(
        input=_newer(total, known.input),
        output=output,
        cache_read=_newer(counts.cachedContentTokenCount, known.cache_read),
        reasoning=thoughts,
    )


def _newer(value: int | None, known: int | None) -> int | None:
    return known if value is None or value < 0 else value


def _spoken(known: Usage) -> int | None:
    return None if known.output is None else known.output - (known.reasoning or 0)


def list_models(entries: Sequence[ModelEntry]) -> bytes:
    return msgspec.json.encode({"models": [_listed(entry) for entry in entries]})


def one_model(entry: ModelEntry) -> bytes:
    return msgspec.json.encode(_listed(entry))


def _listed(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": f"models/{entry.id}",
        "displayName": entry.id,
        "description": f"Served by {entry.owner}.",
        "supportedGenerationMethods": _METHODS,
    }
