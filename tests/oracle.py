"""A slow and plain reading of docs/resolution.md, to compare gateway/resolve.py with.

Shares no code with gateway/: it walks lists and compares words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.shapes import Agent, DialectName, ProviderConfig, Route
from tests.routing import MODELS, Table

FAMILY = {"chat": "openai", "messages": "anthropic", "generate": "google", "deploy": "azure"}
DIALECT: dict[str, DialectName] = {
    "chat": "openai",
    "messages": "anthropic",
    "generate": "gemini",
    "deploy": "azure",
}
SPEAKS: dict[str, DialectName] = {"anthropic": "anthropic", "google": "gemini", "azure": "azure"}
# (provider, protocol it also speaks) -> what stands behind its base URL then.
ALSO = {
    ("anthropic", "openai"): "",
    ("google", "openai"): "/openai",
    ("openrouter", "anthropic"): "",
}
MAKERS = {"gpt": "openai", "text": "openai", "claude": "anthropic", "gemini": "google"}


@dataclass(frozen=True)
class Request:
    """What a client asks, in the words of the documentation."""

    scope: str
    endpoint: str  # chat, messages, generate, deploy, files
    model: str | None
    header: str | None = None
    url: tuple[str, str] | None = None  # gateway scope, provider or compat
    agent: str | None = None


class Refused(Exception):
    """The oracle's way to say no; the code."""


Answer = tuple[ProviderConfig, str | None]
# Why a route leads nowhere: what is told, the last that applies to any of its targets.
REASONS = ["model_not_found", "config_inactive", "model_not_enabled", "dialect_not_supported"]


def plain(table: Table, request: Request) -> list[Answer]:
    """Configs and models by the book, in the order to try them. Raises Refused."""
    agent = table.agents.get(request.agent or "")
    if request.agent and (agent is None or not agent.enabled):
        raise Refused("agent_disabled")
    scopes = walk(table, request)
    seen = [config for config in table.configs if decides(table, scopes, config)]
    if request.header:
        seen = [config for config in seen if matches(config, request.header)]
    if (route := the_route(table, request, scopes)) is not None:
        return along(table, request, scopes, route)
    if not seen:
        raise Refused("model_not_found" if request.header else nothing(request))
    model: str | None
    wanted, model = named(table, request, scopes, seen, agent)
    usable = [config for config in wanted if config.active and config.sealed]
    if not usable:
        raise Refused("config_inactive")
    for good in (lambda c: c.default, lambda c: c.alias == "default", lambda c: True):
        if fitting := [config for config in usable if good(config)]:
            if model is not None and not enabled(table, scopes, fitting[0], model):
                raise Refused("model_not_enabled")
            return [(in_dialect(request, fitting[0]), model)]
    raise AssertionError("unreachable")


def the_route(table: Table, request: Request, scopes: list[str]) -> Route | None:
    if request.url is not None and request.url[1] != "compat":
        return None
    for scope in scopes:
        for route in table.routes:
            if (route.scope, route.name) == (scope, request.model):
                return route
    return None


def along(table: Table, request: Request, scopes: list[str], route: Route) -> list[Answer]:
    found: list[Answer] = []
    refused: list[str] = []
    visible = parents(table, route.scope)
    for target in route.targets:
        configs = [c for c in table.configs if c.id == target.config_id and c.scope in visible]
        try:
            answer = led_to(table, request, scopes, configs, target.model), target.model
            found += [] if answer in found else [answer]
        except Refused as why:
            refused.append(str(why))
    if not found:
        raise Refused(max(refused, key=REASONS.index, default="config_inactive"))
    return found


def led_to(
    table: Table, request: Request, scopes: list[str], configs: list[ProviderConfig], model: str
) -> ProviderConfig:
    if not configs:
        raise Refused("config_inactive")
    config = configs[0]
    if request.header and not matches(config, request.header):
        raise Refused("model_not_found")
    if not (config.active and config.sealed):
        raise Refused("config_inactive")
    if not enabled(table, scopes, config, model):
        raise Refused("model_not_enabled")
    return in_dialect(request, config)


def enabled(table: Table, scopes: list[str], config: ProviderConfig, model: str) -> bool:
    off = any((scope, config.provider, model) in table.disabled for scope in scopes)
    return not off and (config.allow_unlisted or lists(config.provider, model))


def nothing(request: Request) -> str:
    names_provider = request.url is not None and request.url[1] != "compat"
    if request.model is None and request.endpoint != "files" and not names_provider:
        return "model_required"
    return "model_not_found" if request.model or request.endpoint == "files" else "model_required"


def above(table: Table, scope: str) -> list[str]:
    """The scope and those above it."""
    found: list[str] = []
    while scope in table.scopes:
        found.append(scope)
        scope = table.scopes[scope].parent or ""
    return found


def parents(table: Table, scope: str) -> list[str]:
    """The scope and those it inherits from."""
    found: list[str] = []
    for name in above(table, scope):
        found.append(name)
        if not table.scopes[name].inherits:
            break
    return found


def walk(table: Table, request: Request) -> list[str]:
    if request.url is None:
        return parents(table, request.scope)
    if request.scope not in above(table, request.url[0]):
        raise Refused("not_found")
    return parents(table, request.url[0])


def decides(table: Table, scopes: list[str], config: ProviderConfig) -> bool:
    """True if no nearer scope has a config of the same provider."""
    if config.scope not in scopes:
        return False
    nearer = scopes[: scopes.index(config.scope)]
    return not any(o.provider == config.provider and o.scope in nearer for o in table.configs)


