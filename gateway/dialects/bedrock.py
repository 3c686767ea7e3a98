"""The bedrock dialect: Amazon Bedrock's runtime, Converse and InvokeModel.

Pure. The signature of AWS credentials is inject's; here is only the API key's header. Counts leave
cached tokens out; `Usage.input` adds them, so that every dialect counts alike. Satisfies
gateway.dialects.dialect.Dialect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.dialects.dialect import ModelEntry, base_path, bearer, below, without_credentials
from gateway.errors import GatewayError, Malformed
from gateway.eventstream import EXCEPTION, encode
from gateway.paths import Match
from gateway.shapes import Headers, ProviderConfig, Rendered, Usage
from gateway.sse import Event

HEARTBEAT: Final[bytes | None] = None
# By these names botocore picks the exception it raises.
_TYPES: Final = {
    401: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "RequestTimeoutException",
    429: "ThrottlingException",
    500: "InternalServerException",
    502: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
_IN_STREAM: Final = {
    400: "validationException",
    429: "throttlingException",
    502: "modelStreamErrorException",
    503: "serviceUnavailableException",
    504: "modelStreamErrorException",
}
# Cloudflare writes the host's part and the region in front of the path.
_REGIONAL: Final = re.compile(rb"/bedrock-runtime/([a-z0-9-]+)(/.+)")
_MODEL: Final = re.compile(rb"/model/(.+)(/[a-z-]+)")
_SLASH: Final = re.compile(rb"%2[fF]")
_ENDS: Final = (b"metadata", EXCEPTION)


class _Counts(msgspec.Struct):
    """Converse's names first, then those of Anthropic's models behind InvokeModel."""

    inputTokens: int | None = None
    outputTokens: int | None = None
    cacheReadInputTokens: int | None = None
    cacheWriteInputTokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Metrics(msgspec.Struct):
    inputTokenCount: int | None = None
    outputTokenCount: int | None = None
    cacheReadInputTokenCount: int | None = None
    cacheWriteInputTokenCount: int | None = None


class _Reported(msgspec.Struct):
    """`piece` is one of InvokeModel's stream: JSON of the model's own, in base64."""

    usage: _Counts | None = None
    piece: bytes | None = msgspec.field(default=None, name="bytes")


class _Last(msgspec.Struct):
    metrics: _Metrics | None = msgspec.field(default=None, name="amazon-bedrock-invocationMetrics")


_reported: Final = msgspec.json.Decoder(_Reported)
_last: Final = msgspec.json.Decoder(_Last)


def target(config: ProviderConfig, match: Match, query: bytes) -> tuple[bytes, bytes]:
    """An id's slashes are sent as `%2F`: the path has one segment for it. Raises Malformed too for
    a region in the path that is not the config's.
    """
    rest = _in_region(config, match.rest)
    base, named = base_path(config.base_url), _MODEL.fullmatch(rest)
    if named is None:
        return below(base, rest), without_credentials(query)
    below(base, b"/model/" + _SLASH.sub(b"/", named[1]) + named[2])
    path = b"/model/" + named[1].replace(b"/", b"%2F") + named[2]
    return base + path, without_credentials(query)


def _in_region(config: ProviderConfig, rest: bytes) -> bytes:
    found, own = _REGIONAL.fullmatch(rest), config.settings.get("region")
    if found is None:
        return rest
    if isinstance(own, str) and own.encode() != found[1]:
        raise Malformed(f"the path names a region that is not the config's, {own}")
    return found[2]


def authorize(config: ProviderConfig, secret: bytes) -> Headers:
    return bearer(config, secret)


def defaults(config: ProviderConfig) -> Headers:
    return []


def render(error: GatewayError, request_id: str) -> Rendered:
    kind = _TYPES.get(error.status, "ValidationException")
    headers = [
        (b"content-type", b"application/json"),
        (b"x-amzn-errortype", kind.encode()),
        (b"x-amzn-requestid", request_id.encode()),
    ]
    return Rendered(error.status, headers, _encoded(error))


def error_event(error: GatewayError, request_id: str) -> bytes:
    kind = _IN_STREAM.get(error.status, "internalServerException")
    headers = {
        ":exception-type": kind,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return encode(headers, _encoded(error))


def _encoded(error: GatewayError) -> bytes:
    return msgspec.json.encode({"message": error.message})


def ends(rule: str, event: Event) -> bool:
    """Converse: the metadata that come last, or an exception."""
    return event.event in _ENDS


def telling(rule: str | None) -> tuple[bytes, ...]:
    """None: AWS does not send server-sent events, and a look at frames would tell nothing."""
    return ()


def usage(payload: bytes, so_far: Usage | None) -> Usage | None:
    """Converse reports once. InvokeModel: the metrics in the last piece, else the body's usage."""
    if payload.find(b'"usage"') < 0 and payload.find(b'"bytes"') < 0:
        return so_far
    try:
        found = _reported.decode(payload)
        if found.piece is not None and b"invocationMetrics" in found.piece:
            metrics = _last.decode(found.piece).metrics
            return so_far if metrics is None else _measured(metrics)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return so_far
    return so_far if found.usage is None else _counted(found.usage) or so_far


def _counted(counts: _Counts) -> Usage | None:
    return _usage(
        _first(counts.inputTokens, counts.input_tokens),
        _first(counts.outputTokens, counts.output_tokens),
        _first(counts.cacheReadInputTokens, counts.cache_read_input_tokens),
        _first(counts.cacheWriteInputTokens, counts.cache_creation_input_tokens),
    )


def _measured(metrics: _Metrics) -> Usage | None:
    return _usage(
        _first(metrics.inputTokenCount),
        _first(metrics.outputTokenCount),
        _first(metrics.cacheReadInputTokenCount),
        _first(metrics.cacheWriteInputTokenCount),
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None and value >= 0), None)


def _usage(
    fresh: int | None, output: int | None, read: int | None, write: int | None
) -> Usage | None:
    total = None if fresh is None else fresh + (read or 0) + (write or 0)
    found = Usage(input=total, output=output, cache_read=read, cache_write=write)
    return None if found == Usage() else found


def list_models(entries: Sequence[ModelEntry]) -> bytes:
    return msgspec.json.encode({"modelSummaries": [_listed(entry) for entry in entries]})


def one_model(entry: ModelEntry) -> bytes:
    return msgspec.json.encode({"modelDetails": _listed(entry)})


def _listed(entry: ModelEntry) -> dict[str, Any]:
    return {
        "modelArn": f"arn:aws:bedrock:::foundation-model/{entry.id}",
        "modelId": entry.id,
        "modelName": entry.id,
        "providerName": entry.owner,
        "responseStreamingSupported": True,
    }
