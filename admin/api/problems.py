"""The shape of our own endpoints under /api/v1: camelCase, cursors, and problem+json for a no.

Shared by client_keys.py, admin_tokens.py and audit.py. No desk call here.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from pydantic import Field
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.api.bodies import Problem, Query, Shown, Text
from admin.api.credentials import BEARER
from admin.api.faults import Fault
from admin.api.operations import Surface

MEDIA_TYPE = "application/problem+json"
_CURSOR = r"^[0-9]{1,9}$"
_FIELDS = {"agent": "agentId"}


class FieldProblem(Shown):
    """Which part of the request will not do: a JSON pointer into the body, or the name of a part
    of the query, the path or the headers."""

    pointer: str | None = None
    query: str | None = None
    path: str | None = None
    header: str | None = None
    detail: str


class ProblemDetails(Shown):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


class Page(Query):
    """`after` is the `next` of the page before; it counts rows already seen."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: Annotated[str, Field(pattern=_CURSOR)] = "0"
    scope: Text | None = None

    @property
    def offset(self) -> int:
        return int(self.after)


def render(fault: Fault, request: Request) -> Response:
    """RFC 9457, with `errors` naming the fields by JSON pointer."""
    return JSONResponse(details(fault), fault.status, fault.headers, MEDIA_TYPE)


def details(fault: Fault) -> dict[str, Any]:
    """What a ProblemDetails says."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(fault.status).phrase,
        "status": fault.status,
        "detail": fault.message,
    }
    if fault.problems:
        body["errors"] = [pointed(problem) for problem in fault.problems]
    return body


def pointed(problem: Problem) -> dict[str, str]:
    """One of `errors`: what a FieldProblem says."""
    where, *rest = problem.path
    if where == "body":
        return {"pointer": "".join(f"/{part}" for part in rest), "detail": problem.message}
    return {where: ".".join(rest), "detail": problem.message}


def _place(name: str) -> tuple[str, ...]:
    """`targets.0.config_id` stands at /targets/0/configId."""
    return "body", *(_FIELDS.get(part, to_camel(part)) for part in name.split("."))


OURS = Surface(
    name="Administration",
    about="What is Wardgate's own: camelCase JSON, pages by `limit` and `after`.",
    mounts=("/api/v1",),
    roots=("/",),
    credentials=(BEARER,),
    statuses={
        "in_use": 409,
        "managed": 409,
        "name_taken": 409,
        "scope_exists": 409,
        "key_refused": 422,
        "not_verified": 422,
    },
    place=_place,
    render=render,
    error=ProblemDetails,
    media_type=MEDIA_TYPE,
)
