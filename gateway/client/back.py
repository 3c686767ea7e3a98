"""The head of an upstream's answer, read once and written as the client gets it.

One pass over the headers, by a table of what each name means here. Pure. Used by stream.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from functools import lru_cache
from typing import Final

from gateway.client.hygiene import may_come_back

# What a name means: it passes, it stays here, or somebody looks at its value.
_PASSES, _STAYS, _TYPE, _ENCODING, _LENGTH, _NAMES, _CONNECTION = range(7)
_WEIGHED: Final = {
    b"content-type": _TYPE,
    b"content-encoding": _ENCODING,
    b"content-length": _LENGTH,
    b"x-request-id": _NAMES,
    b"connection": _CONNECTION,
}
_CONTROL: Final = bytes((*range(9), *range(10, 32), 127))
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LINE_END: Final = b"\r\n"
_IN_A_LINE: Final = b": ".join
# Of an event stream: nobody on the way may keep it, or gather it up.
_OF_EVENTS: Final = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
_NOT_OF_EVENTS: Final = frozenset({b"cache-control", b"x-accel-buffering"})
LENGTH: Final = frozenset({b"content-length"})
# The body is replaced: nothing about the old one holds.
ABOUT_THE_BODY: Final = frozenset({b"content-length", b"content-encoding"})


class Back:
    """`kind`: the content type in lower case, empty where there is none.

    `encoded`: the body is compressed. `counted`: it tells its length; `named`: it has a request id
    of the upstream's.
    """

    __slots__ = ("_passing", "counted", "encoded", "kind", "named")

    def __init__(self, fields: list[bytes]) -> None:
        """`fields` are lines of headers, without line ends."""
        self.kind = b""
        self.encoded = self.counted = self.named = False
        passing: list[bytes] = []
        listed: set[bytes] | None = None
        meanings = _MEANINGS
        for line in fields:
            name, _, value = line.partition(b":")
            meaning = meanings[name] if name in meanings else _meaning(name)
            if meaning == _CONNECTION:
                listed = (listed or set()) | _listed(value)
            elif meaning != _STAYS:
                if meaning != _PASSES:
                    self._weigh(meaning, value.strip(b" \t"))
                passing.append(line)
        if listed:
            passing = _but_for(passing, listed)
            self.counted = self.counted and b"content-length" not in listed
            self.named = self.named and b"x-request-id" not in listed
        self._passing = passing

    def lines(self, *, events: bool = False, without: frozenset[bytes] = frozenset()) -> bytes:
        """The headers that may reach the client, as on the wire, but for those in `without`."""
        passing = self._passing
        if events:
            without = without | _NOT_OF_EVENTS
        if without:
            passing = _but_for(passing, without)
        lines = _joined(passing)
        # A search for any of thirty characters takes longer than leaving them all out.
        if len(lines.translate(None, _CONTROL)) != len(lines) - 2 * len(passing):
            lines = _joined([line for line in passing if not _BAD_VALUE.search(line)])
        return lines + _OF_EVENTS if events else lines

    def _weigh(self, meaning: int, value: bytes) -> None:
        if meaning == _TYPE:
            self.kind = self.kind or value.lower()
        elif meaning == _LENGTH:
            self.counted = self.counted or not _BAD_VALUE.search(value)
        elif meaning == _NAMES:
            self.named = self.named or not _BAD_VALUE.search(value)
        elif value.lower() != b"identity":
            self.encoded = True


def _joined(lines: list[bytes]) -> bytes:
    return _LINE_END.join(lines) + _LINE_END if lines else b""


def _but_for(lines: list[bytes], names: Set[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def wire(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they stand in a message, each line with its end."""
    return _joined([*map(_IN_A_LINE, headers)])


def _listed(connection: bytes) -> set[bytes]:
    """Headers that are between the upstream and us, because `connection` names them."""
    return {part.strip().lower() for part in connection.split(b",")} - {b"keep-alive", b"close"}


@lru_cache(maxsize=2048)
def _meaning(name: bytes) -> int:
    """Of a name in any spelling."""
    lower = name.lower()
    known = _WEIGHED.get(lower)
    if known is not None:
        return known
    return _PASSES if may_come_back(lower) else _STAYS


# What providers really send, looked up without a call.
_MEANINGS: Final = {
    spelling: _meaning(name)
    for name in (
        *_WEIGHED,
        *(b"date", b"server", b"cache-control", b"transfer-encoding", b"set-cookie", b"alt-svc"),
        *(b"strict-transport-security", b"x-content-type-options", b"cf-ray", b"cf-cache-status"),
        *(b"openai-organization", b"openai-processing-ms", b"openai-version", b"request-id"),
        *(b"x-ratelimit-limit-requests", b"x-ratelimit-limit-tokens", b"vary", b"via"),
        *(b"x-ratelimit-remaining-requests", b"x-ratelimit-remaining-tokens"),
        *(b"x-ratelimit-reset-requests", b"x-ratelimit-reset-tokens"),
    )
    for spelling in (name, name.title())
}
