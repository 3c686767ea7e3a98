"""The rules by which a request finds its config, as docs/resolution.md numbers them: a table.

A rule names a provider's configs or says why it does not; the first that names some wins. Pure: a
snapshot, a catalog and what the client asked for. Nothing here knows keys, limits or the network.
Used by resolve.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from gateway.catalog import Catalog
from gateway.dialects.table import speaks
from gateway.errors import NotFound
from gateway.paths import Endpoint, Match
from gateway.protocols import serving
from gateway.providers import known_as
from gateway.shapes import Client, DialectName, ProviderConfig, Route
from gateway.snapshot import Snapshot

LONGEST: Final = 256  # characters of a client's text that are worth remembering


class Ask(msgspec.Struct, frozen=True):
    """What the client asked for; `narrow` is its `wardgate-config` header, `now` Unix seconds."""

    client: Client
    match: Match
    model: str | None
    narrow: str | None
    now: float

    @property
    def wanted(self) -> str | None:
        """The model as the client named it, in the body or in the path."""
        # An empty name names nothing.
        return (self.model if self.model is not None else self.match.model) or None

    @property
    def must_name_model(self) -> bool:
        """True where providers answer nothing useful without a model.

        Moderations and images have a default model; in a form it may stand behind the files.
        """
        endpoint = self.match.endpoint
        return endpoint.model_in in ("body", "path") and endpoint.name not in (
            "moderations",
            "images",
        )


@dataclass(frozen=True, slots=True)
class Group:
    """One provider's configs of the nearest scope that has any: these decide, none above them.

    `distance` counts scopes from where resolution starts; `age` is the place of the oldest of them
    among its scope's configs.
    """

    provider: str
    distance: int
    age: int
    configs: tuple[ProviderConfig, ...]  # oldest first

    def called(self, alias: str) -> Group | None:
        """Only the config of that alias, if there is one."""
        for config in self.configs:
            if config.alias.lower() == alias:
                return replace(self, configs=(config,))
        return None


Visible = Mapping[str, Group]  # by provider


@dataclass(frozen=True, slots=True)
class Named:
    """A rule's answer: whose configs, the model to send, and why in words."""

    group: Group
    model: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Routed:
    """A rule's answer that names no provider: a route, whose targets are tried in their order."""

    route: Route
    why: str


@dataclass(frozen=True, slots=True)
class View:
    """What the rules look at: the scopes from the nearest up, and what is visible from there."""

    snapshot: Snapshot
    catalog: Catalog
    ask: Ask
    scopes: tuple[str, ...]
    visible: Visible


@dataclass(frozen=True, slots=True)
class Rule:
    """One row; `find` answers Named or Routed, or the reason why this rule names nothing."""

    number: int
    name: str
    find: Callable[[View], Named | Routed | str]


def start(snapshot: Snapshot, client: Client, match: Match) -> tuple[str, ...]:
    """The scopes to look in, nearest first. Raises NotFound, alike for absent and foreign ones."""
    if match.account is None:
        return snapshot.chain(client.scope)
    gateway = f"gateway:{match.account}/{match.gateway}"
    # A gateway that inherits nothing still lies below its parents: their keys may use it.
    if client.scope not in snapshot.lineage(gateway):
        raise NotFound(f"no gateway {match.gateway} in account {match.account}")
    return snapshot.chain(gateway)


def visible_routes(snapshot: Snapshot, scopes: tuple[str, ...]) -> Mapping[str, Route]:
    """By name, the route of the nearest scope that has one of that name."""
    found: dict[str, Route] = {}
    for scope in reversed(scopes):
        found |= snapshot.routes.get(scope, {})
    return found


def visible(snapshot: Snapshot, scopes: tuple[str, ...]) -> Visible:
    """By provider, the configs of the nearest scope that has any, usable or not."""
    known: Visible | None = snapshot.memo.get(("visible", scopes))
    if known is None:
        known = snapshot.memo["visible", scopes] = _visible(snapshot, scopes)
    return known


