"""An upstream that breaks off: never a clean end for the client, never a hang."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass

import pytest

from admin.demo.script import Cut, Framing
from admin.demo.upstream import Script, Upstream
from gateway.upstream.seam import BROKE_OFF
from tests.serve import Answer, RawClient, request_bytes
from tests.world import World, served

# Each stalled stream takes its idle timeout; the other cuts cost a millisecond.
STRIDE = {"stall": 1 if os.environ.get("SOAK") else 7}
SSE = ((b"content-type", b"text/event-stream"),)


@dataclass(frozen=True)
class Case:
    """A stream of one dialect, whole: its last byte completes it."""

    path: str
    dialect: str
    stream: bytes
    body: dict[str, object]

    @property
    def whole_at(self) -> int:
        """Bytes after which it is complete: a CR alone ends a line, its LF adds nothing."""
        return len(self.stream) - self.stream.endswith(b"\r\n")


CHAT = Case(
    "/v1/chat/completions",
    "openai",
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n",
    {"model": "openai/gpt-4o", "stream": True, "messages": []},
)
RESPONSES = Case(
    "/v1/responses",
    "openai",
    b'event: response.created\ndata: {"type":"response.created"}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n',
    {"model": "openai/gpt-4o", "stream": True, "input": "hi"},
)
MESSAGES = Case(
    "/v1/messages",
    "anthropic",
    b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    {"model": "anthropic/claude-sonnet-4-5", "stream": True, "messages": []},
)
GEMINI = Case(
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    "gemini",
    b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}]}}]}\r\n\r\n'
    b'data: {"candidates":[{"content":{"parts":[]},"finishReason":"STOP"}]}\r\n\r\n',
    {"contents": []},
)
CASES = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES, "gemini": GEMINI}
PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}


async def ask(port: int, key: str, case: Case) -> Answer:
    async with RawClient(port, timeout=5) as client:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        body = json.dumps(case.body).encode()
        await client.send(request_bytes("POST", case.path, headers, body))
        return await client.answer("POST")


def world_of(upstream: Upstream, case: Case) -> tuple[World, str]:
    world = World()
    world.config(PROVIDERS[case.dialect], upstream.url, dialect=case.dialect)  # type: ignore[arg-type] # a name of the table
    return world, world.key()


def assert_not_clean(answer: Answer, stream: bytes, offset: int, cut: Cut) -> None:
    """Cut at its first byte it is an error answer, later a broken one; garbage may eat bytes."""
    if answer.status != 200:
        assert (answer.status, offset == 0 or cut == "garbage") in ((502, True), (504, True))
        return
    assert answer.ending in ("cut", "reset"), offset
    assert cut == "garbage" or answer.body.startswith(stream[:offset])


# Garbage in a body that only the connection's end delimits is content, not framing.
ENDINGS = [
    *((framing, cut) for framing in ("chunked", "close") for cut in ("fin", "rst", "stall")),
    ("chunked", "garbage"),
]


@pytest.mark.parametrize(("framing", "cut"), ENDINGS)
@pytest.mark.parametrize("name", CASES)
async def test_stream_never_ends_cleanly_when_cut_before_its_terminal_event(
    name: str, framing: Framing, cut: Cut
) -> None:
    case = CASES[name]
    async with Upstream() as upstream:
        world, key = world_of(upstream, case)
        async with served(world, idle_timeout=0.05) as house:
            for offset in range(0, case.whole_at, STRIDE.get(cut, 1)):
                upstream.respond = lambda _, at=offset: Script(  # type: ignore[misc] # bound now
                    headers=SSE, chunks=[case.stream], framing=framing, cut_at=at, cut=cut
                )
                answer = await ask(house.port, key, case)
                assert_not_clean(answer, case.stream, offset, cut)


@pytest.mark.parametrize("name", CASES)
async def test_a_cut_between_events_is_told_in_the_callers_dialect(name: str) -> None:
    case = CASES[name]
    gap = b"\r\n\r\n" if case.dialect == "gemini" else b"\n\n"
    boundary = case.stream.find(gap) + len(gap)
    async with Upstream() as upstream:
        world, key = world_of(upstream, case)
        upstream.respond = lambda _: Script(
            headers=SSE, chunks=[case.stream], framing="chunked", cut_at=boundary
        )
        async with served(world) as house:
            answer = await ask(house.port, key, case)
    told = answer.body[boundary:]
    assert b"data: " in told
    data = json.loads(told.partition(b"data: ")[2])
    error = data["response"]["error"] if "response" in data else data.get("error", data)
    assert error["message"] == BROKE_OFF


@pytest.mark.parametrize("cut", ["fin", "rst"])
async def test_answer_is_502_when_cut_at_its_first_byte(cut: Cut) -> None:
    async with Upstream() as upstream:
        world, key = world_of(upstream, CHAT)
        upstream.respond = lambda _: Script(
            headers=SSE, chunks=[CHAT.stream], framing="chunked", cut_at=0, cut=cut
        )
        async with served(world) as house:
            answer = await ask(house.port, key, CHAT)
    assert answer.status == 502
    assert json.loads(answer.body)["error"]["code"] == "upstream_incomplete"


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
async def test_stream_ends_cleanly_when_it_is_complete(framing: Framing) -> None:
    async with Upstream() as upstream:
        world, key = world_of(upstream, CHAT)
        upstream.respond = lambda _: Script(headers=SSE, chunks=[CHAT.stream], framing=framing)
        async with served(world) as house:
            answer = await ask(house.port, key, CHAT)
    assert (answer.ending, answer.body) == ("clean", CHAT.stream)


@pytest.mark.parametrize("cut", ["fin", "rst", "stall"])
@pytest.mark.parametrize("name", CASES)
async def test_stream_ends_cleanly_when_the_cut_comes_after_its_terminal_event(
    name: str, cut: Cut
) -> None:
    case = CASES[name]
    async with Upstream() as upstream:
        world, key = world_of(upstream, case)
        upstream.respond = lambda _: Script(
            headers=SSE,
            chunks=[case.stream, b": more\n\n"],
            framing="chunked",
            cut_at=len(case.stream),
            cut=cut,
        )
        async with served(world, idle_timeout=0.05) as house:
            answer = await ask(house.port, key, case)
    assert (answer.ending, answer.body) == ("clean", case.stream)


async def test_json_answer_never_ends_cleanly_when_cut() -> None:
    body = json.dumps({"id": "x", "choices": [{"message": {"content": "hello"}}]}).encode()
    async with Upstream() as upstream:
        world, key = world_of(upstream, CHAT)
        async with served(world, idle_timeout=0.05) as house:
            for cut in ("fin", "rst", "stall"):
                for offset in range(0, len(body), STRIDE.get(cut, 1)):
                    upstream.respond = lambda _, at=offset, how=cut: Script(  # type: ignore[misc] # bound now
                        headers=((b"content-type", b"application/json"),),
                        body=body,
                        cut_at=at,
                        cut=how,
                    )
                    answer = await ask(house.port, key, CHAT)
                    assert answer.status in (502, 504) or answer.ending in ("cut", "reset")


@pytest.mark.parametrize("silent", ["head", "body"])
async def test_answer_is_504_when_the_upstream_stays_silent(silent: str) -> None:
    never = asyncio.Event()
    script = (
        Script(before_head=never)
        if silent == "head"
        else Script(headers=SSE, chunks=[b"x"], framing="chunked", after_head=never)
    )
    async with Upstream(script) as upstream:
        world, key = world_of(upstream, CHAT)
        async with served(world, first_byte_timeout=0.05, idle_timeout=0.05) as house:
            answer = await ask(house.port, key, CHAT)
    assert answer.status == 504
    assert json.loads(answer.body)["error"]["code"] == "upstream_timeout"
