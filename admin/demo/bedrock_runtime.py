"""Demo answers in Amazon Bedrock's shapes: Converse, InvokeModel as Claude has it, models, errors.

Shapes and frames as AWS's API reference has them; no signature is checked. Called by `answers`.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

from admin.demo import anthropic_messages
from admin.demo.ask import Ask, example, in_json, new_id, packed
from admin.demo.script import Pair, Script

MODELS = ("anthropic.claude-demo-v1:0", "amazon.nova-demo-v1:0")
STREAM = b"application/vnd.amazon.eventstream"

_KINDS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
_COUNTED = b"x-amzn-bedrock-input-token-count", b"x-amzn-bedrock-output-token-count"


def headers(request_id: str = "") -> list[Pair]:
    """What AWS adds to every answer, and a cookie it would not."""
    return [
        (b"x-amzn-requestid", (request_id or new_id("")).encode()),
        (b"set-cookie", b"AWSALB=demo-cookie; path=/; HttpOnly; Secure"),
    ]


def error(status: int, message: str, retry: list[Pair]) -> Script:
    kind = _KINDS.get(status, "InternalServerException" if status >= 500 else _KINDS[400])
    named = (b"x-amzn-errortype", f"{kind}:http://internal.amazon.com/coral/".encode())
    return in_json({"message": message}, status, [*headers(), named, *retry])


def frame(kind: str, event: object, message: str = "event") -> bytes:
    """One event as it stands on the wire; `message` may be `exception`."""
    named = {f":{message}-type": kind, ":content-type": "application/json"}
    heads = b"".join(_header(*pair) for pair in {**named, ":message-type": message}.items())
    payload = packed(event)
    prelude = struct.pack(">II", 16 + len(heads) + len(payload), len(heads))
    whole = prelude + struct.pack(">I", crc32(prelude)) + heads + payload
    return whole + struct.pack(">I", crc32(whole))


def _header(name: str, value: str) -> bytes:
    length = struct.pack(">B", len(name)), struct.pack(">BH", 7, len(value))
    return length[0] + name.encode() + length[1] + value.encode()


def converse(ask: Ask) -> Script:
    tool = _wanted_tool(ask)
    block: dict[str, Any] = {"text": ask.text}
    if tool:
        schema = (tool.get("inputSchema") or {}).get("json")
        block = {"toolUse": {**_use(tool), "input": example(schema)}}
    said = {"message": {"role": "assistant", "content": [block]}}
    whole = {"output": said, "stopReason": _stop_reason(tool), **_totals(ask)}
    return in_json(whole, headers=headers())


def converse_stream(ask: Ask) -> Script:
    return _in_frames(frame(kind, event) for kind, event in _happenings(ask, _wanted_tool(ask)))


def invoke(ask: Ask) -> Script:
    whole = anthropic_messages.messages(ask)
    return replace(whole, headers=[(b"content-type", b"application/json"), *_measured(ask)])


def invoke_stream(ask: Ask) -> Script:
    """Claude's own events, each in a chunk; the last one has the counts."""
    streamed = anthropic_messages.messages(replace(ask, body={**ask.body, "stream": True}))
    events = [json.loads(piece.partition(b"data: ")[2]) for piece in streamed.pieces]
    events[-1]["amazon-bedrock-invocationMetrics"] = {
        "inputTokenCount": ask.tokens_in,
        "outputTokenCount": ask.tokens_out,
        "invocationLatency": 551,
        "firstByteLatency": 120,
    }
    return _in_frames((frame("chunk", _chunk(event)) for event in events), _measured(ask))


def count_tokens(ask: Ask) -> Script:
    return in_json({"inputTokens": ask.tokens_in}, headers=headers())


def models(ask: Ask) -> Script:
    return in_json({"modelSummaries": [_model(name) for name in MODELS]}, headers=headers())


def model(ask: Ask) -> Script:
    return in_json({"modelDetails": _model(ask.model)}, headers=headers())


def _in_frames(frames: Iterable[bytes], more: list[Pair] | None = None) -> Script:
    head = [(b"content-type", STREAM), *(more or headers())]
    return Script(headers=head, chunks=list(frames), framing="chunked")


def _chunk(event: object) -> dict[str, str]:
    return {"bytes": base64.b64encode(packed(event)).decode(), "p": "abcdefgh"}


def _measured(ask: Ask) -> list[Pair]:
    counts = zip(_COUNTED, (ask.tokens_in, ask.tokens_out), strict=True)
    return [*headers(), *((name, b"%d" % count) for name, count in counts)]


def _model(name: str) -> dict[str, Any]:
    return {
        "modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{name}",
        "modelId": name,
        "modelName": name.title(),
        "providerName": name.partition(".")[0].title(),
        "inputModalities": ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "ACTIVE"},
    }


def _wanted_tool(ask: Ask) -> Mapping[str, Any] | None:
    offered = (ask.body.get("toolConfig") or {}).get("tools") or []
    tools = [one["toolSpec"] for one in offered if "toolSpec" in one]
    last = (ask.body.get("messages") or [{}])[-1].get("content") or []
    answered = any("toolResult" in block for block in last)
    return tools[0] if tools and not answered else None


def _use(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"toolUseId": new_id("tooluse_"), "name": tool["name"]}


def _stop_reason(tool: Mapping[str, Any] | None) -> str:
    return "tool_use" if tool else "end_turn"


def _totals(ask: Ask) -> dict[str, Any]:
    used = {"inputTokens": ask.tokens_in, "outputTokens": ask.tokens_out}
    total = {"totalTokens": ask.tokens_in + ask.tokens_out}
    cached = {"cacheReadInputTokens": 0, "cacheWriteInputTokens": 0}
    return {"usage": {**used, **total, **cached}, "metrics": {"latencyMs": 551}}


def _happenings(ask: Ask, tool: Mapping[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "messageStart", {"role": "assistant"}
    if tool:  # text begins with its first delta
        yield "contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": _use(tool)}}
    for delta in _deltas(ask, tool):
        yield "contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}
    yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "messageStop", {"stopReason": _stop_reason(tool)}
    yield "metadata", _totals(ask)


def _deltas(ask: Ask, tool: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if tool is None:
        for word in ask.words:
            yield {"text": word}
        return
    text = packed(example((tool.get("inputSchema") or {}).get("json"))).decode()
    for at in range(0, len(text), 6):
        yield {"toolUse": {"input": text[at : at + 6]}}
