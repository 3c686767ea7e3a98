"""OIDC bearer tokens: a JWT the configured issuer signed, its claims mapped to grants by settings.

A token is never logged, stored or quoted; no algorithm but the listed ones, and none that shares a
secret, is ever tried. Called by api/credentials.py for what is no token of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt

from admin.configure.refusals import Refusal
from admin.configure.scoping import kind_of
from admin.jwks import Jwk, Keys
from admin.permit import Actor, Grant, flaw
from gateway.addresses import AddressPolicy
from gateway.errors import StartRefused, Unauthorized
from gateway.settings import PREFIX, Settings
from gateway.shapes import GLOBAL

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
LEEWAY = 60  # seconds two clocks may differ by
LONGEST = 16 * 1024
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
# An access token or an identity token; a logout token, say, has the same issuer and audience.
_TYPES = ("jwt", "at+jwt", "application/at+jwt")
_REQUIRED = ["iss", "aud", "exp", "sub"]
_NAMES = ("email", "preferred_username", "sub")
_LISTS = ("scope", "scp")  # claims that are words with spaces between
_LONGEST_ID, _LONGEST_NAME = 64, 200  # columns of the audit trail
_MOST_VALUES = 1000
# A claim's name may be a URL; its value may hold anything, as `cn=admins,ou=x` does.
_PIECE = re.compile(r"((?:https?://)?[^\s:=]+):(.+)=([^=]+)", re.DOTALL)
_ROLES = f"{PREFIX}OIDC_ROLES"
_verifier = jwt.PyJWT({"enforce_minimum_key_length": True})
_WORDS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "has expired",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidAudienceError: "is for another audience",
    jwt.InvalidIssuerError: "is another issuer's",
    jwt.MissingRequiredClaimError: f"lacks one of the claims {', '.join(_REQUIRED)}",
}


@dataclass(frozen=True, slots=True)
class Role:
    """Whoever has `value` in `claim` holds `grants`."""

    claim: str
    value: str
    grants: tuple[Grant, ...]


class Identities:
    """Who the issuer says is calling."""

    def __init__(self, issuer: str, audience: str, roles: tuple[Role, ...], keys: Keys) -> None:
        self._issuer = issuer
        self._audience = audience
        self._roles = roles
        self._keys = keys

    async def actor(self, text: str) -> Actor:
        """Who holds this token, with the grants its claims map to, which may be none.

        Raises Unauthorized, and Unavailable when the issuer's keys are not to be had.
        """
        header = _header(text)
        key = await self._keys.find(header["kid"])
        if key is None:
            raise Unauthorized("the token is signed with a key its issuer does not publish")
        claims = self._verified(text, key, header["alg"])
        return Actor(_actor_id(claims["sub"]), _name(claims), self._grants(claims))

    async def aclose(self) -> None:
        await self._keys.aclose()

    def _verified(self, text: str, key: Jwk, algorithm: str) -> dict[str, Any]:
        if key.get("alg", algorithm) != algorithm:
            raise _unverified()
        try:
            claims = _verifier.decode(
                text,
                jwt.PyJWK(dict(key), algorithm),
                [algorithm],
                {"require": _REQUIRED},
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
            )
        except tuple(_WORDS) as error:
            # Its signature holds: who sent it may know what else is wrong.
            words = next(words for kind, words in _WORDS.items() if isinstance(error, kind))
            raise Unauthorized(f"the token {words}") from None
        except (jwt.PyJWTError, TypeError, ValueError, OverflowError):
            raise _unverified() from None
        if not claims["sub"].strip():
            raise Unauthorized("the token names no subject")
        return claims

    def _grants(self, claims: Mapping[str, Any]) -> tuple[Grant, ...]:
        held = {role.claim: values(claims, role.claim) for role in self._roles}
        grants = [
            grant for role in self._roles if role.value in held[role.claim] for grant in role.grants
        ]
        return tuple(dict.fromkeys(grants))


def looks_signed(text: str) -> bool:
    """Whether this has the form of a signed JWT."""
    return len(text) <= LONGEST and _JWT.fullmatch(text) is not None


def identities(settings: Settings) -> Identities | None:
    """What the settings ask for; None: no issuer. Raises StartRefused for half of it."""
    issuer, audience = settings.oidc_issuer, settings.oidc_audience
    given = (issuer, audience, settings.oidc_roles)
    if not any((*given, settings.oidc_jwks_url)):
        return None
    if not all(given):
        names = ", ".join(f"{PREFIX}OIDC_{part}" for part in ("ISSUER", "AUDIENCE", "ROLES"))
        raise StartRefused(f"{names} go together: one of them is not set")
    # Like a base URL, an issuer at a literal address allows that address and port.
    named = {"issuer": issuer, "keys": settings.oidc_jwks_url}
    policy = AddressPolicy.of(settings.allowed_upstream_cidrs, named)
    keys = Keys(issuer, settings.oidc_jwks_url, policy)
    return Identities(issuer, audience, roles(settings.oidc_roles), keys)


def roles(text: str) -> tuple[Role, ...]:
    """`claim:value=permission@scope,permission@scope; …`; without a scope: global.

    Raises StartRefused, which names the piece that cannot be read.
    """
    found = tuple(_role(piece.strip()) for piece in text.split(";") if piece.strip())
    pairs = [(role.claim, role.value) for role in found]
    for pair in pairs:
        if pairs.count(pair) > 1:
            raise StartRefused(f"{_ROLES} has {':'.join(pair)} twice")
    if not found:
        raise StartRefused(f"{_ROLES} maps nothing")
    return found


def values(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """The texts under a claim: of that very name, or on the way its dots show.

    An e-mail address the issuer does not vouch for counts for nothing.
    """
    if name == "email" and claims.get("email_verified") not in (True, "true"):
        return frozenset()
    found = _at(claims, name)
    if isinstance(found, str):
        return frozenset(found.split() if name in _LISTS else (found,))
    listed = found[:_MOST_VALUES] if isinstance(found, list) else ()
    return frozenset(item for item in listed if isinstance(item, str))


def _at(claims: Mapping[str, Any], name: str) -> object:
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _role(piece: str) -> Role:
    read = _PIECE.fullmatch(piece)
    if read is None or not read[2].strip():
        raise StartRefused(f"{_ROLES}: {piece!r} is not claim:value=permission@scope")
    grants = tuple(_grant(word.strip(), piece) for word in read[3].split(","))
    return Role(read[1], read[2].strip(), grants)


def _grant(word: str, piece: str) -> Grant:
    permission, _, scope = word.partition("@")
    grant = Grant(permission, scope or GLOBAL)
    try:
        kind_of(grant.scope)
        wrong = flaw(grant)
    except Refusal as refusal:
        wrong = refusal.message
    if wrong:
        raise StartRefused(f"{_ROLES}: {word!r} in {piece!r}: {wrong}")
    return grant


def _header(text: str) -> dict[str, Any]:
    """The unverified head, of which only the algorithm and the key's id are used, if they may."""
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError):
        raise _unverified() from None
    kind, key_id = header.get("typ", "JWT"), header.get("kid")
    if header.get("alg") not in ALGORITHMS or "crit" in header:
        raise Unauthorized(f"the token is not signed with one of {', '.join(ALGORITHMS)}")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise Unauthorized("the token is no access token and no identity token")
    if not isinstance(key_id, str) or not key_id:
        raise Unauthorized("the token does not say which key signed it (kid)")
    return header


def _unverified() -> Unauthorized:
    return Unauthorized("the token cannot be verified")


def _actor_id(subject: str) -> str:
    whole = f"oidc:{subject}"
    if len(whole) <= _LONGEST_ID and whole.isprintable():
        return whole
    hashed = sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
    return f"oidc-sha256:{hashed}"[:_LONGEST_ID]


def _name(claims: Mapping[str, Any]) -> str:
    said: Iterable[object] = (claims.get(name) for name in _NAMES)
    name = next((text for text in said if isinstance(text, str) and text.strip()), "")
    return "".join(c if c.isprintable() else "?" for c in name)[:_LONGEST_NAME]
