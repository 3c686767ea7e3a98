"""Server-sent events out of bytes: whole events from any split of the stream, as WHATWG defines it.

Sans-I/O: never waits, never writes, never changes a byte of what passes through; the stream step
feeds it copies. An event larger than `LIMIT` is still found, but its data is not kept.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

LIMIT: Final = 8 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
# As numbers: looking for bytes in bytes, Python first raises, and drops, that they are none.
_LF: Final = 10
_CR: Final = 13
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: its name (b"" when the stream gave none) and its data, lines joined by LF."""

    event: bytes
    data: bytes


class Reader:
    """Feed it chunks; it gives back the events that became whole.

    Comments, `id` and `retry` are read over. An event without data is not an event, as in
    browsers. One that outgrows `limit` bytes comes with its name and empty data.

    `between`: the next byte begins an event.
    """

    __slots__ = (
        "_begun",
        "_cr",
        "_data",
        "_event",
        "_limit",
        "_line",
        "_longest",
        "_mid",
        "_over",
        "_size",
        "between",
    )

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._longest = limit + 16  # of a line: the field's name comes on top
        self._line = bytearray()  # the line that has no end yet
        self._cr = False  # the last byte was a CR: an LF that follows belongs to it
        self._begun = False  # the byte-order mark was looked for
        self.between = False
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0
        self._over = False
        self._mid = False  # a field of the current event has been read

    @property
    def partial(self) -> bool:
        """True while an event is begun and not ended: no place for a heartbeat or a clean end."""
        return self._mid or bool(self._line)

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes of the stream, however they are split."""
        # Nearly every chunk of a provider is one or more whole events, with one kind of line end.
        if self.between and len(chunk) <= self._limit:
            if chunk[-2:] == b"\n\n" and _CR not in chunk:
                return self._whole(chunk)
            if chunk[-4:] == b"\r\n\r\n":
                plain = chunk.replace(b"\r\n", b"\n")
                if _CR not in plain:
                    return self._whole(plain)
        return self._slow(chunk)

    def _whole(self, chunk: bytes) -> list[Event]:
        events: list[Event] = []
        for block in chunk[:-2].split(b"\n\n"):
            if block[:6] == b"data: " and _LF not in block:
                events.append(Event(b"", block[6:]))
            elif (event := _named(block)) is not None:
                events.append(event)
            else:
                for line in block.split(b"\n"):
                    self._take(line, events)
                self._dispatch(events)
        return events

    def _slow(self, chunk: bytes) -> list[Event]:
        events: list[Event] = []
        if self._cr and chunk:
            self._cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        lines = _LINE_END.split(chunk) if _CR in chunk else chunk.split(b"\n")
        if len(lines) > 1:
            self._cr = chunk[-1:] == b"\r"
        for line in lines[:-1]:
            self._end_line(line, events)
        self._collect(lines[-1])
        self.between = self._begun and not (self._mid or self._cr or self._line)
        return events

    def _end_line(self, rest: bytes, events: list[Event]) -> None:
        if self._line:
            self._collect(rest)
            line, self._line = bytes(self._line), bytearray()
        else:
            line = rest
        self._take(line, events)

    def _collect(self, part: bytes) -> None:
        """Keep the start of a line that has no end yet, never much more than the limit."""
        self._line += part[: max(self._longest + 1 - len(self._line), 0)]

    def _take(self, line: bytes, events: list[Event]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
        elif line[:1] != b":":
            self._mid = True
            if len(line) <= self._longest:
                self._field(line)
            elif line[:5] == b"data:":
                self._data, self._over = [b""], True

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._size += len(value) + 1
            if self._over or self._size > self._limit:
                self._data, self._over = [b""], True
            else:
                self._data.append(value)
        elif name == b"event":
            self._event = value

    def _dispatch(self, events: list[Event]) -> None:
        if self._data:
            data = b"" if self._over else b"\n".join(self._data)
            events.append(Event(self._event, data))
        self._event, self._data, self._size = b"", [], 0
        self._over = self._mid = False


def _named(block: bytes) -> Event | None:
    """The event of a block that is an event line and one data line."""
    if block[:7] == b"event: ":
        name, found, data = block.partition(b"\ndata: ")
        if found and _LF not in data and _LF not in name:
            return Event(name[7:], data)
    return None
