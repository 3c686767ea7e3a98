"""/api/v1/admin-tokens: what admins and scripts hold. The token is in the answer to POST, once.

For superadmins. The desk sees to it that a grant never exceeds what its granter holds himself.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response

from admin.api.bodies import Strict, Text
from admin.api.operations import Call, Operation
from admin.api.problems import Page, many
from admin.api.times import timestamp
from admin.configure import tokens
from admin.configure.tokens import TokenView
from admin.permit import Grant
from gateway.shapes import GLOBAL

_PATH = "/admin-tokens"


class GrantBody(Strict):
    permission: Text
    scope: Text = GLOBAL


class NewTokenBody(Strict):
    name: Text
    grants: Annotated[list[GrantBody], Field(max_length=200)] = []


async def create(call: Call) -> Response:
    body = await call.body(NewTokenBody)
    call.agree(GLOBAL)
    grants = tuple(Grant(item.permission, item.scope) for item in body.grants)
    view, text = await tokens.create(call.desk, call.actor, body.name, grants)
    return JSONResponse({**_shown(view), "key": text}, 201)


async def page(call: Call) -> Response:
    asked = call.query(Page)
    call.agree(GLOBAL)
    views, total = await tokens.page(call.desk, asked.offset, asked.limit)
    return many([_shown(view) for view in views], asked, total)


async def revoke(call: Call) -> Response:
    call.agree(GLOBAL)
    await tokens.revoke(call.desk, call.actor, call.part("id"))
    return Response(status_code=204)


def _shown(view: TokenView) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "grants": [{"permission": g.permission, "scope": g.scope} for g in view.grants],
        "keyPreview": view.preview,
        "createdAt": timestamp(view.created_at),
    }


OPERATIONS = (
    Operation("POST", _PATH, "tokens.manage", create),
    Operation("GET", _PATH, "tokens.read", page),
    Operation("DELETE", f"{_PATH}/{{id}}", "tokens.manage", revoke),
)
