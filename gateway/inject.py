"""Step: the client's request -> the upstream's, with the provider's own key in it.

The only place on a request's way that opens a secret. The stored origin is where it goes, nowhere
else. Called by receive.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache
from urllib.parse import urlsplit

from gateway.client.head import Head
from gateway.client.hygiene import may_go_upstream, settable
from gateway.dialects.table import DIALECTS
from gateway.errors import SealBroken, Unavailable
from gateway.paths import Match
from gateway.references import resolved
from gateway.shapes import Candidate, Headers, ProviderConfig, Secret, Standing
from gateway.sign import read_keys, region_of, sign
from gateway.upstream.seam import Outbound
from gateway.vault import KeyRing, config_binding, is_reference

# Answers are read on their way (usage, terminal events) and errors masked: no compression.
_IDENTITY = (b"accept-encoding", b"identity")
_PLACE = b"\xff"  # stands for the key where its header is planned; no text in UTF-8 has it
_MOST_PLANS = 4096
_MOST_STANDING = 64  # configs that requests with one head go to
_MOST_TARGETS = 64  # paths without a variable part; few are used with one config


def inject(
    candidate: Candidate,
    match: Match,
    method: str,
    head: Head,
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
    plan = _plan(config)
    secret, signed = _opened(config, plan.bound, ring), config.auth_type == "aws_sigv4"
    standing = head.standing.get(plan) or plan.stand(head)
    sent: Headers = []
    if plan.keyed is not None:
        name, before, after = plan.keyed
        sent.append((name, before + secret.expose() + after))
    if length is not None:
        sent.append((b"content-length", b"%d" % length))
    target = plan.target(match, query)
    outbound = Outbound(method, plan.origin, target, sent, body, standing)
    if signed:
        outbound.headers += _signature(config, secret, outbound)
    return outbound


class _Plan:
    """What is the same for every request to one config. Holds nothing secret.

    `keyed`: the header that carries the key, and what stands there before and after it.
    `replaced`: headers a client may send and this config sets itself.
    """

    __slots__ = ("_config", "_targets", "added", "bound", "defaults", "keyed", "origin", "replaced")

    def __init__(self, config: ProviderConfig) -> None:
        dialect = DIALECTS[config.dialect]
        self._config = config
        self._targets: dict[bytes, bytes] = {}
        self.origin = _origin(config.base_url)
        self.bound = config_binding(config)
        keys = [] if config.auth_type == "aws_sigv4" else dialect.authorize(config, _PLACE)
        self.keyed = _keyed(keys)
        self.added = _added(config, keys) + [pair for pair in keys if _PLACE not in pair[1]]
        self.defaults = dialect.defaults(config)
        ours = {name for name, _ in (*keys, *self.added)}
        self.replaced = frozenset(name for name in ours if may_go_upstream(name))

    def stand(self, head: Head) -> Standing:
        """The client's headers and the config's, kept beside the head: it may come again."""
        sent = [pair for pair in head.passing if pair[0] not in self.replaced]
        sent = sent + _missing(self.defaults, sent) + self.added + [_IDENTITY]
        if len(head.standing) >= _MOST_STANDING:
            head.standing.clear()
        standing = head.standing[self] = Standing(sent)
        return standing

    def target(self, match: Match, query: bytes) -> bytes:
        """Raw path and query at the upstream. Raises Malformed if it left the base path."""
        known = self._targets.get(match.rest) if not query else None
        if known is not None:
            return known
        path, rest = DIALECTS[self._config.dialect].target(self._config, match, query)
        target = path + b"?" + rest if rest else path
        if not query and match.model is None and len(self._targets) < _MOST_TARGETS:
            self._targets[match.rest] = target
        return target


def _keyed(keys: Headers) -> tuple[bytes, bytes, bytes] | None:
    """Where in them the key stands: in one place at the most, and as it is."""
    found = [(name, value.partition(_PLACE)) for name, value in keys if _PLACE in value]
    if not found:
        return None
    [(name, (before, _, after))] = found  # one that says it twice would need a second place
    return name, before, after


_plans: dict[int, tuple[ProviderConfig, _Plan]] = {}


def _plan(config: ProviderConfig) -> _Plan:
    known = _plans.get(id(config))
    # The config is kept beside its plan, so that no other one can come to have its id.
    if known is not None:
        return known[1]
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    made = _Plan(config)
    _plans[id(config)] = config, made
    return made


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
    return sign(keys, region, outbound.method, url, outbound.all_headers(), outbound.body)


def _missing(defaults: Headers, present: Headers) -> Headers:
    if not defaults:
        return []
    names = {name for name, _ in present}
    return [pair for pair in defaults if pair[0] not in names]


def _opened(config: ProviderConfig, bound: bytes, ring: KeyRing) -> Secret:
    try:
        if config.sealed is not None:
            return ring.open(config.sealed, bound)
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
