"""/api/v1/scopes: where configs belong, and what inherits from what.

Scopes are also made by whatever is first written into them; only here are they moved, cut off from
their parents and deleted.
"""

from __future__ import annotations

from pydantic import Field
from starlette.responses import Response

from admin.api.bodies import Strict, Text
from admin.api.operations import Call, Operation
from admin.api.pages import Named, Paged, covered, many
from admin.api.problems import Page
from admin.api.tags import guard, tagged
from admin.api.times import timestamp
from admin.configure import scopes
from admin.configure.scopes import ScopeChange, ScopeView
from gateway.shapes import GLOBAL, ScopeKind

_PATH = "/scopes"
# Ids contain slashes: gateway:{account}/{gateway}. Nothing may ever stand below a scope's path.
_ONE = f"{_PATH}/{{id:path}}"


class NewScopeBody(Strict):
    """The body of POST."""

    id: Text
    parent: Text = GLOBAL
    inherit: bool = True


class ScopeBody(Strict):
    """The body of PATCH: what is left out is kept."""

    parent: Text = Field(default_factory=str)
    inherit: bool = Field(default_factory=bool)


class ScopeItem(Named):
    """A scope. `parent` is null for `global`; with `inherit` false it sees its own things only."""

    id: str
    kind: ScopeKind
    parent: str | None
    inherit: bool
    created_at: str


async def create(call: Call) -> Response:
    body = await call.body(NewScopeBody)
    call.agree(body.id)
    call.insist(body.id)
    made = scopes.create(call.desk, call.actor, body.id, body.parent, inherit=body.inherit)
    return tagged(_shown(await made), 201)


async def page(call: Call) -> Response:
    asked = call.query(Page)
    within = covered(call, asked)
    views, total = await scopes.page(call.desk, within, asked.offset, asked.limit)
    return many(Paged[ScopeItem], [_shown(view) for view in views], asked, total)


async def get(call: Call) -> Response:
    return tagged(_shown(await scopes.get(call.desk, _named(call))))


async def change(call: Call) -> Response:
    scope, body = _named(call), await call.body(ScopeBody)
    asked = ScopeChange(**body.model_dump(exclude_unset=True))
    unchanged = guard(call.request, _shown)
    return tagged(_shown(await scopes.change(call.desk, call.actor, scope, asked, guard=unchanged)))


async def delete(call: Call) -> Response:
    unchanged = guard(call.request, _shown)
    await scopes.delete(call.desk, call.actor, _named(call), guard=unchanged)
    return Response(status_code=204)


def _named(call: Call) -> str:
    """The scope of the path. Raises NotFound where the caller may not act."""
    scope = call.part("id")
    call.insist(scope)
    call.agree(scope)
    return scope


def _shown(view: ScopeView) -> ScopeItem:
    return ScopeItem(
        id=view.id,
        kind=view.kind,
        parent=view.parent,
        inherit=view.inherit,
        created_at=timestamp(view.created_at),
    )


OPERATIONS = (
    Operation(
        "GET",
        _PATH,
        "scopes.read",
        page,
        name="listScopes",
        summary="The scopes one may read, oldest first",
        query=Page,
        answers={200: Paged[ScopeItem]},
    ),
    Operation(
        "POST",
        _PATH,
        "scopes.manage",
        create,
        name="createScope",
        summary="Make a scope below another",
        body=NewScopeBody,
        answers={201: ScopeItem},
        refusals=(404, 409),
    ),
    Operation(
        "GET",
        _ONE,
        "scopes.read",
        get,
        name="getScope",
        summary="One scope",
        answers={200: ScopeItem},
    ),
    Operation(
        "PATCH",
        _ONE,
        "scopes.manage",
        change,
        name="changeScope",
        summary="Hang a scope below another, or change whether it inherits",
        body=ScopeBody,
        answers={200: ScopeItem},
        refusals=(409, 412),
    ),
    Operation(
        "DELETE",
        _ONE,
        "scopes.manage",
        delete,
        name="deleteScope",
        summary="Delete a scope that nothing refers to",
        answers={204: None},
        refusals=(409, 412),
    ),
)
