"""Step: which provider configs may serve this request, and under which model name.

`resolve` answers the candidates, `explain` the whole way to them, `visible_models` what could be
asked for. Pure; sends nothing, opens no secret. Called by receive.py, trace.py and enumerate.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.catalog import Catalog
from gateway.enablement import Off, is_enabled, switched_off
from gateway.errors import GatewayError
from gateway.rules import (
    LONGEST,
    Ask,
    Named,
    Visible,
    by_catalog,
    by_prefix,
    visible,
    visible_routes,
)
from gateway.shapes import Candidate, Client, DialectName, ProviderConfig, Route
from gateway.snapshot import Snapshot
from gateway.walk import Step, Walk, check_agent, is_allowed, picked

__all__ = ["Ask", "Trace", "explain", "resolve", "visible_models"]

_MOST: Final = 4096  # remembered answers of one snapshot
_MOST_LISTS: Final = 64  # remembered lists of models
_OURS: Final = "wardgate"  # who owns a route, in a list of models


@dataclass(frozen=True, slots=True)
class Chosen:
    """The config a request would go to. `base_url_host` may hold a port; prices are
    micro-dollars per million tokens, None where the catalog knows none. `model` is what the
    provider is asked for: an Azure deployment, where the config names one."""

    config: str
    alias: str
    scope: str
    provider: str
    base_url_host: str
    dialect: DialectName
    model: str | None
    input_price: int | None
    output_price: int | None


@dataclass(frozen=True, slots=True)
class Aim:
    """A target of the route: whether it may be used, and what was decided about it."""

    config: str
    model: str
    usable: bool
    why: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The route that the model names, and its targets in the order they are tried."""

    id: str
    name: str
    scope: str
    targets: tuple[Aim, ...]


@dataclass(frozen=True, slots=True)
class Applies:
    """A limit the request counts against: of the `client`, the `gateway` or the `config`."""

    policy: str
    limit: int
    window: int
    technique: str


@dataclass(frozen=True, slots=True)
class Refused:
    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Trace:
    """How a request is resolved: either `chosen` or `refused` is there. Holds no secret.

    `chosen` is what is tried first; `route` says what is tried next, if the model names one.
    """

    model: str | None
    narrowed_by: str | None
    scopes: tuple[str, ...]
    steps: tuple[Step, ...]
    route: Taken | None
    chosen: Chosen | None
    refused: Refused | None
    limits: tuple[Applies, ...]


def resolve(snapshot: Snapshot, catalog: Catalog, ask: Ask) -> tuple[Candidate, ...]:
    """Where to send the request, in the order to try it; only a route names more than one.

    Raises NotFound (`model_not_found`, `model_not_enabled`; `not_found` for a gateway in the URL
    that is not there or not this key's), Forbidden (`config_inactive`, `agent_disabled`,
    `model_not_allowed`) and Malformed (`model_required`, `dialect_not_supported`,
    `provider_not_supported`).
    """
    match, client = ask.match, ask.client
    endpoint = match.endpoint
    key = (
        client.id,
        endpoint.template,
        match.account,
        match.gateway,
        match.provider,
        match.model,
        ask.model,
        ask.narrow,
    )
    memo = snapshot.memo.get("resolve")
    if memo is None:
        memo = snapshot.memo["resolve"] = {}
    known = memo.get(key)
    # A client or endpoint of the same name that is another one gets an answer of its own.
    if known is not None and known[0] is client and known[1] is endpoint and known[2] is catalog:
        found: tuple[Candidate, ...] = known[3]
        return found
    candidates = Walk(snapshot, catalog, ask).run()
    if all(len(text or "") <= LONGEST for text in (ask.model, match.model, ask.narrow)):
        if len(memo) >= _MOST:
            memo.clear()
        memo[key] = (client, endpoint, catalog, candidates)
    return candidates


def explain(snapshot: Snapshot, catalog: Catalog, ask: Ask) -> Trace:
    """The same way as `resolve`, told step by step; a refusal is part of the answer."""
    walk, candidate, refused = Walk(snapshot, catalog, ask), None, None
    try:
        candidate = walk.run()[0]
    except GatewayError as error:
        refused = Refused(error.status, error.code, error.message)
    return Trace(
        model=ask.wanted,
        narrowed_by=ask.narrow,
        scopes=walk.scopes,
        steps=tuple(walk.steps),
        route=_taken(walk),
        chosen=_chosen(candidate, catalog) if candidate else None,
        refused=refused,
        limits=_limits(snapshot, ask, walk.scopes, candidate) if candidate else (),
    )


def visible_models(
    snapshot: Snapshot, catalog: Catalog, client: Client, now: float
) -> list[tuple[str, str]]:
    """(name to ask for, provider) of every model the key may use, by provider and name.

    The name is bare where that alone leads to the provider, else `provider/model`. Routes come
    first, under their own names. Raises Forbidden when the key's agent is disabled.
    """
    check_agent(snapshot, client)
    scopes = snapshot.chain(client.scope)
    named = [
        (name, provider)
        for name, provider, model in _names(snapshot, catalog, scopes)
        if is_allowed(client, name, provider, model)
    ]
    return [(name, _OURS) for name in _usable_routes(snapshot, catalog, client, scopes)] + named


