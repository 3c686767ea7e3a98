"""What is learned from an answer's bytes while they pass: its terminal event, its usage.

Sees a copy; changes nothing, but for the usage chunk the client did not ask for. Used by stream.py.
"""

from __future__ import annotations

import re

from gateway import eventstream, sse
from gateway.dialects.table import Dialect
from gateway.shapes import Unread, Usage
from gateway.sse import LIMIT

_MOST_JSON = 1024 * 1024  # a larger JSON answer is not kept to read its usage
_SMALL_JSON = 16 * 1024  # a larger one is not kept any longer
# Whatever stands before it: an empty line, and no CR that an LF may still follow.
_EVENT_ENDS = (b"\n\n", b"\n\r\n")
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_SOME_USAGE = re.compile(rb'"usage"\s*:\s*\{')


class EventTap:
    """An event stream. `complete`: nothing that must come is missing; `over`: its terminal event
    has passed. `rule` None: it has none, and HTTP's framing alone says where it ends.
    """

    __slots__ = ("_dialect", "_reader", "_rule", "_telling", "complete", "over", "usage")

    def __init__(
        self, dialect: Dialect, rule: str | None, reader: sse.Reader | eventstream.Reader
    ) -> None:
        self._dialect = dialect
        self._rule = rule
        self._reader = reader
        self._telling = dialect.telling(rule)
        self.complete = rule is None
        self.over = False
        self.usage: Usage | None = None

    @property
    def between_events(self) -> bool:
        return not self._reader.partial

    def see(self, chunk: bytes) -> None:
        # A chunk of whole events, and none of the words that matter in it: most are that.
        # Unlike find, rpartition needs no tuple of arguments (decision 21).
        if self._reader.between and chunk.endswith(_EVENT_ENDS):
            for word in self._telling:
                if chunk.rpartition(word)[1]:
                    break
            else:
                return
        self._look(chunk)

    def _look(self, chunk: bytes) -> None:
        for event in self._reader.feed(chunk):
            self.usage = self._dialect.usage(event.data, self.usage)
            if self._rule is not None and self._dialect.ends(self._rule, event):
                self.complete = self.over = True

    def finish(self) -> None:
        """The body is over."""


class FrameTap(EventTap):
    """AWS's frames. Without a rule they end between two of them, and never before the first."""

    __slots__ = ()

    def __init__(self, dialect: Dialect, rule: str | None) -> None:
        super().__init__(dialect, rule, eventstream.Reader())
        self.complete = False

    def see(self, chunk: bytes) -> None:
        self._look(chunk)
        if self._rule is None:
            self.complete = self.between_events


class JsonTap:
    """A JSON body, kept to its end for the sake of its usage unless it is large.

    Of a small one the usage is left to be read, out of the requests' way.
    """

    __slots__ = ("_dialect", "_kept", "_size", "complete", "usage")

    between_events = False

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kept: list[bytes] = []
        self._size = 0
        self.complete = True  # HTTP's framing alone says where it ends
        self.usage: Usage | Unread | None = None

    def see(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= _MOST_JSON:
            self._kept.append(chunk)
        else:
            self._kept.clear()

    def finish(self) -> None:
        if self._kept:
            body, read = b"".join(self._kept), self._dialect.usage
            self.usage = Unread(body, read) if len(body) <= _SMALL_JSON else read(body, None)
            self._kept.clear()


class BlindTap:
    """Anything else: audio, files, images. Nothing is learned."""

    __slots__ = ()

    between_events = False
    complete = True
    usage: Usage | None = None

    def see(self, chunk: bytes) -> None:
        """Bytes pass."""

    def finish(self) -> None:
        """The body is over."""


Tap = EventTap | JsonTap | BlindTap


def tap_for(kind: bytes, dialect: Dialect, rule: str | None) -> Tap:
    """The tap for a content type."""
    if kind.startswith(b"text/event-stream"):
        return EventTap(dialect, rule, sse.Reader())
    if kind.startswith(b"application/vnd.amazon.eventstream"):
        return FrameTap(dialect, rule)
    if kind.startswith(b"application/json"):
        return JsonTap(dialect)
    return BlindTap()


class UsageHider:
    """Takes the usage chunk out of an OpenAI event stream that we asked for it.

    Events are let through whole: a usage chunk is known only at its end.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def passing(self, chunk: bytes) -> bytes:
        """The bytes of `chunk` (and of what was held) that may go on."""
        self._held += chunk
        out, start = [], 0
        for found in _EVENT_END.finditer(self._held):
            event = self._held[start : found.end()]
            start = found.end()
            if not (_NO_CHOICES.search(event) and _SOME_USAGE.search(event)):
                out.append(event)
        self._held = self._held[start:]
        if len(self._held) > LIMIT:  # no usage chunk is that long
            out.append(self.rest())
        return b"".join(out)

    def rest(self) -> bytes:
        """What is still held when the stream is over."""
        held, self._held = self._held, b""
        return held
