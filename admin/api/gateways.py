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
from admin.api.bodies import Count, Strict, Text, Words
from admin.api.cloudflare import GATEWAYS, Paging, many, one
from admin.api.operations import Call, Operation
from admin.api.times import timestamp
from admin.configure import gateways
from admin.configure.gateways import GatewayView, scope_of
from admin.configure.refusals import Refusal

_ONE = f"{GATEWAYS}/{{gateway_id}}"
_REFUSED = ("dlp", "guardrails", "otel", "spend_limits", "stripe")


class Search(Paging):
    search: Words = ""


class SettingsBody(Strict):
    """The body of PUT: what is left out keeps its value."""

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


class NewGatewayBody(SettingsBody):
    """The body of POST."""

    id: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+(?:-[a-z0-9_]+)*$")]


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
    account, body = call.part("account_id"), await call.body(NewGatewayBody)
    _reach(call, account, body.id)
    view = await gateways.create(call.desk, call.actor, account, body.id, _fields(body))
    return one(_shown(view))


async def get(call: Call) -> Response:
    return one(_shown(await gateways.get(call.desk, *_named(call))))


async def change(call: Call) -> Response:
    account, gateway = _named(call)
    fields = _fields(await call.body(SettingsBody))
    return one(_shown(await gateways.change(call.desk, call.actor, account, gateway, fields)))


async def delete(call: Call) -> Response:
    account, gateway = _named(call)
    return one(_shown(await gateways.delete(call.desk, call.actor, account, gateway)))


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


def _fields(body: SettingsBody) -> dict[str, Any]:
    return body.model_dump(exclude_unset=True, exclude={"id", *_REFUSED})


def _shown(view: GatewayView) -> dict[str, Any]:
    return {
        **view.extra,
        "id": view.id,
        "account_id": view.account,
        "account_tag": view.account,
        "rate_limiting_limit": view.rate_limiting_limit,
        "rate_limiting_interval": view.rate_limiting_interval,
        "rate_limiting_technique": view.rate_limiting_technique,
        "cache_ttl": view.cache_ttl,
        "cache_invalidate_on_update": view.cache_invalidate_on_update,
        "collect_logs": view.collect_logs,
        "authentication": view.authentication,
        "created_at": timestamp(view.created_at),
        "modified_at": timestamp(view.modified_at),
    }


OPERATIONS = (
    Operation("GET", GATEWAYS, "providers.read", page),
    Operation("POST", GATEWAYS, "providers.manage", create),
    Operation("GET", _ONE, "providers.read", get),
    Operation("PUT", _ONE, "providers.manage", change),
    Operation("DELETE", _ONE, "providers.manage", delete),
)
