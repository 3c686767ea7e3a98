"""Who is calling: the token in the request's headers, ours or an issuer's, turned into an Actor.

Nothing here decides what the actor may do (permit.py does). Called before a body is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from admin.configure import tokens
from admin.configure.desk import Desk
from admin.oidc import Identities, looks_signed
from admin.permit import Actor
from gateway.errors import Unauthorized

BEARER = "authorization"


async def identify(request: Request, desk: Desk, headers: Sequence[str]) -> Actor:
    """The actor behind the one token in `headers` (Authorization: Bearer, or the bare token).

    What is no token of ours but a signed JWT is the identity provider's, where there is one. Raises
    Unauthorized without a token, with an unknown one, and with two that differ; Unavailable.
    """
    presented = {token for name in headers for token in _values(request, name)}
    if len(presented) != 1:
        raise Unauthorized("send one admin token: Authorization: Bearer wga_…")
    token = presented.pop()
    actor = await tokens.authenticate(desk, token)
    identities: Identities | None = request.app.state.identities
    if actor is None and identities is not None and looks_signed(token):
        actor = await identities.actor(token)
    if actor is None:
        raise Unauthorized("the admin token is unknown, revoked or mistyped")
    return actor


def _values(request: Request, name: str) -> list[str]:
    values = request.headers.getlist(name)
    return [_bearer(value) for value in values] if name == BEARER else values


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
