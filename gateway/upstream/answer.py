"""An answer on its way in: its head, the pieces of its body that nobody has read yet, its end.

Decides by RFC 9112 how long a body is and what is no answer at all; never touches a socket. Filled
by connection.py, read by stream.py through the seam.
"""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from gateway.errors import UpstreamError
from gateway.upstream.seam import BROKE_OFF, Taker

if TYPE_CHECKING:
    from gateway.upstream.connection import Connection

Framing = Literal["none", "counted", "until_close"]
_LENGTH: Final = b"\r\ncontent-length:"
_ENCODING: Final = b"\r\ntransfer-encoding:"
_KEEP_ALIVE: Final = b"\r\nkeep-alive:"
_TIMEOUT: Final = re.compile(rb"(?:^|,)\s*timeout\s*=\s*(\d{1,6})\s*(?:,|$)")
_BODILESS: Final = frozenset({204, 304})


class Stale(UpstreamError):
    """A kept connection died before a byte of an answer: the upstream had given it up."""


class HttpAnswer:
    """Satisfies the seam's Answer. `framing` says how the end of the body is known."""

    __slots__ = (
        "_lifetime",
        "_pieces",
        "begun",
        "complete",
        "connection",
        "ended",
        "error",
        "fields",
        "framing",
        "status",
        "version",
        "waiting",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection | None = connection
        self.status = 0
        self.version = ""
        self.fields: list[bytes] = []
        self.begun = False  # the head of the final answer is here
        self.complete = False
        self.ended = False  # and all of it was read
        self.framing: Framing = "until_close"
        self.error: BaseException | None = None
        self._lifetime = inf
        self.waiting = 0  # bytes of pieces that are not read yet
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
        return self._lifetime

    def abort(self) -> None:
        self._pieces = []
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    # From here on: what the connection tells.

    def begin(self, status: int, method: str, version: str, head: bytes) -> bool:
        """The head is whole, without the empty line. False, and `error`, when it cannot be passed
        on."""
        self.status, self.version = status, version
        lower = head.lower()
        counted, encoded = lower.find(_LENGTH) >= 0, lower.find(_ENCODING) >= 0
        wrong = self._wrong(lower, counted) if encoded or version != "1.1" or status < 200 else ""
        if wrong:
            self.error = UpstreamError(wrong)
            return False
        self.fields = head.split(b"\r\n")[1:]
        if lower.find(_KEEP_ALIVE) >= 0:
            said = _TIMEOUT.search(_said(lower, _KEEP_ALIVE)[-1])
            self._lifetime = float(said[1]) if said else inf
        if method == "HEAD" or status in _BODILESS:
            self.framing = "none"
        elif encoded or counted:
            self.framing = "counted"
        self.begun = True
        return True

    def finish(self) -> None:
        """All of it is here."""
        self.complete, self.ended = True, not self._pieces

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

    def _wrong(self, lower: bytes, counted: bool) -> str:
        """What is wrong with a head that is not of the usual kind."""
        if self.version not in ("1.1", "1.0") or self.status < 200:
            return "the provider does not answer in HTTP/1.1"
        # Two lines of them are a list of two codings, which is none we serve.
        codings = _said(lower, _ENCODING)
        if codings and (counted or codings != [b"chunked"]):
            return "the provider's answer is framed in a way that is not served"
        return ""


def _said(lower: bytes, name: bytes) -> list[bytes]:
    """The values of all headers of a name in a head, all in lower case; `name` as a line begins."""
    return [part.partition(b"\r\n")[0].strip(b" \t") for part in lower.split(name)[1:]]
