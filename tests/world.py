"""A routing table made by hand, and a gateway served from it: what the corridor's tests stand on.

No store, no admin: configs and client keys are sealed and hashed here as the desk would do it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

from gateway import catalog, credential
from gateway.app import Gateway, build
from gateway.settings import Settings
from gateway.shapes import (
    GLOBAL,
    Agent,
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
from gateway.spans import Traces
from gateway.vault import KeyRing, config_binding
from tests.limiting import PATIENT
from tests.serve import serving

PROVIDER_KEY = "sk-upstream-canary-0123456789abcdef"
HASH_KEY = b"h" * 32
LOOPBACK = (ip_network("127.0.0.0/8"),)


def settings(**changed: Any) -> Settings:
    """Settings for a gateway whose upstreams live on loopback."""
    given = {"allowed_upstream_cidrs": LOOPBACK, "heartbeat": 0.0, "redis_timeout": PATIENT}
    return Settings(**{**given, **changed})


@dataclass
class World:
    """Scopes, configs and keys, put together one by one; `snapshot()` is the table of them."""

    ring: KeyRing = field(default_factory=lambda: KeyRing([("test", b"k" * 32)]))
    scopes: dict[str, Scope] = field(
        default_factory=lambda: {GLOBAL: Scope(GLOBAL, "global", None)}
    )
    configs: list[ProviderConfig] = field(default_factory=list)
    clients: dict[str, Client] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    gateways: dict[str, RateLimit | None] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    disabled: dict[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    revision: int = 1

    def config(
        self,
        provider: str,
        base_url: str,
        *,
        dialect: DialectName = "openai",
        alias: str = "default",
        scope: str = GLOBAL,
        secret: str | None = PROVIDER_KEY,
        **more: Any,
    ) -> ProviderConfig:
        """Store a config whose key is `secret`, sealed to its row."""
        row = ProviderConfig(
            id=f"00000000-0000-7000-8000-{len(self.configs):012d}",
            scope=scope,
            provider=provider,
            alias=alias,
            dialect=dialect,
            base_url=base_url,
            origin=base_url,
            secret_version=1,
            **more,
        )
        if secret is not None:
            row = replace(row, sealed=self.ring.seal(secret.encode(), config_binding(row)))
        self.configs.append(row)
        return row

    def route(self, name: str, *targets: tuple[ProviderConfig, str], scope: str = GLOBAL) -> None:
        """A virtual model that leads to these configs and models, in this order."""
        leading = tuple(Target(config.id, model) for config, model in targets)
        self.routes.append(Route(f"route-{len(self.routes)}", scope, name, leading))

    def key(self, scope: str = GLOBAL, **more: Any) -> str:
        """Mint a client key; gives its full text."""
        minted = credential.mint("wg")
        digest = credential.digest(HASH_KEY, minted.text)
        self.clients[minted.public_id] = Client(
            id=minted.public_id, digest=digest, scope=scope, name="test", **more
        )
        return minted.text

    def snapshot(self) -> Snapshot:
        return Snapshot(
            revision=self.revision,
            compiled_at=1_750_000_000.0,
            hash_key=Secret(HASH_KEY),
            scopes=dict(self.scopes),
            configs=by_scope(self.configs),
            clients=dict(self.clients),
            agents=dict(self.agents),
            gateways=dict(self.gateways),
            choices=dict(self.choices),
            routes=by_name(self.routes),
            disabled=dict(self.disabled),
        )


@dataclass
class Served:
    """A gateway on a real socket. `url` has no path."""

    url: str
    gateway: Gateway
    port: int


@contextlib.asynccontextmanager
async def served(
    world: World,
    *,
    clock: Callable[[], float] | None = None,
    traces: Traces | None = None,
    **changed: Any,
) -> AsyncIterator[Served]:
    """Serve the world's snapshot with the gateway's own listener."""
    chosen = settings(**changed)
    more: dict[str, Any] = {} if clock is None else {"clock": clock}
    gateway = build(chosen, world.ring, catalog.load(), world.snapshot(), traces=traces, **more)
    async with serving(gateway, chosen) as url:
        yield Served(url, gateway, int(url.rsplit(":", 1)[1]))
