"""What every dialect module offers, and the URL work they share: built from stored parts only.

Pure. No client's path or query ever moves the origin or leaves the base path: that is asserted
here, once more, whatever the edge check let through. Used by the dialect modules and table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import unquote_plus, urlsplit

from gateway.credential import stands_in
from gateway.errors import GatewayError, Malformed
from gateway.paths import Match
from gateway.providers import AUTH_HEADERS
from gateway.shapes import Headers, ProviderConfig, Rendered, Usage
from gateway.sse import Event


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One line of a model list: its id, who owns it, Unix seconds."""

    id: str
    owner: str
    created: int


class Dialect(Protocol):
    """A wire protocol, as seen from the gateway. The modules of this package satisfy it."""

    @property
    def HEARTBEAT(self) -> bytes | None:
        """Written while a stream is silent; None where clients do not bear it."""

    def target(self, config: ProviderConfig, match: Match, query: bytes) -> tuple[bytes, bytes]:
        """Raw path and raw query at the provider. Raises Malformed if it left the base path."""

    def authorize(self, config: ProviderConfig, secret: bytes) -> Headers:
        """Headers that carry the credential; they replace the client's of the same names."""

    def defaults(self, config: ProviderConfig) -> Headers:
        """Headers added only when the client sent none of that name."""

    def render(self, error: GatewayError, request_id: str) -> Rendered:
        """An error in the dialect's shape; retry headers are the app's."""

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """An error inside a stream, ready to write."""

    def ends(self, rule: str, event: Event) -> bool:
        """Whether `event` ends a stream under an endpoint's terminal rule."""

    def telling(self, rule: str | None) -> tuple[bytes, ...]:
        """Words for a look at raw server-sent events: none that `ends` under the rule, and none in
        which `usage` finds any, is without one of them."""

    def usage(self, payload: bytes, so_far: Usage | None) -> Usage | None:
        """Tokens reported by one event's data or a whole JSON body, or what was known before."""

    def list_models(self, entries: Sequence[ModelEntry]) -> bytes:
        """The model list's body, one page."""

    def one_model(self, entry: ModelEntry) -> bytes:
        """The body that describes one model."""


# What a path segment may be made of (RFC 3986 pchar).
_CLEAN: Final = re.compile(rb"(?:/[A-Za-z0-9\-._~!$&'()*+,;=:@%]+)+/?")
_ENCODED: Final = re.compile(rb"%(?:2[fF]|5[cC]|[01][0-9a-fA-F]|7[fF]|(?![0-9a-fA-F]{2}))")
_DOTS: Final = re.compile(rb"/(?:\.|%2[eE]){1,2}(?:/|$)")
_CREDENTIALS: Final = frozenset(
    {
        *("key", "api_key", "api-key", "apikey", "x-api-key", "x-goog-api-key"),
        *("subscription-key", "access_token", "oauth_token"),
        *("authorization", "cf-aig-authorization"),
        *("x-amz-credential", "x-amz-signature", "x-amz-security-token"),
    }
)


def below(base_path: bytes, rest: bytes) -> bytes:
    """`rest` under `base_path`. Raises Malformed unless it is plainly a path below it."""
    if _CLEAN.fullmatch(rest) is None or _ENCODED.search(rest) or _DOTS.search(rest):
        raise Malformed("the path holds segments or bytes that are not passed on")
    if stands_in(rest):
        raise Malformed("the path holds a Wardgate key, which is not passed on")
    return base_path + rest


@lru_cache(maxsize=1024)
def base_path(base_url: str) -> bytes:
    """The path of a base URL, without a trailing slash."""
    return urlsplit(base_url).path.rstrip("/").encode("ascii")


def without_credentials(query: bytes) -> bytes:
    """The query without parameters that carry a key; every other byte as it was."""
    if not query:
        return query
    return b"&".join(pair for pair in query.split(b"&") if not _is_credential(pair))


def _is_credential(pair: bytes) -> bool:
    name = unquote_plus(pair.partition(b"=")[0].decode("latin-1")).lower()
    return name in _CREDENTIALS or stands_in(pair)


def bearer(config: ProviderConfig, secret: bytes) -> Headers:
    """`Authorization: Bearer`, or what the provider wants in its place; nothing without a key."""
    if config.auth_type == "none":
        return []
    name, scheme = AUTH_HEADERS.get(config.provider, (b"authorization", b"Bearer "))
    return [(name, scheme + secret)]
