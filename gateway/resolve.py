"""Step: which provider config serves this request, and under which model name.

`resolve` answers the candidate, `explain` the whole way to it, `visible_models` what could be asked
for. Pure; sends nothing, opens no secret. Called by receive.py, trace.py and enumerate.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.catalog import Catalog
from gateway.errors import GatewayError
from gateway.rules import LONGEST, Ask, Named, Visible, by_catalog, by_prefix, visible
from gateway.shapes import Candidate, Client, DialectName
from gateway.snapshot import Snapshot
from gateway.walk import Step, Walk, check_agent, is_allowed

__all__ = ["Ask", "Trace", "explain", "resolve", "visible_models"]

_MOST: Final = 4096  # remembered answers of one snapshot
_MOST_LISTS: Final = 64  # remembered lists of models


@dataclass(frozen=True, slots=True)
class Chosen:
    """The config a request would go to. `base_url_host` may hold a port; prices are
    micro-dollars per million tokens, None where the catalog knows none."""

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
    """How a request is resolved: either `chosen` or `refused` is there. Holds no secret."""

    model: str | None
    narrowed_by: str | None
    scopes: tuple[str, ...]
    steps: tuple[Step, ...]
    chosen: Chosen | None
    refused: Refused | None
    limits: tuple[Applies, ...]


def resolve(snapshot: Snapshot, catalog: Catalog, ask: Ask) -> Candidate:
    """The config and model to send the request to.

    Raises NotFound (`model_not_found`; `not_found` for a gateway in the URL that is not there or
    not this key's), Forbidden (`config_inactive`, `agent_disabled`, `model_not_allowed`) and
    Malformed (`model_required`, `dialect_not_supported`, `provider_not_supported`).
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
        found: Candidate = known[3]
        return found
    candidate = Walk(snapshot, catalog, ask).run()
    if all(len(text or "") <= LONGEST for text in (ask.model, match.model, ask.narrow)):
        if len(memo) >= _MOST:
            memo.clear()
        memo[key] = (client, endpoint, catalog, candidate)
    return candidate


def explain(snapshot: Snapshot, catalog: Catalog, ask: Ask) -> Trace:
    """The same way as `resolve`, told step by step; a refusal is part of the answer."""
    walk, candidate, refused = Walk(snapshot, catalog, ask), None, None
    try:
        candidate = walk.run()
    except GatewayError as error:
        refused = Refused(error.status, error.code, error.message)
    return Trace(
        model=ask.wanted,
        narrowed_by=ask.narrow,
        scopes=walk.scopes,
        steps=tuple(walk.steps),
        chosen=_chosen(candidate, catalog) if candidate else None,
        refused=refused,
        limits=_limits(snapshot, ask, walk.scopes, candidate) if candidate else (),
    )


def visible_models(
    snapshot: Snapshot, catalog: Catalog, client: Client, now: float
) -> list[tuple[str, str]]:
    """(name to ask for, provider) of every model the key may use, by provider and name.

    The name is bare where that alone leads to the provider, else `provider/model`. Raises Forbidden
    when the key's agent is disabled.
    """
    check_agent(snapshot, client)
    names = _names(snapshot, catalog, snapshot.chain(client.scope))
    if not client.allowed_models:
        return [(name, provider) for name, provider, _ in names]
    return [(n, p) for n, p, model in names if is_allowed(client, n, p, model)]


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
    groups = visible(snapshot, scopes)
    named: set[tuple[str, str, str]] = set()
    for provider, model in _served(snapshot, catalog, scopes, groups):
        for name in (model, f"{provider}/{model}"):
            if _reads_as(groups, catalog, name, provider, model):
                named.add((name, provider, model))
                break
    return named


def _served(
    snapshot: Snapshot, catalog: Catalog, scopes: tuple[str, ...], groups: Visible
) -> set[tuple[str, str]]:
    """(provider, model): what the catalog lists for usable providers, and the nearest choice."""
    usable = {p for p, group in groups.items() if any(c.usable for c in group.configs)}
    rows = [row for p in usable if (row := catalog.providers.get(p)) and not row.unsupported]
    served = {(row.id, model) for row in rows for model in row.models}
    choice = next((snapshot.choices[s] for s in scopes if s in snapshot.choices), None)
    config = snapshot.config(choice.config_id) if choice else None
    if choice and config and config.provider in usable:
        served.add((config.provider, choice.model))
    return served


def _reads_as(groups: Visible, catalog: Catalog, name: str, provider: str, model: str) -> bool:
    found = by_prefix(groups, catalog, name)
    if isinstance(found, str):
        found = by_catalog(groups, catalog, name)
    return isinstance(found, Named) and (found.group.provider, found.model) == (provider, model)


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
        model=candidate.model,
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
