"""How surface 2 says no: RFC 7807 problems in its documented words, with and without the extras of
the upstream's generated client (`operationStatus`). No desk call here.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.api.credentials import BEARER
from admin.api.faults import Fault
from admin.api.operations import Surface
from admin.api.problems import MEDIA_TYPE, ProblemDetails, pointed

# The documented sentence per kind of the desk's refusal, and its name: the upstream's, where it has
# one (NotFound, ProviderNotFound, InvalidSettings, InUse), else ours.
_WORDS = {
    "not_found": ("Connection not found", "NotFound"),
    "unknown_provider": ("Provider not found", "ProviderNotFound"),
    "provider_not_supported": ("Provider not found", "ProviderNotFound"),
    "alias_taken": ("Connection alias already exists", "DuplicateAlias"),
    "ambiguous_alias": ("Several connections have this alias", "AmbiguousAlias"),
    "in_use": ("Connection in use", "InUse"),
    "managed": ("Connection is kept by a file", "Managed"),
    "bad_alias": ("Invalid alias", "InvalidAlias"),
    "bad_scope": ("Invalid scope", "InvalidScope"),
    "bad_name": ("Invalid name", "InvalidName"),
    "stale": ("Connection has changed", "PreconditionFailed"),
}
_SETTINGS = ("Invalid settings", "InvalidSettings")
_OF_SETTINGS = {
    *("bad_key", "bad_settings", "bad_base_url", "bad_auth_type", "bad_dialect", "masked_key"),
    *("rebind", "secret_label_alone"),
}
_PLACES = {
    "secret": ("body", "settings", "apiKey"),
    "base_url": ("body", "settings", "endpoint"),
    "auth_type": ("body", "settings", "authType"),
    "dialect": ("body", "settings", "dialect"),
    "settings": ("body", "settings"),
    "provider": ("body", "providerId"),
    "active": ("body", "isActive"),
}


class ConnectionProblem(ProblemDetails):
    """`references` are the routes that lead to a connection in use."""

    references: list[str] = []


class UmbracoProblem(ConnectionProblem):
    operationStatus: str


def render(fault: Fault, request: Request) -> Response:
    """The problem as the documents have it."""
    return _answer(fault, _problem(fault))


def render_with_status(fault: Fault, request: Request) -> Response:
    """The same for the upstream's generated client."""
    status = _words(fault)[1]
    return _answer(fault, {**_problem(fault), "operationStatus": status})


def _answer(fault: Fault, problem: dict[str, Any]) -> Response:
    return JSONResponse(problem, fault.status, fault.headers, MEDIA_TYPE)


def _problem(fault: Fault) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(fault.status).phrase,
        "status": fault.status,
        "detail": _words(fault)[0],
    }
    if fault.problems:
        shown["errors"] = [pointed(problem) for problem in fault.problems]
    if fault.names:
        shown["references"] = list(fault.names)
    return shown


def _words(fault: Fault) -> tuple[str, str]:
    if fault.kind in _OF_SETTINGS or _in_settings(fault):
        return _SETTINGS
    if fault.status == HTTPStatus.NOT_FOUND:
        return _WORDS["not_found"]
    phrase = HTTPStatus(fault.status).phrase
    return _WORDS.get(fault.kind or "", (fault.message, phrase.replace(" ", "")))


def _in_settings(fault: Fault) -> bool:
    return bool(fault.problems) and all(p.path[1:2] == ("settings",) for p in fault.problems)


def _place(name: str) -> tuple[str, ...]:
    return _PLACES.get(name, ("body", name))


_STATUSES = {"ambiguous_alias": 409}
CONNECTIONS = Surface(
    name="Connections",
    about="Provider configs as connections, looked up by GUID or alias; pages by `skip`, `take`.",
    mounts=("",),
    roots=("/connections",),
    credentials=(BEARER,),
    statuses=_STATUSES,
    place=_place,
    render=render,
    error=ConnectionProblem,
    media_type=MEDIA_TYPE,
)
UMBRACO = Surface(
    name="Umbraco connections",
    about="The same connections in the shapes that Umbraco.AI's generated client reads.",
    mounts=("/umbraco/ai/management/api/v1",),
    roots=("/umbraco/",),
    credentials=(BEARER,),
    statuses=_STATUSES,
    place=_place,
    render=render_with_status,
    error=UmbracoProblem,
    media_type=MEDIA_TYPE,
)
