"""An answer on its way in: its head, the pieces of its body that nobody has read yet, its end.

Decides by RFC 9112 how long a body is and what is no answer at all; never touches a socket. Filled
by connection.py, read by stream.py through the seam.
"""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from gateway.errors import UpstreamError
from gateway.shapes import Headers
from gateway.upstream.seam import BROKE_OFF, Taker

if TYPE_CHECKING:
    from gateway.upstream.connection import Connection

Framing = Literal["none", "counted", "until_close"]
_KEEP_ALIVE: Final = re.compile(rb"(?:^|,)\s*timeout\s*=\s*(\d{1,6})\s*(?:,|$)", re.IGNORECASE)
_BODILESS: Final = frozenset({204, 304})


class Stale(UpstreamError):
    """A kept connection died before a byte of an answer: the upstream had given it up."""


class HttpAnswer:
    """Satisfies the seam's Answer. `framing` says how the end of the body is known."""

    __slots__ = (
        "_encoding",
        "_keep_alive",
        "_length",
        "_pieces",
        "begun",
        "complete",
        "connection",
        "ended",
        "error",
        "framing",
        "headers",
        "status",
        "version",
        "waiting",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection | None = connection
        self.status = 0
        self.version = ""
        self.headers: Headers = []
        self.begun = False  # the head of the final answer is here
        self.complete = False
        self.ended = False  # and all of it was read
        self.framing: Framing = "until_close"
        self.error: BaseException | None = None
        self._keep_alive = b""
        self._encoding = b""
        self.waiting = 0  # bytes of pieces that are not read yet
        self._length = b""
        self._pieces: list[bytes] = []

    async def read(self, taker: Taker | None = None) -> bytes:
        while not self._pieces:
            if self.error is not None:
                raise self.error
            if self.complete:
                return b""
            connection = self.connection
            if connection is None:
                raise UpstreamError(BROKE_OFF, code="upstream_incomplete")
            connection.taker = taker
            try:
                await connection.expect_piece()
            finally:
                connection.taker = None
        pieces, self._pieces = self._pieces, []
        self.waiting, self.ended = 0, self.complete
        if self.connection is not None:
            self.connection.relieve()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def lifetime(self) -> float:
        """Seconds the upstream says it keeps the connection; infinity when it says nothing."""
        found = _KEEP_ALIVE.search(self._keep_alive) if self._keep_alive else None
        return float(found[1]) if found else inf

    def abort(self) -> None:
        self._pieces = []
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    # From here on: what the connection tells.

    def begin(self, status: int, method: str, version: str) -> bool:
        """The head is whole. False, and `error`, when it cannot be passed on."""
        self.status, self.version = status, version
        self._weigh()
        wrong = self._wrong()
        if wrong:
            self.error = UpstreamError(wrong)
            return False
        if method == "HEAD" or status in _BODILESS:
            self.framing = "none"
        elif self._encoding or self._length:
            self.framing = "counted"
        self.begun = True
        return True

    def finish(self) -> None:
        """All of it is here."""
        self.complete, self.ended = True, not self._pieces

    def start_over(self) -> None:
        """What was read was an interim answer (1xx): the final one comes behind it."""
        self.headers = []

    def lost(self, *, stale: bool) -> UpstreamError:
        """What to say where the connection ended here; `stale`: it had served before, and no byte
        of this answer came."""
        if self.begun:
            return UpstreamError(BROKE_OFF, code="upstream_incomplete")
        words = "the provider closed the connection before it answered"
        return Stale(words) if stale else UpstreamError(words)

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.waiting += len(piece)

    def gathered(self) -> bytes:
        """All that is not read yet, as one piece."""
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def drop(self) -> None:
        """It has been read, without `read`."""
        self._pieces.clear()
        self.waiting = 0

    def _wrong(self) -> str:
        if self.version not in ("1.1", "1.0") or self.status < 200:
            return "the provider does not answer in HTTP/1.1"
        if self._encoding and (self._length or self._encoding.lower() != b"chunked"):
            return "the provider's answer is framed in a way that is not served"
        return ""

    def _weigh(self) -> None:
        """What the headers say of the body's length and the connection's life."""
        said = dict(self.headers)
        self._length = said.get(b"content-length", b"")
        self._keep_alive = said.get(b"keep-alive", b"")
        self._encoding = said.get(b"transfer-encoding", b"")
        # Two of them are a list of two codings, which is none we serve.
        if self._encoding and len(said) != len(self.headers):
            codings = [value for name, value in self.headers if name == b"transfer-encoding"]
            self._encoding = b",".join(codings)
