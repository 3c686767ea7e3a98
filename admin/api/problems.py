"""The shape of our own endpoints under /api/v1: camelCase, cursors, and problem+json for a no.

Shared by client_keys.py, admin_tokens.py and audit.py. No desk call here.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import Field
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.api.bodies import Problem, Query, Text
from admin.api.credentials import BEARER
from admin.api.faults import Fault
from admin.api.operations import Surface

MEDIA_TYPE = "application/problem+json"
_CURSOR = r"^[0-9]{1,9}$"
_FIELDS = {"agent": "agentId"}


class Page(Query):
    """`after` is the `next` of the page before; it counts rows already seen."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: Annotated[str, Field(pattern=_CURSOR)] = "0"
    scope: Text | None = None

    @property
    def offset(self) -> int:
        return int(self.after)


def many(shown: Sequence[dict[str, Any]], page: Page, total: int) -> Response:
    """One page: `next` is null on the last one."""
    seen = page.offset + len(shown)
    more = bool(shown) and seen < total
    return JSONResponse({"data": list(shown), "hasMore": more, "next": str(seen) if more else None})


def render(fault: Fault, request: Request) -> Response:
    """RFC 9457, with `errors` naming the fields by JSON pointer."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(fault.status).phrase,
        "status": fault.status,
        "detail": fault.message,
    }
    if fault.problems:
        body["errors"] = [_problem(problem) for problem in fault.problems]
    return JSONResponse(body, fault.status, fault.headers, MEDIA_TYPE)


def _problem(problem: Problem) -> dict[str, str]:
    where, *rest = problem.path
    if where == "body":
        return {"pointer": "".join(f"/{part}" for part in rest), "detail": problem.message}
    return {where: ".".join(rest), "detail": problem.message}


def _place(name: str) -> tuple[str, ...]:
    return "body", _FIELDS.get(name, to_camel(name))


OURS = Surface(
    mounts=("/api/v1",),
    roots=("/",),
    credentials=(BEARER,),
    statuses={"not_found": 404, "forbidden": 403, "name_taken": 409},
    place=_place,
    render=render,
)