def _visible(snapshot: Snapshot, scopes: tuple[str, ...]) -> Visible:
    groups: dict[str, Group] = {}
    for distance, scope in enumerate(scopes):
        here: dict[str, Group] = {}
        for age, config in enumerate(snapshot.configs.get(scope, ())):
            group = here.get(config.provider, Group(config.provider, distance, age, ()))
            here[config.provider] = replace(group, configs=(*group.configs, config))
        groups = here | groups
    return groups


def narrowed(groups: Visible, header: str) -> Visible:
    """What is left of `groups` when the client names an `alias` or a `provider/alias`."""
    left = {}
    for provider, group in groups.items():
        called = tuple(config for config in group.configs if is_called(config, header))
        if called:
            left[provider] = replace(group, configs=called)
    return left


def is_called(config: ProviderConfig, header: str) -> bool:
    """Whether the client's header, an `alias` or a `provider/alias`, names this config."""
    provider, _, alias = header.rpartition("/")
    same = not provider or known_as(provider) == config.provider
    return same and config.alias.lower() == alias.lower()


def by_prefix(groups: Visible, catalog: Catalog, model: str, family: str = "") -> Named | str:
    """Rule 3. An id that contains a slash itself is read whole where only that makes sense."""
    prefix, _, rest = model.partition("/")
    if not (prefix and rest):
        return f"{short(model)} has no prefix"
    group = groups.get(known_as(prefix)) or _by_alias(groups, catalog, prefix, rest, family)
    if group is None:
        return f"no visible config is of a provider or an alias {short(prefix)}"
    whole = [p for p in catalog.listing(model) if p in groups]
    if whole and not catalog.lists(group.provider, rest):
        return f"{short(model)} is an id of {whole[0]} as it stands"
    return Named(group, rest, f"{prefix} names {_these(group)}")


def _by_alias(
    groups: Visible, catalog: Catalog, prefix: str, rest: str, family: str
) -> Group | None:
    """Of several providers with that alias the one that lists the model, else the nearest."""
    alias = prefix.lower()
    called = [found for group in groups.values() if (found := group.called(alias))]
    if len(called) < 2:
        return called[0] if called else None
    maker = _maker(catalog, rest)
    return min(
        called,
        key=lambda g: (
            not catalog.lists(g.provider, rest),
            g.distance,
            g.provider != maker,
            g.provider != family,
            g.configs[0].id,  # ids sort by the time they were made
        ),
    )


def by_catalog(
    groups: Visible, catalog: Catalog, model: str, endpoint: Endpoint | None = None
) -> Named | str:
    """Rule 4: nearest scope, then the model's own maker, then the oldest config.

    Providers that do not serve `endpoint` count only where none does.
    """
    listed = [groups[provider] for provider in catalog.listing(model) if provider in groups]
    if endpoint is not None:
        fit = [one for one in listed if serving(catalog, one.configs[0], endpoint) is not None]
        listed = fit or listed
    if not listed:
        return f"no visible config's provider lists {short(model)}"
    maker = _maker(catalog, model)
    best = min(listed, key=lambda g: (g.distance, g.provider != maker, g.age))
    return Named(best, model, f"{best.provider} lists {short(model)}: {_these(best)}")


def _url(view: View) -> Named | str:
    provider = view.ask.match.provider
    if provider is None:
        return "the URL names no provider"
    group = view.visible.get(known_as(provider))
    if group is None:
        return f"the URL names {short(provider)}, of which no config is visible"
    return Named(group, view.ask.wanted, f"the URL names {_these(group)}")


def _route(view: View) -> Routed | str:
    model = view.ask.wanted
    if model is None:
        return "the request names no model"
    for scope in view.scopes:
        route = view.snapshot.routes.get(scope, {}).get(model)
        if route is not None:
            return Routed(route, f"{short(model)} is a route of {scope}")
    return f"no visible route is called {short(model)}"


def _prefix(view: View) -> Named | str:
    model = view.ask.wanted
    if model is None:
        return "the request names no model"
    return by_prefix(view.visible, view.catalog, model, view.ask.match.endpoint.family)


