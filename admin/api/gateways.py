"""Gateways in Cloudflare's v4 shape: an account's named scopes with settings of their own.

Turns that wire shape into desk calls and back, and nothing more. Settings Wardgate has no use
for are kept and shown; those whose silent absence would be a false promise are refused.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from starlette.responses import Response

from admin import permit
from admin.api.bodies import Count, Shown, Strict, Text, Words
from admin.api.cloudflare import GATEWAYS, Envelope, Paging, ResultInfo, many, one
from admin.api.operations import Call, Operation
from admin.api.tags import guard, tag
from admin.api.times import timestamp
from admin.configure import gateways
from admin.configure.gateways import GatewayView, scope_of
from admin.configure.refusals import Refusal
from admin.permit import Action

_ONE = f"{GATEWAYS}/{{gateway_id}}"
_REFUSED = ("dlp", "guardrails", "otel", "spend_limits", "stripe")


class Search(Paging):
    """`search` is a part of the id. Past the end a page is empty, and no error."""

    search: Words = ""


class GatewaySettings(Strict):
    """What is left out keeps its value."""

    rate_limiting_limit: Count | None = None
    rate_limiting_interval: Count | None = None
    rate_limiting_technique: Literal["fixed", "sliding"] | None = None
    cache_ttl: Count | None = None
    cache_invalidate_on_update: bool = False
    collect_logs: bool = True
    authentication: bool = True
    byok_only: bool = True
    log_classification: bool = False
    log_management: Count | None = None
    log_management_strategy: Literal["STOP_INSERTING", "DELETE_OLDEST"] | None = None
    logpush: bool = False
    logpush_public_key: Annotated[str, Field(max_length=4096)] | None = None
    retry_backoff: Literal["constant", "linear", "exponential"] | None = None
    retry_delay: Annotated[Count, Field(le=60_000)] | None = None
    retry_max_attempts: Annotated[Count, Field(ge=1, le=5)] | None = None
    store_id: Text | None = None
    workers_ai_billing_mode: Literal["postpaid", "unified"] = "postpaid"
    zdr: bool = False
    # Refused unless empty: nothing here acts on them, and two of them carry credentials.
    dlp: Any = None
    guardrails: Any = None
    otel: Any = None
    spend_limits: Any = None
    stripe: Any = None

    @field_validator(*_REFUSED)
    @classmethod
    def _empty(cls, value: Any) -> Any:
        if value:
            raise ValueError("not supported by Wardgate; leave it out")
        return value


class NewGateway(GatewaySettings):
    """What is left out gets Cloudflare's default."""

    id: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+(?:-[a-z0-9_]+)*$")]


class Gateway(Shown):
    """Settings that nobody ever sent and Wardgate does not act on are left out."""

    id: str
    account_id: str
    account_tag: str
    rate_limiting_limit: int | None
    rate_limiting_interval: int | None
    rate_limiting_technique: Literal["fixed", "sliding"]
    cache_ttl: int | None
    cache_invalidate_on_update: bool
    collect_logs: bool
    authentication: bool
    created_at: str
    modified_at: str
    byok_only: bool = True
    log_classification: bool = False
    log_management: int | None = None
    log_management_strategy: Literal["STOP_INSERTING", "DELETE_OLDEST"] | None = None
    logpush: bool = False
    logpush_public_key: str | None = None
    retry_backoff: Literal["constant", "linear", "exponential"] | None = None
    retry_delay: int | None = None
    retry_max_attempts: int | None = None
    store_id: str | None = None
    workers_ai_billing_mode: Literal["postpaid", "unified"] = "postpaid"
    zdr: bool = False


class OneGateway(Envelope):
    result: Gateway


class GatewayPage(Envelope):
    result: list[Gateway]
    result_info: ResultInfo


async def page(call: Call) -> Response:
    account, asked = call.part("account_id"), call.query(Search)
    reach = permit.reach(call.actor, call.action)
    if reach is None:
        views, total = await gateways.page(
            call.desk, account, asked.offset, asked.per_page, asked.search
        )
    else:
        named = await _named_in(call, account, asked.search, reach)
        views, total = named[asked.offset :][: asked.per_page], len(named)
    return many([_shown(view) for view in views], asked, total)


