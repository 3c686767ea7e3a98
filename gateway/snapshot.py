"""The immutable routing table a worker serves from: lookups out, sealed bytes in and out.

Never SQL, never a clock of its own, never an opened provider key: those stay sealed in it.
Compiled by gateway/store/compile.py; read by authenticate and resolve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.errors import SealBroken
from gateway.shapes import (
    GLOBAL,
    Agent,
    Choice,
    Client,
    ProviderConfig,
    RateLimit,
    Route,
    Scope,
    Secret,
)
from gateway.vault import KeyRing

_BOUND = b"wardgate snapshot 1"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a request needs. `configs` are oldest first; `gateways` go by scope id."""

    revision: int
    compiled_at: float  # Unix seconds
    hash_key: Secret
    scopes: Mapping[str, Scope]
    configs: Mapping[str, tuple[ProviderConfig, ...]]
    clients: Mapping[str, Client]
    agents: Mapping[str, Agent]
    gateways: Mapping[str, RateLimit | None]
    choices: Mapping[str, Choice]
    # By scope, then by name.
    routes: Mapping[str, Mapping[str, Route]] = field(default_factory=dict)
    # By scope: the (provider, model) pairs switched off in it.
    disabled: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    # Whatever readers derive from this one table and want to keep as long as it lives.
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def chain(self, scope_id: str) -> tuple[str, ...]:
        """The scopes whose configs are visible from one: itself and its parents, nearest first,
        up to one that does not inherit; empty when the scope is not stored.
        """
        known = self.memo.get(("chain", scope_id))
        if known is None and scope_id in self.scopes:
            known = self.memo["chain", scope_id] = tuple(self._walk(scope_id, inheriting=True))
        return known or ()

    def lineage(self, scope_id: str) -> tuple[str, ...]:
        """The scope and all its parents, whether it inherits from them or not."""
        return tuple(self._walk(scope_id, inheriting=False)) if scope_id in self.scopes else ()

    def config(self, config_id: str) -> ProviderConfig | None:
        """The config of that id, whatever its scope."""
        if "by id" not in self.memo:
            rows = (config for group in self.configs.values() for config in group)
            self.memo["by id"] = {config.id: config for config in rows}
        found: ProviderConfig | None = self.memo["by id"].get(config_id)
        return found

    def _walk(self, scope_id: str, *, inheriting: bool) -> list[str]:
        walked: list[str] = []
        here: str | None = scope_id
        while here is not None and here not in walked:
            walked.append(here)
            scope = self.scopes.get(here)
            up = scope is not None and (scope.inherits or not inheriting)
            here = scope.parent if scope is not None and up else None
        return walked


class _Wire(msgspec.Struct, array_like=True):
    revision: int
    compiled_at: float
    hash_key: bytes
    scopes: list[Scope]
    configs: list[ProviderConfig]
    clients: list[Client]
    agents: list[Agent]
    gateways: dict[str, RateLimit | None]
    choices: dict[str, Choice]
    routes: list[Route]
    disabled: dict[str, frozenset[tuple[str, str]]]


def pack(snapshot: Snapshot, ring: KeyRing) -> bytes:
    """The snapshot as sealed bytes: what lies on disk and wakes a worker up."""
    wire = _Wire(
        snapshot.revision,
        snapshot.compiled_at,
        snapshot.hash_key.expose(),
        list(snapshot.scopes.values()),
        [config for group in snapshot.configs.values() for config in group],
        list(snapshot.clients.values()),
        list(snapshot.agents.values()),
        dict(snapshot.gateways),
        dict(snapshot.choices),
        [route for group in snapshot.routes.values() for route in group.values()],
        dict(snapshot.disabled),
    )
    return ring.seal(msgspec.msgpack.encode(wire), _BOUND)


def unpack(data: bytes, ring: KeyRing) -> Snapshot:
    """The other way. Raises SealBroken for anything `pack` did not write with this ring."""
    opened = ring.open(data, _BOUND).expose()
    try:
        wire = msgspec.msgpack.decode(opened, type=_Wire)
    except msgspec.DecodeError as error:
        raise SealBroken(f"the snapshot was written by another version: {error}") from None
    return Snapshot(
        revision=wire.revision,
        compiled_at=wire.compiled_at,
        hash_key=Secret(wire.hash_key),
        scopes={scope.id: scope for scope in wire.scopes},
        configs=by_scope(wire.configs),
        clients={client.id: client for client in wire.clients},
        agents={agent.id: agent for agent in wire.agents},
        gateways=wire.gateways,
        choices=wire.choices,
        routes=by_name(wire.routes),
        disabled=wire.disabled,
    )


def by_scope(configs: list[ProviderConfig]) -> dict[str, tuple[ProviderConfig, ...]]:
    """Configs grouped by their scope, keeping their order."""
    groups: dict[str, list[ProviderConfig]] = {}
    for config in configs:
        groups.setdefault(config.scope, []).append(config)
    return {scope: tuple(group) for scope, group in groups.items()}


def by_name(routes: list[Route]) -> dict[str, dict[str, Route]]:
    """Routes by their scope, then by their name."""
    groups: dict[str, dict[str, Route]] = {}
    for route in routes:
        groups.setdefault(route.scope, {})[route.name] = route
    return groups


def empty(now: float) -> Snapshot:
    """A table with the global scope and nothing in it; no key authenticates against it."""
    return Snapshot(
        revision=0,
        compiled_at=now,
        hash_key=Secret(bytes(32)),
        scopes={GLOBAL: Scope(GLOBAL, "global", None)},
        configs={},
        clients={},
        agents={},
        gateways={},
        choices={},
    )
