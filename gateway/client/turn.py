"""One request and its answer on a client's connection.

Gives the request's body as it arrives, frames the answer and writes it; cancels the request's task
when the client leaves or stalls. Never looks into a body. Made by listener.py, used by the steps.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from gateway.client.status import STATUS_LINES
from gateway.errors import ClientGone, GatewayError, SlowClient
from gateway.shapes import Headers
from gateway.wake import Wake

if TYPE_CHECKING:
    from gateway.client.head import Head
    from gateway.client.listener import Listener

_LARGE: Final = 32 * 1024  # bytes that are cheaper to write by themselves than to copy
_BODILESS: Final = frozenset({204, 304})
Framing = Literal["none", "counted", "chunked", "until_close"]


class Turn:
    """`path` and `query` are raw; names of `headers` are in lower case.

    `absolute`: the target is no path. `upgrade`: it asks for another protocol.
    """

    __slots__ = (
        "_framing",
        "_head",
        "_listener",
        "_pieces",
        "_slow",
        "_task",
        "_wake",
        "_watching",
        "absolute",
        "answered",
        "credential",
        "expects",
        "gone",
        "head",
        "headers",
        "keep_alive",
        "length",
        "letter",
        "method",
        "path",
        "query",
        "received",
        "upgrade",
        "version",
        "waiting",
        "whole",
    )

    def __init__(
        self,
        listener: Listener,
        method: str,
        target: tuple[bytes, bytes, bool],
        headers: Headers,
        version: str,
    ) -> None:
        self._listener = listener
        self.method = method
        self.path, self.query, self.absolute = target
        self.headers = headers
        self.version = version
        self.keep_alive = True
        self.upgrade = False
        self.received = 0  # bytes that had come when the head was whole, at least the head's
        self.head: Head | None = None  # read before, where all of it is the same
        self.credential = b""  # the only one, and
        self.length: int | None = None  # the body's, where it is
        self.letter = b""  # the whole request, where the next one's head may be the same
        self.expects = False  # the client waits for "100 Continue" before it sends its body
        self.whole = False  # the body has arrived to its end
        self.waiting = 0  # bytes of it that have arrived and are not taken
        self.answered = False
        self.gone = False
        self._pieces: list[bytes] = []
        self._head = b""
        self._framing: Framing = "none"
        self._wake: Wake | None = None
        self._task: asyncio.Task[None] | None = None
        self._watching = False
        self._slow = False

    # The request's head.

    def recognise(self, head: Head, credential: bytes, body: bytes) -> None:
        """The request is here whole, and its head is known."""
        self.head, self.credential, self.length = head, credential, len(body)
        self._pieces.append(body)
        self.waiting, self.whole = len(body), True

    def make_familiar(self, head: Head) -> None:
        """Its client may send requests: the head is worth knowing when it comes again."""
        letter, self.letter = self.letter, b""
        self._listener.make_familiar(letter, self, head)

    # The request's body.

    async def piece(self) -> bytes:
        """What has arrived of the body and was not taken, at least a byte; b"" at its end.

        A client that leaves or stalls meanwhile cancels the request.
        """
        while not self._pieces and not self.whole:
            await self._arrival()
        return self.take()

    def take(self) -> bytes:
        """The same without waiting: b"" also where nothing is here yet."""
        pieces, self._pieces, self.waiting = self._pieces, [], 0
        # Also at the body's end: a listener that does not read does not see its client leave.
        self._listener.take_more()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def exhausted(self) -> bool:
        """The body has arrived and was taken."""
        return self.whole and not self._pieces

    async def _arrival(self) -> None:
        listener = self._listener
        self._wake = self._wake or Wake(listener.loop)
        if self.gone:
            self.leave()  # the wait below ends at once
        elif self.expects:
            self.expects = False
            listener.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        listener.await_body()
        try:
            await self._wake
        finally:
            listener.deadline = inf

    # The client's presence.

    def watch(self) -> None:
        """From here on the client's leaving cancels the request."""
        self._watching = True
        if self.gone:
            self.leave()

    def unwatch(self) -> None:
        self._watching = False

    def reason(self) -> GatewayError | None:
        """Why the request's task was cancelled, if it was the client's doing."""
        if not (self._slow or self.gone):
            return None
        if self._task is not None:
            self._task.uncancel()
        if self._slow:
            return SlowClient("the request body stopped arriving")
        return ClientGone("the client left before its answer was complete")

    # The answer.

    def start(self, status: int, head: bytes, *, counted: bool) -> None:
        """Begin the answer; it leaves with the first piece. `head`: its lines as on the wire.

        `counted`: they tell the length of what will be written.
        """
        if self.method == "HEAD" or status in _BODILESS:
            self._framing, framing = "none", b""
        elif counted:
            self._framing, framing = "counted", b""
        elif self.version == "1.0":
            self.keep_alive = False
            self._framing, framing = "until_close", b""
        else:
            self._framing, framing = "chunked", b"transfer-encoding: chunked\r\n"
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        self._head = b"%b%b%b%b\r\n" % (STATUS_LINES[status], head, framing, closing)

    async def write(self, piece: bytes, *, more: bool) -> None:
        """Write a piece, the last one unless `more`; waits while the client takes no more."""
        if self._listener.full:
            await self._listener.drained()
        self.put(piece, more=more)

    def full(self) -> bool:
        """The client does not take what is written: `write` would wait."""
        return self._listener.full

    def put(self, piece: bytes, *, more: bool) -> None:
        """Write a piece without waiting; for who knows that the client is not `full`."""
        listener = self._listener
        if self.gone:
            return
        head, self._head = self._head, b""
        if self._framing == "chunked":
            self._put_chunk(head, piece, b"\r\n" if more else b"\r\n0\r\n\r\n")
        elif self._framing == "none":
            listener.write(head)
        elif head and len(piece) > _LARGE:
            listener.write_all((head, piece))
        else:
            listener.write(head + piece if head else piece)
        if not more:
            self.answered = True
            listener.answered(self)

    def relay(self, piece: bytes, chunk: bytes | None) -> bool:
        """`put` of a piece in the middle; False, and nothing is written, where `write` would wait.

        `chunk`: the same as one chunk of the wire, where it came as that.
        """
        listener = self._listener
        if listener.full:
            return False
        if chunk is None or self._framing != "chunked" or self._head or self.gone:
            self.put(piece, more=True)
        else:
            listener.outbox.relay(listener.transport, chunk)
        return True

    def _put_chunk(self, head: bytes, piece: bytes, end: bytes) -> None:
        size = len(piece)
        if size > _LARGE:
            self._listener.write_all((head, b"%x\r\n" % size, piece, end))
        elif size:
            self._listener.write(b"%b%x\r\n%b%b" % (head, size, piece, end))
        else:
            self._listener.write(head + end[2:])

    @property
    def ends_with_connection(self) -> bool:
        """Nothing but the connection's end tells the client that its answer is whole."""
        return self._framing == "until_close"

    # The listener's side.

    def begin(self, task: asyncio.Task[None] | None) -> None:
        self._task = task

    def end(self) -> None:
        """The request has walked through; an answer that is not whole breaks the connection."""
        self._task = None
        self._listener.ended(self)

    def arrive(self, piece: bytes) -> int:
        """A piece of the body is here; how much waits now."""
        self._pieces.append(piece)
        self.waiting += len(piece)
        return self.waiting

    def stir(self) -> None:
        """Something has arrived: whoever waits for it goes on."""
        if self._wake is not None:
            self._wake.up()

    def stall(self) -> None:
        """The body has not gone on for too long."""
        self._slow = True
        self._cancel()

    def lose(self) -> None:
        """The connection is gone."""
        self.gone = True
        waits = self._wake is not None and self._wake.awaited
        if (self._watching or waits) and not self.answered:
            self._cancel()

    def leave(self) -> None:
        self.gone = True
        self._cancel()

    def _cancel(self) -> None:
        # Everything a request waits for ends with its task, the upstream's answer first of all.
        if self._task is not None:
            self._task.cancel()
