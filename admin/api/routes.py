"""/api/v1/routes: virtual model names, each an ordered list of targets (config and model).

Whoever may manage the providers of a scope may manage its routes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from admin.api.bodies import Strict, Text
from admin.api.operations import Call, Operation
from admin.api.pages import Named, Paged, covered, many
from admin.api.problems import Page
from admin.api.tags import guard, tagged
from admin.api.times import timestamp
from admin.configure import routes
from admin.configure.orders import UNSET
from admin.configure.routes import MOST_TARGETS, NewRoute, RouteChange, RouteView
from gateway.shapes import GLOBAL, Target

_PATH = "/routes"
_ONE = f"{_PATH}/{{id}}"


class TargetBody(Strict):
    """A provider config by any spelling of its id, and the model asked of it."""

    model_config = ConfigDict(alias_generator=to_camel)

    config_id: Text
    model: Annotated[str, Field(min_length=1, max_length=300)]


Targets = Annotated[list[TargetBody], Field(min_length=1, max_length=MOST_TARGETS)]


class RouteBody(Strict):
    """The body of PATCH: what is left out is kept; `targets` are all the route has then."""

    name: Text = Field(default_factory=str)
    targets: Targets = Field(default_factory=list)


class NewRouteBody(Strict):
    """The body of POST. Without `scope` the header Wardgate-Scope names it, else `global`."""

    name: Text
    scope: Text | None = None
    targets: Targets


class TargetItem(Named):
    config_id: str
    model: str


class RouteItem(Named):
    """A route; its targets are tried in this order."""

    id: str
    name: str
    scope: str
    targets: list[TargetItem]
    managed_by: str | None  # the file that keeps it (config as code)
    created_at: str
    updated_at: str


async def create(call: Call) -> Response:
    body = await call.body(NewRouteBody)
    scope = body.scope or call.named_scope() or GLOBAL
    call.agree(scope)
    call.insist(scope)
    new = NewRoute(name=body.name, scope=scope, targets=_targets(body.targets))
    return tagged(_shown(await routes.create(call.desk, call.actor, new)), 201)


async def page(call: Call) -> Response:
    asked = call.query(Page)
    scopes = covered(call, asked)
    views, total = await routes.page(call.desk, scopes, asked.offset, asked.limit)
    return many(Paged[RouteItem], [_shown(view) for view in views], asked, total)


async def get(call: Call) -> Response:
    return tagged(_shown(await _found(call)))


async def change(call: Call) -> Response:
    found, body = await _found(call), await call.body(RouteBody)
    named = body.model_fields_set
    asked = RouteChange(
        name=body.name if "name" in named else UNSET,
        targets=_targets(body.targets) if "targets" in named else UNSET,
    )
    unchanged = guard(call.request, _shown)
    return tagged(
        _shown(await routes.change(call.desk, call.actor, found.id, asked, guard=unchanged))
    )


async def delete(call: Call) -> Response:
    found = await _found(call)
    await routes.delete(call.desk, call.actor, found.id, guard=guard(call.request, _shown))
    return Response(status_code=204)


async def _found(call: Call) -> RouteView:
    view = await routes.get(call.desk, call.part("id"))
    call.insist(view.scope)
    call.agree(view.scope)
    return view


def _targets(asked: list[TargetBody]) -> list[Target]:
    return [Target(target.config_id, target.model) for target in asked]


def _shown(view: RouteView) -> RouteItem:
    return RouteItem(
        id=view.id,
        name=view.name,
        scope=view.scope,
        targets=[TargetItem(config_id=t.config_id, model=t.model) for t in view.targets],
        managed_by=view.managed_by,
        created_at=timestamp(view.created_at),
        updated_at=timestamp(view.updated_at),
    )


OPERATIONS = (
    Operation(
        "GET",
        _PATH,
        "routes.read",
        page,
        name="listRoutes",
        summary="The routes of the scopes one may read, oldest first",
        query=Page,
        answers={200: Paged[RouteItem]},
    ),
    Operation(
        "POST",
        _PATH,
        "routes.manage",
        create,
        name="createRoute",
        summary="Make a model name that stands for an ordered list of targets",
        body=NewRouteBody,
        answers={201: RouteItem},
        refusals=(404, 409),
    ),
    Operation(
        "GET",
        _ONE,
        "routes.read",
        get,
        name="getRoute",
        summary="One route",
        answers={200: RouteItem},
    ),
    Operation(
        "PATCH",
        _ONE,
        "routes.manage",
        change,
        name="changeRoute",
        summary="Rename a route, or replace its targets",
        body=RouteBody,
        answers={200: RouteItem},
        refusals=(409, 412),
    ),
    Operation(
        "DELETE",
        _ONE,
        "routes.manage",
        delete,
        name="deleteRoute",
        summary="Delete a route; its targets' configs stay",
        answers={204: None},
        refusals=(409, 412),
    ),
)
