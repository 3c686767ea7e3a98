"""The immutable routing table a worker serves from: lookups out, sealed bytes in and out.

Never SQL, never a clock of its own, never an opened provider key: those stay sealed in it.
Compiled by gateway/store/compile.py; read by authenticate and resolve.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway import credential
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
_RING = b"wardgate snapshot ring 1"


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
    memo: dict[Any, Any] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return f"<Snapshot: revision {self.revision}, {len(self.clients)} client keys>"

    def digest(self, text: str) -> bytes:
        """What is stored of a client key."""
        hasher = self.memo.get("hasher")
        if hasher is None:
            hasher = self.memo["hasher"] = credential.Hasher(self.hash_key.expose())
        found: bytes = hasher(text)
        return found

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
    mark: bytes = b""
    ring: bytes = b""


def pack(snapshot: Snapshot, ring: KeyRing, mark: bytes = b"") -> bytes:
    """The snapshot as sealed bytes: what lies on disk and wakes a worker up.

    `mark` stands for everything it was made from, where that is known (see `still_holds`).
    """
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
        mark,
        _print(ring),
    )
    return ring.seal(msgspec.msgpack.encode(wire), _BOUND)


def unpack(data: bytes, ring: KeyRing) -> Snapshot:
    """The other way. Raises SealBroken for anything `pack` did not write with this ring."""
    wire = _opened(data, ring)
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


def still_holds(data: bytes, ring: KeyRing, mark: bytes) -> bool:
    """True when these bytes were packed under this very mark and with this very ring.

    Nobody without a master key can make them say so. Raises SealBroken as `unpack` does.
    """
    wire = _opened(data, ring)
    same = hmac.compare_digest(wire.ring, _print(ring)) and hmac.compare_digest(wire.mark, mark)
    return bool(mark) and same


def _opened(data: bytes, ring: KeyRing) -> _Wire:
    opened = ring.open(data, _BOUND).expose()
    try:
        return msgspec.msgpack.decode(opened, type=_Wire)
    except msgspec.DecodeError as error:
        raise SealBroken(f"the snapshot was written by another version: {error}") from None


def _print(ring: KeyRing) -> bytes:
    """Tells this ring from any other, every key of it. Only ever written inside a seal."""
    keys = (hashlib.sha256(name.encode() + b":" + key).digest() for name, key in ring.expose())
    return hashlib.sha256(_RING + b"".join(keys)).digest()


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
