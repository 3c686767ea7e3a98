"""One request's way through the rules: which configs were named, and whether they may be used.

Keeps what it saw, so that a refusal can say what was tried. Pure. Used by resolve.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.catalog import Catalog
from gateway.enablement import is_enabled, judges, switched_off
from gateway.errors import Forbidden, GatewayError, Malformed, NotFound
from gateway.protocols import instead, serving
from gateway.rules import (
    RULES,
    Ask,
    Group,
    Named,
    Routed,
    View,
    Visible,
    is_called,
    narrowed,
    short,
    start,
    visible,
)
from gateway.shapes import Candidate, Client, ProviderConfig, Route, Target
from gateway.snapshot import Snapshot

# Endpoints that name a model where we do not read it: closed where a list of models is to hold.
_UNREAD: Final = frozenset({"native", "batches", "images_other", "audio_other"})
# Why a route's target is passed over, by how far it got: the furthest is told when none is left.
_FURTHEST: Final = (
    "model_not_found",
    "config_inactive",
    "model_not_allowed",
    "model_not_enabled",
    "provider_not_supported",
    "dialect_not_supported",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was tried."""

    rule: int
    name: str
    hit: bool
    why: str


@dataclass(frozen=True, slots=True)
class Place:
    """A route's target as one request meets it: what it is sent to, or why it is passed over."""

    target: Target
    candidate: Candidate | None
    why: str


class Walk:
    """One request's way through the rules, with what was seen on it."""

    def __init__(self, snapshot: Snapshot, catalog: Catalog, ask: Ask) -> None:
        self.snapshot = snapshot
        self.catalog = catalog
        self.ask = ask
        self.scopes: tuple[str, ...] = ()
        self.steps: list[Step] = []
        self.route: Route | None = None
        self.places: list[Place] = []

    def run(self) -> tuple[Candidate, ...]:
        """Where the request may go, in the order to try it; only a route gives more than one."""
        check_agent(self.snapshot, self.ask.client)
        self.scopes = start(self.snapshot, self.ask.client, self.ask.match)
        rule, found = self._found()
        if isinstance(found, Routed):
            return self._along(rule, found.route)
        config = _pick(found.group)
        self._check_model(found)
        return (self._candidate(config, found.model, rule),)

    def _found(self) -> tuple[str, Named | Routed]:
        groups = self._visible()
        view = View(self.snapshot, self.catalog, self.ask, self.scopes, groups)
        for rule in RULES:
            found = rule.find(view)
            why = found if isinstance(found, str) else found.why
            self.steps.append(Step(rule.number, rule.name, not isinstance(found, str), why))
            if not isinstance(found, str):
                return rule.name, found
            if rule.name == "url" and self.ask.match.provider is not None:
                break
        raise self._nothing(groups)

    def _visible(self) -> Visible:
        groups = visible(self.snapshot, self.scopes)
        return narrowed(groups, self.ask.narrow) if self.ask.narrow else groups

    def _along(self, rule: str, route: Route) -> tuple[Candidate, ...]:
        """The targets this request may use. Raises for the one that came closest if none is."""
        self.route, refusals = route, []
        for target in dict.fromkeys(route.targets):  # at most once each
            try:
                candidate = self._at(target, rule, route)
            except GatewayError as error:
                refusals.append(error)
                self.places.append(Place(target, None, error.message))
            else:
                self.places.append(Place(target, candidate, "may be used"))
        if left := tuple(place.candidate for place in self.places if place.candidate):
            return left
        if not refusals:
            raise Forbidden(f"route {route.name} has no targets", code="config_inactive")
        raise max(refusals, key=lambda error: _FURTHEST.index(error.code))

    def _at(self, target: Target, rule: str, route: Route) -> Candidate:
        config = self.snapshot.config(target.config_id)
        # The desk checks it when a route is written; no key of another scope hangs on that alone.
        if config is None or config.scope not in self.snapshot.chain(route.scope):
            raise Forbidden("its config is not visible from the route", code="config_inactive")
        if self.ask.narrow and not is_called(config, self.ask.narrow):
            raise NotFound(
                f"route {route.name} has no target called {short(self.ask.narrow)}",
                code="model_not_found",
            )
        if not config.usable:
            raise Forbidden(
                f"{config.provider}/{config.alias} is inactive or has no key",
                code="config_inactive",
            )
        self._check_allowed(config.provider, target.model)
        return self._candidate(config, target.model, rule)

    def _candidate(self, config: ProviderConfig, model: str | None, rule: str) -> Candidate:
        self._check_enabled(config, model)
        self._check_reachable(config.provider)
        return Candidate(self._in_dialect(config), model, rule)

    def _nothing(self, groups: Visible) -> GatewayError:
        if self.ask.narrow and not groups:
            return NotFound(
                f"the key sees no config called {short(self.ask.narrow)}",
                code="model_not_found",
            )
        if self.ask.wanted is None and self.ask.must_name_model:
            return _no_model()
        wanted = self.ask.wanted
        what = f"model {short(wanted)}" if wanted is not None else "this endpoint"
        tried = "; ".join(f"{step.name}: {step.why}" for step in self.steps)
        return NotFound(
            f"no provider config of this key serves {what}. Tried: {tried}",
            code="model_not_found",
            param="model" if wanted is not None else None,
        )

    def _check_model(self, named: Named) -> None:
        ask, client = self.ask, self.ask.client
        if named.model is None:
            if ask.must_name_model or (client.allowed_models and _names_model(ask)):
                raise _no_model()
            if client.allowed_models and ask.match.endpoint.name in _UNREAD:
                raise Forbidden(
                    "this key has a list of models, and this path may name one unseen",
                    code="model_not_allowed",
                )
        else:
            self._check_allowed(named.group.provider, named.model)

    def _check_allowed(self, provider: str, model: str) -> None:
        wanted = self.ask.wanted
        if not is_allowed(self.ask.client, wanted, provider, model):
            raise Forbidden(
                f"model {short(wanted or model)} is not among those this key may use",
                code="model_not_allowed",
                param="model",
            )

    def _check_enabled(self, config: ProviderConfig, model: str | None) -> None:
        off = switched_off(self.snapshot, self.scopes)
        if model is None:
            if judges(off, config):
                self._insist_on_model()
        elif not is_enabled(off, self.catalog, config, model):
            raise NotFound(
                f"model {short(model)} of {config.provider} is not enabled here",
                code="model_not_enabled",
                param="model",
            )

    def _insist_on_model(self) -> None:
        """Where models are judged, none passes unseen: in a form it may stand behind the files,
        a body without one gets the provider's own choice, and some paths we do not read."""
        endpoint = self.ask.match.endpoint
        if endpoint.model_in != "none":
            raise _no_model()
        if endpoint.name in _UNREAD and endpoint.body != "none":
            raise NotFound(
                "models are switched off here, and this path may name one unseen",
                code="model_not_enabled",
                param="model",
            )

    def _check_reachable(self, provider: str) -> None:
        row = self.catalog.providers.get(provider)
        if row is not None and row.unsupported:
            raise Malformed(
                f"{provider} cannot be reached yet: {row.unsupported}",
                code="provider_not_supported",
            )

    def _in_dialect(self, config: ProviderConfig) -> ProviderConfig:
        """The config as this endpoint needs it: at the provider's compatible path if it must be."""
        endpoint = self.ask.match.endpoint
        found = serving(self.catalog, config, endpoint)
        if found is None:
            raise Malformed(
                f"{config.provider} does not speak the protocol of {endpoint.template}; use"
                f" {instead(config, endpoint)}",
                code="dialect_not_supported",
            )
        return found


