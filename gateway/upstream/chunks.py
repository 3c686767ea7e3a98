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


def _sizes() -> list[bytes]:
    found = [b""] * (len(b"%x" % _MOST) + _MOST + 5)
    for size in range(1, _MOST + 1):
        head = b"%x\r\n" % size
        found[len(head) + size + len(_END)] = head
    return found


# At the length of a whole chunk stands the size it begins with; no chunk has some of the lengths.
_SIZES: Final = _sizes()
# How to cut one of that length into size, payload and line end, once one has come: three compared
# that way cost less than two calls with arguments.
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
    head = _SIZES[length] if length < len(_SIZES) else b""
    if not head:
        return None
    layout = Struct(f"{len(head)}s{length - len(head) - len(_END)}s{len(_END)}s")
    return _cuts.setdefault(length, (layout.unpack, head))
