"""Surface 2: connections, looked up by GUID or alias; errors are RFC 7807 problems.

Turns that wire shape into desk calls and back, and nothing more. umbraco.py serves the same under
the upstream's own prefix, in the shapes of its generated client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from admin import permit
from admin.api import capabilities
from admin.api.bodies import BadRequest, Problem
from admin.api.capabilities import Capability
from admin.api.connection_settings import asked_of, settings_shown
from admin.api.connection_shapes import (
    Capabilities,
    Connection,
    ConnectionChange,
    ConnectionItem,
    ConnectionModel,
    ConnectionModels,
    Connections,
    InScope,
    Narrowed,
    NewConnection,
    OfCapability,
    Tested,
    Window,
)
from admin.api.operations import SCOPE_HEADER, Call, Operation
from admin.api.tags import guard, tagged
from admin.api.times import timestamp
from admin.configure import configs
from admin.configure.configs import ConfigChange, ConfigView, NewConfig
from admin.configure.identity import read_id
from admin.permit import Action
from admin.probe import Probed
from gateway.errors import UpstreamError
from gateway.shapes import GLOBAL

LIST = "/connections"
ONE = f"{LIST}/{{idOrAlias}}"


async def page(call: Call) -> Response:
    asked = call.query(Window)
    wanted = _capability(asked.capability) if asked.capability else None
    found = [view for view in await readable(call) if _fits(view, asked, call)]
    if wanted is not None:
        found = [view for view in found if wanted in offered(view, call)]
    return _many(found[asked.skip : asked.skip + asked.take], len(found))


async def get(call: Call) -> Response:
    return tagged(full(await meant(call)))


async def create(call: Call) -> Response:
    view = await made(call)
    return tagged(full(view), 201, {"location": f"{call.request.url.path}/{view.id}"})


async def change(call: Call) -> Response:
    view = await by_id(call, call.part("idOrAlias"))
    return tagged(full(await changed(call, view)))


async def delete(call: Call) -> Response:
    return await deleted(call, await by_id(call, call.part("idOrAlias")))


async def test(call: Call) -> Response:
    view = await meant(call)
    probed = await call.prober.stored(call.desk, view.id)
    passed = probed.ok or probed.outcome == "unlisted"
    tested = Tested(success=passed, error_message=None if passed else probed.message)
    return JSONResponse(tested.model_dump())


async def capability_names(call: Call) -> Response:
    return JSONResponse(Capabilities(items=await all_offered(call)).model_dump())


async def of_capability(call: Call) -> Response:
    wanted = _capability(call.part("capability"), "path")
    found = [view for view in await readable(call) if wanted in offered(view, call)]
    return _many(found, len(found))


async def models(call: Call) -> Response:
    probed, found = await listed(call, await meant(call))
    items = [
        ConnectionModel(id=model, name=name, capabilities=list(capabilities.of_model(model)))
        for model, name in found
    ]
    return JSONResponse(ConnectionModels(items=items, source=probed.source).model_dump())


def asked_scope(call: Call, said: str | None = None) -> str | None:
    """The one scope that the query, the header and the body (`said`) name, if any.

    Raises BadRequest where they differ.
    """
    queried = call.query(InScope).scope
    if said is not None and queried is not None and said != queried:
        raise BadRequest(Problem(("query", "scope"), f"the body says {said}"))
    scope = said or queried or call.named_scope()
    if scope is not None:
        call.agree(scope)
    return scope


async def readable(call: Call) -> list[ConfigView]:
    """Every config the caller may read, of the scope the request names, if it names one."""
    scope = asked_scope(call)
    reach = permit.reach(call.actor, call.action)
    if scope is not None:
        reach = frozenset((scope,)) if call.may(scope) else frozenset()
    return await configs.every(call.desk, reach)


async def meant(call: Call) -> ConfigView:
    """The config that `idOrAlias` means. Raises NotFound, Refusal: not_found, ambiguous_alias."""
    text = call.part("idOrAlias")
    if read_id(text) is not None:
        return await by_id(call, text)
    scope = asked_scope(call) or GLOBAL
    call.insist(scope)
    return await configs.named(call.desk, text, scope)


async def by_id(call: Call, text: str) -> ConfigView:
    """A config of any scope in which the caller may do this.

    Raises NotFound, BadRequest where the request names another scope than the config's.
    """
    view = await configs.get(call.desk, text)
    call.insist(view.scope)
    if asked_scope(call) not in (None, view.scope):
        where = "query" if call.named_scope() is None else "header"
        field = "scope" if where == "query" else SCOPE_HEADER
        raise BadRequest(Problem((where, field), f"the connection belongs to {view.scope}"))
    return view


async def made(call: Call) -> ConfigView:
    """What a POST makes. Raises NotFound, Refusal."""
    body = await call.body(NewConnection)
    scope = asked_scope(call, body.scope) or GLOBAL
    call.insist(scope)
    asked = asked_of(body.settings) if body.settings is not None else {}
    merged = asked.pop("merged", {})
    new = NewConfig(
        scope=scope,
        provider=body.provider_id,
        alias=body.alias,
        name=body.name,
        active=body.is_active,
        settings={name: value for name, value in merged.items() if value is not None},
        distinct="alias",
        **asked,
    )
    return await configs.create(call.desk, call.actor, new)


async def changed(call: Call, view: ConfigView, *, movable: bool = False) -> ConfigView:
    """What a PUT leaves of `view`; `movable` where the alias may change. Raises Refusal."""
    body = await call.body(ConnectionChange)
    asked = asked_of(body.settings, view) if body.settings is not None else {}
    if body.name is not None:
        asked["name"] = body.name
    if body.is_active is not None:
        asked["active"] = body.is_active
    if body.alias is not None and body.alias != view.alias:
        if not movable and body.alias.lower() != view.alias.lower():
            raise BadRequest(Problem(("body", "alias"), "the alias of a connection cannot change"))
        asked |= {"alias": body.alias} if movable else {}
    if body.provider_id is not None and _provider(body.provider_id, call) != view.provider:
        where = ("body", "providerId")
        raise BadRequest(Problem(where, "the provider of a connection cannot change"))
    return await configs.change(
        call.desk,
        call.actor,
        view.id,
        view.scope,
        ConfigChange(**asked),
        guard=guard(call.request, full),
    )


async def deleted(call: Call, view: ConfigView) -> Response:
    """The empty answer to a DELETE. Raises Refusal."""
    unchanged = guard(call.request, full)
    await configs.delete(call.desk, call.actor, view.id, view.scope, guard=unchanged)
    return Response(status_code=200)


async def all_offered(call: Call) -> list[Capability]:
    """The union over the configs the caller may read."""
    views = await readable(call)
    return capabilities.ordered(what for view in views for what in offered(view, call))


async def listed(call: Call, view: ConfigView) -> tuple[Probed, list[tuple[str, str]]]:
    """What the provider said, and (id, name) of the models wanted. Raises UpstreamError."""
    asked = call.query(OfCapability).capability
    wanted = _capability(asked) if asked else None
    probed = await call.prober.stored(call.desk, view.id)
    if not probed.ok and probed.outcome != "unlisted":
        raise UpstreamError(probed.message)
    known = call.desk.catalog.providers.get(view.provider)
    named = {} if known is None else {model.id: model.name for model in known.models.values()}
    # Google lists `models/gemini-…`; requests name it without.
    ids = [model.removeprefix("models/") for model in probed.models]
    found = [(model, named.get(model, model)) for model in ids]
    if wanted is not None:
        found = [pair for pair in found if wanted in capabilities.of_model(pair[0])]
    return probed, found


def offered(view: ConfigView, call: Call) -> frozenset[Capability]:
    return capabilities.of_provider(view.provider, call.desk.catalog)


def item(view: ConfigView) -> ConnectionItem:
    return ConnectionItem(**_columns(view))


def full(view: ConfigView) -> Connection:
    return Connection(**_columns(view), settings=settings_shown(view))


def _columns(view: ConfigView) -> dict[str, Any]:
    return {
        "id": view.id,
        "alias": view.alias,
        "name": view.name,
        "provider_id": view.provider,
        "is_active": view.active,
        "date_created": timestamp(view.created_at),
        "date_modified": timestamp(view.modified_at),
        "scope": view.scope,
        "managed_by": view.managed_by,
    }


def _many(views: Sequence[ConfigView], total: int) -> Response:
    shown = Connections(items=[item(view) for view in views], total=total)
    return JSONResponse(shown.model_dump())


def _fits(view: ConfigView, asked: Window, call: Call) -> bool:
    wanted = asked.filter.lower()
    if asked.provider_id and view.provider != _provider(asked.provider_id, call):
        return False
    return wanted in view.name.lower() or wanted in view.alias.lower()


def _provider(text: str, call: Call) -> str:
    return call.desk.catalog.canonical(text) or text


def _capability(text: str, where: str = "query") -> Capability:
    found = capabilities.read(text)
    if found is None:
        known = ", ".join(capabilities.CAPABILITIES)
        raise BadRequest(Problem((where, "capability"), f"one of {known}"))
    return found


READ: Action = "providers.read"
MANAGE: Action = "providers.manage"
OPERATIONS = (
    Operation(
        "GET",
        LIST,
        READ,
        page,
        name="listConnections",
        summary="Connections in every scope one may read, without their settings",
        query=Window,
        answers={200: Connections},
    ),
    Operation(
        "POST",
        LIST,
        MANAGE,
        create,
        name="createConnection",
        summary="Store a provider's key under an alias",
        query=InScope,
        body=NewConnection,
        answers={201: Connection},
        refusals=(404,),
    ),
    Operation(
        "GET",
        f"{LIST}/capabilities",
        READ,
        capability_names,
        name="listCapabilities",
        summary="What the models of the configured connections are for",
        query=Narrowed,
        answers={200: Capabilities},
    ),
    Operation(
        "GET",
        f"{LIST}/capabilities/{{capability}}",
        READ,
        of_capability,
        name="listConnectionsByCapability",
        summary="Connections with models for this (any case)",
        query=Narrowed,
        answers={200: Connections},
        refusals=(400,),
    ),
    Operation(
        "GET",
        ONE,
        READ,
        get,
        name="getConnection",
        summary="One connection by GUID or alias, its keys as masks",
        query=InScope,
        answers={200: Connection},
        refusals=(409,),
    ),
    Operation(
        "PUT",
        ONE,
        MANAGE,
        change,
        name="changeConnection",
        summary="Change name, activity or settings, by GUID; what is left out is kept",
        query=InScope,
        body=ConnectionChange,
        answers={200: Connection},
        refusals=(412,),
    ),
    Operation(
        "DELETE",
        ONE,
        MANAGE,
        delete,
        name="deleteConnection",
        summary="Delete a connection, by GUID, that no route leads to",
        query=InScope,
        answers={200: None},
        refusals=(400, 412),
    ),
    Operation(
        "POST",
        f"{ONE}/test",
        MANAGE,
        test,
        name="testConnection",
        summary="Ask the provider for its models with the stored key",
        query=InScope,
        answers={200: Tested},
        refusals=(409,),
    ),
    Operation(
        "GET",
        f"{ONE}/models",
        READ,
        models,
        name="listConnectionModels",
        summary="Models the provider lists just now, or the catalog where it lists none",
        query=OfCapability,
        answers={200: ConnectionModels},
        refusals=(409, 502),
    ),
)
