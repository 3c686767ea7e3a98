"""The nouns every step speaks in: frozen, typed, without behaviour beyond reading themselves.

Nothing here does I/O, imports a library or knows HTTP. Used by everything above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn

import msgspec

DialectName = Literal["openai", "azure", "anthropic", "gemini", "bedrock", "cohere"]
ScopeKind = Literal["global", "group", "gateway", "instance"]
AuthType = Literal["api_key", "bearer", "aws_sigv4", "gcp_service_account", "azure_ad", "none"]
Headers = list[tuple[bytes, bytes]]
# A config's non-secret settings: text, or for `headers` and `deployments` a table of texts.
Setting = str | dict[str, str]
GLOBAL = "global"


class Standing:
    """Headers that stay the same for many requests, names in lower case; none frames a body.

    `opening`: how the last request with them began on the wire, all of them included; it was
    `opened` by this method, target and host.
    """

    __slots__ = ("headers", "opened", "opening")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.opened: tuple[str, bytes, bytes] | None = None
        self.opening = b""


class Secret:
    """Bytes that show themselves only when asked by `expose()`; not picklable, not JSON-able."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def expose(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never serialised")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where configs belong: `global`, `group:…`, `gateway:{account}/{gateway}`, `instance:…`."""

    id: str
    kind: ScopeKind
    parent: str | None
    inherits: bool = True  # False: nothing of its parents is visible from it


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`amount` requests per `period` seconds."""

    amount: int
    period: int
    technique: Literal["fixed", "sliding"] = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """A stored upstream credential and how to use it; `sealed` opens only for this very row."""

    id: str
    scope: str
    provider: str
    alias: str
    dialect: DialectName
    base_url: str  # effective API root with its version segment, without a trailing slash
    auth_type: AuthType = "api_key"
    settings: Mapping[str, Setting] = field(default_factory=dict)
    active: bool = True
    default: bool = False
    allow_unlisted: bool = True  # whether it serves models that no catalog lists
    limit: RateLimit | None = None
    sealed: bytes | None = None
    reference: str | None = None
    origin: str = ""  # frozen at write; part of the seal
    secret_version: int = 0

    @property
    def usable(self) -> bool:
        """Active and holding a key, or needing none (data-model.md, case 6)."""
        keyed = self.sealed is not None or self.reference is not None
        return self.active and (keyed or self.auth_type == "none")

    @property
    def deployments(self) -> Mapping[str, str]:
        """Model -> what this upstream calls it; what is not there is called what it is."""
        table = self.settings.get("deployments")
        return table if isinstance(table, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A named caller; `model` is `provider/model` when bound."""

    id: str
    scope: str
    name: str
    enabled: bool = True
    provider: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client key as a worker knows it: public id and keyed hash, never the secret."""

    id: str
    digest: bytes
    scope: str
    name: str
    agent: str | None = None
    allowed_models: tuple[str, ...] = ()  # empty = all
    limit: RateLimit | None = None
    expires_at: float | None = None  # Unix seconds


@dataclass(frozen=True, slots=True)
class Choice:
    """A scope's one (config, model): what a request that names no model gets."""

    config_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Target:
    """One place a route leads to: a config, and the model asked of it."""

    config_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Route:
    """A virtual model name: its targets are tried in this order."""

    id: str
    scope: str
    name: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One (config, model) a request may be sent to. `model` None: the request names none."""

    config: ProviderConfig
    model: str | None
    rule: str  # which rule of docs/resolution.md named the provider

    @property
    def sent_as(self) -> str | None:
        """The model's name at the upstream."""
        return self.model and self.config.deployments.get(self.model, self.model)


class Usage(msgspec.Struct, gc=False):
    """Tokens as the provider counted them; None = not reported, never 0 for not known."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None


class Unread(msgspec.Struct, gc=False):
    """A whole answer whose usage is still to be found: `read(body, None)` finds it."""

    body: bytes
    read: Callable[[bytes, Usage | None], Usage | None]


@dataclass(frozen=True, slots=True)
class Rendered:
    """An error in a dialect's own shape, ready to send. `headers` are extra ones."""

    status: int
    headers: Headers
    body: bytes
