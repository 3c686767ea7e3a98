"""Demo answers in Gemini's shapes: content, streamed both ways, tokens, embeddings, models, errors.

Shapes as Google's API reference has them. Called by `answers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from admin.demo.ask import Ask, example, in_json, in_stream, new_id, packed
from admin.demo.openai_media import vector_of
from admin.demo.script import Pair, Script

MODELS = ("gemini-demo", "gemini-2.5-flash", "gemini-embedding-001")

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_METHODS = ["generateContent", "streamGenerateContent", "countTokens", "embedContent"]


def headers() -> list[Pair]:
    """What Google adds to every answer, and a cookie it would not."""
    return [
        (b"server-timing", b"gfet4t7; dur=12"),
        (b"vary", b"Origin, X-Origin, Referer"),
        (b"set-cookie", b"NID=demo-cookie; path=/; HttpOnly; Secure"),
    ]


def error(status: int, message: str, retry: list[Pair]) -> Script:
    kind = _STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    told = {"code": status, "message": message, "status": kind}
    return in_json({"error": told}, status, [*headers(), *retry])


def generate(ask: Ask) -> Script:
    return in_json(_chunk(ask, _said(ask), new_id(""), "STOP"), headers=headers())


def stream(ask: Ask) -> Script:
    """Server-sent events with CRLF when asked for by alt=sse, else a JSON array in pieces."""
    chunks = [packed(chunk) for chunk in _chunks(ask)]
    if parse_qs(ask.received.query).get("alt") == ["sse"]:
        return in_stream((b"data: " + chunk + b"\r\n\r\n" for chunk in chunks), headers())
    array = [b"[" + chunks[0], *(b"\n,\r\n" + chunk for chunk in chunks[1:]), b"\n]\n"]
    head = [(b"content-type", b"application/json; charset=UTF-8"), *headers()]
    return Script(headers=head, chunks=array, framing="chunked")


def count_tokens(ask: Ask) -> Script:
    details = [{"modality": "TEXT", "tokenCount": ask.tokens_in}]
    counted = {"totalTokens": ask.tokens_in, "promptTokensDetails": details}
    return in_json(counted, headers=headers())


def embed(ask: Ask) -> Script:
    length = int(ask.body.get("outputDimensionality") or 8)
    return in_json({"embedding": {"values": vector_of(length)}}, headers=headers())


def embed_several(ask: Ask) -> Script:
    asked = ask.body.get("requests") or []
    lengths = [int(one.get("outputDimensionality") or 8) for one in asked]
    found = [{"values": vector_of(length)} for length in lengths]
    return in_json({"embeddings": found}, headers=headers())


def models(ask: Ask) -> Script:
    return in_json({"models": [_model(name) for name in MODELS]}, headers=headers())


def model(ask: Ask) -> Script:
    return in_json(_model(ask.model), headers=headers())


def _model(name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name.title(),
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": _METHODS,
    }


def _wanted_tool(ask: Ask) -> Mapping[str, Any] | None:
    declared = [
        function
        for tool in ask.body.get("tools") or []
        for function in tool.get("functionDeclarations") or []
    ]
    last = (ask.body.get("contents") or [{}])[-1]
    answered = any("functionResponse" in part for part in last.get("parts") or [])
    settings = (ask.body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    return declared[0] if declared and not answered and settings.get("mode") != "NONE" else None


def _said(ask: Ask) -> list[dict[str, Any]]:
    tool = _wanted_tool(ask)
    if tool is None:
        return [{"text": ask.text}]
    schema = tool.get("parameters") or tool.get("parametersJsonSchema")
    return [{"functionCall": {"name": tool["name"], "args": example(schema)}}]


def _chunks(ask: Ask) -> Iterator[dict[str, Any]]:
    name = new_id("")
    parts = _said(ask) if _wanted_tool(ask) else [{"text": word} for word in ask.words]
    for part in parts[:-1]:
        yield _chunk(ask, [part], name, None)
    yield _chunk(ask, parts[-1:], name, "STOP")


def _chunk(ask: Ask, parts: list[dict[str, Any]], name: str, finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    used = {
        "promptTokenCount": ask.tokens_in,
        "candidatesTokenCount": ask.tokens_out,
        "totalTokenCount": ask.tokens_in + ask.tokens_out,
    }
    made = {"usageMetadata": used, "modelVersion": ask.model, "responseId": name}
    return {"candidates": [candidate], **made}