def check_agent(snapshot: Snapshot, client: Client) -> None:
    if client.agent is None:
        return
    agent = snapshot.agents.get(client.agent)
    if agent is None or not agent.enabled:
        raise Forbidden("the agent that owns this key is disabled", code="agent_disabled")


def picked(group: Group) -> ProviderConfig | None:
    """Of the usable ones the default, else the alias `default`, else the oldest."""
    usable = [config for config in group.configs if config.usable]
    return min(usable, key=lambda c: (not c.default, c.alias.lower() != "default"), default=None)


def _pick(group: Group) -> ProviderConfig:
    config = picked(group)
    if config is None:
        raise Forbidden(
            f"the configs of {group.provider} in {group.configs[0].scope} are inactive or have no"
            " key; a scope's own configs are never passed over for its parent's",
            code="config_inactive",
        )
    return config


def _names_model(ask: Ask) -> bool:
    return ask.match.endpoint.model_in != "none"


def is_allowed(client: Client, asked: str | None, provider: str, model: str) -> bool:
    """Whether the list has the name the client sent, `provider/model`, or the model alone."""
    names = client.allowed_models
    return not names or asked in names or model in names or f"{provider}/{model}" in names


def _no_model() -> Malformed:
    return Malformed(
        "this endpoint needs a model, and neither the request nor the key's agent or scope names"
        " one; in a form, `model` must stand before the files",
        code="model_required",
        param="model",
    )
