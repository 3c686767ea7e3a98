"""Demo answers in Anthropic's shapes: messages, streamed and whole, token counts, models, errors.

Shapes as Anthropic's API reference has them. Called by `answers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from admin.demo.ask import Ask, example, in_json, in_stream, new_id, packed
from admin.demo.script import Pair, Script

MODELS = ("claude-demo", "claude-sonnet-4-5", "claude-haiku-4-5")

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def headers(request_id: str = "") -> list[Pair]:
    """What api.anthropic.com adds to every answer, cookie and all."""
    return [
        (b"request-id", (request_id or new_id("req_")).encode()),
        (b"anthropic-organization-id", b"org-demo"),
        (b"anthropic-ratelimit-requests-limit", b"50"),
        (b"anthropic-ratelimit-requests-remaining", b"49"),
        (b"anthropic-ratelimit-requests-reset", b"2030-01-01T00:00:00Z"),
        (b"set-cookie", b"_cfuvid=demo-cookie; path=/; HttpOnly; Secure"),
    ]


def error(status: int, message: str, retry: list[Pair]) -> Script:
    request_id = new_id("req_")
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    told = {"type": "error", "error": {"type": kind, "message": message}}
    return in_json(told | {"request_id": request_id}, status, [*headers(request_id), *retry])


def messages(ask: Ask) -> Script:
    tool = _wanted_tool(ask)
    if ask.stream:
        return in_stream(_events(ask, tool), headers())
    block: dict[str, Any] = {"type": "text", "text": ask.text}
    if tool:
        block = _use(tool) | {"input": example(tool.get("input_schema"))}
    whole = _message(ask) | {"content": [block], "stop_reason": _stop_reason(tool)}
    return in_json(whole | {"usage": _usage(ask, ask.tokens_out)}, headers=headers())


def count_tokens(ask: Ask) -> Script:
    return in_json({"input_tokens": ask.tokens_in}, headers=headers())


def models(ask: Ask) -> Script:
    listed = [_model(name) for name in MODELS]
    ends = {"first_id": MODELS[0], "last_id": MODELS[-1], "has_more": False}
    return in_json({"data": listed, **ends}, headers=headers())


def model(ask: Ask) -> Script:
    return in_json(_model(ask.model), headers=headers())


def _model(name: str) -> dict[str, Any]:
    made = {"display_name": name.title(), "created_at": "2025-11-20T00:00:00Z"}
    return {"id": name, "type": "model", **made}


def _wanted_tool(ask: Ask) -> Mapping[str, Any] | None:
    tools: list[Mapping[str, Any]] = [
        tool for tool in ask.body.get("tools") or [] if "input_schema" in tool
    ]
    choice = ask.body.get("tool_choice") or {}
    if not tools or choice.get("type") == "none" or _answered(ask):
        return None
    return next((tool for tool in tools if tool["name"] == choice.get("name")), tools[0])


def _answered(ask: Ask) -> bool:
    last = (ask.body.get("messages") or [{}])[-1].get("content")
    blocks = last if isinstance(last, list) else []
    return any(isinstance(one, dict) and one.get("type") == "tool_result" for one in blocks)


def _stop_reason(tool: Mapping[str, Any] | None) -> str:
    return "tool_use" if tool else "end_turn"


def _use(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": new_id("toolu_"), "name": tool["name"], "input": {}}


def _message(ask: Ask) -> dict[str, Any]:
    made = {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": ask.model}
    return {**made, "content": [], "stop_reason": None, "stop_sequence": None}


def _usage(ask: Ask, out: int) -> dict[str, Any]:
    return {
        "input_tokens": ask.tokens_in,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": out,
        "service_tier": "standard",
    }


def _events(ask: Ask, tool: Mapping[str, Any] | None) -> Iterator[bytes]:
    for event in _happenings(ask, tool):
        yield b"event: " + event["type"].encode() + b"\ndata: " + packed(event) + b"\n\n"


def _happenings(ask: Ask, tool: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": _message(ask) | {"usage": _usage(ask, 1)}}
    block = _use(tool) if tool else {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "ping"}
    for delta in _tool_deltas(tool) if tool else _text_deltas(ask):
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    end = {"stop_reason": _stop_reason(tool), "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": _usage(ask, ask.tokens_out)}
    yield {"type": "message_stop"}


def _text_deltas(ask: Ask) -> Iterator[dict[str, Any]]:
    for word in ask.words:
        yield {"type": "text_delta", "text": word}


def _tool_deltas(tool: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    text = packed(example(tool.get("input_schema"))).decode()
    for at in range(0, len(text), 6):
        yield {"type": "input_json_delta", "partial_json": text[at : at + 6]}
