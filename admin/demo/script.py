"""What the demo upstream received, what it is to answer, and the steps that spell an answer out.

No sockets here, and no provider's shapes. Called by `upstream`, which performs the steps.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

Pair = tuple[bytes, bytes]
Framing = Literal["length", "chunked", "close", "none"]
Cut = Literal["fin", "rst", "stall", "garbage"]
End = Literal["keep", "fin", "rst", "stall"]
Step = bytes | float | asyncio.Event | End

GARBAGE = b"\x00\xff\xfe this is not HTTP \r\n\r\n"


@dataclass(eq=False, repr=False)
class Received:
    """One request as the upstream read it; `body` grows while the upload is under way.

    `finished`: the whole body is here. `done`: the exchange is over, answered or not (`answered`
    tells). `closed`: the connection is gone; `closed_at` is the loop time of that moment.
    """

    method: str
    target: bytes
    headers: list[Pair]
    connection: int
    arrived_at: float = 0.0
    keep_alive: bool = True
    trailers: list[Pair] = field(default_factory=list)
    script: Script | None = None
    answered: bool = False
    closed_at: float | None = None
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    data: bytearray = field(default_factory=bytearray)

    def __repr__(self) -> str:
        state = "answered" if self.answered else "done" if self.done.is_set() else "open"
        target = self.target.decode("latin-1")
        return f"<Received {self.method} {target} #{self.connection} {len(self.data)} B {state}>"

    @property
    def body(self) -> bytes:
        return bytes(self.data)

    @property
    def complete(self) -> bool:
        return self.finished.is_set()

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    @property
    def query(self) -> str:
        return self.target.partition(b"?")[2].decode("latin-1")

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a header, in order; the name in any case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, or None."""
        return next(iter(self.values(name)), None)

    def json(self) -> Any:
        """The body as JSON; ValueError when it is none."""
        return json.loads(self.data)


@dataclass(kw_only=True)
class Script:
    """What to answer, and how to go wrong. Times in seconds, offsets in bytes.

    `body` is one chunk, `chunks` several; `delay` stands between chunks, `gates[i]` must be set
    before chunk i is sent, `before_head` before the head and `after_head` before the first chunk.
    `cut_at` counts body bytes without framing, `cut_wire_at` counts every byte from the status
    line on; at that offset the answer ends as `cut` says. `raw` is sent exactly as it is and the
    connection closed. `read_body=False` answers once the head is read; `read_gate` leaves the
    request body unread in the socket until it is set (a peer's close is then seen only later).
    A Content-Length or Transfer-Encoding among `headers` is sent instead of ours.
    """

    status: int = 200
    headers: Sequence[Pair] = ()
    body: bytes = b""
    chunks: Sequence[bytes] | None = None
    framing: Framing = "length"
    delay: float = 0.0
    head_delay: float = 0.0
    body_delay: float = 0.0
    before_head: asyncio.Event | None = None
    after_head: asyncio.Event | None = None
    gates: Sequence[asyncio.Event | None] = ()
    cut_at: int | None = None
    cut_wire_at: int | None = None
    cut: Cut = "fin"
    read_body: bool = True
    read_gate: asyncio.Event | None = None
    raw: bytes | None = None

    @property
    def pieces(self) -> list[bytes]:
        """The chunks to send; an empty one would end a chunked body, so there is none."""
        return [c for c in (self.chunks if self.chunks is not None else (self.body,)) if c]

    @property
    def payload(self) -> bytes:
        """The whole body as meant, without framing and cuts."""
        return b"".join(self.pieces)


def steps(script: Script, method: str = "GET") -> Iterator[Step]:
    """Spell the answer out: bytes to send, seconds or events to wait for, at last how it ends."""
    if script.cut_wire_at is None:
        yield from _whole(script, method)
        return
    left = script.cut_wire_at
    for step in _whole(script, method):
        if not isinstance(step, bytes):
            yield step
        elif len(step) < left:
            left -= len(step)
            yield step
        else:
            yield step[:left]
            yield from _end_of_cut(script.cut)
            return


def _whole(script: Script, method: str) -> Iterator[Step]:
    if script.head_delay:
        yield script.head_delay
    if script.before_head:
        yield script.before_head
    if script.raw is not None:
        yield script.raw
        yield "fin"
        return
    yield _head(script)
    if script.body_delay:
        yield script.body_delay
    if script.after_head:
        yield script.after_head
    if method == "HEAD" or script.framing == "none":
        yield "keep"
        return
    yield from _body(script)


def _head(script: Script) -> bytes:
    try:
        reason = HTTPStatus(script.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {script.status} {reason}".encode()]
    lines += [name + b": " + value for name, value in script.headers]
    names = {name.lower() for name, _ in script.headers}
    if not names & {b"content-length", b"transfer-encoding"}:
        lines += _framing_lines(script)
    return b"\r\n".join([*lines, b"", b""])


def _framing_lines(script: Script) -> list[bytes]:
    if script.framing == "length":
        return [b"content-length: %d" % len(script.payload)]
    if script.framing == "chunked":
        return [b"transfer-encoding: chunked"]
    return [b"connection: close"] if script.framing == "close" else []


def _body(script: Script) -> Iterator[Step]:
    sent = 0
    for index, chunk in enumerate(script.pieces):
        if script.cut_at is not None and script.cut_at <= sent:
            break
        yield from _waits(script, index)
        if script.cut_at is not None and script.cut_at < sent + len(chunk):
            yield _part(script, chunk, script.cut_at - sent)
            break
        yield _framed(script, chunk)
        sent += len(chunk)
    if script.cut_at is not None:
        yield from _end_of_cut(script.cut)
        return
    if script.framing == "chunked":
        yield b"0\r\n\r\n"
    yield "fin" if script.framing == "close" else "keep"


def _waits(script: Script, index: int) -> Iterator[Step]:
    if index and script.delay:
        yield script.delay
    gate = script.gates[index] if index < len(script.gates) else None
    if gate:
        yield gate


def _framed(script: Script, chunk: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(chunk), chunk) if script.framing == "chunked" else chunk


def _part(script: Script, chunk: bytes, length: int) -> bytes:
    """The first bytes of a chunk. Its size line promises all of it, so that the cut is a cut;
    before garbage it is a chunk of its own, so that the garbage stands where a size belongs.
    """
    if script.framing != "chunked":
        return chunk[:length]
    if script.cut == "garbage":
        return _framed(script, chunk[:length])
    return b"%x\r\n%b" % (len(chunk), chunk[:length])


def _end_of_cut(cut: Cut) -> Iterator[Step]:
    if cut == "garbage":
        yield GARBAGE
        yield "fin"
    else:
        yield cut