def _catalog(view: View) -> Named | str:
    model, endpoint = view.ask.wanted, view.ask.match.endpoint
    if model is None:
        return "the request names no model"
    if endpoint.dialect == "azure" and endpoint.model_in == "path":
        return f"{short(model)} is a deployment, which no catalog knows"
    return by_catalog(view.visible, view.catalog, model, endpoint)


def _family(view: View) -> Named | str:
    if view.ask.wanted is None and view.ask.must_name_model:
        return "this endpoint needs a model"
    family = view.ask.match.endpoint.family
    group = view.visible.get(family)
    if group is None:
        return f"the endpoint is {family}'s, of which no config is visible"
    return Named(group, view.ask.wanted, f"the endpoint is that of {_these(group)}")


def _only(view: View) -> Named | str:
    if view.ask.wanted is None and view.ask.must_name_model:
        return "this endpoint needs a model"
    dialect = view.ask.match.endpoint.dialect
    found = list(_speaking(view.visible.values(), dialect))
    everything = [one for group in view.visible.values() for one in _single(group)]
    if view.ask.narrow and len(everything) == 1:
        found = everything  # the client pointed at it: better refused by name than not found
    if len(found) != 1:
        return f"{len(found)} visible configs speak {dialect}, not exactly one"
    return Named(found[0], view.ask.wanted, f"the only one there is: {_these(found[0])}")


def _speaking(groups: Iterable[Group], dialect: DialectName) -> Iterable[Group]:
    """Each config by itself that serves this dialect as it is; an Azure resource OpenAI's too."""
    for group in groups:
        for one in _single(group):
            if speaks(one.configs[0].dialect, dialect):
                yield one


def _single(group: Group) -> Iterable[Group]:
    return (replace(group, configs=(config,)) for config in group.configs)


def _default(view: View) -> Named | str:
    """Rule 7: the agent's bound model, else the nearest choice."""
    if view.ask.wanted is not None:
        return "the request names a model"
    agent = view.snapshot.agents.get(view.ask.client.agent or "")
    if agent is not None and agent.model is not None:
        return _bound(view, agent.provider, agent.model)
    for scope in view.scopes:
        if (choice := view.snapshot.choices.get(scope)) is not None:
            return _chosen(view, scope, choice.config_id, choice.model)
    return "the key's agent is bound to no model, and no scope has a choice"


def _bound(view: View, provider: str | None, model: str) -> Named | str:
    prefix, _, rest = model.partition("/")
    if provider is None or (prefix == provider and not view.catalog.lists(provider, model)):
        provider, model = prefix, rest
    group = view.visible.get(known_as(provider))
    if group is None:
        return f"the agent is bound to {provider}/{model}, and no config of it is visible"
    return Named(group, _sent(view, model), f"the agent is bound to {model} of {_these(group)}")


def _chosen(view: View, scope: str, config_id: str, model: str) -> Named | str:
    config = view.snapshot.config(config_id)
    group = view.visible.get(config.provider) if config is not None else None
    if config is None or group is None:
        return f"the choice of {scope} is a config that is not visible"
    # A nearer scope with configs of that provider decides here as everywhere.
    if config in group.configs:
        group = replace(group, configs=(config,))
    return Named(group, _sent(view, model), f"the choice of {scope} is {model} of {_these(group)}")


def _sent(view: View, model: str) -> str | None:
    return model if view.ask.must_name_model else None


def _maker(catalog: Catalog, model: str) -> str | None:
    # The catalog remembers what it was asked; what is too long to be a model is not asked.
    return catalog.maker(model) if len(model) <= LONGEST else None


def _these(group: Group) -> str:
    return f"{group.provider} in {group.configs[0].scope}"


def short(text: str) -> str:
    """A client's text, fit for a message."""
    return text if len(text) <= 100 else text[:100] + "…"


RULES: Final = (
    Rule(1, "url", _url),
    Rule(2, "route", _route),
    Rule(3, "prefix", _prefix),
    Rule(4, "catalog", _catalog),
    Rule(5, "family", _family),
    Rule(6, "only", _only),
    Rule(7, "default", _default),
)
