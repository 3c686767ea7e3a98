"""Requests by the thousand, each with a planned end: answered whole, left by its client, or cut.

A job knows every byte its answer may have. The provider reads its part in the header `x-plan`, the
caller compares; nothing in between is looked at. Run as a program this is a worker that tells its
tasks on SIGUSR1. Used by test_endurance.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import sys
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, cast
from zlib import crc32

from gateway.process.pipe import Boot, Pipe
from gateway.process.server import run
from gateway.process.worker import work

UPSTREAM_KEY = b"sk-endurance-" + b"u" * 32
PATIENCE = 20.0
_TAG = b"########"  # where the number of the request stands in its answer
_LAST_CHUNK = b"0\r\n\r\n"
_NEVER = 1 << 60
_AN_HOUR = 3_600_000  # milliseconds
_LINGER = struct.pack("ii", 1, 0)  # closing sends a RST


def _said(delta: bytes, finish: bytes = b"null") -> bytes:
    return (
        b'data: {"id":"chatcmpl-########","object":"chat.completion.chunk","model":"gpt-4o-mini",'
        b'"choices":[{"index":0,"delta":{%b},"finish_reason":%b}]}\n\n' % (delta, finish)
    )


def _named(name: bytes, more: bytes = b"") -> bytes:
    return b'event: %b\ndata: {"type":"%b"%b}\n\n' % (name, name, more)


_WORD = b',"index":0,"delta":{"type":"text_delta","text":" %d of ########"}'
ANSWERS: dict[str, tuple[bytes, ...]] = {
    "chat": (
        *(_said(b'"content":" %d"' % n) for n in range(8)),
        _said(b"", b'"stop"'),
        b"data: [DONE]\n\n",
    ),
    "messages": (
        _named(b"message_start", b',"message":{"id":"msg_########","usage":{"input_tokens":9}}'),
        _named(b"content_block_start", b',"index":0,"content_block":{"type":"text","text":""}'),
        _named(b"ping"),
        *(_named(b"content_block_delta", _WORD % n) for n in range(5)),
        _named(b"message_delta", b',"delta":{"stop_reason":"end_turn"},"usage":{}'),
        _named(b"message_stop"),
    ),
    "json": (
        b'{"id":"chatcmpl-########","choices":[{"index":0,"message":{"role":"assistant",',
        b'"content":"What was asked in ########"}}],"usage":{"prompt_tokens":4,"total_tokens":9}}',
    ),
    "form": (b'{"text":"What was heard in ########"}',),
}
# Where a caller asks, which model, and the config's name that the gateway takes off it.
_ASKED: dict[str, tuple[bytes, bytes, bytes]] = {
    "chat": (b"/v1/chat/completions", b"gpt-4o-mini", b"openai/"),
    "messages": (b"/v1/messages", b"claude-sonnet-4-5", b"anthropic/"),
    "json": (b"/v1/chat/completions", b"gpt-4o-mini", b"openai/"),
    "form": (b"/v1/audio/transcriptions", b"whisper-1", b"openai/"),
}


class Plan(NamedTuple):
    """What the provider does with one request: answers `wait` ms after its end, a piece every
    `pace` ms, breaks off after `at` bytes. `crc`: of the body it gets. Number 0 may come again."""

    number: int
    kind: str
    wait: int
    pace: int
    framing: str  # chunked, length, close; last: chunked, and the connection is closed behind it
    cut: str  # no, fin, rst
    at: int
    crc: int

    def wire(self) -> list[bytes]:
        """The whole answer in pieces; every third has them cut anywhere."""
        tag, framing = b"%08x" % self.number, self.framing
        parts = [part.replace(_TAG, tag) for part in ANSWERS[self.kind]]
        kind = b"text/event-stream" if self.kind in ("chat", "messages") else b"application/json"
        lines = [b"HTTP/1.1 200 OK", b"content-type: " + kind, b"x-request-id: " + tag]
        if framing in ("close", "last"):
            lines.append(b"connection: close")
        if framing == "length":
            lines.append(b"content-length: %d" % sum(map(len, parts)))
        elif framing != "close":
            lines.append(b"transfer-encoding: chunked")
            parts = [*map(framed, parts[:-1]), framed(parts[-1]) + _LAST_CHUNK]
        parts[0] = b"\r\n".join(lines) + b"\r\n\r\n" + parts[0]
        if self.number % 3:
            return parts
        whole = b"".join(parts)
        size = len(whole) // 10 + 1
        return [whole[at : at + size] for at in range(0, len(whole), size)]

    def before_cut(self) -> bytes:
        """What of the body leaves the provider before it breaks off."""
        part = b"".join(self.wire())[: self.at].partition(b"\r\n\r\n")[2]
        return part if self.framing in ("close", "length") else unframed(part)[0]


def framed(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unframed(data: bytes) -> tuple[bytes, bool]:
    """What a chunked body holds so far, and whether its end is there. ValueError: it is none."""
    parts, at = [], 0
    while (line := data.find(b"\r\n", at)) >= 0:
        size, start = int(data[at:line], 16), line + 2
        parts.append(data[start : start + size])
        at = start + size + 2
        if data[at - 2 : at] not in (b"", b"\r", b"\r\n"):
            raise ValueError("a chunk is longer than it said")
        if size == 0:
            return b"".join(parts), data[at - 2 :] == b"\r\n"
    return b"".join(parts), False


@dataclass(frozen=True, slots=True)
class Leave:
    """When a caller hangs up: `after` seconds from the time it sent so many bytes of its request,
    or when it has seen so many of the answer. With a RST or a FIN."""

    after: float
    reset: bool
    sent: int = _NEVER
    seen: int = _NEVER


@dataclass(frozen=True, slots=True)
class Job:
    """One request, the only body its answer may have, and how it ends."""

    plan: Plan
    request: bytes
    answer: bytes
    leave: Leave | None = None


def plain(key: bytes, body: bytes, kind: str = "json") -> Job:
    """A JSON request that is answered at once, as often as it is sent."""
    received = body.replace(b"openai/", b"", 1)
    plan = Plan(0, kind, 0, 0, "length", "no", _NEVER, crc32(received))
    answer = b"".join(ANSWERS[kind]).replace(_TAG, b"%08x" % 0)
    return Job(plan, request_of(key, plan, body), answer)


def request_of(
    key: bytes, plan: Plan, body: bytes, content_type: bytes = b"application/json", chunks: int = 0
) -> bytes:
    """A request on the wire; with `chunks`, its body comes in about so many and without length."""
    own = b"x-api-key: " if plan.kind == "messages" else b"authorization: Bearer "
    lines = [
        b"POST %b HTTP/1.1" % _ASKED[plan.kind][0],
        b"host: localhost",
        own + key,
        b"content-type: " + content_type,
        b"x-plan: " + " ".join(map(str, plan)).encode(),
    ]
    if chunks:
        size = len(body) // chunks + 1
        parts = [framed(body[at : at + size]) for at in range(0, len(body), size)]
        lines.append(b"transfer-encoding: chunked")
        body = b"".join([*parts, _LAST_CHUNK])
    else:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


@dataclass
class Mix:
    """Makes jobs of every kind; the same seed makes the same ones."""

    chance: Random
    key: bytes
    made: int = 0

    def streams(self, count: int) -> Iterator[Job]:
        """So many streams, 30 % left, 10 % cut; a quarter as many other requests between them."""
        ends = ["left"] * (count * 3 // 10) + ["cut"] * (count // 10)
        ends += ["whole"] * (count - len(ends))
        self.chance.shuffle(ends)
        for number, end in enumerate(ends):
            yield self.job(self.chance.choice(("chat", "chat", "messages")), end)
            if number % 4 == 0:
                other = self.chance.choices(("whole", "left", "cut"), (6, 3, 1))[0]
                yield self.job(self.chance.choice(("json", "form")), other)

    def any(self, count: int, end: str) -> Iterator[Job]:
        """So many requests of every kind that all end alike."""
        for _ in range(count):
            yield self.job(self.chance.choice(("chat", "messages", "json", "form")), end)

    def job(self, kind: str, end: str) -> Job:
        self.made += 1
        number, chance, streams = self.made, self.chance, kind in ("chat", "messages")
        sent, received, content_type = self._body(kind, number)
        framings = ("chunked",) * 8 + ("close", "last") if streams else ("length",)
        wait, pace = chance.choice((0, 0, 1, 5, 20)), chance.choice((0, 1, 2, 5))
        if end == "left" and chance.random() < 0.4:  # a provider that stops for good
            wait, pace = chance.choice(((_AN_HOUR, 0), (0, _AN_HOUR)))
        framing, crc = chance.choice(framings), crc32(received)
        plan = Plan(number, kind, wait, pace, framing, "no", _NEVER, crc)
        if end == "cut":
            whole = b"".join(plan.wire())
            last = whole.rindex(b"\n\n") + 2 if streams else len(whole)
            at = chance.choice((0, *(chance.randrange(last) for _ in range(9))))
            plan = plan._replace(cut=chance.choice(("fin", "rst")), at=at)
        request = request_of(self.key, plan, sent, content_type, chance.choice((0, 0, 0, 3)))
        answer = b"".join(ANSWERS[kind]).replace(_TAG, b"%08x" % number)
        leave = self._leave(plan, len(request), len(answer)) if end == "left" else None
        return Job(plan, request, answer, leave)

    def _body(self, kind: str, number: int) -> tuple[bytes, bytes, bytes]:
        """The body that is sent, the one the provider gets, and its type."""
        _, model, prefix = _ASKED[kind]
        if kind == "form":
            noise = self.chance.randbytes(self.chance.choice((100, 5_000, 70_000, 200_000)))
            body = b'--edge\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b%b\r\n'
            body += b'--edge\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
            body += noise.replace(b"%", b"%%") + b"\r\n--edge--\r\n"
            content_type = b"multipart/form-data; boundary=edge"
        else:
            words = b"a word " * self.chance.choices((10, 300, 15_000), (4, 4, 1))[0]
            streams = b"true" if kind != "json" else b"false"
            body = b'{"model":"%b%b","stream":' + streams + b',"messages":[{"role":"user",'
            body += b'"content":"' + words + b'"}],"max_tokens":9}'
            content_type = b"application/json"
        used = prefix if number % 2 else b""
        return body % (used, model), body % (b"", model), content_type

    def _leave(self, plan: Plan, request: int, answer: int) -> Leave:
        chance, reset = self.chance, self.chance.random() < 0.5
        phase = chance.choice(("sending", "waiting", "midway", "whenever"))
        if phase == "sending":
            return Leave(chance.random() * 0.005, reset, sent=chance.randrange(1, request))
        if phase == "midway":
            patience = 0.06 if _AN_HOUR in (plan.wait, plan.pace) else PATIENCE
            return Leave(patience, reset, seen=chance.randrange(1, 400 + answer))
        most = min(plan.wait / 1000, 0.06) if phase == "waiting" else 0.06
        return Leave(chance.random() * most, reset)


@dataclass
class Book:
    """What both ends have seen: how requests ended, and everything that was not as planned."""

    key: bytes  # the caller's, which no provider may see
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    received: set[int] = field(default_factory=set)
    open: set[Provider] = field(default_factory=set)

    @property
    def busy(self) -> int:
        """Requests under way at the provider."""
        return sum(1 for one in self.open if one.plan is not None)

    def hang_up(self) -> None:
        """The provider closes the connections on which nothing happens."""
        for one in self.open:
            one.transport.close()


class Provider(asyncio.Protocol):
    """One connection to the provider."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.plan: Plan | None = None
        self.rest = bytearray()
        self.left: int | None = None  # bytes of the body still to come; None: it is chunked
        self.crc = 0
        self.pieces: deque[bytes] = deque()
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.loop = asyncio.get_running_loop()
        self.book.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.book.open.discard(self)
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self.plan is None:
            self.rest += data
            end = self.rest.find(b"\r\n\r\n")
            if end < 0:
                return
            data = bytes(self.rest[end + 4 :])
            self._begin(bytes(self.rest[:end]).lower() + b"\r\n")
        self._take(data)

    def _begin(self, head: bytes) -> None:
        words = _value(head, b"x-plan").decode().split()
        plan = Plan(*(int(word) if word.isdigit() else word for word in words))  # type: ignore[arg-type] # as it was spelled
        length = _value(head, b"content-length")
        self.plan, self.crc, self.rest = plan, 0, bytearray()
        self.left = int(length) if length else None
        if self.book.key.lower() in head or UPSTREAM_KEY not in head:
            self.book.wrong.append(f"{plan}: the credential at the provider is not its own")
        if plan.number and plan.number in self.book.received:
            self.book.wrong.append(f"{plan}: came to the provider twice")
        self.book.received.add(plan.number)
        if plan.kind == "form":  # a provider that is slow to take an upload
            self.transport.pause_reading()
            self.loop.call_later(0.002, self.transport.resume_reading)

    def _take(self, data: bytes) -> None:
        if self.left is not None:
            self.left -= len(data)
            self.crc = crc32(data, self.crc)
        else:
            self.rest += data
            if self.rest.endswith(_LAST_CHUNK):
                body, whole = unframed(bytes(self.rest))
                self.left, self.crc = (0, crc32(body)) if whole else (None, 0)
        if self.left is not None and self.left <= 0:
            self._answer()

    def _answer(self) -> None:
        assert self.plan is not None
        if self.left or self.crc != self.plan.crc or self.timer is not None:
            self.book.wrong.append(f"{self.plan}: another body reached the provider")
            self.transport.abort()
            return
        self.rest = bytearray()
        self.pieces = _up_to(self.plan.wire(), self.plan.at)
        self.timer = self.loop.call_later(self.plan.wait / 1000, self._next)

    def _next(self) -> None:
        assert self.plan is not None
        plan = self.plan
        while self.pieces:
            self.transport.write(self.pieces.popleft())
            if plan.pace and self.pieces:
                self.timer = self.loop.call_later(plan.pace / 1000, self._next)
                return
        self.plan = self.timer = None
        if plan.cut != "no":
            hang_up(self.transport, reset=plan.cut == "rst")
        elif plan.framing in ("close", "last"):
            self.transport.close()


def _value(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n%b: " % name)[2].partition(b"\r\n")[0]


def _up_to(pieces: list[bytes], most: int) -> deque[bytes]:
    kept: deque[bytes] = deque()
    for piece in pieces:
        kept.append(piece[:most])
        most -= len(kept[-1])
    return kept


def hang_up(transport: asyncio.Transport, *, reset: bool) -> None:
    if reset:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        transport.abort()
    else:
        transport.close()


async def watched(boot: Boot, pipe: Pipe, sockets: list[socket.socket]) -> None:
    """A worker's life, with a window in it: tests see from outside what tasks there are."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell_tasks)
    await work(boot, pipe, sockets)


def tell_tasks() -> None:
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    os.write(sys.stderr.fileno(), json.dumps(sorted(names)).encode() + b"\n")


if __name__ == "__main__":
    run(watched, sys.argv[1:])
