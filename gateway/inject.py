"""Step: the client's request -> the upstream's, with the provider's own key in it.

The only place on a request's way that opens a secret. The stored origin is where it goes, nowhere
else. Called by receive.py.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from gateway.client.hygiene import towards_upstream
from gateway.dialects.table import DIALECTS
from gateway.errors import SealBroken, Unavailable
from gateway.paths import Match
from gateway.shapes import Candidate, Headers, ProviderConfig, Secret
from gateway.upstream import Outbound
from gateway.vault import KeyRing, config_binding, is_reference

# Answers are read on their way (usage, terminal events) and errors masked: no compression.
_IDENTITY = (b"accept-encoding", b"identity")


def inject(
    candidate: Candidate,
    match: Match,
    method: str,
    headers: Headers,
    query: bytes,
    body: bytes | AsyncIterator[bytes] | None,
    length: int | None,
    ring: KeyRing,
) -> Outbound:
    """Build the upstream request; `length` is the body's when it is streamed and known.

    Raises Unavailable (code secret_unavailable) when the stored key cannot be opened.
    """
    config = candidate.config
    dialect = DIALECTS[config.dialect]
    path, upstream_query = dialect.target(config, match, query)
    ours = dialect.authorize(config, _opened(config, ring).expose())
    sent = towards_upstream(headers, {name for name, _ in ours})
    sent += _missing(dialect.defaults(config), sent)
    sent += ours
    sent.append(_IDENTITY)
    if length is not None:
        sent.append((b"content-length", b"%d" % length))
    target = path + b"?" + upstream_query if upstream_query else path
    return Outbound(method, _origin(config.base_url), target, sent, body)


def _missing(defaults: Headers, present: Headers) -> Headers:
    if not defaults:
        return []
    names = {name for name, _ in present}
    return [pair for pair in defaults if pair[0] not in names]


def _opened(config: ProviderConfig, ring: KeyRing) -> Secret:
    try:
        if config.sealed is not None:
            return ring.open(config.sealed, config_binding(config))
        return Secret(b"") if config.reference is None else _referenced(config.reference)
    except (SealBroken, OSError, KeyError, UnicodeDecodeError):
        raise Unavailable(
            f"the stored key of {config.provider}/{config.alias} cannot be opened",
            code="secret_unavailable",
        ) from None


def _referenced(reference: str) -> Secret:
    if not is_reference(reference):
        raise KeyError(reference)
    kind, _, name = reference.partition(":")
    text = (os.environ[name] if kind == "$env" else Path(name).read_text()).strip()
    if not text:
        raise KeyError(name)
    return Secret(text.encode())


@lru_cache(maxsize=1024)
def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"