def matches(config: ProviderConfig, header: str) -> bool:
    return header.lower() in (config.alias, f"{config.provider}/{config.alias}")


def named(
    table: Table,
    request: Request,
    scopes: list[str],
    seen: list[ProviderConfig],
    agent: Agent | None,
) -> tuple[list[ProviderConfig], str | None]:
    """The configs of the provider that rule 1, 3, 4, 5, 6 or 7 names, and the model."""
    model = request.model
    if request.url is not None and request.url[1] != "compat":
        return of(seen, request.url[1], request), needed(request, model)
    if model is not None:
        if prefixed := by_prefix(request, scopes, seen, model):
            return prefixed
        if request.endpoint != "deploy" and (best := by_list(request, scopes, seen, model)):
            return best, model
    if model is not None or request.endpoint == "files":
        if family := [c for c in seen if c.provider == FAMILY.get(request.endpoint, "openai")]:
            return family, model
        if only := the_only(request, seen):
            return only, model
    if model is None and (answer := default(table, request, scopes, seen, agent)):
        return answer
    raise Refused(nothing(request))


def of(seen: list[ProviderConfig], provider: str, request: Request) -> list[ProviderConfig]:
    if found := [config for config in seen if config.provider == provider]:
        return found
    raise Refused(nothing(request))


def needed(request: Request, model: str | None) -> str | None:
    if model is None and request.endpoint != "files":
        raise Refused("model_required")
    return model


def lists(provider: str, model: str) -> bool:
    return model in MODELS.get(provider, ())


def by_prefix(
    request: Request, scopes: list[str], seen: list[ProviderConfig], model: str
) -> tuple[list[ProviderConfig], str | None] | None:
    prefix, slash, rest = model.partition("/")
    if not (slash and rest):
        return None
    real = {"google-ai-studio": "google"}.get(prefix, prefix)
    found = [config for config in seen if config.provider == real]
    if not found:
        found = called(request, scopes, seen, prefix, rest)
    if not found:
        return None
    if lists(found[0].provider, rest) or not any(lists(c.provider, model) for c in seen):
        return found, rest
    return None


def called(
    request: Request, scopes: list[str], seen: list[ProviderConfig], alias: str, rest: str
) -> list[ProviderConfig]:
    found = [config for config in seen if config.alias == alias.lower()]
    found = those([c for c in found if lists(c.provider, rest)], found)
    for scope in scopes:
        if here := [config for config in found if config.scope == scope]:
            found = here
            break
    found = those([c for c in found if c.provider == maker(rest)], found)
    family = FAMILY.get(request.endpoint, "openai")
    return those([c for c in found if c.provider == family], found)[:1]


def those(wished: list[ProviderConfig], found: list[ProviderConfig]) -> list[ProviderConfig]:
    return wished or found


def maker(model: str) -> str | None:
    # Bedrock puts the maker's name before the model's.
    words = model.rpartition("/")[2].removeprefix("anthropic.")
    return next((who for begin, who in MAKERS.items() if words.startswith(begin)), None)


def by_list(
    request: Request, scopes: list[str], seen: list[ProviderConfig], model: str
) -> list[ProviderConfig] | None:
    listing = [config for config in seen if lists(config.provider, model)]
    listing = those([config for config in listing if can(request, config)], listing)
    for scope in scopes:
        here = [config for config in listing if config.scope == scope]
        if here:
            made = [config for config in here if config.provider == maker(model)]
            provider = (made or here)[0].provider
            return [config for config in here if config.provider == provider]
    return None


def the_only(request: Request, seen: list[ProviderConfig]) -> list[ProviderConfig] | None:
    if request.header and len(seen) == 1:
        return seen
    dialect = DIALECT.get(request.endpoint, "openai")
    same = [c for c in seen if dialect in (own(c), "openai" if own(c) == "azure" else own(c))]
    return same if len(same) == 1 else None


def own(config: ProviderConfig) -> DialectName:
    return SPEAKS.get(config.provider, "openai")


def default(
    table: Table,
    request: Request,
    scopes: list[str],
    seen: list[ProviderConfig],
    agent: Agent | None,
) -> tuple[list[ProviderConfig], str | None] | None:
    chosen: list[ProviderConfig] = []
    if agent is not None and agent.model is not None:
        provider, model = agent.provider, agent.model
    else:
        scope = next((scope for scope in scopes if scope in table.choices), None)
        if scope is None:
            return None
        choice = table.choices[scope]
        chosen = [config for config in table.configs if config.id == choice.config_id]
        if not chosen:
            return None
        provider, model = chosen[0].provider, choice.model
    found = [config for config in seen if config.provider == provider]
    if not found:
        return None
    exact = [config for config in found if config in chosen]
    return exact or found, None if request.endpoint == "files" else model


def can(request: Request, config: ProviderConfig) -> bool:
    try:
        in_dialect(request, config)
    except Refused:
        return False
    return True


def in_dialect(request: Request, config: ProviderConfig) -> ProviderConfig:
    wanted = DIALECT.get(request.endpoint, "openai")
    if wanted == own(config) or (config.provider, wanted) == ("azure", "openai"):
        return config
    suffix = ALSO.get((config.provider, wanted))
    # Below those paths there are no files.
    if suffix is None or request.endpoint == "files":
        raise Refused("dialect_not_supported")
    return replace(config, dialect=wanted, base_url=config.base_url + suffix)
