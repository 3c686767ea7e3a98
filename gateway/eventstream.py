"""AWS's event stream: whole frames out of bytes, however they are split, and one frame into bytes.

Sans-I/O, as sse.py is: never changes what passes through. A frame is its length, its headers and
its payload, each with a checksum; bytes that are no frame make a stream that never ends well. Read
by tap.py, written by the bedrock dialect.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final
from zlib import crc32

from gateway.sse import Event

EXCEPTION: Final = b":exception"  # the name of what says that something went wrong
LIMIT: Final = 24 * 1024 * 1024  # bytes of a frame; AWS's own clients take no longer ones
_PRELUDE: Final = struct.Struct(">III")  # length of the frame, length of its headers, checksum
_CHECKSUM: Final = struct.Struct(">I")
_LEAST: Final = _PRELUDE.size + _CHECKSUM.size
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # by a header's type
_COUNTED: Final = (6, 7)  # bytes and text: their length comes first
_TEXT: Final = 7


class Reader:
    """Feed it chunks; it gives back the frames that became whole, as events.

    An event has its `:event-type` as name; exceptions and errors are called EXCEPTION.
    """

    __slots__ = ("_held", "_lost")

    between = False  # what a frame ends with does not say so

    def __init__(self) -> None:
        self._held = bytearray()
        self._lost = False

    @property
    def partial(self) -> bool:
        """True while a frame is begun and not ended, and for good after bytes that are none."""
        return self._lost or bool(self._held)

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes of the stream, however they are split."""
        if self._lost:
            return []
        self._held += chunk
        events: list[Event] = []
        try:
            for frame in self._frames():
                events.append(_event(frame))
        except (ValueError, IndexError, struct.error):
            self._lost = True
            self._held.clear()
        return events

    def _frames(self) -> Iterator[bytes]:
        held = self._held
        while len(held) >= _PRELUDE.size:
            length, heads, checksum = _PRELUDE.unpack_from(held)
            if crc32(held[:8]) != checksum or not heads + _LEAST <= length <= LIMIT:
                raise ValueError("not a frame")
            if len(held) < length:
                break
            frame = bytes(held[:length])
            del held[:length]
            if crc32(frame[:-4]) != _CHECKSUM.unpack_from(frame, length - 4)[0]:
                raise ValueError("a frame with edited bytes")
            yield frame


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame with these headers, all of them text."""
    heads = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    length = len(heads) + len(payload) + _LEAST
    prelude = struct.pack(">II", length, len(heads))
    frame = prelude + _CHECKSUM.pack(crc32(prelude)) + heads + payload
    return frame + _CHECKSUM.pack(crc32(frame))


def _header(name: bytes, value: bytes) -> bytes:
    return struct.pack(">B", len(name)) + name + struct.pack(">BH", _TEXT, len(value)) + value


def _event(frame: bytes) -> Event:
    end = _PRELUDE.size + _PRELUDE.unpack_from(frame)[1]
    headers = dict(_headers(frame, _PRELUDE.size, end))
    kind = headers.get(b":message-type")
    name = headers.get(b":event-type", b"") if kind == b"event" else EXCEPTION
    return Event(name, frame[end:-4])


def _headers(frame: bytes, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while at < end:
        name = frame[at + 1 : at + 1 + frame[at]]
        at += 1 + len(name)
        kind, at = frame[at], at + 1
        if kind in _COUNTED:
            size, at = int.from_bytes(frame[at : at + 2], "big"), at + 2
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError("a header of no known type")
        yield name, frame[at : at + size]
        at += size
    if at != end:
        raise ValueError("a header that runs into the payload")
