"""Demo answers in OpenAI's shapes: chat, legacy completions, models, and the errors.

Shapes as OpenAI's API reference has them. Called by `answers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from admin.demo.ask import EPOCH, Ask, example, in_json, in_stream, new_id, packed
from admin.demo.script import Pair, Script

MODELS = ("demo-chat", "gpt-4o-mini", "gpt-5.1", "text-embedding-3-small")

_DONE = b"data: [DONE]\n\n"
_KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def headers() -> list[Pair]:
    """What api.openai.com adds to every answer, cookie and all."""
    return [
        (b"x-request-id", new_id("req_").encode()),
        (b"openai-processing-ms", b"12"),
        (b"openai-version", b"2020-10-01"),
        (b"x-ratelimit-limit-requests", b"10000"),
        (b"x-ratelimit-remaining-requests", b"9999"),
        (b"x-ratelimit-reset-requests", b"6ms"),
        (b"x-ratelimit-limit-tokens", b"200000"),
        (b"x-ratelimit-remaining-tokens", b"199900"),
        (b"x-ratelimit-reset-tokens", b"30ms"),
        (b"set-cookie", b"__cf_bm=demo-cookie; path=/; HttpOnly; Secure"),
    ]


def error(status: int, message: str, retry: list[Pair]) -> Script:
    default = ("server_error", None) if status >= 500 else ("invalid_request_error", None)
    kind, code = _KINDS.get(status, default)
    told = {"message": message, "type": kind, "param": None, "code": code}
    return in_json({"error": told}, status, [*headers(), *retry])


def usage(ask: Ask) -> dict[str, Any]:
    return {
        "prompt_tokens": ask.tokens_in,
        "completion_tokens": ask.tokens_out,
        "total_tokens": ask.tokens_in + ask.tokens_out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def wanted_tool(ask: Ask) -> Mapping[str, Any] | None:
    """The function to call: the first, or the one the client insists on. None once its result
    is there, or when the client wants none.
    """
    messages, choice = ask.body.get("messages") or [{}], ask.body.get("tool_choice")
    tools: list[Mapping[str, Any]] = [
        tool["function"] for tool in ask.body.get("tools") or [] if "function" in tool
    ]
    if not tools or choice == "none" or messages[-1].get("role") == "tool":
        return None
    name = choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else None
    return next((tool for tool in tools if tool["name"] == name), tools[0])


def chat(ask: Ask) -> Script:
    if ask.stream:
        return in_stream(_chat_events(ask), headers())
    tool = wanted_tool(ask)
    message: dict[str, Any] = {"role": "assistant", "content": ask.text, "refusal": None}
    if tool:
        message |= {"content": None, "tool_calls": [_call(tool)]}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "tool_calls" if tool else "stop",
    }
    whole = _envelope(ask, "chatcmpl-", "chat.completion")
    return in_json(whole | {"choices": [choice], "usage": usage(ask)}, headers=headers())


def _envelope(ask: Ask, prefix: str, kind: str) -> dict[str, Any]:
    return {
        "id": new_id(prefix),
        "object": kind,
        "created": EPOCH,
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_demo",
    }


def _arguments(tool: Mapping[str, Any]) -> str:
    return packed(example(tool.get("parameters") or {})).decode()


def _call(tool: Mapping[str, Any]) -> dict[str, Any]:
    called = {"name": tool["name"], "arguments": _arguments(tool)}
    return {"id": new_id("call_"), "type": "function", "function": called}


def _chat_events(ask: Ask) -> Iterator[bytes]:
    envelope = _envelope(ask, "chatcmpl-", "chat.completion.chunk")
    counted = (ask.body.get("stream_options") or {}).get("include_usage") is True
    # With include_usage every chunk before the last carries a null.
    silent = {"usage": None} if counted else {}
    tool = wanted_tool(ask)
    for delta in _tool_deltas(tool) if tool else _text_deltas(ask):
        yield _event(envelope | {"choices": [_choice(delta)]} | silent)
    end = _choice({}, "tool_calls" if tool else "stop")
    yield _event(envelope | {"choices": [end]} | silent)
    if counted:
        yield _event(envelope | {"choices": [], "usage": usage(ask)})
    yield _DONE


def _event(value: object) -> bytes:
    return b"data: " + packed(value) + b"\n\n"


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _text_deltas(ask: Ask) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "", "refusal": None}
    for word in ask.words:
        yield {"content": word}


def _tool_deltas(tool: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    call = _call(tool)
    opened = call["function"] | {"arguments": ""}
    first = {"index": 0, **call, "function": opened}
    yield {"role": "assistant", "content": None, "tool_calls": [first], "refusal": None}
    text = call["function"]["arguments"]
    for at in range(0, len(text), 6):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": text[at : at + 6]}}]}


def completions(ask: Ask) -> Script:
    envelope = _envelope(ask, "cmpl-", "text_completion")
    if ask.stream:
        return in_stream(_completion_events(ask, envelope), headers())
    choice = {"index": 0, "text": ask.text, "logprobs": None, "finish_reason": "stop"}
    return in_json(envelope | {"choices": [choice], "usage": usage(ask)}, headers=headers())


def _completion_events(ask: Ask, envelope: dict[str, Any]) -> Iterator[bytes]:
    for word in ask.words:
        choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": None}
        yield _event(envelope | {"choices": [choice]})
    end = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
    yield _event(envelope | {"choices": [end]})
    if (ask.body.get("stream_options") or {}).get("include_usage") is True:
        yield _event(envelope | {"choices": [], "usage": usage(ask)})
    yield _DONE


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": EPOCH, "owned_by": "demo"}


def models(ask: Ask) -> Script:
    return in_json({"object": "list", "data": [_model(m) for m in MODELS]}, headers=headers())


def model(ask: Ask) -> Script:
    return in_json(_model(ask.model), headers=headers())
