"""An OIDC issuer on a real socket: discovery, a key set, and tokens signed with keys made here.

It counts who asks, rotates, goes wrong on request. Called by tests only.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from admin.jwks import Keys
from admin.oidc import Identities, roles
from admin.permit import Actor, Grant
from gateway.addresses import AddressPolicy
from gateway.settings import Network
from tests.desks import Clock
from tests.serve import serving

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

AUDIENCE = "wardgate"
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
ROLES = f"groups:admins=superadmin@global; groups:team=GroupAIProviders.Manage@{GROUP}"
ROOT = (Grant("superadmin", "global"),)
DISCOVERY = "/.well-known/openid-configuration"
# Stands in every token's claims, to be found wherever a token should not be.
CANARY = "c4n4ry-0idc"


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Made once: it takes a while."""
    return rsa.generate_private_key(65537, bits)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def jwk(key: Private, key_id: str, **more: Any) -> dict[str, Any]:
    """The public half, as a key set has it."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        shown = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        shown = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        shown = jwt.algorithms.OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**shown, "kid": key_id, "use": "sig", **more}


@dataclass
class Issuer:
    """A running issuer. `keys` is its key set; an answer put under a path is given instead."""

    url: str = ""
    key: Private = field(default_factory=new_key)
    keys: list[dict[str, Any]] = field(default_factory=list)
    instead: dict[str, Response] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def policy(self) -> AddressPolicy:
        """What a house allows that names this issuer in its settings."""
        allowed: tuple[Network, ...] = ()
        return AddressPolicy.of(allowed, {"issuer": self.url})

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Good ones, for five minutes; None takes one away."""
        now = time.time()
        given = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300}
        given |= {"canary": CANARY, "groups": ["admins"], **changed}
        return {name: value for name, value in given.items() if value is not None}

    def token(self, *, head: dict[str, Any] | None = None, **changed: Any) -> str:
        """A token of this issuer's key `one`; `head` changes its header."""
        return sign(self.key, self.claims(**changed), **(head or {}))

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append(path)
        if path in self.instead:
            return self.instead[path]
        if path == "/keys":
            return JSONResponse({"keys": self.keys})
        return JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})


def sign(key: Private, claims: dict[str, Any], **head: Any) -> str:
    algorithm = head.pop("alg", _algorithm(key))
    headers = {name: value for name, value in {"kid": "one", **head}.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers)


def _algorithm(key: Private) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    return "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "EdDSA"


@contextlib.asynccontextmanager
async def issuing(key: Private | None = None) -> AsyncIterator[Issuer]:
    """An issuer whose only key is called `one`."""
    issuer = Issuer(key=key or new_key())
    issuer.keys.append(jwk(issuer.key, "one"))
    app = Starlette(routes=[Route("/{path:path}", issuer.answer)])
    async with serving(app) as url:
        issuer.url = url
        yield issuer


@contextlib.asynccontextmanager
async def reader(
    issuer: Issuer, *, url: str = "", clock: Clock | None = None, patience: float = 5.0
) -> AsyncIterator[Identities]:
    """Reads the issuer's tokens as a house of its settings does."""
    keys = Keys(issuer.url, url, issuer.policy, clock or Clock(), patience)
    reading = Identities(issuer.url, AUDIENCE, roles(ROLES), keys)
    try:
        yield reading
    finally:
        await reading.aclose()


async def read(issuer: Issuer, token: str, **how: Any) -> Actor:
    async with reader(issuer, **how) as reading:
        return await reading.actor(token)
