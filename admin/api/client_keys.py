"""/api/v1/client-keys: what applications hold. The key itself is shown when it is made, once.

Whoever may read or manage the providers of a scope may list or make and revoke its client keys.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from admin.api.bodies import Positive, Strict, Text
from admin.api.operations import Call, Operation
from admin.api.pages import Named, Paged, absent, covered, many
from admin.api.problems import Page
from admin.api.tags import guard, tagged
from admin.api.times import maybe_timestamp, timestamp
from admin.configure import keys
from admin.configure.keys import KeyChange, KeyView, NewKey
from gateway.shapes import GLOBAL

_PATH = "/client-keys"
_ONE = f"{_PATH}/{{id}}"
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def _sane(moment: datetime) -> datetime:
    if moment > _LATEST:
        raise ValueError("before the year 9000, or leave it out for no expiry")
    return moment


Models = Annotated[list[Text], Field(max_length=1000)]
Expiry = Annotated[AwareDatetime, AfterValidator(_sane)]


class NewKeyBody(Strict):
    """The body of POST. Without `scope` the header Wardgate-Scope names it, else `global`."""

    model_config = ConfigDict(alias_generator=to_camel)

    name: Text
    scope: Text | None = None
    agent_id: Text | None = None
    allowed_models: Models = []
    rate_limit: Positive | None = None
    rate_limit_period: Positive = 60
    expires_at: Expiry | None = None


class KeyBody(Strict):
    """The body of PATCH: what is left out is kept, null clears agent, limit and expiry."""

    model_config = ConfigDict(alias_generator=to_camel)

    name: Text = Field(default_factory=str)
    agent_id: Text | None = Field(default_factory=absent)
    allowed_models: Models = Field(default_factory=list)
    rate_limit: Positive | None = Field(default_factory=absent)
    rate_limit_period: Positive = Field(default_factory=int)
    expires_at: Expiry | None = Field(default_factory=absent)


class ClientKey(Named):
    """A client key without its secret. `allowedModels` empty: all."""

    id: str
    name: str
    scope: str
    agent_id: str | None
    allowed_models: list[str]
    rate_limit: int | None
    rate_limit_period: int
    expires_at: str | None
    key_preview: str
    created_at: str
    last_used_at: str | None


class MadeKey(ClientKey):
    """The same with the key itself, shown this once."""

    key: str


async def create(call: Call) -> Response:
    body = await call.body(NewKeyBody)
    scope = body.scope or call.named_scope() or GLOBAL
    call.agree(scope)
    call.insist(scope)
    view, text = await keys.create(call.desk, call.actor, _new(body, scope))
    return tagged(_made(view, text), 201, of=_kept(view))


async def page(call: Call) -> Response:
    asked = call.query(Page)
    scopes = covered(call, asked)
    views, total = await keys.page(call.desk, scopes, asked.offset, asked.limit)
    return many(Paged[ClientKey], [_shown(view) for view in views], asked, total)


async def get(call: Call) -> Response:
    view = await _found(call)
    return tagged(_shown(view), of=_kept(view))


async def change(call: Call) -> Response:
    found, body = await _found(call), await call.body(KeyBody)
    asked, unchanged = _change(body), guard(call.request, _kept)
    view = await keys.change(call.desk, call.actor, found.id, asked, guard=unchanged)
    return tagged(_shown(view), of=_kept(view))


async def rotate(call: Call) -> Response:
    found = await _found(call)
    unchanged = guard(call.request, _kept)
    view, text = await keys.rotate(call.desk, call.actor, found.id, guard=unchanged)
    return tagged(_made(view, text), of=_kept(view))


async def revoke(call: Call) -> Response:
    found = await _found(call)
    await keys.revoke(call.desk, call.actor, found.id, guard=guard(call.request, _kept))
    return Response(status_code=204)


async def _found(call: Call) -> KeyView:
    view = await keys.get(call.desk, call.part("id"))
    call.insist(view.scope)
    call.agree(view.scope)
    return view


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


def _change(body: KeyBody) -> KeyChange:
    named = body.model_dump(exclude_unset=True)
    if "agent_id" in named:
        named["agent"] = named.pop("agent_id")
    if "allowed_models" in named:
        named["allowed_models"] = tuple(body.allowed_models)
    if body.expires_at is not None:
        named["expires_at"] = body.expires_at.timestamp()
    return KeyChange(**named)


def _shown(view: KeyView) -> ClientKey:
    return ClientKey(**_fields(view))


def _made(view: KeyView, text: str) -> MadeKey:
    return MadeKey(**_fields(view), key=text)


def _fields(view: KeyView) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "scope": view.scope,
        "agent_id": view.agent,
        "allowed_models": list(view.allowed_models),
        "rate_limit": view.rate_limit,
        "rate_limit_period": view.rate_limit_period,
        "expires_at": maybe_timestamp(view.expires_at),
        "key_preview": view.preview,
        "created_at": timestamp(view.created_at),
        "last_used_at": maybe_timestamp(view.last_used_at),
    }


def _kept(view: KeyView) -> dict[str, Any]:
    """What its tag is made of: using a key does not change it, another secret does."""
    return {**_fields(view), "last_used_at": None, "edition": view.edition}


OPERATIONS = (
    Operation(
        "POST",
        _PATH,
        "keys.manage",
        create,
        name="createClientKey",
        summary="Make a client key; it is shown this once",
        body=NewKeyBody,
        answers={201: MadeKey},
        refusals=(404,),
    ),
    Operation(
        "GET",
        _PATH,
        "keys.read",
        page,
        name="listClientKeys",
        summary="The client keys of the scopes one may read, oldest first, without secrets",
        query=Page,
        answers={200: Paged[ClientKey]},
    ),
    Operation(
        "GET",
        _ONE,
        "keys.read",
        get,
        name="getClientKey",
        summary="One client key, without its secret",
        answers={200: ClientKey},
    ),
    Operation(
        "PATCH",
        _ONE,
        "keys.manage",
        change,
        name="changeClientKey",
        summary="Change a client key's name, agent, models, limit or expiry",
        body=KeyBody,
        answers={200: ClientKey},
        refusals=(412,),
    ),
    Operation(
        "POST",
        f"{_ONE}/rotate",
        "keys.manage",
        rotate,
        name="rotateClientKey",
        summary="Give a client key a new secret, shown this once; the old one is refused at once",
        answers={200: MadeKey},
        refusals=(412,),
    ),
    Operation(
        "DELETE",
        _ONE,
        "keys.manage",
        revoke,
        name="revokeClientKey",
        summary="Revoke a client key for good",
        answers={204: None},
        refusals=(412,),
    ),
)
