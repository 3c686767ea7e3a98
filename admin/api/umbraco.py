"""Surface 2 under the upstream's own prefix, in the shapes its generated client reads.

Only what differs from connections.py is here: bare ids and arrays, an alias that may change,
`/exists`. Nothing else calls the desk another way.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel
from starlette.responses import JSONResponse, Response

from admin.api import connections
from admin.api.bodies import Shown, Text
from admin.api.capabilities import Capability
from admin.api.connection_shapes import (
    ConnectionChange,
    InScope,
    Narrowed,
    NewConnection,
    OfCapability,
)
from admin.api.connections import LIST, MANAGE, ONE, READ
from admin.api.operations import Call, Operation
from admin.configure import configs
from admin.configure.identity import read_id
from gateway.shapes import GLOBAL

_CAMEL = ConfigDict(alias_generator=to_camel)


class Besides(InScope):
    """`excludeId` is the connection whose own alias does not count."""

    model_config = _CAMEL

    exclude_id: Text | None = None


class ModelName(Shown):
    model_config = _CAMEL

    provider_id: str
    model_id: str


class NamedModel(Shown):
    model: ModelName
    name: str


async def create(call: Call) -> Response:
    view = await connections.made(call)
    return JSONResponse(view.id, 201, {"location": f"{call.request.url.path}/{view.id}"})


async def change(call: Call) -> Response:
    await connections.changed(call, await connections.meant(call), movable=True)
    return Response(status_code=200)


async def delete(call: Call) -> Response:
    return await connections.deleted(call, await connections.meant(call))


async def capability_names(call: Call) -> Response:
    return JSONResponse(await connections.all_offered(call))


async def models(call: Call) -> Response:
    view = await connections.meant(call)
    _, found = await connections.listed(call, view)
    named = [
        NamedModel(model=ModelName(provider_id=view.provider, model_id=model), name=name)
        for model, name in found
    ]
    return JSONResponse([one.model_dump() for one in named])


async def exists(call: Call) -> Response:
    """Whether any connection of the scope has the alias, in any case of its letters."""
    alias, spared = call.part("idOrAlias").lower(), call.query(Besides).exclude_id
    scope = connections.asked_scope(call) or GLOBAL
    views = await configs.every(call.desk, {scope}) if call.may(scope) else []
    apart = read_id(spared) if spared is not None else None
    return JSONResponse(any(v.alias.lower() == alias and v.id != apart for v in views))


_SAME = {"listConnections", "listConnectionsByCapability", "getConnection", "testConnection"}
_ALIKE = tuple(
    replace(row, name=f"umbraco{row.name[0].upper()}{row.name[1:]}")
    for row in connections.OPERATIONS
    if row.name in _SAME
)
OPERATIONS = (
    *_ALIKE,
    Operation(
        "POST",
        LIST,
        MANAGE,
        create,
        name="umbracoCreateConnection",
        summary="Store a provider's key under an alias; answers the GUID",
        query=InScope,
        body=NewConnection,
        answers={201: str},
        refusals=(404,),
    ),
    Operation(
        "PUT",
        ONE,
        MANAGE,
        change,
        name="umbracoChangeConnection",
        summary="Change alias, name, activity or settings; answers nothing",
        query=InScope,
        body=ConnectionChange,
        answers={200: None},
        refusals=(409, 412),
    ),
    Operation(
        "DELETE",
        ONE,
        MANAGE,
        delete,
        name="umbracoDeleteConnection",
        summary="Delete a connection, by GUID or alias, that no route leads to",
        query=InScope,
        answers={200: None},
        refusals=(400, 409, 412),
    ),
    Operation(
        "GET",
        f"{LIST}/capabilities",
        READ,
        capability_names,
        name="umbracoListCapabilities",
        summary="What the models of the configured connections are for, as a bare array",
        query=Narrowed,
        answers={200: list[Capability]},
    ),
    Operation(
        "GET",
        f"{ONE}/models",
        READ,
        models,
        name="umbracoListConnectionModels",
        summary="The models of a connection, as a bare array",
        query=OfCapability,
        answers={200: list[NamedModel]},
        refusals=(409, 502),
    ),
    Operation(
        "GET",
        f"{ONE}/exists",
        READ,
        exists,
        name="umbracoConnectionExists",
        summary="Whether an alias is taken",
        query=Besides,
        answers={200: bool},
    ),
)
