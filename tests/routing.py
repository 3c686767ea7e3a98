"""Routing tables and a small catalog made by hand: what the tests of resolution stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway import paths
from gateway.catalog import Catalog, Model, Provider
from gateway.errors import GatewayError
from gateway.providers import COMPATIBLE, DIALECTS, UNSUPPORTED
from gateway.resolve import Ask, resolve
from gateway.shapes import (
    GLOBAL,
    Agent,
    Candidate,
    Choice,
    Client,
    DialectName,
    ProviderConfig,
    RateLimit,
    Route,
    Scope,
    Secret,
    Target,
)
from gateway.snapshot import Snapshot, by_name, by_scope

CHAT = "POST /v1/chat/completions"
MESSAGES = "POST /v1/messages"
GROUP = "group:gr_a"
GATEWAY = "gateway:acme/main"
INSTANCE = "instance:i1"

# What each provider lists. The names matter: makers are told by them.
MODELS: Mapping[str, Sequence[str]] = {
    "openai": ("gpt-4o", "gpt-4o-mini", "text-embedding-3-small"),
    "azure": ("gpt-4o", "text-embedding-3-small"),
    "anthropic": ("claude-sonnet-4-5", "claude-haiku-4-5"),
    "google": ("gemini-2.5-pro", "gemini-embedding-001"),
    "groq": ("llama-3.3-70b-versatile", "openai/gpt-oss-120b"),
    "openrouter": (
        "openai/gpt-4o",
        "openai/gpt-oss-120b",
        "anthropic/claude-new",
        "openrouter/auto",
    ),
    "helicone": ("gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro"),
    "deepseek": ("deepseek-chat",),
    "amazon-bedrock": ("anthropic.claude-v3",),
    "google-vertex": ("gemini-vertex",),
}


def small_catalog(models: Mapping[str, Sequence[str]] = MODELS) -> Catalog:
    """A catalog of a few providers, reached and named as the real ones."""
    rows = {name: _provider(name, listed) for name, listed in models.items()}
    names = sorted({model for listed in models.values() for model in listed})
    listing = {m: tuple(sorted(p for p, listed in models.items() if m in listed)) for m in names}
    return Catalog(rows, 0.0, listing)


def _provider(name: str, listed: Sequence[str]) -> Provider:
    unsupported = UNSUPPORTED.get(name)
    return Provider(
        id=name,
        name=name.title(),
        env=(),
        dialect=None if unsupported else DIALECTS.get(name, "openai"),
        base_url=f"https://{name}.example/v1",
        unsupported=unsupported,
        compatible=COMPATIBLE.get(name, {}),
        models={
            m: Model(m, m, None, 2_500_000, 10_000_000, None, None, None, None) for m in listed
        },
    )


def dialect_of(provider: str) -> DialectName:
    return "bedrock" if provider in UNSUPPORTED else DIALECTS.get(provider, "openai")


@dataclass
class Table:
    """Scopes, configs and what else a snapshot holds; configs are oldest first."""

    scopes: dict[str, Scope] = field(
        default_factory=lambda: {GLOBAL: Scope(GLOBAL, "global", None)}
    )
    configs: list[ProviderConfig] = field(default_factory=list)
    agents: dict[str, Agent] = field(default_factory=dict)
    gateways: dict[str, RateLimit | None] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    disabled: set[tuple[str, str, str]] = field(default_factory=set)  # scope, provider, model
    _numbers: int = 0

    def scope(self, name: str, parent: str = GLOBAL, *, inherits: bool = True) -> str:
        kind = name.partition(":")[0]
        assert kind in ("group", "gateway", "instance")
        made = Scope(name, kind, parent, inherits)  # type: ignore[arg-type] # checked above
        self.scopes[name] = made
        return name

    def route(self, name: str, *targets: tuple[str, str], scope: str = GLOBAL) -> None:
        """Store a route to these (config id, model)."""
        leading = tuple(Target(*target) for target in targets)
        self.routes.append(Route(f"route {len(self.routes)}", scope, name, leading))

    def add(self, provider: str, alias: str = "default", scope: str = GLOBAL, **more: Any) -> str:
        """Store a config; gives its id, which says what it is."""
        self._numbers += 1
        name = f"{self._numbers:03d} {scope} {provider} {alias}"
        given: dict[str, Any] = {
            "dialect": dialect_of(provider),
            "base_url": f"https://{provider.replace(':', '-')}.example/v1",
            "sealed": b"sealed",
        }
        self.configs.append(
            ProviderConfig(id=name, scope=scope, provider=provider, alias=alias, **given | more)
        )
        return name

    def change(self, name: str, **changed: Any) -> None:
        self.configs = [replace(c, **changed) if c.id == name else c for c in self.configs]

    def snapshot(self) -> Snapshot:
        return Snapshot(
            revision=1,
            compiled_at=0.0,
            hash_key=Secret(bytes(32)),
            scopes=dict(self.scopes),
            configs=by_scope(self.configs),
            clients={},
            agents=dict(self.agents),
            gateways=dict(self.gateways),
            choices=dict(self.choices),
            routes=by_name(self.routes),
            disabled={
                scope: frozenset((p, m) for s, p, m in self.disabled if s == scope)
                for scope in {scope for scope, _, _ in self.disabled}
            },
        )


def key(scope: str = GLOBAL, **more: Any) -> Client:
    return Client(id="key1", digest=b"", scope=scope, name="test", **more)


def ask(
    request: str, model: str | None = None, header: str | None = None, client: Client | None = None
) -> Ask:
    """`request` is a method and a raw path."""
    method, _, path = request.partition(" ")
    return Ask(client or key(), paths.match(method, path.encode()), model, header, 0.0)


CATALOG = small_catalog()


def found(table: Table, request: Ask) -> tuple[str, str | None, str]:
    """Config id, model sent, and the rule that named the provider."""
    candidate = first(table, request)
    return candidate.config.id, candidate.model, candidate.rule


def first(table: Table, request: Ask) -> Candidate:
    """Where the request goes before anything fails."""
    return resolve(table.snapshot(), CATALOG, request)[0]


def refused(table: Table, request: Ask) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        resolve(table.snapshot(), CATALOG, request)
    return raised.value
