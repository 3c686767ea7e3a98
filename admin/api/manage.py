"""How surface 4 says no: `{"error": {type, message, code, resource, id}}`, and its vendors.

Shared with the MCP tools, whose errors are these. No desk call here.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.api.bodies import Shown
from admin.api.credentials import BEARER
from admin.api.faults import Fault
from admin.api.operations import SCOPE, Header, Surface
from gateway.masking import mask

VENDORS = (
    *("openai", "anthropic", "google", "azure", "bedrock", "groq", "fireworks", "deepseek", "xai"),
    *("mistral", "cerebras", "together", "perplexity", "cohere"),
)

_TYPES = {
    400: "invalid_request",
    401: "unauthorized",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "conflict",
    412: "precondition_failed",
    413: "invalid_request",
    422: "unprocessable",
    503: "unavailable",
}
# The code per kind of the desk's refusal; the kind itself where nothing better is documented.
_CODES = {
    "not_found": "provider_not_found",
    "unknown_provider": "unknown_vendor",
    "provider_not_supported": "vendor_not_supported",
    "bad_key": "malformed_key",
    "masked_key": "malformed_key",
    "name_taken": "duplicate_name",
    "in_use": "provider_in_use",
    "key_refused": "key_verification_failed",
    "not_verified": "key_verification_failed",
    "rebind": "key_required",
    "managed": "provider_managed",
    "stale": "precondition_failed",
}
_BY_STATUS = {401: "invalid_token", 403: "forbidden", 404: "provider_not_found"}
_PLACES = {
    "secret": "api_key",
    "provider": "vendor",
    "settings": "base_url",
    "alias": "name",
}


class ManageError(Shown):
    """`param` is the field that will not do, `references` are the routes that lead to it."""

    type: str
    message: str
    code: str
    resource: str
    id: str | None
    param: str | None = None
    references: list[str] = []


class ManageFailure(Shown):
    error: ManageError


def render(fault: Fault, request: Request) -> Response:
    """The documented envelope; `param` names the field that is wrong."""
    error: dict[str, Any] = {
        "type": _TYPES.get(fault.status, "internal"),
        "message": _message(fault),
        "code": _code(fault),
        "resource": "provider",
        "id": _shown_id(request),
    }
    if fault.problems:
        error["param"] = ".".join(fault.problems[0].path[1:]) or None
    if fault.names:
        error["references"] = list(fault.names)
    return JSONResponse({"error": error}, fault.status, fault.headers)


def _shown_id(request: Request) -> str | None:
    """The id as it was asked for; a key in its place is masked."""
    asked = request.path_params.get("id")
    return None if asked is None else mask(str(asked).encode()).decode()


def _message(fault: Fault) -> str:
    if fault.status == 404:
        return "Provider not found"
    if fault.kind == "unknown_provider":
        return f"unknown vendor; one of {', '.join(VENDORS)}, or an id of the catalog"
    return fault.message


def _code(fault: Fault) -> str:
    if fault.kind is not None:
        return _CODES.get(fault.kind, fault.kind)
    return _BY_STATUS.get(fault.status, _TYPES.get(fault.status, "internal"))


def _place(name: str) -> tuple[str, ...]:
    return "body", _PLACES.get(name, name)


IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "The same key and body get the same answer; the same key with another body 409.",
    ("POST", "PATCH", "DELETE"),
    r"^[ -~]{1,255}$",
)
PROVIDERS = Surface(
    name="Providers",
    about="Provider credentials whose keys are verified before they are stored or swapped.",
    mounts=("/manage/v1",),
    roots=("/manage/",),
    credentials=(BEARER,),
    statuses={
        "name_taken": 409,
        "in_use": 409,
        "managed": 409,
        "key_refused": 422,
        "not_verified": 422,
        "rebind": 422,
    },
    place=_place,
    render=render,
    error=ManageFailure,
    headers=(SCOPE, IDEMPOTENCY_KEY),
)
