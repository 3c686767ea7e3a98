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
from gateway.upstream.seam import BROKE_OFF

if TYPE_CHECKING:
    from gateway.upstream.connection import Connection

Framing = Literal["none", "counted", "until_close"]
# Names whose values say how long the body is, or how long the connection lives.
WEIGHTY: Final = frozenset({b"content-length", b"transfer-encoding", b"keep-alive"})
_KEEP_ALIVE: Final = re.compile(rb"(?:^|,)\s*timeout\s*=\s*(\d{1,6})\s*(?:,|$)", re.IGNORECASE)
_BODILESS: Final = frozenset({204, 304})


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
        self.framing: Framing = "until_close"
        self.error: BaseException | None = None
        self._keep_alive = b""
        self._encoding = b""
        self.waiting = 0  # bytes of pieces that are not read yet
        self._length = b""
        self._pieces: list[bytes] = []

    async def read(self) -> bytes:
        while not self._pieces:
            if self.error is not None:
                raise self.error
            if self.complete:
                return b""
            if self.connection is None:
                raise UpstreamError(BROKE_OFF, code="upstream_incomplete")
            await self.connection.expect_piece()
        pieces, self._pieces = self._pieces, []
        self.waiting = 0
        if self.connection is not None:
            self.connection.relieve()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def ended(self) -> bool:
        return self.complete and not self._pieces

    @property
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

    def start_over(self) -> None:
        """What was read was an interim answer (1xx): the final one comes behind it."""
        self.headers, self._encoding, self._length, self._keep_alive = [], b"", b"", b""

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.waiting += len(piece)

    def _wrong(self) -> str:
        if self.version not in ("1.1", "1.0") or self.status < 200:
            return "the provider does not answer in HTTP/1.1"
        if self._encoding and (self._length or self._encoding.lower() != b"chunked"):
            return "the provider's answer is framed in a way that is not served"
        return ""

    def weigh(self, name: bytes, value: bytes) -> None:
        """A header that says how long the body is, or how long the connection lives."""
        if name == b"keep-alive":
            self._keep_alive = value
        elif name == b"content-length":
            self._length = value
        else:
            # Two of them are a list of two codings, which is none we serve.
            self._encoding = value if not self._encoding else b"several"
