"""Whole chunks of a chunked body, known at sight by the length of what came.

Only the plainest spelling is known here (no extension, no zeros in front, lower case); everything
else, a cut chunk and the last one among them, is the parser's. Pure. Used by connection.py.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

_END: Final = b"\r\n"
_MOST: Final = 4096  # bytes of a payload: an event is smaller, and larger ones hide the saving
_Unpack = Callable[[bytes], tuple[bytes, ...]]


# By the length of a whole chunk, once one has come: how to cut it into size, payload and line end,
# and its size as it is spelled. Compared that way it costs less than two calls with arguments.
_cuts: Final[dict[int, tuple[_Unpack, bytes]]] = {}


def payload(data: bytes) -> bytes | None:
    """The payload of `data` where that is one whole chunk and nothing else."""
    cut = _cuts.get(len(data)) or _cut(len(data))
    if cut is not None:
        unpack, head = cut
        size, piece, end = unpack(data)
        if size == head and end == _END:
            return piece
    return None


def _cut(length: int) -> tuple[_Unpack, bytes] | None:
    """None for a length that no chunk has which is known here."""
    for digits in range(1, len(b"%x" % _MOST) + 1):
        size = length - digits - 2 * len(_END)
        head = b"%x\r\n" % size if 0 < size <= _MOST else b""
        if len(head) == digits + len(_END):
            layout = Struct(f"{len(head)}s{size}s{len(_END)}s")
            return _cuts.setdefault(length, (layout.unpack, head))
    return None
