"""How surface 1 says no: our problem+json, pointing at its own names of what is wrong.

`scope` and `alias` may be said in several places: a problem points at the one that was used. No
desk call here.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.api.bodies import Problem
from admin.api.faults import Fault
from admin.api.operations import SCOPE_HEADER
from admin.api.problems import MEDIA_TYPE, OURS, ProblemDetails, details

_PLACES = {
    "secret": ("body", "apiKey"),
    "settings": ("body", "authConfig"),
    "active": ("body", "enabled"),
    "provider": ("path", "providerId"),
}
_ANYWHERE = ("scope", "alias")


class AiProviderProblem(ProblemDetails):
    """`references`: the routes that lead to a config in use, or the aliases that may be meant."""

    references: list[str] = []


def render(fault: Fault, request: Request) -> Response:
    """The problem, with the names of the other objects it is about."""
    found = tuple(_pointed(problem, request) for problem in fault.problems)
    shown = details(replace(fault, problems=found))
    if fault.names:
        shown["references"] = list(fault.names)
    return JSONResponse(shown, fault.status, fault.headers, MEDIA_TYPE)


def _pointed(problem: Problem, request: Request) -> Problem:
    where, *rest = problem.path
    name = rest[0] if rest else ""
    if where != "body" or name not in _ANYWHERE:
        return problem
    if name == "scope" and name not in request.query_params and SCOPE_HEADER in request.headers:
        return Problem(("header", SCOPE_HEADER), problem.message)
    if name in request.query_params or request.method != "PUT":
        return Problem(("query", name), problem.message)
    return problem


def _place(name: str) -> tuple[str, ...]:
    return _PLACES.get(name, ("body", to_camel(name)))


AI_PROVIDERS = replace(
    OURS,
    name="AI providers",
    about="The catalog's providers and models as one scope sees them, and the scope's own keys.",
    roots=("/api/v1/ai-providers",),
    statuses={
        **OURS.statuses,
        "alias_taken": 409,
        "several_configs": 409,
        "unknown_provider": 404,
    },
    place=_place,
    render=render,
    error=AiProviderProblem,
)
