"""Surface 3: provider configs in Cloudflare's v4 shape, under a gateway of an account.

Turns that wire shape into desk calls and back, and nothing more. `base_url`, `dialect` and
`auth_type` are fields of ours beside the published ones.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from admin.api.bodies import Key, Positive, Strict, Text, Url
from admin.api.cloudflare import GATEWAYS, Paging, ids_of, many, one, scope_of
from admin.api.operations import Call, Operation
from admin.api.times import timestamp
from admin.configure import configs
from admin.configure.configs import ConfigChange, ConfigView, NewConfig
from gateway.catalog import Catalog
from gateway.shapes import AuthType, DialectName, Secret

_LIST = f"{GATEWAYS}/{{gateway_id}}/provider_configs"
_ONE = f"{_LIST}/{{id}}"


class _Body(Strict):
    """What POST and PUT share. A rate_limit of null is no limit.

    A secret left out stays out (POST) or as it is (PUT); here null does not clear it.
    """

    secret: Key = ""
    secret_id: Text = ""
    rate_limit: Positive | None = None
    rate_limit_period: Positive = 60
    base_url: Url | None = None
    auth_type: AuthType = "api_key"
    dialect: DialectName | None = None


class NewConfigBody(_Body):
    alias: Text
    default_config: bool
    provider_slug: Text


class ChangeBody(_Body):
    alias: Text = ""
    default_config: bool = False


async def page(call: Call) -> Response:
    scope, paging = scope_of(call), call.query(Paging)
    if not call.may(scope):
        return many([], paging, 0)
    views, total = await configs.page(call.desk, scope, paging.offset, paging.per_page)
    return many([_shown(view, call.desk.catalog) for view in views], paging, total)


async def create(call: Call) -> Response:
    scope = scope_of(call)
    call.insist(scope)
    body = await call.body(NewConfigBody)
    view = await configs.create(call.desk, call.actor, _new(body, scope))
    return one(_shown(view, call.desk.catalog))


async def get(call: Call) -> Response:
    scope = scope_of(call)
    call.insist(scope)
    view = await configs.get(call.desk, call.part("id"), scope)
    return one(_shown(view, call.desk.catalog))


async def change(call: Call) -> Response:
    scope = scope_of(call)
    call.insist(scope)
    asked = _change(await call.body(ChangeBody))
    view = await configs.change(call.desk, call.actor, call.part("id"), scope, asked)
    return one(_shown(view, call.desk.catalog))


async def delete(call: Call) -> Response:
    scope = scope_of(call)
    call.insist(scope)
    view = await configs.delete(call.desk, call.actor, call.part("id"), scope)
    return one(_shown(view, call.desk.catalog))


def _new(body: NewConfigBody, scope: str) -> NewConfig:
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


def _change(body: ChangeBody) -> ConfigChange:
    """Only what was sent: a field left out keeps its value."""
    sent: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "default_config" in sent:
        sent["default"] = sent.pop("default_config")
    if "secret" in sent:
        sent["secret"] = Secret(body.secret.encode())
    return ConfigChange(**sent)


def _shown(view: ConfigView, catalog: Catalog) -> dict[str, Any]:
    account, gateway = ids_of(view.scope)
    return {
        "account_id": account,
        "account_tag": account,
        "alias": view.alias,
        "default_config": view.default,
        "gateway_id": gateway,
        "id": view.id,
        "modified_at": timestamp(view.modified_at),
        "provider_slug": catalog.cloudflare_slug(view.provider),
        "rate_limit": view.rate_limit,
        "rate_limit_period": view.rate_limit_period,
        "secret_id": view.secret_id or "",
        "secret_preview": view.secret_preview,
        "base_url": view.base_url,
        "auth_type": view.auth_type,
        **({"dialect": view.dialect} if view.dialect else {}),
    }


OPERATIONS = (
    Operation("GET", _LIST, "providers.read", page),
    Operation("POST", _LIST, "providers.manage", create),
    Operation("GET", _ONE, "providers.read", get),
    Operation("PUT", _ONE, "providers.manage", change),
    Operation("DELETE", _ONE, "providers.manage", delete),
)
