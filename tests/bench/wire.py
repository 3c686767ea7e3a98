"""The bytes on the wire and the provider at the end of it: one answer, prepared once, sent often.

Nothing is parsed that need not be: requests and answers end in marks of ours. Used by the load
and by the peers. A request without the right key is refused, so a peer that does no work scores 0.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

MODEL = "gpt-4o-mini"
UPSTREAM_KEY = "sk-bench-" + "u" * 39
MARK = b'"bench-end"}'
CHUNKED_END = b"\r\n0\r\n\r\n"
ENDS = (MARK, MARK + CHUNKED_END)
DONE = b"data: [DONE]"
_PROMPT = "A question of about the size people ask. " * 45  # makes the body 2 KB


def frame(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def request(key: str, *, stream: bool) -> bytes:
    """A whole chat request as an SDK sends it, with `key` as the caller's credential."""
    body = (
        b'{"model":"%b","stream":%b,"messages":[{"role":"user","content":"%b"}],"user":"bench-end"}'
        % (MODEL.encode(), b"true" if stream else b"false", _PROMPT.encode())
    )
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\naccept: */*\r\n"
        b"user-agent: bench\r\ncontent-length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
    )


def _event(delta: bytes, finish: bytes) -> bytes:
    return (
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
        b'"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_bench","choices":'
        b'[{"index":0,"delta":{%b},"logprobs":null,"finish_reason":%b}]}\n\n' % (delta, finish)
    )


CHUNK = frame(_event(b'"content":" word"', b"null"))
LAST = frame(_event(b"", b'"stop"')) + frame(DONE + b"\n\n") + b"0\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
_ANSWER = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,'
    b'"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hello, and good to see you here. How can I help you today?","refusal":null},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":400,'
    b'"completion_tokens":16,"total_tokens":416},"system_fingerprint":"bench-end"}'
)
JSON_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
)
_REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 11\r\n\r\n" + MARK[1:]


@dataclass
class Plan:
    """What the provider does now, and what it has seen so far. Pauses are in seconds."""

    stream: bool = False
    chunks: int = 0  # after the first one
    pause: float = 0.0
    hold: bool = False  # a stream stays open and silent after its first chunk
    client_key: bytes = b"\0"
    open: set[Upstream] = field(default_factory=set)
    sent: int = 0  # events of paced streams
    refused: int = 0
    leaked: int = 0


class Upstream(asyncio.Protocol):
    """One connection to the provider."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.key = UPSTREAM_KEY.encode()
        self.rest = b""
        self.left = 0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.loop = asyncio.get_running_loop()
        self.plan.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.plan.open.discard(self)
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        if not data.endswith(ENDS):
            self.rest = data
            return
        self.rest = b""
        plan = self.plan
        if plan.client_key in data:
            plan.leaked += 1
        if self.key not in data:
            plan.refused += 1
            self.transport.write(_REFUSED)
        elif plan.stream:
            self._begin(plan)
        else:
            self.transport.write(JSON_ANSWER)

    def _begin(self, plan: Plan) -> None:
        if not plan.pause and not plan.hold:
            self.transport.write(STREAM_HEAD + CHUNK * (plan.chunks + 1) + LAST)
            return
        self.left = plan.chunks
        if plan.hold:
            self.transport.write(STREAM_HEAD + CHUNK)
        else:
            self.transport.write(STREAM_HEAD + CHUNK)
            self.timer = self.loop.call_later(plan.pause, self._next, plan.pause)

    def _next(self, pause: float) -> None:
        if not self.left:
            self.transport.write(LAST)
            return
        self.left -= 1
        self.plan.sent += 1
        self.transport.write(CHUNK)
        self.timer = self.loop.call_later(pause, self._next, pause)
