"""Whole chunks of a chunked body, known at sight by the length of what came.

Only the plainest spelling is known here (no extension, no zeros in front, lower case); everything
else, a cut chunk and the last one among them, is the parser's. Pure. Used by connection.py.
"""

from __future__ import annotations

from typing import Final

_END: Final = b"\r\n"
_MOST: Final = 4096  # bytes of a payload: an event is smaller, and larger ones hide the saving


def _sizes() -> list[bytes]:
    found = [b""] * (len(b"%x" % _MOST) + _MOST + 5)
    for size in range(1, _MOST + 1):
        head = b"%x\r\n" % size
        found[len(head) + size + len(_END)] = head
    return found


# At the length of a whole chunk stands the size it begins with; no chunk has some of the lengths.
_SIZES: Final = _sizes()


def payload(data: bytes) -> bytes | None:
    """The payload of `data` where that is one whole chunk and nothing else."""
    length = len(data)
    if length < len(_SIZES):
        head = _SIZES[length]
        if head and data.startswith(head) and data.endswith(_END):
            return data[len(head) : -2]
    return None
