"""Surface 3: provider configs in Cloudflare's v4 shape, under a gateway of an account.

Turns that wire shape into desk calls and back, and nothing more. `base_url`, `dialect` and
`auth_type` are fields of ours beside the published ones.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from admin.api.bodies import Key, Positive, Shown, Strict, Text, Url
from admin.api.cloudflare import (
    GATEWAYS,
    Envelope,
    Paging,
    ResultInfo,
    ids_of,
    many,
    one,
    scope_of,
)
from admin.api.operations import Call, Operation
from admin.api.tags import guard, revised, tag
from admin.api.times import timestamp
from admin.configure import configs
from admin.configure.configs import ConfigChange, ConfigView, NewConfig
from admin.permit import Action
from gateway.catalog import Catalog
from gateway.shapes import AuthType, DialectName, Secret

_LIST = f"{GATEWAYS}/{{gateway_id}}/provider_configs"
_ONE = f"{_LIST}/{{id}}"


class _Body(Strict):
    # What POST and PUT share.
    secret: Key = ""
    secret_id: Text = ""
    rate_limit: Positive | None = None
    rate_limit_period: Positive = 60
    base_url: Url | None = None
    auth_type: AuthType = "api_key"
    dialect: DialectName | None = None


class NewProviderConfig(_Body):
    """`secret_id` is kept as a label. Over `rate_limit` requests in `rate_limit_period` seconds
    applications get 429; null is no limit."""

    alias: Text
    default_config: bool
    provider_slug: Text


class ProviderConfigChange(_Body):
    """What is left out is kept; null does not clear a secret."""

    alias: Text = ""
    default_config: bool = False


class ProviderConfig(Shown):
    """`secret_preview` is the vendor's prefix and the last four characters. `managed_by` is there
    where a file keeps the config, and names it."""

    account_id: str
    account_tag: str
    alias: str
    default_config: bool
    gateway_id: str
    id: str
    modified_at: str
    provider_slug: str
    rate_limit: int | None
    rate_limit_period: int
    secret_id: str
    secret_preview: str
    base_url: str | None
    auth_type: AuthType
    dialect: DialectName | None = None
    managed_by: str | None = None


class OneProviderConfig(Envelope):
    result: ProviderConfig


class ProviderConfigPage(Envelope):
    result: list[ProviderConfig]
    result_info: ResultInfo


async def page(call: Call) -> Response:
    scope, paging = scope_of(call), call.query(Paging)
    if not call.may(scope):
        return many([], paging, 0)
    views, total = await configs.page(call.desk, scope, paging.offset, paging.per_page)
    return many([_shown(view, call.desk.catalog) for view in views], paging, total)


async def create(call: Call) -> Response:
    scope = scope_of(call)
    call.insist(scope)
    body = await call.body(NewProviderConfig)
    return _one(call, await configs.create(call.desk, call.actor, _new(body, scope)))


async def get(call: Call) -> Response:
    scope = scope_of(call)
    call.insist(scope)
    return _one(call, await configs.get(call.desk, call.part("id"), scope))


async def change(call: Call) -> Response:
    scope = scope_of(call)
    call.insist(scope)
    asked = _change(await call.body(ProviderConfigChange))
    view = await configs.change(
        call.desk,
        call.actor,
        call.part("id"),
        scope,
        asked,
        guard=guard(call.request, revised),
    )
    return _one(call, view)


async def delete(call: Call) -> Response:
    scope = scope_of(call)
    call.insist(scope)
    unchanged = guard(call.request, revised)
    view = await configs.delete(call.desk, call.actor, call.part("id"), scope, guard=unchanged)
    return one(_shown(view, call.desk.catalog))


def _one(call: Call, view: ConfigView) -> Response:
    return one(_shown(view, call.desk.catalog), {"etag": tag(revised(view))})


def _new(body: NewProviderConfig, scope: str) -> NewConfig:
    return NewConfig(
        scope=scope,
        provider=body.provider_slug,
        alias=body.alias,
        secret=Secret(body.secret.encode()) if body.secret else None,
        base_url=body.base_url,
        auth_type=body.auth_type,
        default=body.default_config,
        rate_limit=body.rate_limit,
        rate_limit_period=body.rate_limit_period,
        dialect=body.dialect,
        secret_id=body.secret_id or None,
    )


def _change(body: ProviderConfigChange) -> ConfigChange:
    """Only what was sent: a field left out keeps its value."""
    sent: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "default_config" in sent:
        sent["default"] = sent.pop("default_config")
    if "secret" in sent:
        sent["secret"] = Secret(body.secret.encode())
    return ConfigChange(**sent)


def _shown(view: ConfigView, catalog: Catalog) -> ProviderConfig:
    account, gateway = ids_of(view.scope)
    rare: dict[str, Any] = {"dialect": view.dialect, "managed_by": view.managed_by}
    return ProviderConfig(
        account_id=account,
        account_tag=account,
        alias=view.alias,
        default_config=view.default,
        gateway_id=gateway,
        id=view.id,
        modified_at=timestamp(view.modified_at),
        provider_slug=catalog.cloudflare_slug(view.provider),
        rate_limit=view.rate_limit,
        rate_limit_period=view.rate_limit_period,
        secret_id=view.secret_id or "",
        secret_preview=view.secret_preview,
        base_url=view.base_url,
        auth_type=view.auth_type,
        **{name: value for name, value in rare.items() if value is not None},
    )


_READ: Action = "providers.read"
_MANAGE: Action = "providers.manage"
OPERATIONS = (
    Operation(
        "GET",
        _LIST,
        _READ,
        page,
        name="listProviderConfigs",
        summary="A gateway's provider configs, oldest first",
        query=Paging,
        answers={200: ProviderConfigPage},
    ),
    Operation(
        "POST",
        _LIST,
        _MANAGE,
        create,
        name="createProviderConfig",
        summary="Store a provider's key in a gateway, which is made if it is not there",
        body=NewProviderConfig,
        answers={200: OneProviderConfig},
    ),
    Operation(
        "GET",
        _ONE,
        _READ,
        get,
        name="getProviderConfig",
        summary="One provider config",
        answers={200: OneProviderConfig},
    ),
    Operation(
        "PUT",
        _ONE,
        _MANAGE,
        change,
        name="changeProviderConfig",
        summary="Rotate the key or change the settings; what is left out is kept",
        body=ProviderConfigChange,
        answers={200: OneProviderConfig},
        refusals=(412,),
    ),
    Operation(
        "DELETE",
        _ONE,
        _MANAGE,
        delete,
        name="deleteProviderConfig",
        summary="Delete a provider config; answers what it was",
        answers={200: OneProviderConfig},
        refusals=(412,),
    ),
)
