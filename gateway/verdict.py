"""The retry table: what may be left behind so that a route's next target is tried.

Pure: nothing is tried here. Before an answer begins nothing is lost, so the one question is whether
a provider may already have acted on the request; a POST it may have acted on is never sent again.
Asked by receive.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gateway.errors import GatewayError, RateLimited, UpstreamError

NextIf = Literal[
    "always", "with a body read whole", "GET and HEAD, with a body read whole", "never"
]
_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that may happen to an attempt before its first content byte."""

    happened: str
    next_if: NextIf
    why: str


CONFIG_LIMIT: Final = Row(
    "the limit of that config is used up", "always", "Nothing was sent; another has its own."
)
NO_KEY: Final = Row("its stored key cannot be opened or resolved", "always", "Nothing was sent.")
NOT_SENT: Final = Row(
    "no connection: refused, no address, too slow, no trusted TLS, not permitted",
    "always",
    "Nothing was sent.",
)
BUSY: Final = Row(
    "the provider answered 429 or any 5xx",
    "with a body read whole",
    "An answer says that it did not do it; the status line comes before any content.",
)
NO_ANSWER: Final = Row(
    "sent, and then no answer in time, or the connection was lost, or a redirect",
    "GET and HEAD, with a body read whole",
    "The provider may have acted on it, and would do so twice.",
)
ANSWERED: Final = Row(
    "any other answer, whatever becomes of it afterwards",
    "never",
    "It is the answer. A key the provider refuses is shown, not covered up.",
)
REFUSED: Final = Row(
    "a limit of the key or the gateway, or anything else we refuse ourselves",
    "never",
    "It holds for every target.",
)
ROWS: Final = (CONFIG_LIMIT, NO_KEY, NOT_SENT, BUSY, NO_ANSWER, ANSWERED, REFUSED)


def after(outcome: int | GatewayError) -> Row:
    """The row for an upstream's status, or for what was raised in its place."""
    if isinstance(outcome, int):
        return BUSY if outcome == 429 or 500 <= outcome < 600 else ANSWERED
    if isinstance(outcome, RateLimited):
        facts = outcome.limit
        return CONFIG_LIMIT if facts is not None and facts.policy == "config" else REFUSED
    if outcome.code == "secret_unavailable":
        return NO_KEY
    if isinstance(outcome, UpstreamError):
        return NO_ANSWER if outcome.sent else NOT_SENT
    return REFUSED


def goes_on(outcome: int | GatewayError, method: str, *, whole: bool) -> bool:
    """Whether the next target may be tried. `whole`: the body is here and can be sent again."""
    next_if = after(outcome).next_if
    if next_if == "always":
        return True
    if next_if == "GET and HEAD, with a body read whole":
        return whole and method in _SAFE
    return next_if == "with a body read whole" and whole
