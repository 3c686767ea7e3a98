"""Raw path and method -> endpoint, scope, provider, and where the model stands: a table.

Pure, and ignorant of which providers, accounts or models exist. Bytes of the path are never
rewritten, only cut. The corridor calls `match`; whatever renders an error calls `caller`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.endpoints import (
    AZURE_DEPLOYED,
    AZURE_RESOURCE,
    AZURE_V1,
    BEDROCK,
    COMPAT,
    GEMINI,
    NATIVE,
    NATIVE_BEDROCK,
    NATIVE_GEMINI,
    OPENAI,
    OURS,
    PLAIN,
    PROBE,
    SCOPED,
    BodyKind,
    Endpoint,
    Methods,
    Table,
    local,
)
from gateway.errors import NotFound, WrongMethod
from gateway.providers import COMPATIBLE, dialect_of, known_as
from gateway.shapes import DialectName, Headers

__all__ = ["RESERVED_ACCOUNTS", "Endpoint", "Match", "caller", "match"]


@dataclass(frozen=True, slots=True)
class Match:
    """A request's place in the table.

    `rest` is the raw path below the version segment; `model` comes decoded from the path and
    `model_span` says where in `rest` it stands, still encoded.
    """

    endpoint: Endpoint
    account: str | None
    gateway: str | None
    provider: str | None
    rest: bytes
    model: str | None = None
    model_span: tuple[int, int] | None = None


# First words below /v1 that are, or may become, a provider's own paths: never an account.
_RESERVED: Final = """
_explain accounts agents ai-gateway assistants audio batches cachedContents chat chatkit client
complete completions compat containers conversations corpora dynamic edits embeddings engines evals
files fine-tunes fine_tuning gateways graders images livez messages metrics model models moderations
operations organization organizations projects publishers readyz realtime rerank responses sessions
skills threads tunedModels upload uploads users v1 v1beta v2 vector_stores videos wardgate
"""
RESERVED_ACCOUNTS: Final = frozenset(_RESERVED.split())
_ACCOUNT: Final = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_GATEWAY: Final = re.compile(rb"(?=.{1,64}$)[a-z0-9_]+(?:-[a-z0-9_]+)*")
_PROVIDER: Final = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9._:-]|%3[aA]){0,79}")
_VERSION: Final = re.compile(rb"v\d+(?:(?:alpha|beta)\d*)?")
_ACTION: Final = re.compile(rb"/models/(.+)(?::|%3[aA])([A-Za-z]+)")
# Cloudflare puts `bedrock-runtime/{region}` in front; an id may hold slashes, encoded or not.
_INVOKED: Final = re.compile(rb"(?:/bedrock-runtime/[a-z0-9-]+)?/model/(.+)/([a-z-]+)")
_FOUNDATION: Final = b"foundation-models"
_OPENAI_HEADS: Final = frozenset(path[0] for path in OPENAI)
_CACHED_LENGTH: Final = 256  # longer paths are odd ones: the cache is not theirs to fill


def match(method: str, raw_path: bytes) -> Match:
    """Find the endpoint of a request whose path passed the edge check.

    Raises NotFound for a path that is in no table, WrongMethod for one that is.
    """
    find = _cached if len(raw_path) <= _CACHED_LENGTH else _match
    return find(method, raw_path)


def caller(raw_path: bytes, headers: Headers) -> DialectName:
    """The dialect of whoever sent this: for errors and lists, on any path, also nonsense.

    The path decides where it can; `/v1/models` and unknown ones go by the client's headers.
    Header names are lower case.
    """
    known = _path_dialect(raw_path)
    if known is not None:
        return known
    for name, _ in headers:
        if name == b"anthropic-version":
            return "anthropic"
        if name in (b"x-goog-api-key", b"x-goog-api-client"):
            return "gemini"
    return "openai"


def _match(method: str, raw: bytes) -> Match:
    if (ours := OURS.get(raw)) is not None:
        return Match(_pick(ours, method), None, None, None, raw)
    segments = tuple(raw.split(b"/")[1:])
    if _names_scope(segments):
        return _scoped(method, segments)
    head = segments[0] if segments else b""
    if head == b"openai":
        return _azure(method, segments[1:])
    if head == b"v1beta":
        return _models(method, segments[1:], "gemini", GEMINI)
    if head == b"model":
        return _invoked(method, raw, BEDROCK)
    if head == _FOUNDATION:
        return _foundation(method, segments)
    below = segments[1:] if head == b"v1" else segments
    if below[:1] == (b"models",):
        return _models(method, below, "openai", GEMINI)
    table = PLAIN if head == b"v1" else OPENAI
    return Match(_pick(_find(table, below), method), None, None, None, _rest(below))


_cached = lru_cache(maxsize=4096)(_match)


def _pick(row: Methods | None, method: str) -> Endpoint:
    if row is None:
        raise NotFound("no such path; docs/quickstart.md lists the endpoints")
    endpoint = row.get(method)
    if endpoint is None:
        raise WrongMethod(f"this path takes {', '.join(sorted(row))}")
    return endpoint


def _find(table: Table, segments: tuple[bytes, ...]) -> Methods | None:
    row = table.get(segments)
    for place in (1, 2):
        if row is None and len(segments) > place and segments[place]:
            row = table.get((*segments[:place], b"{}", *segments[place + 1 :]))
    return row


def _rest(segments: tuple[bytes, ...]) -> bytes:
    return b"/" + b"/".join(segments)


def _models(
    method: str, segments: tuple[bytes, ...], dialect: DialectName, actions: Table
) -> Match:
    """`models`, `models/{id}` and Gemini's `models/{id}:action`; an id may hold slashes."""
    rest = _rest(segments)
    if segments[:1] != (b"models",) or segments[1:] == (b"",):
        raise NotFound("no such path; docs/quickstart.md lists the endpoints")
    action = _ACTION.fullmatch(rest)
    if action is not None and (row := actions.get((action[2],))) is not None:
        return _named(_pick(row, method), rest, action.span(1))
    if action is not None and method == "POST":
        raise NotFound("no such method of a model")
    if len(segments) == 1:
        row = local("models", dialect, "/v1/models", "GET", "HEAD")
        return Match(_pick(row, method), None, None, None, rest)
    row = local("model", dialect, "/v1/models/{id}", "GET", "HEAD")
    return _named(_pick(row, method), rest, (len(b"/models/"), len(rest)))


