"""The seam to the upstream: what is sent, what comes back, and what every engine promises.

No engine follows redirects, uses proxies of the environment, keeps cookies or skips verifying TLS;
all check the address they connect to. No I/O here. Used by inject.py, forward.py and stream.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gateway.shapes import Headers, Standing

# Takes a piece of a body in the call that received it, or says False and has not touched it. With
# it come the piece as one chunk of the wire (size, payload, line end), where it came as that, and
# the loop's time.
Taker = Callable[[bytes, bytes | None, float], bool]
_NO_MORE = Standing([])
BROKE_OFF = "the provider's answer broke off before it was complete"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, until the answer's head, between two pieces of the answer, and until
    the upstream takes what is written."""

    connect: float = 10.0
    first_byte: float = 600.0
    idle: float = 300.0
    write: float = 60.0


@dataclass(frozen=True, slots=True)
class Pooling:
    """Connections to one origin: `most` open at a time (0: no limit; who finds none free waits in
    line), and seconds an `idle` one is kept: below common upstream keep-alive times, so that few
    are reused too late."""

    most: int = 0
    idle: float = 15.0


class Outbound(msgspec.Struct):
    """A request ready to go. `target` is the raw path with its query; `body` is sent as it is.

    Names of headers are in lower case. A content-length among `headers` says how long an iterator
    is, which is sent chunked without one; for bytes the engine knows it. `standing` are sent, too.
    """

    method: str
    origin: str
    target: bytes
    headers: Headers
    body: bytes | AsyncIterator[bytes] | None
    standing: Standing = _NO_MORE

    def all_headers(self) -> Headers:
        """What is sent, whichever way it is kept."""
        return self.standing.headers + self.headers


class Answer(Protocol):
    """An upstream's answer, its body still to be read.

    `fields` are the lines of its headers as they came, without line ends: a name, a colon, and a
    value with or without white space around it.
    """

    status: int
    fields: list[bytes]

    async def read(self, taker: Taker | None = None) -> bytes:
        """The next piece of the body, b"" at its end. Raises UpstreamError, UpstreamTimeout.

        Pieces that come while this waits are offered to `taker`: it goes on waiting behind those
        that were taken. An engine may also offer none. What `taker` raises is raised here.
        """

    @property
    def ended(self) -> bool:
        """True when nothing more will come; known as soon as `read` has given the last piece."""

    def abort(self) -> None:
        """Close the connection unless the body has been read to its end. Never raises."""


def headers_of(answer: Answer) -> Headers:
    """The answer's headers apart, names in lower case."""
    cut = (line.partition(b":") for line in answer.fields)
    return [(name.lower(), value.strip(b" \t")) for name, _, value in cut]


class Engine(Protocol):
    """Sends one request. Raises UpstreamError (no answer), UpstreamTimeout; its `sent` is False
    when nothing of the request has left."""

    async def send(self, outbound: Outbound) -> Answer: ...

    async def aclose(self) -> None: ...
