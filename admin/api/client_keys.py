"""/api/v1/client-keys: what applications hold. The key itself is in the answer to POST, once.

Whoever may read or manage the providers of a scope may list or make and revoke its client keys.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.responses import JSONResponse, Response

from admin import permit
from admin.api.bodies import Positive, Strict, Text
from admin.api.operations import Call, Operation
from admin.api.problems import Page, many
from admin.api.times import maybe_timestamp, timestamp
from admin.configure import keys
from admin.configure.keys import KeyView, NewKey
from gateway.shapes import GLOBAL

_PATH = "/client-keys"
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def _sane(moment: datetime) -> datetime:
    if moment > _LATEST:
        raise ValueError("before the year 9000, or leave it out for no expiry")
    return moment


class NewKeyBody(Strict):
    """The body of POST. Without `scope` the header Wardgate-Scope names it, else `global`."""

    model_config = ConfigDict(alias_generator=to_camel)

    name: Text
    scope: Text | None = None
    agent_id: Text | None = None
    allowed_models: Annotated[list[Text], Field(max_length=1000)] = []
    rate_limit: Positive | None = None
    rate_limit_period: Positive = 60
    expires_at: Annotated[AwareDatetime, AfterValidator(_sane)] | None = None


async def create(call: Call) -> Response:
    body = await call.body(NewKeyBody)
    scope = body.scope or call.named_scope() or GLOBAL
    call.agree(scope)
    call.insist(scope)
    view, text = await keys.create(call.desk, call.actor, _new(body, scope))
    return JSONResponse({**_shown(view), "key": text}, 201)


async def page(call: Call) -> Response:
    asked = call.query(Page)
    scope = asked.scope or call.named_scope()
    if scope is not None:
        call.agree(scope)
    views, total = await _visible(call, scope, asked)
    return many([_shown(view) for view in views], asked, total)


async def get(call: Call) -> Response:
    return JSONResponse(_shown(await _found(call)))


async def revoke(call: Call) -> Response:
    found = await _found(call)
    await keys.revoke(call.desk, call.actor, found.id)
    return Response(status_code=204)


async def _found(call: Call) -> KeyView:
    view = await keys.get(call.desk, call.part("id"))
    call.insist(view.scope)
    call.agree(view.scope)
    return view


async def _visible(call: Call, scope: str | None, asked: Page) -> tuple[list[KeyView], int]:
    """The page of all keys in the scopes the caller may read, one scope after the other."""
    reach = permit.reach(call.actor, call.action)
    if scope is None and reach is None:
        return await keys.page(call.desk, None, asked.offset, asked.limit)
    wanted = sorted(reach or ()) if scope is None else [scope] if call.may(scope) else []
    found: list[KeyView] = []
    total = 0
    for name in wanted:
        start, room = max(0, asked.offset - total), asked.limit - len(found)
        views, count = await keys.page(call.desk, name, start, max(1, room))
        found += views[:room]
        total += count
    return found, total


def _new(body: NewKeyBody, scope: str) -> NewKey:
    return NewKey(
        name=body.name,
        scope=scope,
        agent=body.agent_id,
        allowed_models=tuple(body.allowed_models),
        rate_limit=body.rate_limit,
        rate_limit_period=body.rate_limit_period,
        expires_at=body.expires_at.timestamp() if body.expires_at else None,
    )


def _shown(view: KeyView) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "scope": view.scope,
        "agentId": view.agent,
        "allowedModels": list(view.allowed_models),
        "rateLimit": view.rate_limit,
        "rateLimitPeriod": view.rate_limit_period,
        "expiresAt": maybe_timestamp(view.expires_at),
        "keyPreview": view.preview,
        "createdAt": timestamp(view.created_at),
        "lastUsedAt": maybe_timestamp(view.last_used_at),
    }


OPERATIONS = (
    Operation("POST", _PATH, "keys.manage", create),
    Operation("GET", _PATH, "keys.read", page),
    Operation("GET", f"{_PATH}/{{id}}", "keys.read", get),
    Operation("DELETE", f"{_PATH}/{{id}}", "keys.manage", revoke),
)
