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
from gateway.shapes import Headers

CREDENTIAL_HEADERS: Final = frozenset(
    {b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cf-aig-authorization"}
)
# What narrows the choice of a config; the first one counts.
_NARROWING: Final = frozenset({b"wardgate-config", b"cf-aig-byok-alias"})
# What a name means: it passes, it stays here, or somebody looks at its value.
_PASSES, _STAYS, _WEIGHS = range(3)
_NO_NAMES: Final = frozenset[bytes]()
_WEIGHED: Final = (
    CREDENTIAL_HEADERS
    | _NARROWING
    | {b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"connection"}
    | {b"expect"}
)


class Head:
    """`length` is the first content-length's text; `framed`: a body is said to follow.

    `passing` are the headers that may go upstream, in their order; what a config sets itself is
    taken out of them later.
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
    )

    def __init__(self, headers: Headers) -> None:
        self.count = len(headers)
        self.hosts = self.lengths = self.encodings = 0
        self.length: bytes | None = None
        self.credentials: list[bytes] = []
        self.narrow: str | None = None
        self.encoded = self.expects = False
        self._listed: Set[bytes] = _NO_NAMES
        self.passing: Headers = []
        passing, meanings = self.passing, _MEANINGS
        for pair in headers:
            name, value = pair
            meaning = meanings[name] if name in meanings else _meaning(name)
            if meaning == _PASSES:
                plain = b"wg" not in value and b"%" not in value
                if plain or not stands_in(value):
                    passing.append(pair)
            elif meaning == _WEIGHS:
                self._weigh(name, value)
        if self._listed:
            self.passing = [pair for pair in passing if pair[0] not in self._listed]

    @property
    def framed(self) -> bool:
        return self.lengths > 0 or self.encodings > 0

    def _weigh(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self.hosts += 1
        elif name == b"content-length":
            self.lengths += 1
            self.length = value if self.length is None else self.length
        elif name in CREDENTIAL_HEADERS:
            self.credentials.append(value)
        elif name == b"connection":
            self._list(value)
        elif name == b"transfer-encoding":
            self.encodings += 1
        elif name == b"content-encoding":
            self.encoded = self.encoded or value != b"identity"
            if not stands_in(value):
                self.passing.append((name, value))
        elif name == b"expect":
            self.expects = self.expects or value.lower() == b"100-continue"
        elif self.narrow is None:
            self.narrow = value.decode("latin-1").strip()

    def _list(self, value: bytes) -> None:
        """Headers that are between us and the client, because `connection` names them."""
        if value != b"keep-alive":
            names = {part.strip().lower() for part in value.split(b",")}
            self._listed = names | self._listed


@lru_cache(maxsize=2048)
def _meaning(name: bytes) -> int:
    return _PASSES if may_go_upstream(name) else _STAYS


# The names clients really send, looked up without a call.
_MEANINGS: Final = dict.fromkeys(_WEIGHED, _WEIGHS) | {
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
