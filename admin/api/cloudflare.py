"""Cloudflare's v4 shape: the envelope, its error codes, paging, and scopes spelled as two ids.

Shared by provider_configs.py and gateways.py. Every success is 200. No desk call here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.api.bodies import Problem, Query, Shown
from admin.api.credentials import BEARER
from admin.api.faults import Fault
from admin.api.operations import Call, Surface
from admin.configure.gateways import scope_of as gateway_scope
from admin.configure.scoping import OURS

GATEWAYS = "/accounts/{account_id}/ai-gateway/gateways"

_CODES = {401: 10000, 403: 10000, 404: 7002, 405: 10405}
_SAYINGS = {401: "Authentication error", 403: "Authentication error", 404: "Not Found"}
_FIELDS = {
    "provider": ("body", "provider_slug"),
    "default": ("body", "default_config"),
    "scope": ("path", "gateway_id"),
}
VALIDATION = 7001


class Cause(Shown):
    message: str


class CloudflareError(Shown):
    """`path` is the part of the request that will not do, from `body`, `query` or `path` on."""

    code: int
    message: str
    path: list[str] = []
    error_chain: list[Cause] = []


class CloudflareFailure(Shown):
    """`result` stands there, empty, when a GET was asked for something that cannot be."""

    success: Literal[False]
    errors: list[CloudflareError]
    result: dict[str, str] = {}


class Envelope(Shown):
    """Around every success; the operation's own answer adds `result`."""

    success: Literal[True]
    errors: list[CloudflareError]
    messages: list[str]


class ResultInfo(Shown):
    page: int
    per_page: int
    count: int
    total_count: int
    total_pages: int


class Paging(Query):
    """Past the end a page is empty, and no error."""

    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 20

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page


def one(shown: Shown, headers: dict[str, str] | None = None) -> Response:
    """A single object in the envelope; what was left out of it stays out."""
    return JSONResponse(_enveloped(shown.model_dump(exclude_unset=True)), headers=headers)


def many(shown: Sequence[Shown], paging: Paging, total: int) -> Response:
    """One page in the envelope. Past the end it is empty: there the official client stops."""
    info = {
        "page": paging.page,
        "per_page": paging.per_page,
        "count": len(shown),
        "total_count": total,
        "total_pages": math.ceil(total / paging.per_page),
    }
    page = [item.model_dump(exclude_unset=True) for item in shown]
    return JSONResponse({**_enveloped(page), "result_info": info})


def _enveloped(result: Any) -> dict[str, Any]:
    return {"success": True, "result": result, "errors": [], "messages": []}


def scope_of(call: Call) -> str:
    """The scope that account_id and gateway_id in the path name, agreeing with Wardgate-Scope.

    An id that cannot be is the desk's to refuse when something is written: nothing is there.
    """
    account, gateway = call.part("account_id"), call.part("gateway_id")
    scope = gateway if account == OURS else gateway_scope(account, gateway)
    call.agree(scope)
    return scope


def ids_of(scope: str) -> tuple[str, str]:
    """The account_id and gateway_id that spell a scope."""
    if scope.startswith("gateway:"):
        account, _, gateway = scope.removeprefix("gateway:").partition("/")
        return account, gateway
    return OURS, scope


def refuse(fault: Fault, request: Request) -> Response:
    """The failure envelope; a list's carries an empty result besides."""
    body: dict[str, Any] = {"success": False, "errors": _errors(fault)}
    if fault.status == 400 and request.method in ("GET", "HEAD"):
        body["result"] = {}
    return JSONResponse(body, fault.status, fault.headers)


def _errors(fault: Fault) -> list[dict[str, Any]]:
    if fault.problems:
        return [_problem(problem) for problem in fault.problems]
    code = _CODES.get(fault.status, VALIDATION if fault.status < 500 else 10500)
    said = _SAYINGS.get(fault.status, fault.message)
    if fault.status not in (401, 403):
        return [{"code": code, "message": said}]
    # The documented message is fixed; the reason goes where Cloudflare puts reasons.
    return [{"code": code, "message": said, "error_chain": [{"message": fault.message}]}]


def _problem(problem: Problem) -> dict[str, Any]:
    return {"code": VALIDATION, "message": problem.message, "path": list(problem.path)}


def _place(name: str) -> tuple[str, ...]:
    return _FIELDS.get(name, ("body", name))


CLOUDFLARE = Surface(
    name="Provider configs",
    about="Gateways and their provider configs in Cloudflare's v4 API, for its official clients.",
    mounts=("/client/v4", ""),
    roots=("/client/v4", "/accounts"),
    credentials=(BEARER, "x-auth-key", "x-auth-user-service-key"),
    statuses={},
    place=_place,
    render=refuse,
    error=CloudflareFailure,
)