async def create(call: Call) -> Response:
    account, body = call.part("account_id"), await call.body(NewGateway)
    _reach(call, account, body.id)
    view = await gateways.create(call.desk, call.actor, account, body.id, _fields(body))
    return _tagged(view)


async def get(call: Call) -> Response:
    return _tagged(await gateways.get(call.desk, *_named(call)))


async def change(call: Call) -> Response:
    account, gateway = _named(call)
    fields = _fields(await call.body(GatewaySettings))
    unchanged = guard(call.request, _shown)
    view = await gateways.change(call.desk, call.actor, account, gateway, fields, guard=unchanged)
    return _tagged(view)


async def delete(call: Call) -> Response:
    account, gateway = _named(call)
    unchanged = guard(call.request, _shown)
    return one(
        _shown(await gateways.delete(call.desk, call.actor, account, gateway, guard=unchanged))
    )


def _tagged(view: GatewayView) -> Response:
    shown = _shown(view)
    return one(shown, {"etag": tag(shown)})


def _named(call: Call) -> tuple[str, str]:
    """The gateway the path names. Raises NotFound where the caller may not act."""
    account, gateway = call.part("account_id"), call.part("gateway_id")
    _reach(call, account, gateway)
    return account, gateway


def _reach(call: Call, account: str, gateway: str) -> None:
    scope = scope_of(account, gateway)
    call.agree(scope)
    call.insist(scope)


async def _named_in(
    call: Call, account: str, search: str, reach: frozenset[str]
) -> list[GatewayView]:
    """The account's gateways among the few scopes a group's token holds."""
    found = []
    prefix = scope_of(account, "")
    for scope in sorted(reach):
        gateway = scope.removeprefix(prefix)
        if gateway != scope and search in gateway:
            with suppress(Refusal):  # granted before the gateway was made
                found.append(await gateways.get(call.desk, account, gateway))
    return found


def _fields(body: GatewaySettings) -> dict[str, Any]:
    return body.model_dump(exclude_unset=True, exclude={"id", *_REFUSED})


def _shown(view: GatewayView) -> Gateway:
    return Gateway(
        **view.extra,
        id=view.id,
        account_id=view.account,
        account_tag=view.account,
        rate_limiting_limit=view.rate_limiting_limit,
        rate_limiting_interval=view.rate_limiting_interval,
        rate_limiting_technique=view.rate_limiting_technique,
        cache_ttl=view.cache_ttl,
        cache_invalidate_on_update=view.cache_invalidate_on_update,
        collect_logs=view.collect_logs,
        authentication=view.authentication,
        created_at=timestamp(view.created_at),
        modified_at=timestamp(view.modified_at),
    )


_READ: Action = "providers.read"
_MANAGE: Action = "providers.manage"
OPERATIONS = (
    Operation(
        "GET",
        GATEWAYS,
        _READ,
        page,
        name="listGateways",
        summary="An account's gateways, oldest first",
        query=Search,
        answers={200: GatewayPage},
    ),
    Operation(
        "POST",
        GATEWAYS,
        _MANAGE,
        create,
        name="createGateway",
        summary="Make a gateway: a scope with a rate limit of its own",
        body=NewGateway,
        answers={200: OneGateway},
    ),
    Operation(
        "GET",
        _ONE,
        _READ,
        get,
        name="getGateway",
        summary="One gateway and its settings",
        answers={200: OneGateway},
    ),
    Operation(
        "PUT",
        _ONE,
        _MANAGE,
        change,
        name="changeGateway",
        summary="Change a gateway's settings",
        body=GatewaySettings,
        answers={200: OneGateway},
        refusals=(412,),
    ),
    Operation(
        "DELETE",
        _ONE,
        _MANAGE,
        delete,
        name="deleteGateway",
        summary="Delete a gateway, its configs and its client keys; answers what it was",
        answers={200: OneGateway},
        refusals=(412,),
    ),
)
