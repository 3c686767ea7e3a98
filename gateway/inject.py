"""Step: the client's request -> the upstream's, with the provider's own key in it.

The only place on a request's way that opens a secret. The stored origin is where it goes, nowhere
else. Called by receive.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache
from urllib.parse import urlsplit

from gateway.client.hygiene import settable, towards_upstream
from gateway.dialects.table import DIALECTS
from gateway.errors import SealBroken, Unavailable
from gateway.paths import Match
from gateway.references import resolved
from gateway.shapes import Candidate, Headers, ProviderConfig, Secret
from gateway.sign import read_keys, region_of, sign
from gateway.upstream.seam import Outbound
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

    Raises Unavailable (code secret_unavailable) when the stored key cannot be opened, or nothing
    is here to sign with.
    """
    config = candidate.config
    dialect = DIALECTS[config.dialect]
    path, upstream_query = dialect.target(config, match, query)
    secret, signed = _opened(config, ring), config.auth_type == "aws_sigv4"
    ours = [] if signed else dialect.authorize(config, secret.expose())
    ours = _added(config, ours) + ours
    sent = towards_upstream(headers, {name for name, _ in ours})
    sent += _missing(dialect.defaults(config), sent)
    sent += ours
    sent.append(_IDENTITY)
    if length is not None:
        sent.append((b"content-length", b"%d" % length))
    target = path + b"?" + upstream_query if upstream_query else path
    outbound = Outbound(method, _origin(config.base_url), target, sent, body)
    if signed:
        outbound.headers += _signature(config, secret, outbound)
    return outbound


def _added(config: ProviderConfig, keys: Headers) -> Headers:
    """The headers the config itself asks for; they replace the client's, never the key's."""
    table = config.settings.get("headers")
    if not isinstance(table, dict):
        return []
    taken = {name for name, _ in keys}
    rows = [(name.lower().encode(), value.encode()) for name, value in table.items()]
    return [row for row in rows if row[0] not in taken and settable(row[0])]


def _signature(config: ProviderConfig, secret: Secret, outbound: Outbound) -> Headers:
    region = region_of(config.base_url, config.settings)
    try:
        keys = read_keys(secret.expose())
    except ValueError:
        raise _unopened(config) from None
    if region is None or not isinstance(outbound.body, bytes | None):
        what = "has no region" if region is None else "can sign only what was read whole"
        raise Unavailable(f"{config.provider}/{config.alias} {what}", code="secret_unavailable")
    url = outbound.origin + outbound.target.decode("ascii")
    return sign(keys, region, outbound.method, url, outbound.headers, outbound.body)


def _missing(defaults: Headers, present: Headers) -> Headers:
    if not defaults:
        return []
    names = {name for name, _ in present}
    return [pair for pair in defaults if pair[0] not in names]


def _opened(config: ProviderConfig, ring: KeyRing) -> Secret:
    try:
        if config.sealed is not None:
            return ring.open(config.sealed, config_binding(config))
        return Secret(b"") if config.reference is None else resolved(config.reference)
    except (SealBroken, LookupError):
        raise _unopened(config) from None


def _unopened(config: ProviderConfig) -> Unavailable:
    why = "cannot be opened"
    # Only what is a reference is shown: anything else in its place may be a key.
    if config.reference is not None and is_reference(config.reference):
        why = f"is a reference that leads to no key: {config.reference}"
    message = f"the stored key of {config.provider}/{config.alias} {why}"
    return Unavailable(message, code="secret_unavailable")


@lru_cache(maxsize=1024)
def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"
