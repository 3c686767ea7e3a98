"""One refusal, as every surface sees it: a status, a sentence and the fields that are wrong.

Turns the errors of the gateway, of the desk and of bodies.py into a Fault; renders nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from admin.api.bodies import BadRequest, Problem
from admin.configure.refusals import Refusal
from gateway.errors import Forbidden, GatewayError, Malformed, NotFound, WardgateError

UNEXPECTED = 500


@dataclass(frozen=True, slots=True)
class Fault:
    """What a surface renders. `problems` name the fields and are empty when no field is wrong."""

    status: int
    message: str
    problems: tuple[Problem, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    kind: str | None = None  # of the desk's refusal, where it was one
    names: tuple[str, ...] = ()  # the other objects it is about


def fault(
    error: WardgateError, statuses: Mapping[str, int], place: Callable[[str], tuple[str, ...]]
) -> Fault:
    """`statuses` and `place`: a surface's status per kind of refusal, where its fields stand."""
    if isinstance(error, Refusal):
        return _refused(error, statuses, place)
    if isinstance(error, BadRequest):
        return Fault(error.status, error.message, error.problems)
    if isinstance(error, GatewayError):
        headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
        return Fault(error.status, error.message, headers=headers)
    return Fault(UNEXPECTED, "the request could not be completed")


# Alike on every surface: what HTTP itself has a status for.
_ALWAYS: Mapping[str, int] = {
    "not_found": 404,
    "forbidden": 403,
    "stale": 412,
    "idempotency_key_reused": 409,
    "request_in_progress": 409,
    "answer_lost": 409,
}


def _refused(
    error: Refusal, statuses: Mapping[str, int], place: Callable[[str], tuple[str, ...]]
) -> Fault:
    status = statuses.get(error.kind, _ALWAYS.get(error.kind, Malformed.status))
    if status == NotFound.status:
        return Fault(status, "Not Found", kind=error.kind)
    if status in (Forbidden.status, 412):
        return Fault(status, error.message, kind=error.kind)
    path = place(error.field) if error.field else ("body",)
    problems = (Problem(path, error.message),)
    return Fault(status, error.message, problems, kind=error.kind, names=error.names)
