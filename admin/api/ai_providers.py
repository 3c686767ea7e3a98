"""Surface 1: the catalog's providers as one scope sees them, and the scope's own keys for them.

Turns that wire shape into desk calls and back, and nothing more. Scopes are spelled `global`, a
group's TypeId (`gr_…`), or as everywhere else in Wardgate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from admin import permit, verify
from admin.api.bodies import BadRequest, Problem
from admin.api.operations import Call, Operation
from admin.api.provider_views import (
    AgentItem,
    Alias,
    ConfigureBody,
    EnabledBody,
    Listing,
    ModelListing,
    ModelView,
    ProviderView,
    Removed,
    Scoped,
    Seen,
    model_view,
    provider_view,
    short_scope,
)
from admin.api.tags import guard, revised, tagged
from admin.catalog import details
from admin.configure import configs, health, models, scoping
from admin.configure.configs import ConfigChange, ConfigView
from admin.configure.refusals import Refusal
from admin.permit import Action
from gateway.enablement import folded
from gateway.errors import NotFound
from gateway.shapes import GLOBAL, Secret

LIST = "/ai-providers"
ONE = f"{LIST}/{{providerId}}"
_GROUP = "gr_"
_LONGEST_MODEL = 300  # as the catalog reads them


async def page(call: Call) -> Response:
    asked = call.query(Listing)
    scope = _scope(call, asked.scope)
    if not call.may(scope):
        return JSONResponse([])
    found = [view for view in await _views(call, scope) if _fits(view, asked)]
    ids = [view.id for view in found]
    # A last one that is gone meanwhile ends nobody's walk.
    start = bisect_right(ids, asked.last_id) if asked.last_id is not None else 0
    some = found[start : start + asked.limit]
    headers = {}
    if start + asked.limit < len(found):
        query = {**dict(call.request.query_params), "lastId": some[-1].id}
        headers["link"] = f'<{call.request.url.path}?{urlencode(query)}>; rel="next"'
    return JSONResponse([view.model_dump() for view in some], headers=headers)


async def get(call: Call) -> Response:
    scope, alias = _of(call)
    return await _one(call, scope, _provider(call), alias)


async def agents(call: Call) -> Response:
    scope, _ = _of(call)
    provider = _provider(call)
    found = await models.agents_of(call.desk, scope, provider)
    if not found:
        await _insist_known(call, scope, provider)
    return JSONResponse(
        [
            AgentItem(
                id=agent.id,
                name=agent.name,
                scope=short_scope(agent.scope),
                enabled=agent.enabled,
                model_id=agent.model,
            ).model_dump()
            for agent in found
        ]
    )


async def configure(call: Call) -> Response:
    body = await call.body(ConfigureBody)
    asked = call.query(Alias)
    scope = _scope(call, _agreed("scope", _spelled(body.scope), _spelled(asked.scope)))
    alias = _agreed("alias", body.alias, asked.alias)
    call.insist(scope)
    provider = _provider(call)
    await verify.configured(
        call.desk,
        call.prober if body.verify else None,
        call.actor,
        scope,
        provider,
        alias,
        _change(body),
        guard=_unchanged(call),
    )
    return await _one(call, scope, provider, alias)


async def detach(call: Call) -> Response:
    scope, alias = _of(call)
    gone = await configs.detach(
        call.desk, call.actor, scope, _provider(call), alias, guard=_unchanged(call)
    )
    removed = Removed(
        disabled_agents=list(gone.disabled_agents), removed_models=gone.removed_models
    )
    return JSONResponse(removed.model_dump())


async def list_models(call: Call) -> Response:
    asked = call.query(ModelListing)
    scope = _scope(call, asked.scope)
    call.insist(scope)
    found = await _models(call, scope, _provider(call))
    wanted = [view for view in found if asked.enabled in (None, view.enabled)]
    return JSONResponse([view.model_dump() for view in wanted])


async def set_model(call: Call) -> Response:
    scope, _ = _of(call)
    provider, model = _provider(call), call.part("modelId", _LONGEST_MODEL)
    body = await call.body(EnabledBody)
    await models.set_enabled(call.desk, call.actor, scope, provider, model, body.enabled)
    found = await _models(call, scope, provider)
    return JSONResponse(next(view for view in found if view.id == model).model_dump())


def _of(call: Call) -> tuple[str, str | None]:
    """Scope and alias of the query. Raises NotFound where the caller may not do this."""
    asked = call.query(Alias)
    scope = _scope(call, asked.scope)
    call.insist(scope)
    return scope, asked.alias


def _scope(call: Call, text: str | None) -> str:
    """The scope's id: `gr_…` stands for a group. Raises BadRequest, Refusal bad_scope, reserved."""
    said = _spelled(call.named_scope())
    scope = _spelled(text) or said or GLOBAL
    if said not in (None, scope):
        message = f"Wardgate-Scope says {said}, the request itself {scope}"
        raise BadRequest(Problem(("header", "wardgate-scope"), message))
    scoping.kind_of(scope)
    return scope


def _spelled(text: str | None) -> str | None:
    return f"group:{text}" if text is not None and text.startswith(_GROUP) else text


def _agreed(name: str, body: str | None, query: str | None) -> str | None:
    if body is not None and query is not None and body != query:
        raise BadRequest(Problem(("query", name), f"the body says {body}"))
    return body if body is not None else query


def _provider(call: Call) -> str:
    """The catalog's id of the provider in the path. Raises NotFound."""
    known = call.desk.catalog.canonical(call.part("providerId"))
    if known is None:
        raise NotFound("Not Found")
    return known


