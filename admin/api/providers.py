"""Surface 4: providers under /manage/v1, keys verified before they are stored or swapped.

Turns that wire shape into desk calls and back, and nothing more. Every row with a `tool` is an MCP
tool, too (mcp.py); mutations may carry an Idempotency-Key.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import JSONResponse, Response

from admin import permit, verify
from admin.api.bodies import BadRequest, Key, Problem, Query, Shown, Strict, Text, Url
from admin.api.idempotency import once
from admin.api.operations import Call, Operation
from admin.api.tags import guard, revised, tagged
from admin.api.times import maybe_timestamp, timestamp
from admin.configure import configs, health, scoping
from admin.configure.configs import ConfigChange, ConfigView, NewConfig
from admin.configure.health import HealthView, WindowView
from admin.configure.identity import as_prov, read_id
from admin.permit import Action
from gateway.shapes import GLOBAL, DialectName, Secret
from gateway.store.proofs import PROVEN, REFUSED, Proof

LIST = "/providers"
ONE = f"{LIST}/{{id}}"
Window = Literal["1m", "5m", "1h", "24h"]
Status = Literal["active", "pending", "invalid", "disabled"]
State = Literal["healthy", "degraded", "unhealthy", "unknown"]


class Listing(Query):
    """`cursor` is the `next_cursor` of the page before; without `limit` all are listed."""

    limit: Annotated[int, Field(ge=1, le=1000)] | None = None
    cursor: Text | None = None
    scope: Text | None = None


class HealthQuery(Query):
    """`window`: only this one of the four."""

    window: Window | None = None


class NewProvider(Strict):
    """`api_key` for bedrock: ACCESS_KEY_ID::SECRET_ACCESS_KEY::REGION[::SESSION_TOKEN]. `dialect`
    says what a `custom:…` vendor speaks."""

    vendor: Text
    name: Text
    api_key: Key
    base_url: Url | None = None
    scope: Text | None = None
    dialect: DialectName | None = None


class ProviderChange(Strict):
    """What is left out is kept, as is a key sent back masked. A new key is verified first."""

    api_key: Key | None = None
    name: Text | None = None
    base_url: Url | None = None


class Health(Shown):
    """Milliseconds; null where nothing is known."""

    state: State
    p50_latency_ms: int | None
    last_check_at: str | None


class Provider(Shown):
    """`api_key_preview` is the vendor's prefix and the last four characters; `managed_by` the file
    that keeps it."""

    id: str
    vendor: str
    name: str
    base_url: str | None
    status: Status
    health: Health
    api_key_preview: str
    created_at: str
    scope: str
    managed_by: str | None


class Providers(Shown):
    data: list[Provider]
    has_more: bool
    next_cursor: str | None


class HealthWindow(Shown):
    window: str
    requests: int
    success_rate: float | None
    p50_latency_ms: int | None
    p95_latency_ms: int | None
    p99_latency_ms: int | None
    ttft_p50_ms: int | None
    error_codes: dict[str, int]


class ProviderHealth(Shown):
    state: State
    last_check_at: str | None
    windows: list[HealthWindow]


_STATUSES: dict[str, Status] = {PROVEN: "active", REFUSED: "invalid"}


async def page(call: Call) -> Response:
    asked = call.query(Listing)
    scope = asked.scope or call.named_scope()
    if scope is not None:
        scoping.kind_of(scope)
        call.agree(scope)
    reach = permit.reach(call.actor, call.action)
    if scope is not None:
        reach = frozenset((scope,)) if call.may(scope) else frozenset()
    # Ids sort by when they were made.
    found = sorted(await configs.every(call.desk, reach), key=_id)
    start = _after(found, asked.cursor)
    end = len(found) if asked.limit is None else start + asked.limit
    views, more = found[start:end], end < len(found)
    shown = Providers(
        data=await _shown(call, views),
        has_more=more,
        next_cursor=as_prov(views[-1].id) if more else None,
    )
    return JSONResponse(shown.model_dump())


async def get(call: Call) -> Response:
    return await _one(call, await _found(call))


async def create(call: Call) -> Response:
    async def act(call: Call) -> Response:
        body = await call.body(NewProvider)
        scope = body.scope or call.named_scope() or GLOBAL
        call.agree(scope)
        call.insist(scope)
        new = NewConfig(
            scope=scope,
            provider=body.vendor,
            alias=body.name,
            free_alias=True,
            name=body.name,
            distinct="name",
            secret=Secret(body.api_key.encode()),
            base_url=body.base_url,
            dialect=body.dialect,
        )
        view = await verify.created(call.desk, call.prober, call.actor, new, strict=False)
        return await _one(call, view, 201)

    return await once(call, act)


async def change(call: Call) -> Response:
    async def act(call: Call) -> Response:
        view = await _found(call)
        asked = _change(await call.body(ProviderChange))
        unchanged = guard(call.request, revised)
        changed = await verify.changed(
            call.desk, call.prober, call.actor, view.id, view.scope, asked, guard=unchanged
        )
        return await _one(call, changed)

    return await once(call, act)


async def delete(call: Call) -> Response:
    async def act(call: Call) -> Response:
        view = await _found(call)
        unchanged = guard(call.request, revised)
        await configs.delete(call.desk, call.actor, view.id, view.scope, guard=unchanged)
        return Response(status_code=204)

    return await once(call, act)


async def show_health(call: Call) -> Response:
    asked = call.query(HealthQuery)
    view = await _found(call)
    seen = await health.health(call.desk, view.id)
    shown = ProviderHealth(
        state=seen.state,
        last_check_at=maybe_timestamp(seen.last_check_at),
        windows=[_window(w) for w in seen.windows if asked.window in (None, w.window)],
    )
    return JSONResponse(shown.model_dump())


async def _found(call: Call) -> ConfigView:
    """The provider config of any scope in which the caller may do this. Raises NotFound."""
    view = await configs.get(call.desk, call.part("id"))
    call.insist(view.scope)
    call.agree(view.scope)
    return view


def _after(views: list[ConfigView], cursor: str | None) -> int:
    if cursor is None:
        return 0
    known = read_id(cursor)
    if known is None:
        raise BadRequest(Problem(("query", "cursor"), "no next_cursor of a page before"))
    # One that was deleted meanwhile ends nobody's walk.
    return bisect_right(views, known, key=_id)


def _id(view: ConfigView) -> str:
    return view.id


def _change(body: ProviderChange) -> ConfigChange:
    """Only what was sent; a null key or name is like one left out."""
    asked: dict[str, Any] = {}
    if body.api_key is not None:
        asked["secret"] = Secret(body.api_key.encode())
    if body.name is not None:
        asked["name"] = body.name
    if "base_url" in body.model_fields_set:
        asked["base_url"] = body.base_url
    return ConfigChange(**asked, distinct_name=True)


async def _one(call: Call, view: ConfigView, status: int = 200) -> Response:
    return tagged((await _shown(call, [view]))[0], status, of=revised(view))


async def _shown(call: Call, views: list[ConfigView]) -> list[Provider]:
    ids = [view.id for view in views]
    seen = await health.every(call.desk, ids)
    proven = await configs.proofs(call.desk)
    return [_provider(call, view, seen.get(view.id), proven.get(view.id)) for view in views]


def _provider(
    call: Call, view: ConfigView, seen: HealthView | None, proof: Proof | None
) -> Provider:
    return Provider(
        id=as_prov(view.id),
        vendor=call.desk.catalog.modelux_slug(view.provider),
        name=view.name,
        base_url=view.base_url,
        status=_status(view, proof),
        health=Health(
            state=seen.state if seen else "unknown",
            p50_latency_ms=seen.p50_latency_ms if seen else None,
            last_check_at=maybe_timestamp(seen.last_check_at) if seen else None,
        ),
        api_key_preview=view.secret_preview,
        created_at=timestamp(view.created_at),
        scope=view.scope,
        managed_by=view.managed_by,
    )


def _status(view: ConfigView, proof: Proof | None) -> Status:
    """disabled > invalid (the last answer refused the key) > pending (never proven) > active."""
    if not view.active:
        return "disabled"
    if view.auth_type == "none":
        return "active"
    if view.secret_version is None or proof is None or proof.secret_version != view.secret_version:
        return "pending"
    return _STATUSES.get(proof.outcome, "pending")


def _window(seen: WindowView) -> HealthWindow:
    return HealthWindow(
        window=seen.window,
        requests=seen.requests,
        success_rate=seen.success_rate,
        p50_latency_ms=seen.p50_latency_ms,
        p95_latency_ms=seen.p95_latency_ms,
        p99_latency_ms=seen.p99_latency_ms,
        ttft_p50_ms=seen.ttft_p50_ms,
        error_codes=dict(seen.error_codes),
    )


READ: Action = "providers.read"
MANAGE: Action = "providers.manage"
OPERATIONS = (
    Operation(
        "GET",
        LIST,
        READ,
        page,
        name="listProviders",
        summary="Provider credentials in every scope one may read, oldest first",
        query=Listing,
        answers={200: Providers},
        tool="list_providers",
    ),
    Operation(
        "POST",
        LIST,
        MANAGE,
        create,
        name="addProvider",
        summary="Store a key; one the provider refuses is not stored",
        body=NewProvider,
        answers={201: Provider},
        refusals=(404, 409, 422),
        tool="add_provider",
    ),
    Operation(
        "GET",
        ONE,
        READ,
        get,
        name="getProvider",
        summary="One provider credential",
        answers={200: Provider},
        tool="get_provider",
    ),
    Operation(
        "PATCH",
        ONE,
        MANAGE,
        change,
        name="updateProvider",
        summary="Rename, move or rotate; a new key is verified, then swapped in one step",
        body=ProviderChange,
        answers={200: Provider},
        refusals=(409, 412, 422),
        tool="update_provider",
    ),
    Operation(
        "DELETE",
        ONE,
        MANAGE,
        delete,
        name="deleteProvider",
        summary="Delete a credential no route leads to",
        answers={204: None},
        refusals=(409, 412),
        tool="delete_provider",
    ),
    Operation(
        "GET",
        f"{ONE}/health",
        READ,
        show_health,
        name="getProviderHealth",
        summary="Success rate and latency over rolling windows",
        query=HealthQuery,
        answers={200: ProviderHealth},
        tool="get_provider_health",
    ),
)
