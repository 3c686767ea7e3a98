"""/api/v1/admin-tokens: what admins and scripts hold. The token is shown when it is made, once.

For superadmins. The desk sees to it that a grant never exceeds what its granter holds himself.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from admin.api.bodies import Strict, Text
from admin.api.operations import Call, Operation
from admin.api.pages import Named, Paged, many
from admin.api.problems import Page
from admin.api.tags import guard, tagged
from admin.api.times import timestamp
from admin.configure import tokens
from admin.configure.orders import UNSET
from admin.configure.tokens import TokenChange, TokenView
from admin.permit import Grant
from gateway.shapes import GLOBAL

_PATH = "/admin-tokens"
_ONE = f"{_PATH}/{{id}}"


class GrantBody(Strict):
    """A permission and the scope it holds in."""

    permission: Text
    scope: Text = GLOBAL


Grants = Annotated[list[GrantBody], Field(max_length=200)]


class NewTokenBody(Strict):
    """The body of POST."""

    name: Text
    grants: Grants = []


class TokenBody(Strict):
    """The body of PATCH: what is left out is kept; `grants` are all it holds then."""

    name: Text = Field(default_factory=str)
    grants: Grants = Field(default_factory=list)


class GrantItem(Named):
    permission: str
    scope: str


class AdminToken(Named):
    """An admin token without its secret."""

    id: str
    name: str
    grants: list[GrantItem]
    key_preview: str
    created_at: str


class MadeToken(AdminToken):
    """The same with the token itself, shown this once."""

    key: str


async def create(call: Call) -> Response:
    body = await call.body(NewTokenBody)
    call.agree(GLOBAL)
    view, text = await tokens.create(call.desk, call.actor, body.name, _grants(body.grants))
    return tagged(_made(view, text), 201, of=_kept(view))


async def page(call: Call) -> Response:
    asked = call.query(Page)
    call.agree(GLOBAL)
    views, total = await tokens.page(call.desk, asked.offset, asked.limit)
    return many(Paged[AdminToken], [_shown(view) for view in views], asked, total)


async def get(call: Call) -> Response:
    call.agree(GLOBAL)
    view = await tokens.get(call.desk, call.part("id"))
    return tagged(_shown(view), of=_kept(view))


async def change(call: Call) -> Response:
    call.agree(GLOBAL)
    body = await call.body(TokenBody)
    named = body.model_fields_set
    asked = TokenChange(
        name=body.name if "name" in named else UNSET,
        grants=_grants(body.grants) if "grants" in named else UNSET,
    )
    unchanged = guard(call.request, _kept)
    view = await tokens.change(call.desk, call.actor, call.part("id"), asked, guard=unchanged)
    return tagged(_shown(view), of=_kept(view))


async def rotate(call: Call) -> Response:
    call.agree(GLOBAL)
    unchanged = guard(call.request, _kept)
    view, text = await tokens.rotate(call.desk, call.actor, call.part("id"), guard=unchanged)
    return tagged(_made(view, text), of=_kept(view))


async def revoke(call: Call) -> Response:
    call.agree(GLOBAL)
    unchanged = guard(call.request, _kept)
    await tokens.revoke(call.desk, call.actor, call.part("id"), guard=unchanged)
    return Response(status_code=204)


def _grants(asked: list[GrantBody]) -> tuple[Grant, ...]:
    return tuple(Grant(item.permission, item.scope) for item in asked)


def _shown(view: TokenView) -> AdminToken:
    return AdminToken(**_fields(view))


def _made(view: TokenView, text: str) -> MadeToken:
    return MadeToken(**_fields(view), key=text)


def _kept(view: TokenView) -> dict[str, Any]:
    """What its tag is made of: another secret changes it."""
    return {**_fields(view), "edition": view.edition}


def _fields(view: TokenView) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "grants": [{"permission": g.permission, "scope": g.scope} for g in view.grants],
        "key_preview": view.preview,
        "created_at": timestamp(view.created_at),
    }


OPERATIONS = (
    Operation(
        "POST",
        _PATH,
        "tokens.manage",
        create,
        name="createAdminToken",
        summary="Make an admin token; it is shown this once",
        body=NewTokenBody,
        answers={201: MadeToken},
    ),
    Operation(
        "GET",
        _PATH,
        "tokens.read",
        page,
        name="listAdminTokens",
        summary="The admin tokens, oldest first, without secrets",
        query=Page,
        answers={200: Paged[AdminToken]},
    ),
    Operation(
        "GET",
        _ONE,
        "tokens.read",
        get,
        name="getAdminToken",
        summary="One admin token, without its secret",
        answers={200: AdminToken},
    ),
    Operation(
        "PATCH",
        _ONE,
        "tokens.manage",
        change,
        name="changeAdminToken",
        summary="Change an admin token's name or grants",
        body=TokenBody,
        answers={200: AdminToken},
        refusals=(409, 412),
    ),
    Operation(
        "POST",
        f"{_ONE}/rotate",
        "tokens.manage",
        rotate,
        name="rotateAdminToken",
        summary="Give an admin token a new secret, shown this once; the old one opens nothing",
        answers={200: MadeToken},
        refusals=(409, 412),
    ),
    Operation(
        "DELETE",
        _ONE,
        "tokens.manage",
        revoke,
        name="revokeAdminToken",
        summary="Revoke an admin token for good",
        answers={204: None},
        refusals=(409, 412),
    ),
)