def _named(endpoint: Endpoint, rest: bytes, span: tuple[int, int]) -> Match:
    try:
        model = unquote_to_bytes(rest[span[0] : span[1]]).decode()
    except UnicodeDecodeError:
        raise NotFound("the model's name in the path is not UTF-8") from None
    return Match(endpoint, None, None, None, rest, model, span)


def _invoked(method: str, rest: bytes, actions: Table) -> Match:
    """Bedrock's `model/{id}/action`."""
    found = _INVOKED.fullmatch(rest)
    row = actions.get((found[2],)) if found else None
    if found is None or row is None:
        raise NotFound("no such method of a model")
    return _named(_pick(row, method), rest, found.span(1))


def _foundation(method: str, segments: tuple[bytes, ...]) -> Match:
    """The list of models as Bedrock's control plane has it."""
    rest, start = _rest(segments), len(_FOUNDATION) + 2
    if segments[1:] == (b"",):
        raise NotFound("no such path; docs/quickstart.md lists the endpoints")
    if len(segments) == 1:
        row = local("models", "bedrock", "/foundation-models", "GET", "HEAD")
        return Match(_pick(row, method), None, None, None, rest)
    row = local("model", "bedrock", "/foundation-models/{id}", "GET", "HEAD")
    return _named(_pick(row, method), rest, (start, len(rest)))


def _azure(method: str, segments: tuple[bytes, ...]) -> Match:
    """What Azure's clients call below `/openai`: deployments, v1, and the resource's own paths."""
    if segments[:1] == (b"deployments",) and len(segments) > 2 and segments[1]:
        endpoint = _pick(_find(AZURE_DEPLOYED, segments[2:]), method)
        start = len(b"/deployments/")
        return _named(endpoint, _rest(segments), (start, start + len(segments[1])))
    below = segments[1:] if segments[:1] == (b"v1",) else segments
    if below[:1] == (b"models",):
        return _models(method, below, "azure", {})
    table = AZURE_V1 if below is not segments else AZURE_RESOURCE
    return Match(_pick(_find(table, below), method), None, None, None, _rest(below))


def _names_scope(segments: tuple[bytes, ...]) -> bool:
    """True for `/v1/{account}/{gateway}/{provider}…` as Cloudflare writes it."""
    return (
        len(segments) > 3
        and segments[0] == b"v1"
        and segments[1].decode("latin-1") not in RESERVED_ACCOUNTS
        and _ACCOUNT.fullmatch(segments[1]) is not None
        and _GATEWAY.fullmatch(segments[2]) is not None
        and _PROVIDER.fullmatch(segments[3]) is not None
    )


