"""Surface 1's queries, bodies and answers, and how the rows of several scopes make one view.

Pure: no desk call here. Called by ai_providers.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from admin.api.bodies import Key, Query, Shown, Strict, Text, Url
from admin.api.times import maybe_timestamp
from admin.configure.agents import AgentView
from admin.configure.configs import ConfigView
from admin.configure.health import HealthView
from gateway.catalog import Model, Provider
from gateway.enablement import Off, is_off
from gateway.shapes import AuthType, DialectName

Source = Literal["scope", "inherited", "none"]
State = Literal["healthy", "degraded", "unhealthy", "unknown"]
_CAMEL = ConfigDict(alias_generator=to_camel)
_ASKED = ConfigDict(**Query.model_config, alias_generator=to_camel)
_SHOWN = ConfigDict(**Shown.model_config, alias_generator=to_camel)


class Scoped(Query):
    """`scope`: `global` (the default), a group's TypeId, or any scope's id."""

    scope: Text | None = None


class Alias(Scoped):
    """`alias` names one of several configs; `*` on a DELETE all of them."""

    alias: Text | None = None


class Listing(Scoped):
    """`lastId` is the id of the last provider seen; the Link header has the next page's URL."""

    model_config = _ASKED

    search: Annotated[str, Field(max_length=200)] = ""
    configured: bool | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 200
    last_id: Text | None = None


class ModelListing(Scoped):
    enabled: bool | None = None


class AuthConfig(Strict):
    """Non-secret settings; null removes one, a name left out is kept."""

    model_config = _CAMEL

    region: Text | None = None
    project: Text | None = None
    location: Text | None = None
    resource_name: Text | None = None
    api_version: Text | None = None
    headers: Annotated[dict[str, str], Field(max_length=100)] | None = None


class ConfigureBody(Strict):
    """What is left out is kept. `apiKey: null` clears the key; `verify` asks the provider first;
    `dialect` says what a `custom:…` provider speaks."""

    model_config = _CAMEL

    scope: Text | None = None
    alias: Text | None = None
    api_key: Key | None = None
    auth_type: AuthType | None = None
    auth_config: AuthConfig | None = None
    base_url: Url | None = None
    enabled: bool | None = None
    allow_unlisted: bool | None = None
    dialect: DialectName | None = None
    verify: bool = False


class EnabledBody(Strict):
    enabled: bool


class AiProviderHealth(Shown):
    model_config = _SHOWN

    state: State
    p50_latency_ms: Annotated[int | None, Field(alias="p50LatencyMs")]
    last_check_at: str | None


class ProviderView(Shown):
    """`source` says whose config is shown: this scope's, one further up, or nobody's; `managedBy`
    which file keeps it."""

    model_config = _SHOWN

    id: str
    name: str
    doc: str | None
    npm: str | None
    api: str | None
    env: list[str]
    scope: str
    alias: str | None
    configured: bool
    enabled: bool
    has_api_key: bool
    api_key_preview: str | None
    auth_type: AuthType | None
    base_url: str | None
    source: Source
    model_count: int
    enabled_model_count: int
    health: AiProviderHealth | None
    managed_by: str | None
    created_at: str | None
    updated_at: str | None


class ModelView(Shown):
    """A catalog model; prices in dollars per million tokens, as models.dev has them."""

    model_config = ConfigDict(**Shown.model_config, protected_namespaces=())

    id: str
    providerId: str
    name: str
    family: str | None
    scope: str
    enabled: bool
    agentCount: int
    cost: dict[str, Any] | None
    limit: dict[str, Any] | None
    modalities: dict[str, Any] | None
    reasoning: bool | None
    tool_call: bool | None
    attachment: bool | None
    status: str | None


class AgentItem(Shown):
    model_config = ConfigDict(**_SHOWN, protected_namespaces=())

    id: str
    name: str
    scope: str
    enabled: bool
    model_id: str | None


