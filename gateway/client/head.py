"""A request's head, read once: what frames it, who asks, what may go on to the upstream.

One pass over the headers, by a table of what each name means here. Pure. Made by receive.py; the
steps read from it instead of searching the headers again.
"""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache
from typing import Final

from gateway.client.hygiene import may_go_upstream
from gateway.credential import stands_in
from gateway.shapes import Headers, Standing

CREDENTIAL_HEADERS: Final = frozenset(
    {b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cf-aig-authorization"}
)
# What narrows the choice of a config; the first one counts.
_NARROWING: Final = frozenset({b"wardgate-config", b"cf-aig-byok-alias"})
# What a name means: it passes, it stays here, or somebody looks at its value.
_PASSES, _STAYS, _HOST, _LENGTH, _CREDENTIAL = range(5)
_CONNECTION, _FRAMING, _ENCODING, _EXPECT, _NARROWS = range(5, 10)
_NO_NAMES: Final = frozenset[bytes]()
_WEIGHED: Final = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"connection": _CONNECTION,
    b"transfer-encoding": _FRAMING,
    b"content-encoding": _ENCODING,
    b"expect": _EXPECT,
    **dict.fromkeys(CREDENTIAL_HEADERS, _CREDENTIAL),
    **dict.fromkeys(_NARROWING, _NARROWS),
}


class Head:
    """`length` is the first content-length's text; `framed`: a body is said to follow.

    `passing` are the headers that may go upstream, in their order; what a config sets itself is
    taken out of them later. `standing` is for inject.py: what it made of them for each config.
    """

    __slots__ = (
        "_listed",
        "count",
        "credentials",
        "encoded",
        "encodings",
        "expects",
        "hosts",
        "length",
        "lengths",
        "narrow",
        "passing",
        "standing",
    )

    def __init__(self, headers: Headers) -> None:
        self.count = len(headers)
        self.hosts = self.lengths = self.encodings = 0
        self.length: bytes | None = None
        self.credentials: list[bytes] = []
        self.narrow: str | None = None
        self.encoded = self.expects = False
        self._listed: Set[bytes] = _NO_NAMES
        passing: Headers = []
        meanings = _MEANINGS
        for pair in headers:
            name, value = pair
            meaning = meanings[name] if name in meanings else _meaning(name)
            if meaning == _PASSES or (meaning != _STAYS and self._weigh(meaning, value)):
                passing.append(pair)
        # One search instead of one for each value. `find`, because `in` takes bytes for a number
        # first, and raises and drops an error where they are none.
        values = b"\n".join([value for _, value in passing])
        if values.find(b"wg") >= 0 or values.find(b"%") >= 0:
            passing = [pair for pair in passing if not stands_in(pair[1])]
        if self._listed:
            passing = [pair for pair in passing if pair[0] not in self._listed]
        self.passing = passing
        self.standing: dict[object, Standing] = {}

    @property
    def framed(self) -> bool:
        return self.lengths > 0 or self.encodings > 0

    def _weigh(self, meaning: int, value: bytes) -> bool:
        """Take note of the value. True if the header passes all the same."""
        if meaning == _HOST:
            self.hosts += 1
        elif meaning == _LENGTH:
            self.lengths += 1
            self.length = value if self.length is None else self.length
        elif meaning == _CREDENTIAL:
            self.credentials.append(value)
        elif meaning == _CONNECTION:
            self._list(value)
        elif meaning == _FRAMING:
            self.encodings += 1
        elif meaning == _ENCODING:
            self.encoded = self.encoded or value != b"identity"
            return True
        elif meaning == _EXPECT:
            self.expects = self.expects or value.lower() == b"100-continue"
        elif self.narrow is None:
            self.narrow = value.decode("latin-1").strip()
        return False

    def _list(self, value: bytes) -> None:
        """Headers that are between us and the client, because `connection` names them."""
        if value != b"keep-alive":
            names = {part.strip().lower() for part in value.split(b",")}
            self._listed = names | self._listed


@lru_cache(maxsize=2048)
def _meaning(name: bytes) -> int:
    return _PASSES if may_go_upstream(name) else _STAYS


# The names clients really send, looked up without a call.
_MEANINGS: Final = _WEIGHED | {
    name: _meaning(name)
    for name in (
        *(b"accept", b"accept-encoding", b"accept-language", b"content-type", b"cookie"),
        *(b"user-agent", b"x-stainless-arch", b"x-stainless-async", b"x-stainless-lang"),
        *(b"x-stainless-os", b"x-stainless-package-version", b"x-stainless-read-timeout"),
        *(b"x-stainless-retry-count", b"x-stainless-runtime", b"x-stainless-timeout"),
        *(b"x-stainless-runtime-version", b"openai-organization", b"openai-project"),
        *(b"anthropic-version", b"anthropic-beta", b"x-app", b"x-goog-api-client"),
        *(b"traceparent", b"tracestate", b"x-request-id", b"idempotency-key"),
    )
}