def _scoped(method: str, segments: tuple[bytes, ...]) -> Match:
    account, gateway = segments[1].decode(), segments[2].decode()
    below = segments[4:]
    if below and _VERSION.fullmatch(below[0]):
        below = below[1:]
    if below in ((), (b"",)):
        return Match(_pick(PROBE, method), account, gateway, None, b"/")
    if segments[3] == b"compat":
        row = COMPAT if below == (b"chat", b"completions") else None
        return Match(_pick(row, method), account, gateway, None, _rest(below))
    provider = known_as(unquote_to_bytes(segments[3]).decode())
    found = _native(method, provider, below, segments[4:])
    return replace(found, account=account, gateway=gateway, provider=provider)


def _native(
    method: str, provider: str, below: tuple[bytes, ...], whole: tuple[bytes, ...]
) -> Match:
    """A provider's own path: an endpoint we know, or passed on as it is."""
    for dialect, prefix in _spoken(provider):
        depth = len(prefix)
        for path in (whole, below):
            if path[:depth] == prefix and (found := _in_dialect(method, dialect, path[depth:])):
                return found
    if dialect_of(provider) == "azure" and below[0] == b"openai":
        below = below[2:] if below[1:2] == (b"v1",) else below[1:]  # the base URL has it
    own = dialect_of(provider) or "openai"
    # What is signed has to be read whole first.
    body: BodyKind = "json" if own == "bedrock" else "raw"
    if method in ("GET", "DELETE", "HEAD"):
        body = "none"
    endpoint = Endpoint("native", own, "native", provider, body, template=SCOPED + "*")
    return Match(endpoint, None, None, None, _rest(below))


@lru_cache(maxsize=512)
def _spoken(provider: str) -> tuple[tuple[DialectName, tuple[bytes, ...]], ...]:
    """The dialects to look a native path up in, each with what the path begins with there."""
    own = dialect_of(provider)
    if own is None:
        return (("openai", ()), ("anthropic", ()), ("gemini", ()))
    others = COMPATIBLE.get(provider, {}).items()
    below = ((d, tuple(suffix.encode().split(b"/")[1:])) for d, suffix in others)
    return ((own, ()), *below)


def _in_dialect(method: str, dialect: DialectName, path: tuple[bytes, ...]) -> Match | None:
    if dialect == "azure":
        return _azure_native(method, path)
    if dialect == "gemini":
        return _gemini_native(method, path)
    if dialect == "bedrock":
        return _bedrock_native(method, path)
    endpoint = (_find(NATIVE[dialect], path) or {}).get(method)
    return Match(endpoint, None, None, None, _rest(path)) if endpoint else None


def _gemini_native(method: str, path: tuple[bytes, ...]) -> Match | None:
    action = _ACTION.fullmatch(_rest(path))
    endpoint = NATIVE_GEMINI.get((action[2],), {}).get(method) if action else None
    return _named(endpoint, _rest(path), action.span(1)) if endpoint and action else None


def _bedrock_native(method: str, path: tuple[bytes, ...]) -> Match | None:
    try:
        return _invoked(method, _rest(path), NATIVE_BEDROCK)
    except (NotFound, WrongMethod):
        return None


def _azure_native(method: str, path: tuple[bytes, ...]) -> Match | None:
    """`{resource}/{deployment}/…` as Cloudflare writes it, or what stands below `/openai`.

    The resource's name is not used: a stored key goes to the resource it was stored for.
    """
    below = path[1:] if path[:1] == (b"openai",) else (b"deployments", *path[1:])
    try:
        found = _azure(method, below)
    except (NotFound, WrongMethod):
        return None
    if found.endpoint.local:
        return None
    template = SCOPED + found.endpoint.template.removeprefix("/openai/")
    return replace(found, endpoint=replace(found.endpoint, template=template))


@lru_cache(maxsize=1024)
def _path_dialect(raw: bytes) -> DialectName | None:
    segments = tuple(raw[:_CACHED_LENGTH].split(b"/")[1:])
    if _names_scope(segments):
        return _scoped_dialect(segments)
    head = segments[0] if segments else b""
    below = segments[1:] if head == b"v1" else segments
    first = below[0] if below else b""
    if head == b"openai":
        return "azure"
    if head == b"v1beta" or _ACTION.fullmatch(_rest(below)):
        return "gemini"
    if first == b"messages":
        return "anthropic"
    if head in (b"model", _FOUNDATION):
        return "bedrock"
    return "openai" if first in _OPENAI_HEADS else None


def _scoped_dialect(segments: tuple[bytes, ...]) -> DialectName | None:
    if segments[3] == b"compat":
        return "openai"
    try:
        return _scoped("POST", segments).endpoint.dialect
    except (NotFound, WrongMethod):
        return dialect_of(known_as(unquote_to_bytes(segments[3]).decode()))
