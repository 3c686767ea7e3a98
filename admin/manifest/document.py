"""What a file of config as code may say: its sections and entries. No behaviour.

Every entry knows its line, so that whoever refuses it later can say where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import WardgateError
from gateway.shapes import GLOBAL, AuthType, DialectName, Setting


@dataclass(frozen=True, slots=True, order=True)
class Flaw:
    """What is wrong with a file, and on which line (from 1)."""

    line: int
    message: str


class ManifestRefused(WardgateError):
    """The file is not understood, or cannot be carried out; nothing was changed."""

    def __init__(self, source: str, flaws: list[Flaw]) -> None:
        self.flaws = sorted(flaws)
        super().__init__("\n".join(f"{source}:{flaw.line}: {flaw.message}" for flaw in self.flaws))


@dataclass(frozen=True, kw_only=True)
class ScopeEntry:
    line: int
    id: str
    parent: str = GLOBAL
    inherit: bool = True


@dataclass(frozen=True, kw_only=True)
class ProviderEntry:
    """A provider config. `key` is a reference; without one the stored key is left as it is.

    `choice` makes it the scope's choice, with that model.
    """

    line: int
    provider: str
    alias: str = "default"
    scope: str = GLOBAL
    name: str | None = None
    key: str | None = None
    auth_type: AuthType = "api_key"
    base_url: str | None = None
    dialect: DialectName | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    active: bool = True
    default: bool | None = None
    rate_limit: int | None = None
    rate_limit_period: int = 60
    allow_unlisted: bool = True
    choice: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    line: int
    provider: str
    model: str
    enabled: bool
    scope: str = GLOBAL


@dataclass(frozen=True, kw_only=True)
class AgentEntry:
    """`model` is `provider/model`, or nothing."""

    line: int
    name: str
    scope: str = GLOBAL
    enabled: bool = True
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class TargetEntry:
    """A provider config by its scope, provider and alias, and the model asked of it."""

    line: int
    provider: str
    model: str
    alias: str = "default"
    scope: str = GLOBAL


@dataclass(frozen=True, kw_only=True)
class RouteEntry:
    line: int
    name: str
    targets: tuple[TargetEntry, ...]
    scope: str = GLOBAL


@dataclass(frozen=True, kw_only=True)
class Document:
    """A whole file. `name` marks what it keeps: two files that keep the same object disagree."""

    source: str
    name: str
    scopes: tuple[ScopeEntry, ...] = ()
    providers: tuple[ProviderEntry, ...] = ()
    models: tuple[ModelEntry, ...] = ()
    agents: tuple[AgentEntry, ...] = ()
    routes: tuple[RouteEntry, ...] = ()