def _usable_routes(
    snapshot: Snapshot, catalog: Catalog, client: Client, scopes: tuple[str, ...]
) -> list[str]:
    """Routes with a target that this key may use, by name."""
    off = switched_off(snapshot, scopes)
    return [
        name
        for name, route in sorted(visible_routes(snapshot, scopes).items())
        if any(
            is_allowed(client, name, config.provider, model)
            for config, model in _open_targets(snapshot, catalog, off, route)
        )
    ]


def _open_targets(
    snapshot: Snapshot, catalog: Catalog, off: Off, route: Route
) -> list[tuple[ProviderConfig, str]]:
    chain = snapshot.chain(route.scope)
    found = [(snapshot.config(target.config_id), target.model) for target in route.targets]
    return [
        (config, model)
        for config, model in found
        if config is not None
        and config.scope in chain
        and config.usable
        and is_enabled(off, catalog, config, model)
    ]


def _names(
    snapshot: Snapshot, catalog: Catalog, scopes: tuple[str, ...]
) -> tuple[tuple[str, str, str], ...]:
    """(name to ask for, provider, model), whoever asks from these scopes."""
    memo: dict[Any, Any] = snapshot.memo.setdefault("models", {})
    known = memo.get(scopes)
    if known is None or known[0] is not catalog:
        if len(memo) >= _MOST_LISTS:
            memo.clear()
        rows = sorted(_named_models(snapshot, catalog, scopes), key=lambda row: (row[1], row[0]))
        known = memo[scopes] = (catalog, tuple(rows))
    found: tuple[tuple[str, str, str], ...] = known[1]
    return found


def _named_models(
    snapshot: Snapshot, catalog: Catalog, scopes: tuple[str, ...]
) -> set[tuple[str, str, str]]:
    groups, routes = visible(snapshot, scopes), visible_routes(snapshot, scopes)
    named: set[tuple[str, str, str]] = set()
    for provider, model in _served(snapshot, catalog, scopes, groups):
        for name in (model, f"{provider}/{model}"):
            # What a route is called leads to the route.
            if name not in routes and _reads_as(groups, catalog, name, provider, model):
                named.add((name, provider, model))
                break
    return named


def _served(
    snapshot: Snapshot, catalog: Catalog, scopes: tuple[str, ...], groups: Visible
) -> set[tuple[str, str]]:
    """(provider, model): what the catalog lists for usable providers, and the nearest choice."""
    off = switched_off(snapshot, scopes)
    usable = {p: pick for p, group in groups.items() if (pick := picked(group)) is not None}
    rows = [row for p in usable if (row := catalog.providers.get(p)) and not row.unsupported]
    served = {(row.id, model) for row in rows for model in row.models}
    choice = next((snapshot.choices[s] for s in scopes if s in snapshot.choices), None)
    config = snapshot.config(choice.config_id) if choice else None
    if choice and config and config.provider in usable:
        served.add((config.provider, choice.model))
    return {(p, model) for p, model in served if is_enabled(off, catalog, usable[p], model)}


def _reads_as(groups: Visible, catalog: Catalog, name: str, provider: str, model: str) -> bool:
    found = by_prefix(groups, catalog, name)
    if isinstance(found, str):
        found = by_catalog(groups, catalog, name)
    return isinstance(found, Named) and (found.group.provider, found.model) == (provider, model)


def _taken(walk: Walk) -> Taken | None:
    route = walk.route
    if route is None:
        return None
    aims = [
        Aim(place.target.config_id, place.target.model, place.candidate is not None, place.why)
        for place in walk.places
    ]
    return Taken(route.id, route.name, route.scope, tuple(aims))


def _chosen(candidate: Candidate, catalog: Catalog) -> Chosen:
    config = candidate.config
    row = catalog.providers.get(config.provider)
    model = row.models.get(candidate.model or "") if row else None
    parts = urlsplit(config.base_url)
    return Chosen(
        config=config.id,
        alias=config.alias,
        scope=config.scope,
        provider=config.provider,
        base_url_host=parts.netloc.rpartition("@")[2],
        dialect=config.dialect,
        model=candidate.sent_as,
        input_price=model.input_price if model else None,
        output_price=model.output_price if model else None,
    )


def _limits(
    snapshot: Snapshot, ask: Ask, scopes: tuple[str, ...], candidate: Candidate
) -> tuple[Applies, ...]:
    rows = (
        ("client", ask.client.limit),
        ("gateway", snapshot.gateways.get(scopes[0])),
        ("config", candidate.config.limit),
    )
    return tuple(
        Applies(policy, limit.amount, limit.period, limit.technique)
        for policy, limit in rows
        if limit is not None
    )