class Removed(Shown):
    model_config = _SHOWN

    disabled_agents: list[str]
    removed_models: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is visible from a scope: its chain, nearest first, and each scope's configs."""

    scope: str
    chain: tuple[str, ...]
    configs: Mapping[str, Sequence[ConfigView]]
    health: Mapping[str, HealthView]
    disabled: Off
    readable: frozenset[str]  # the scopes whose configs the caller may read

    def enabled(self, provider: str, model: str) -> bool:
        """As requests of this scope find it."""
        return not (self.disabled and is_off(self.disabled, provider, model))

    def providers(self) -> set[str]:
        return {row.provider for rows in self.configs.values() for row in rows}

    def pick(self, provider: str, alias: str | None) -> ConfigView | None:
        """The config a request of this scope would get, active or not; with an alias, this very
        scope's config of that alias."""
        for name in self.chain:
            rows = [row for row in self.configs.get(name, ()) if row.provider == provider]
            if alias is not None:
                return next((row for row in rows if row.alias.lower() == alias.lower()), None)
            if rows:
                return min(rows, key=lambda r: (not r.default, r.alias.lower() != "default"))
        return None


def provider_view(
    seen: Seen, provider: str, known: Provider | None, config: ConfigView | None
) -> ProviderView:
    """A parent's key is not previewed to whoever may not read the parent (data-model, case 13)."""
    names = known.models if known is not None else {}
    open_ = config is not None and config.scope in seen.readable
    return ProviderView(
        id=provider,
        name=known.name if known is not None else config.name if config and open_ else provider,
        doc=known.doc if known is not None else None,
        npm=known.npm if known is not None else None,
        api=known.api if known is not None else None,
        env=list(known.env) if known is not None else [],
        scope=short_scope(seen.scope),
        configured=config is not None,
        source=_source(seen, config),
        model_count=len(names),
        enabled_model_count=sum(seen.enabled(provider, name) for name in names),
        **_of_config(config, open_),
        health=_health(seen.health.get(config.id)) if config is not None else None,
    )


def _of_config(config: ConfigView | None, open_: bool) -> dict[str, Any]:
    if config is None:
        empty = dict.fromkeys(("alias", "api_key_preview", "auth_type", "base_url"))
        others = dict.fromkeys(("managed_by", "created_at", "updated_at"))
        return {**empty, **others, "enabled": False, "has_api_key": False}
    return {
        "alias": config.alias,
        "enabled": config.active,
        "has_api_key": config.secret_version is not None,
        "api_key_preview": (config.secret_preview or None) if open_ else None,
        "auth_type": config.auth_type,
        "base_url": config.base_url if open_ else None,
        "managed_by": config.managed_by if open_ else None,
        "created_at": maybe_timestamp(config.created_at),
        "updated_at": maybe_timestamp(config.modified_at),
    }


def _source(seen: Seen, config: ConfigView | None) -> Source:
    if config is None:
        return "none"
    return "scope" if config.scope == seen.scope else "inherited"


def _health(view: HealthView | None) -> AiProviderHealth | None:
    if view is None:
        return None
    return AiProviderHealth(
        state=view.state,
        p50_latency_ms=view.p50_latency_ms,
        last_check_at=maybe_timestamp(view.last_check_at),
    )


def model_view(
    seen: Seen,
    provider: str,
    model: Model,
    more: Mapping[str, Any],
    bound: Sequence[AgentView],
) -> ModelView:
    """`more` is the model's entry as the catalog's source has it."""
    name = f"{provider}/{model.id}"
    return ModelView(
        id=model.id,
        providerId=provider,
        name=model.name,
        family=model.family,
        scope=short_scope(seen.scope),
        enabled=seen.enabled(provider, model.id),
        agentCount=sum(agent.model == name for agent in bound),
        cost=more.get("cost"),
        limit=more.get("limit"),
        modalities=more.get("modalities"),
        reasoning=more.get("reasoning"),
        tool_call=more.get("tool_call"),
        attachment=more.get("attachment"),
        status=model.status,
    )


def short_scope(scope: str) -> str:
    """A group by its TypeId, as this surface spells it; any other scope by its id."""
    return scope.removeprefix("group:")
