"""Surface 5: the one (config, model) of a scope, at /llm-config/, for superadmins.

Turns that wire shape into desk calls and back, and nothing more. The scope is the control plane's
unless X-Instance-Id names a tenant; `?id=` speaks of another config of that scope.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.api.bodies import BadRequest, Key, Problem, Query, Shown, Strict, Text
from admin.api.credentials import BEARER
from admin.api.faults import Fault
from admin.api.operations import SCOPE, Call, Header, Operation, Surface
from admin.api.tags import guard, tagged
from admin.api.times import timestamp
from admin.configure import choices
from admin.configure.choices import ChoiceView, NewChoice, Rechoice
from admin.configure.refusals import Refusal
from admin.permit import Action
from admin.probe import Probed
from gateway.shapes import GLOBAL, Secret

PATH = "/llm-config/"
INSTANCE = "x-instance-id"
_SPELLED = r"^[A-Za-z0-9_.:-]{1,128}$"
_INSTANCE = re.compile(_SPELLED[1:-1], re.ASCII)
_OF_INSTANCE = "instance:"
_SECRET_FROM = 16  # shorter ones are words that a model's name may contain


class Named(Query):
    """`id` is any spelling of a config's id; `scope` another way to name the scope."""

    id: Text | None = None
    scope: Text | None = None


class NewLlmConfig(Strict):
    provider: Text
    model: str
    api_key: Key


class LlmConfigChange(Strict):
    """All fields are optional; a field left out is kept, as is a key sent back masked."""

    provider: Text | None = None
    model: str | None = None
    api_key: Key | None = None


class LlmConfig(Shown):
    """`model` is null for a config that is not the scope's choice; `managed_by` is the file that
    keeps the config."""

    id: str
    provider: str
    model: str | None
    api_key_masked: str
    instance_id: str | None
    scope: str
    managed_by: str | None
    created_at: str
    updated_at: str


class LlmConfigTested(Shown):
    success: bool
    provider: str
    model: str
    message: str


async def get(call: Call) -> Response:
    view = await choices.current(call.desk, *_asked(call))
    return JSONResponse(None) if view is None else tagged(_shown(view))


async def create(call: Call) -> Response:
    scope, _ = _asked(call)
    body = await call.body(NewLlmConfig)
    _check_apart(body.model, body.api_key)
    new = NewChoice(provider=body.provider, model=body.model, secret=_secret(body.api_key))
    view = await choices.choose(call.desk, call.actor, scope, new)
    return tagged(_shown(view), 201)


async def change(call: Call) -> Response:
    scope, config_id = _asked(call)
    body = await call.body(LlmConfigChange)
    _check_apart(body.model, body.api_key)
    asked = Rechoice(
        provider=body.provider,
        model=body.model,
        secret=_secret(body.api_key) if body.api_key else None,
    )
    view = await choices.rechoose(call.desk, call.actor, scope, asked, config_id, _unchanged(call))
    return tagged(_shown(view))


async def delete(call: Call) -> Response:
    scope, config_id = _asked(call)
    await choices.unchoose(call.desk, call.actor, scope, config_id, _unchanged(call))
    return Response(status_code=204)


async def test(call: Call) -> Response:
    view = await choices.current(call.desk, *_asked(call))
    if view is None or view.model is None:
        raise Refusal("not_found", "no configuration found to test")
    probed, listed = await call.prober.listed(call.desk, view.config.id, view.model)
    passed, message = _verdict(probed, listed, view.model)
    tested = LlmConfigTested(
        success=passed, provider=view.config.provider, model=view.model, message=message
    )
    return JSONResponse(tested.model_dump())


def _verdict(probed: Probed, listed: bool, model: str) -> tuple[bool, str]:
    """Whether it will do, and why; what proves nothing is let pass, in words that say so."""
    if probed.ok and listed:
        return True, "Connection successful"
    if probed.outcome == "unlisted" and (listed or probed.source == "catalog"):
        hint = "" if listed else f"; the catalog does not list {model}"
        return True, f"Not refused: {probed.message}{hint}"
    if probed.ok or probed.outcome == "unlisted":
        return False, f"the provider does not list the model {model}"
    return False, probed.message


def _check_apart(model: str | None, api_key: str | None) -> None:
    """Raises BadRequest for a key that stands in `model`, too: that is shown."""
    key = api_key or ""
    if model is not None and len(key) >= _SECRET_FROM and key in model:
        raise BadRequest(Problem(("body", "model"), "the key stands here, too"))


