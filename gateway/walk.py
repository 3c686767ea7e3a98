"""One request's way through the rules: which of them named a config, and whether it may be used.

Keeps what it saw, so that a refusal can say what was tried. Pure. Used by resolve.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gateway.catalog import Catalog
from gateway.dialects.table import speaks
from gateway.errors import Forbidden, GatewayError, Malformed, NotFound
from gateway.rules import RULES, Ask, Group, Named, View, Visible, narrowed, short, start, visible
from gateway.shapes import Candidate, Client, DialectName, ProviderConfig
from gateway.snapshot import Snapshot

# Endpoints that name a model where we do not read it: closed to keys with a list of models.
_UNREAD: Final = frozenset({"native", "batches", "images_other", "audio_other"})
# What providers offer in OpenAI's protocol besides chat; Azure offers everything.
_COMPATIBLE: Final = {"google": frozenset({"chat", "embeddings", "images"})}
_CHAT_ONLY: Final = frozenset({"chat"})
_CHAT: Final[dict[DialectName, str]] = {
    "openai": "/v1/chat/completions",
    "azure": "/openai/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:generateContent",
    "bedrock": "/model/{model}/converse",
    "cohere": "/v2/chat",
}
_INSTEAD: Final[dict[str, dict[DialectName, str]]] = {
    "embeddings": {
        "openai": "/v1/embeddings",
        "azure": "/openai/v1/embeddings",
        "gemini": "/v1beta/models/{model}:embedContent",
    },
    "count_tokens": {
        "anthropic": "/v1/messages/count_tokens",
        "gemini": "/v1beta/models/{model}:countTokens",
    },
}


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was tried."""

    rule: int
    name: str
    hit: bool
    why: str


class Walk:
    """One request's way through the rules, with what was seen on it."""

    def __init__(self, snapshot: Snapshot, catalog: Catalog, ask: Ask) -> None:
        self.snapshot = snapshot
        self.catalog = catalog
        self.ask = ask
        self.scopes: tuple[str, ...] = ()
        self.steps: list[Step] = []

    def run(self) -> Candidate:
        check_agent(self.snapshot, self.ask.client)
        self.scopes = start(self.snapshot, self.ask.client, self.ask.match)
        rule, named = self._named()
        config = _pick(named.group)
        self._check_model(named)
        self._check_reachable(config.provider)
        return Candidate(self._in_dialect(config), named.model, rule)

    def _named(self) -> tuple[str, Named]:
        view = View(self.snapshot, self.catalog, self.ask, self.scopes, self._visible())
        for rule in RULES:
            found = rule.find(view)
            hit = isinstance(found, Named)
            self.steps.append(
                Step(rule.number, rule.name, hit, found.why if isinstance(found, Named) else found)
            )
            if isinstance(found, Named):
                return rule.name, found
            if rule.name == "url" and self.ask.match.provider is not None:
                break
        raise self._nothing()

    def _visible(self) -> Visible:
        groups = visible(self.snapshot, self.scopes)
        if not self.ask.narrow:
            return groups
        left = narrowed(groups, self.ask.narrow)
        if not left:
            raise NotFound(
                f"the key sees no config called {short(self.ask.narrow)}",
                code="model_not_found",
            )
        return left

    def _nothing(self) -> GatewayError:
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
        elif not is_allowed(client, ask.wanted, named.group.provider, named.model):
            raise Forbidden(
                f"model {short(ask.wanted or named.model)} is not among those this key may use",
                code="model_not_allowed",
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
        # A path we do not know belongs to the provider, whatever it speaks.
        if speaks(config.dialect, endpoint.dialect) or endpoint.name == "native":
            return config
        path = self._compatible(config, endpoint.dialect)
        if path is None:
            instead = _INSTEAD.get(endpoint.operation, _CHAT).get(config.dialect)
            use = instead or _CHAT[config.dialect]
            raise Malformed(
                f"{config.provider} does not speak the protocol of {endpoint.template}; use {use}",
                code="dialect_not_supported",
            )
        # Always below the config's own base URL: its key goes to no other origin.
        return replace(config, dialect=endpoint.dialect, base_url=config.base_url + path)

    def _compatible(self, config: ProviderConfig, dialect: DialectName) -> str | None:
        row = self.catalog.providers.get(config.provider)
        offered = _COMPATIBLE.get(config.provider, _CHAT_ONLY)
        if dialect == "openai" and self.ask.match.endpoint.name not in offered:
            return None
        return row.compatible.get(dialect) if row is not None else None


def check_agent(snapshot: Snapshot, client: Client) -> None:
    if client.agent is None:
        return
    agent = snapshot.agents.get(client.agent)
    if agent is None or not agent.enabled:
        raise Forbidden("the agent that owns this key is disabled", code="agent_disabled")


def _pick(group: Group) -> ProviderConfig:
    """The default, else the alias `default`, else the oldest that is usable."""
    usable = [config for config in group.configs if config.usable]
    if not usable:
        raise Forbidden(
            f"the configs of {group.provider} in {group.configs[0].scope} are inactive or have no"
            " key; a scope's own configs are never passed over for its parent's",
            code="config_inactive",
        )
    return min(usable, key=lambda c: (not c.default, c.alias.lower() != "default"))


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