def _change(body: ConfigureBody) -> ConfigChange:
    """Only what was sent; `apiKey: null` clears the key."""
    sent = body.model_fields_set
    asked: dict[str, Any] = {}
    if "api_key" in sent:
        asked["secret"] = None if body.api_key is None else Secret(body.api_key.encode())
    if body.auth_type is not None:
        asked["auth_type"] = body.auth_type
    if "base_url" in sent:
        asked["base_url"] = body.base_url
    if body.enabled is not None:
        asked["active"] = body.enabled
    if body.allow_unlisted is not None:
        asked["allow_unlisted"] = body.allow_unlisted
    if body.dialect is not None:
        asked["dialect"] = body.dialect
    if body.auth_config is not None:
        asked["merged"] = body.auth_config.model_dump(by_alias=True, exclude_unset=True)
    return ConfigChange(**asked)


def _unchanged(call: Call) -> Callable[[ConfigView | None], None]:
    """If-Match, also where nothing is there: what was removed meanwhile is not made anew."""
    check = guard(call.request, _state)

    def unchanged(now: ConfigView | None) -> None:
        if now is None and call.request.headers.get("if-match", "").strip() == "*":
            raise Refusal("stale", "nothing is configured there (If-Match: *)")
        check(now)

    return unchanged


def _state(own: ConfigView | None) -> dict[str, Any]:
    """What an ETag is made of: the scope's own config, never one it inherits."""
    return {"id": None} if own is None else revised(own)


async def _one(call: Call, scope: str, provider: str, alias: str | None) -> Response:
    view, config = await _view(call, scope, provider, alias)
    own = config if config is not None and config.scope == scope else None
    return tagged(view, of=_state(own))


async def _view(
    call: Call, scope: str, provider: str, alias: str | None
) -> tuple[ProviderView, ConfigView | None]:
    seen = await _seen(call, scope)
    config = seen.pick(provider, alias)
    known = call.desk.catalog.providers.get(provider)
    # A custom provider is one where somebody made a config of it.
    if (known is None or alias is not None) and config is None:
        raise NotFound("Not Found")
    return provider_view(seen, provider, known, config), config


async def _views(call: Call, scope: str) -> list[ProviderView]:
    seen = await _seen(call, scope)
    catalog = call.desk.catalog.providers
    names = sorted({*catalog, *seen.providers()})
    return [provider_view(seen, name, catalog.get(name), seen.pick(name, None)) for name in names]


async def _seen(call: Call, scope: str) -> Seen:
    """What is visible from the scope, nearest first, and how it does."""
    chain = await models.chain(call.desk, scope)
    rows = await configs.every(call.desk, frozenset(chain))
    return Seen(
        scope=scope,
        chain=chain,
        configs={name: [row for row in rows if row.scope == name] for name in chain},
        health=await health.every(call.desk, [row.id for row in rows]),
        disabled=folded(await models.disabled(call.desk, chain)),
        readable=frozenset(name for name in chain if permit.allows(call.actor, READ, name)),
    )


async def _models(call: Call, scope: str, provider: str) -> list[ModelView]:
    seen = await _seen(call, scope)
    known = call.desk.catalog.providers.get(provider)
    if known is None:
        _insist_seen(seen, provider)
        return []
    bound = await models.agents_of(call.desk, scope, provider)
    more = details(call.desk.catalog, provider)
    return [
        model_view(seen, provider, model, more.get(model.id, {}), bound)
        for model in known.models.values()
    ]


async def _insist_known(call: Call, scope: str, provider: str) -> None:
    """Raises NotFound for a custom provider nobody made a config of."""
    if provider not in call.desk.catalog.providers:
        _insist_seen(await _seen(call, scope), provider)


def _insist_seen(seen: Seen, provider: str) -> None:
    if provider not in seen.providers():
        raise NotFound("Not Found")


def _fits(view: ProviderView, asked: Listing) -> bool:
    words = asked.search.lower()
    named = words in view.id.lower() or words in view.name.lower()
    return named and asked.configured in (None, view.configured)


READ: Action = "providers.read"
MANAGE: Action = "providers.manage"
OPERATIONS = (
    Operation(
        "GET",
        LIST,
        READ,
        page,
        name="listAiProviders",
        summary="Every provider of the catalog, as configured in a scope",
        query=Listing,
        answers={200: list[ProviderView]},
    ),
    Operation(
        "GET",
        ONE,
        READ,
        get,
        name="getAiProvider",
        summary="One provider, as configured in a scope",
        query=Alias,
        answers={200: ProviderView},
    ),
    Operation(
        "GET",
        f"{ONE}/agents",
        MANAGE,
        agents,
        name="listAiProviderAgents",
        summary="Agents of the scope that are bound to a model of the provider",
        query=Alias,
        answers={200: list[AgentItem]},
    ),
    Operation(
        "PUT",
        f"{ONE}/configure",
        MANAGE,
        configure,
        name="configureAiProvider",
        summary="Set or change the scope's key and settings for a provider",
        query=Alias,
        body=ConfigureBody,
        answers={200: ProviderView},
        refusals=(409, 412, 422),
    ),
    Operation(
        "DELETE",
        f"{ONE}/configure",
        MANAGE,
        detach,
        name="removeAiProviderConfiguration",
        summary="Remove the scope's config, its model records, and disable its agents",
        query=Alias,
        answers={200: Removed},
        refusals=(409, 412),
    ),
    Operation(
        "GET",
        f"{ONE}/models",
        "models.read",
        list_models,
        name="listAiProviderModels",
        summary="The provider's models, as enabled in a scope",
        query=ModelListing,
        answers={200: list[ModelView]},
    ),
    Operation(
        "PUT",
        f"{ONE}/models/{{modelId:path}}",
        "models.manage",
        set_model,
        name="setAiProviderModel",
        summary="Enable or disable a model in a scope",
        query=Scoped,
        body=EnabledBody,
        answers={200: ModelView},
        refusals=(409,),
    ),
)
