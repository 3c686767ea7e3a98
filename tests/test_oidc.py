"""Tokens of an identity provider: which are taken, which are refused, and what a caller sees."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from starlette.responses import Response

from admin import oidc
from admin.permit import Actor
from gateway.errors import Unauthorized
from tests.admin_serve import CONFIGS, Admin, admin, new
from tests.backends import Backend
from tests.issuer import (
    AUDIENCE,
    CANARY,
    DISCOVERY,
    GROUP,
    ROLES,
    ROOT,
    Issuer,
    issuing,
    jwk,
    new_key,
    read,
    rsa_key,
    sign,
)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as running:
        yield running


async def refused(issuer: Issuer, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await read(issuer, token)
    assert token not in str(caught.value)
    assert CANARY not in str(caught.value)
    return caught.value.message


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(issuer: Issuer, **head: Any) -> str:
    return f"{segment({'kid': 'one', 'typ': 'JWT', **head})}.{segment(issuer.claims())}"


async def test_a_signed_token_is_who_it_says_with_what_its_claims_map_to(issuer: Issuer) -> None:
    actor = await read(issuer, issuer.token(email="alice@example.com"))
    assert actor == Actor("oidc:alice", "alice@example.com", ROOT)
    assert issuer.asked == [DISCOVERY, "/keys"]


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *((rsa_key, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        (new_key, "ES256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate, "EdDSA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_every_listed_algorithm_is_taken(key: Any, algorithm: str) -> None:
    assert algorithm in oidc.ALGORITHMS
    async with issuing(key()) as issuer:
        token = issuer.token(head={"alg": algorithm})
        assert (await read(issuer, token)).grants == ROOT


def test_no_other_algorithm_is_listed() -> None:
    assert len(oidc.ALGORITHMS) == 10
    assert not [name for name in oidc.ALGORITHMS if name.startswith(("HS", "none"))]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"exp": -61}, "expired"),
        ({"exp": None}, "lacks"),
        ({"nbf": 90}, "not valid yet"),
        ({"iat": 90}, "not valid yet"),
        ({"aud": "another"}, "audience"),
        ({"aud": ["a", "b"]}, "audience"),
        ({"aud": None}, "lacks"),
        ({"iss": "https://another.example"}, "issuer"),
        ({"iss": None}, "lacks"),
        ({"sub": None}, "lacks"),
        ({"sub": "  "}, "subject"),
        ({"sub": 7}, "verified"),
        ({"exp": "soon"}, "verified"),
        ({"exp": [1]}, "verified"),
        ({"exp": float("inf")}, "verified"),
    ],
)
async def test_a_claim_that_will_not_do_is_refused(
    issuer: Issuer, changed: dict[str, Any], words: str
) -> None:
    # Small numbers are seconds from now: what is collected early may run late.
    now = time.time()
    claims: dict[str, Any] = {
        n: now + v if type(v) is int and n != "sub" else v for n, v in changed.items()
    }
    assert words in await refused(issuer, issuer.token(**claims))


async def test_clocks_may_differ_by_a_minute(issuer: Issuer) -> None:
    now = time.time()
    edges: list[dict[str, Any]] = [{"exp": now - 50}, {"nbf": now + 50}, {"iat": now + 50}]
    for changed in edges:
        assert (await read(issuer, issuer.token(**changed))).grants == ROOT
    assert (await read(issuer, issuer.token(aud=["x", AUDIENCE]))).grants == ROOT


async def test_a_shared_secret_that_is_the_public_key_verifies_nothing() -> None:
    async with issuing(rsa_key()) as issuer:
        public = rsa_key().public_key()
        pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signed = unsigned(issuer, alg="HS256")
        mac = hmac.digest(pem, signed.encode(), hashlib.sha256)
        assert "not signed with" in await refused(issuer, f"{signed}.{segment(mac)}")
        # Not even when the issuer publishes a symmetric key under that very id.
        issuer.keys[:] = [{"kty": "oct", "kid": "one", "k": segment(pem), "alg": "HS256"}]
        assert "not signed with" in await refused(issuer, f"{signed}.{segment(mac)}")
        token = issuer.token()
        assert "not publish" in await refused(issuer, token)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "ES256K", ["ES256"], None, 7])
async def test_no_unlisted_algorithm_is_tried(issuer: Issuer, algorithm: Any) -> None:
    for signature in ("", segment(b"x" * 64)):
        token = f"{unsigned(issuer, alg=algorithm)}.{signature}"
        assert "not signed with" in await refused(issuer, token)
    assert issuer.asked == []


async def test_a_key_brought_along_in_the_header_is_not_looked_at(issuer: Issuer) -> None:
    other = new_key()
    claims = issuer.claims()
    for head in ({"jwk": jwk(other, "one")}, {"jku": f"{issuer.url}/mine"}, {"x5u": issuer.url}):
        assert "cannot be verified" in await refused(issuer, sign(other, claims, **head))
    assert set(issuer.asked) == {DISCOVERY, "/keys"}


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"kid": None}, "kid"),
        ({"kid": ""}, "kid"),
        ({"kid": "two"}, "not publish"),
        ({"typ": "logout+jwt"}, "access token"),
        ({"typ": "secevent+jwt"}, "access token"),
        ({"crit": ["exp"], "exp": 1}, "verified"),
    ],
)
async def test_a_header_that_will_not_do_is_refused(
    issuer: Issuer, head: dict[str, Any], words: str
) -> None:
    assert words in await refused(issuer, issuer.token(head=head))


async def test_a_changed_token_is_refused(issuer: Issuer) -> None:
    head, claims, signature = issuer.token(groups=[]).split(".")
    other = segment(issuer.claims())
    for token in (f"{head}.{other}.{signature}", f"{head}.{claims}.{signature[:-4]}AAAA"):
        assert "cannot be verified" in await refused(issuer, token)


async def test_a_key_is_used_for_what_it_was_made_for(issuer: Issuer) -> None:
    token, usable = issuer.token(), issuer.keys[0]
    assert (await read(issuer, token)).grants == ROOT
    for spoiled in (
        {"use": "enc"},
        {"alg": "ES384"},
        {"kty": "oct", "k": "AAAA"},
        {"crv": "P-384"},
    ):
        issuer.keys[:] = [{**usable, **spoiled}]
        await refused(issuer, token)


async def test_a_short_rsa_key_is_refused() -> None:
    async with issuing(rsa_key(1024)) as issuer:
        with pytest.warns(match="below the minimum"):
            token = issuer.token()
        assert "cannot be verified" in await refused(issuer, token)


async def test_a_curve_of_another_algorithm_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    async with issuing(key) as issuer:
        signed = unsigned(issuer, alg="ES256")
        signature = segment(b"\x01" * 64)
        assert "cannot be verified" in await refused(issuer, f"{signed}.{signature}")


@contextlib.asynccontextmanager
async def house(backend: Backend, issuer: Issuer) -> AsyncIterator[Admin]:
    given: dict[str, Any] = {
        "oidc_issuer": issuer.url,
        "oidc_audience": AUDIENCE,
        "oidc_roles": ROLES,
    }
    async with admin(backend, **given) as running:
        yield running


async def test_the_admin_app_takes_both_kinds_of_token(issuer: Issuer, backend: Backend) -> None:
    async with house(backend, issuer) as app:
        token = issuer.token(email="alice@example.com")
        made = await app.call("POST", CONFIGS, new(), token=token)
        assert made.status_code == 200
        assert (await app.call("GET", CONFIGS)).status_code == 200
        bare = {"x-auth-key": token}
        assert (await app.call("GET", CONFIGS, token="", headers=bare)).status_code == 200
        [row, *_] = (await app.call("GET", "/api/v1/audit", token=token)).json()["data"]
        assert row["actor"] == {"id": "oidc:alice", "name": "alice@example.com"}
        # In a scope of the team's alone, and nowhere else.
        team = issuer.token(groups=["team"])
        assert (await app.call("POST", CONFIGS, new("b"), token=team)).status_code == 404
        mine = f"/accounts/wardgate/ai-gateway/gateways/{GROUP}/provider_configs"
        assert (await app.call("POST", mine, new(), token=team)).status_code == 200
        assert (await app.call("GET", "/api/v1/audit", token=team)).status_code == 403
    assert token.rpartition(".")[2].encode() not in backend.disk()
    assert CANARY.encode() not in backend.disk()


async def test_who_is_known_but_mapped_to_nothing_is_forbidden(
    issuer: Issuer, backend: Backend
) -> None:
    async with house(backend, issuer) as app:
        nobody, late = issuer.token(groups=["x"]), issuer.token(exp=time.time() - 100)
        assert (await app.call("GET", CONFIGS, token=nobody)).status_code == 403
        expired = await app.call("GET", CONFIGS, token=late)
        assert expired.status_code == 401
        assert expired.headers["www-authenticate"] == "Bearer"
        assert "has expired" in expired.text
        for odd in ("eyJ.x.y", "eyJhbGciOiJub25lIn0.e30.", "a.b.c", f"wga_{nobody}", "e" * 20_000):
            assert (await app.call("GET", CONFIGS, token=odd)).status_code == 401
        two = {"x-auth-key": issuer.token()}
        assert (await app.call("GET", CONFIGS, headers=two)).status_code == 401


async def test_an_issuer_that_is_away_costs_its_own_tokens_only(
    issuer: Issuer, backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    issuer.instead["/keys"] = Response("no", 500)
    async with house(backend, issuer) as app:
        away = await app.call("GET", CONFIGS, token=issuer.token())
        assert away.status_code == 503
        assert "identity provider" in away.text
        assert (await app.call("GET", CONFIGS)).status_code == 200
    out, err = capfd.readouterr()
    assert "answered with status 500" in out + err
    assert CANARY not in out + err


async def test_without_an_issuer_a_signed_token_is_just_an_unknown_one(
    issuer: Issuer, backend: Backend
) -> None:
    async with admin(backend) as app:
        answer = await app.call("GET", CONFIGS, token=issuer.token())
    assert answer.status_code == 401
    assert issuer.asked == []
