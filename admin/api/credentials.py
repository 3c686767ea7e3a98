"""Who is calling: the admin token in the request's headers, turned into an Actor.

Nothing here decides what the actor may do (permit.py does). Called before a body is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from admin.configure import tokens
from admin.configure.desk import Desk
from admin.permit import Actor
from gateway.errors import Unauthorized

BEARER = "authorization"


async def identify(request: Request, desk: Desk, headers: Sequence[str]) -> Actor:
    """The actor behind the one token in `headers` (Authorization: Bearer, or the bare token).

    Raises Unauthorized without a token, with an unknown one, and with two that differ.
    """
    presented = {token for name in headers for token in _values(request, name)}
    if len(presented) != 1:
        raise Unauthorized("send one admin token: Authorization: Bearer wga_…")
    actor = await tokens.authenticate(desk, presented.pop())
    if actor is None:
        raise Unauthorized("the admin token is unknown, revoked or mistyped")
    return actor


def _values(request: Request, name: str) -> list[str]:
    values = request.headers.getlist(name)
    return [_bearer(value) for value in values] if name == BEARER else values


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
