"""Heads a client says again and again: read once, then known by their bytes.

Two things may differ, the body's length and the credential; they are cut out, looked at anew each
time and never kept, nor is a head with any other secret. What differs anywhere else, or is not one
whole request, is the parser's.
Used by listener.py.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from gateway.client.head import CREDENTIAL_HEADERS, Head
from gateway.client.hygiene import is_secret
from gateway.credential import stands_in
from gateway.shapes import Headers

if TYPE_CHECKING:
    from gateway.client.turn import Turn

_MOST: Final = 4096  # bytes of a head that is kept
_MOST_KNOWN: Final = 512
_DIGITS: Final = 9  # more of them do not come in one read
_END: Final = b"\r\n"
_LENGTH: Final = b"\r\ncontent-length: "
_CUT: Final = CREDENTIAL_HEADERS | {b"content-length"}


class Familiar:
    """A head without its two variable parts, and what reading it has told.

    `head` has no credentials, `headers` have empty values where the variable parts were.
    """

    __slots__ = ("_layouts", "_length_first", "_parts", "_size", "head", "headers", "turn_of")

    def __init__(
        self, parts: tuple[bytes, bytes, bytes], credential: int, turn: Turn, head: Head
    ) -> None:
        """`credential`: how long it is, negative where the length stands before it."""
        self._parts = parts
        self._length_first = credential < 0
        # By how many digits the length has: where everything stands in a head of that size.
        self._layouts = {n: _layout(parts, credential, n) for n in range(1, _DIGITS + 1)}
        self._size = self._layouts[1].size - 1
        self.head = head
        self.headers: Headers = [(n, b"" if n in _CUT else v) for n, v in turn.headers]
        self.turn_of = turn.method, (turn.path, turn.query, turn.absolute)

    def __repr__(self) -> str:
        return f"<Familiar: {self.turn_of[0]}, {len(self.headers)} headers>"

    def read(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The credential and the body, where `data` is one whole request with this very head.

        The credential is as long as the first one was; what bytes it has was not looked at.
        """
        # Right but for lengths just below a power of ten, which are left to the parser, too.
        layout = self._layouts.get(len(b"%d" % (len(data) - self._size)))
        if layout is None or layout.size > len(data):
            return None
        first, credential, second, length, third = layout.unpack_from(data)
        if (first, second, third) != self._parts:
            return None
        if self._length_first:
            credential, length = length, credential
        body = data[layout.size :]
        return (credential, body) if length == b"%d" % len(body) and body else None


def _layout(parts: tuple[bytes, bytes, bytes], credential: int, digits: int) -> Struct:
    first, second, third = map(len, parts)
    one, other = (credential, digits) if credential > 0 else (digits, -credential)
    return Struct(f"{first}s{one}s{second}s{other}s{third}s")


_known: dict[tuple[tuple[bytes, bytes, bytes], int], Familiar] = {}


def familiar(data: bytes, turn: Turn, head: Head) -> Familiar | None:
    """What to know the head of `data` by when it comes again; takes its credentials out of `head`.

    None where more than the two parts would have to be looked at. `data` begins with the request
    the parser has read as `turn`. Connections share what is the same.
    """
    end = data.find(b"\r\n\r\n") + 4
    if not (4 <= end <= _MOST and _is_plain(turn, head)):
        return None
    said = data[:end]
    length, credential = _length_in(said), _credential_in(said, head.credentials[0])
    if length is None or credential is None:
        return None
    (start, stop), (begin, close) = sorted((length, credential))
    parts = said[:start], said[stop:begin], said[close:]
    if any(map(stands_in, parts)):
        return None
    size = credential[1] - credential[0]
    form = parts, size if credential < length else -size
    found = _known.get(form)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        head.credentials = []
        found = _known[form] = Familiar(*form, turn, head)
    return found if found.read(data) else None


def _is_plain(turn: Turn, head: Head) -> bool:
    plain = turn.version == "1.1" and turn.keep_alive and not turn.upgrade and not head.expects
    counted = head.lengths == 1 and head.encodings == 0
    keyed = len(head.credentials) == 1 and b"key=" not in turn.query
    secrets = any(is_secret(name) for name, _ in turn.headers if name not in CREDENTIAL_HEADERS)
    return plain and counted and keyed and not secrets


def _length_in(said: bytes) -> tuple[int, int] | None:
    """Where the length stands: in the one line of that name."""
    lower = said.lower()
    start = lower.find(_LENGTH) + len(_LENGTH)
    return (start, said.find(_END, start)) if lower.count(_LENGTH) == 1 else None


def _credential_in(said: bytes, value: bytes) -> tuple[int, int] | None:
    """Where the credential stands: once, and behind the name of a header that has credentials."""
    start = said.find(b": %b\r\n" % value) + 2
    if start < 2 or said.count(value) != 1:
        return None
    name = said[said.rfind(_END, 0, start) + 2 : start - 2]
    return (start, start + len(value)) if name.lower() in CREDENTIAL_HEADERS else None
