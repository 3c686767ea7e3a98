"""Mends the head of an answer that has control characters in a header's value.

Some upstreams make that mistake, and it hides nothing: each becomes a space (RFC 9110, 5.5). What
could hide something (NUL, line ends, names, what frames the body) is left for the strict parser to
refuse. Pure. Used by connection.py, after the parser has refused a head.
"""

from __future__ import annotations

from typing import Final

_CONTROL: Final = (*range(1, 9), 11, 12, *range(14, 32), 127)
_AS_SPACES: Final = bytes(32 if byte in _CONTROL else byte for byte in range(256))
_FRAMING: Final = (b"content-length", b"transfer-encoding", b"connection")


def mended(data: bytes) -> bytes | None:
    """An answer's first bytes, its head mended; None where it is not whole, final, or mendable."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or data.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
        return None
    first, *lines = data[:end].split(b"\r\n")
    clean = [line.translate(_AS_SPACES) for line in lines]
    touched = [line for line, other in zip(lines, clean, strict=True) if line != other]
    if not touched or any(line.lower().startswith(_FRAMING) for line in touched):
        return None
    return b"\r\n".join([first, *clean]) + data[end:]


def head_size(data: bytes) -> int:
    """Bytes of the head that `data` begins with, interim ones before it included."""
    at = 0
    while data.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1"), at):
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            return len(data)
        at = end + 4
    end = data.find(b"\r\n\r\n", at)
    return len(data) if end < 0 else end + 4
