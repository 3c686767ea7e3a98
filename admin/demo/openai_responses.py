"""Demo answers of OpenAI's Responses API: whole, as named events, and the calls on a stored one.

Shapes as OpenAI's API reference has them. Called by `answers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from admin.demo.ask import EPOCH, Ask, example, in_json, in_stream, new_id, packed
from admin.demo.openai_chat import headers
from admin.demo.script import Script

_FIXED: Mapping[str, Any] = {
    "background": False,
    "error": None,
    "incomplete_details": None,
    "max_output_tokens": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}


def create(ask: Ask) -> Script:
    item = _item(ask)
    if ask.stream:
        return in_stream(_events(ask, item), headers())
    return in_json(_response(ask, new_id("resp_"), "completed", [item]), headers=headers())


def stored(ask: Ask) -> Script:
    """A response asked for, or cancelled, by its id."""
    return in_json(_response(ask, ask.parts["id"], "completed", [_item(ask)]), headers=headers())


def deleted(ask: Ask) -> Script:
    gone = {"id": ask.parts["id"], "object": "response", "deleted": True}
    return in_json(gone, headers=headers())


def input_items(ask: Ask) -> Script:
    content = [{"type": "input_text", "text": "hello"}]
    item = {"id": "msg_demo", "type": "message", "role": "user", "content": content}
    page = {"object": "list", "data": [item], "has_more": False}
    ends = {"first_id": item["id"], "last_id": item["id"]}
    return in_json(page | ends, headers=headers())


def compact(ask: Ask) -> Script:
    kind = {"object": "response.compaction", "output": [_item(ask)]}
    made = {"id": new_id("resp_"), "created_at": EPOCH, "usage": _usage(ask)}
    return in_json(made | kind, headers=headers())


def _usage(ask: Ask) -> dict[str, Any]:
    return {
        "input_tokens": ask.tokens_in,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": ask.tokens_out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": ask.tokens_in + ask.tokens_out,
    }


def _response(ask: Ask, name: str, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": name,
        "object": "response",
        "created_at": EPOCH,
        "status": status,
        "model": ask.model or "demo-chat",
        "instructions": ask.body.get("instructions"),
        "output": output,
        "usage": _usage(ask) if status == "completed" else None,
        **_FIXED,
    }


def _item(ask: Ask) -> dict[str, Any]:
    """What the model says: a call of the first function, or the sentence."""
    tool = _wanted_tool(ask)
    if tool:
        call = {"name": tool["name"], "arguments": packed(example(tool.get("parameters"))).decode()}
        ids = {"id": new_id("fc_"), "call_id": new_id("call_")}
        return {"type": "function_call", "status": "completed", **ids, **call}
    return {
        "id": new_id("msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [_part(ask.text)],
    }


def _wanted_tool(ask: Ask) -> Mapping[str, Any] | None:
    tools = [tool for tool in ask.body.get("tools") or [] if tool.get("type") == "function"]
    given = ask.body.get("input")
    answered = isinstance(given, list) and any(
        isinstance(one, dict) and one.get("type") == "function_call_output" for one in given
    )
    return tools[0] if tools and not answered and ask.body.get("tool_choice") != "none" else None


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _events(ask: Ask, item: dict[str, Any]) -> Iterator[bytes]:
    for number, (kind, fields) in enumerate(_happenings(ask, item)):
        event = {"type": kind, "sequence_number": number, **fields}
        yield b"event: " + kind.encode() + b"\ndata: " + packed(event) + b"\n\n"


def _happenings(ask: Ask, item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    name = new_id("resp_")
    begun = _response(ask, name, "in_progress", [])
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    called = item["type"] == "function_call"
    empty: dict[str, Any] = {"arguments": ""} if called else {"content": []}
    opened = item | {"status": "in_progress"} | empty
    yield "response.output_item.added", {"output_index": 0, "item": opened}
    yield from _call_deltas(item) if called else _text_deltas(ask, item)
    yield "response.output_item.done", {"output_index": 0, "item": item}
    yield "response.completed", {"response": _response(ask, name, "completed", [item])}


def _text_deltas(ask: Ask, item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    yield "response.content_part.added", place | {"part": _part("")}
    for word in ask.words:
        yield "response.output_text.delta", place | {"delta": word, "logprobs": []}
    yield "response.output_text.done", place | {"text": ask.text, "logprobs": []}
    yield "response.content_part.done", place | {"part": _part(ask.text)}


def _call_deltas(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    place = {"item_id": item["id"], "output_index": 0}
    text = item["arguments"]
    for at in range(0, len(text), 6):
        delta = {"delta": text[at : at + 6]}
        yield "response.function_call_arguments.delta", place | delta
    done = {"name": item["name"], "arguments": text}
    yield "response.function_call_arguments.done", place | done