def _asked(call: Call) -> tuple[str, str | None]:
    """The scope and the config's id the request speaks of. Raises BadRequest where they differ."""
    asked = call.query(Named)
    scope = _instance(call.request) or asked.scope or call.named_scope() or GLOBAL
    call.agree(scope)
    if asked.scope is not None and asked.scope != scope:
        message = f"X-Instance-Id says {scope}, the query {asked.scope}"
        raise BadRequest(Problem(("header", INSTANCE), message))
    call.insist(scope)
    return scope, asked.id


def _instance(request: Request) -> str | None:
    said = request.headers.get(INSTANCE)
    if said is None:
        return None
    if not _INSTANCE.fullmatch(said):
        message = "1-128 of A-Z a-z 0-9 _ . : -"
        raise BadRequest(Problem(("header", INSTANCE), message))
    return _OF_INSTANCE + said


def _unchanged(call: Call) -> Any:
    return guard(call.request, _shown)


def _shown(view: ChoiceView) -> LlmConfig:
    scope = view.config.scope
    return LlmConfig(
        id=view.config.id,
        provider=view.config.provider,
        model=view.model,
        api_key_masked=view.config.secret_preview,
        instance_id=scope.removeprefix(_OF_INSTANCE) if scope.startswith(_OF_INSTANCE) else None,
        scope=scope,
        managed_by=view.config.managed_by,
        created_at=timestamp(view.created_at),
        updated_at=timestamp(view.updated_at),
    )


def _secret(text: str) -> Secret:
    return Secret(text.encode())


# What a provider needs and cannot be said here is the fault of its name.
_FIELDS = {"secret": "api_key"} | dict.fromkeys(("settings", "base_url", "dialect"), "provider")
_SAYINGS = {
    401: "Not authenticated",
    404: "No configuration found",
}
_EXISTS = "Configuration already exists for this scope"


class WrongField(Shown):
    """`type` is the reason in one word, for programs."""

    loc: list[str]
    msg: str
    type: str


class Detail(Shown):
    detail: str | list[WrongField]


def render(fault: Fault, request: Request) -> Response:
    """`{"detail": …}`: a sentence, or for a body that will not do one row per field."""
    status = fault.status
    if fault.problems and status in (400, 422):
        where = {problem.path[0] for problem in fault.problems}
        status = 400 if where == {"header"} else 422
        kind = fault.kind or "value_error"
        rows = [{"loc": list(p.path), "msg": p.message, "type": kind} for p in fault.problems]
        return JSONResponse({"detail": rows}, status, fault.headers)
    return JSONResponse({"detail": _saying(fault, request)}, status, fault.headers)


def _saying(fault: Fault, request: Request) -> str:
    if fault.kind == "choice_exists":
        return _EXISTS
    said = _SAYINGS.get(fault.status, fault.message)
    testing = fault.kind == "not_found" and request.url.path.strip("/").endswith("test-connection")
    return f"{said} to test" if testing else said


def _place(name: str) -> tuple[str, ...]:
    return "body", _FIELDS.get(name, name)


LLM_CONFIG = Surface(
    name="LLM config",
    about="The one provider and model of a scope, which requests that name no model get.",
    mounts=("",),
    roots=("/llm-config",),
    credentials=(BEARER,),
    statuses={"choice_exists": 409, "in_use": 409, "managed": 409},
    place=_place,
    render=render,
    error=Detail,
    invalid=(400, 422),
    headers=(SCOPE, Header("X-Instance-Id", "The tenant; global without it.", (), _SPELLED)),
    either_slash=True,
)

_ACTION: Action = "choices.manage"
OPERATIONS = (
    Operation(
        "GET",
        PATH,
        _ACTION,
        get,
        name="getLlmConfig",
        summary="The scope's provider, model and masked key; null where there is none",
        query=Named,
        answers={200: LlmConfig | None},
    ),
    Operation(
        "POST",
        PATH,
        _ACTION,
        create,
        name="createLlmConfig",
        summary="Choose a provider and a model, and store its key",
        query=Named,
        body=NewLlmConfig,
        answers={201: LlmConfig},
        refusals=(409,),
    ),
    Operation(
        "PATCH",
        PATH,
        _ACTION,
        change,
        name="changeLlmConfig",
        summary="Change the model, the key or, with its key, the provider",
        query=Named,
        body=LlmConfigChange,
        answers={200: LlmConfig},
        refusals=(404, 409, 412),
    ),
    Operation(
        "DELETE",
        PATH,
        _ACTION,
        delete,
        name="deleteLlmConfig",
        summary="Remove the choice, and its config unless something else needs it",
        query=Named,
        answers={204: None},
        refusals=(404, 409, 412),
    ),
    Operation(
        "POST",
        f"{PATH}test-connection",
        _ACTION,
        test,
        name="testLlmConfig",
        summary="Ask the provider for its models with the stored key",
        query=Named,
        answers={200: LlmConfigTested},
        refusals=(404,),
    ),
)
