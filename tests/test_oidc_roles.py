"""What the claims of an identity provider's tokens hold, and how the settings say so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from admin.oidc import Role, identities, roles, values
from admin.permit import Grant
from gateway.errors import StartRefused
from gateway.settings import Settings
from tests.houses import wardgate
from tests.issuer import (
    GROUP,
    ROOT,
    Issuer,
    issuing,
    read,
)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as running:
        yield running


@pytest.mark.parametrize(
    ("claims", "held"),
    [
        ({"groups": ["team"]}, (Grant("GroupAIProviders.Manage", GROUP),)),
        ({"groups": "admins"}, ROOT),
        ({"groups": ["team", "admins"]}, (*ROOT, Grant("GroupAIProviders.Manage", GROUP))),
        ({"groups": ["Admins", "admins ", "x"]}, ()),
        ({"groups": None}, ()),
        ({"groups": {"admins": True}}, ()),
        ({"groups": [["admins"], 1, None]}, ()),
    ],
)
async def test_claims_are_mapped_exactly(
    issuer: Issuer, claims: dict[str, Any], held: tuple[Grant, ...]
) -> None:
    assert (await read(issuer, issuer.token(**claims))).grants == held


@pytest.mark.parametrize(
    ("claims", "name", "found"),
    [
        ({"scope": "a b"}, "scope", {"a", "b"}),
        ({"groups": "a b"}, "groups", {"a b"}),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", {"a"}),
        (
            {"realm_access.roles": ["b"], "realm_access": {"roles": ["a"]}},
            "realm_access.roles",
            {"b"},
        ),
        ({"realm_access": "roles"}, "realm_access.roles", set()),
        ({"https://x.example/roles": ["a"]}, "https://x.example/roles", {"a"}),
        ({"email": "a@x", "email_verified": True}, "email", {"a@x"}),
        ({"email": "a@x", "email_verified": False}, "email", set()),
        ({"email": "a@x"}, "email", set()),
        ({}, "groups", set()),
    ],
)
def test_values_of_a_claim(claims: dict[str, Any], name: str, found: set[str]) -> None:
    assert values(claims, name) == found


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email": "a@x", "preferred_username": "a"}, "a@x"),
        ({"preferred_username": "al"}, "al"),
        ({"email": 7}, "alice"),
        ({"email": "a\nb\x00"}, "a?b?"),
        ({"email": "x" * 300}, "x" * 200),
    ],
)
async def test_names_fit_the_audit_trail(issuer: Issuer, claims: dict[str, Any], name: str) -> None:
    assert (await read(issuer, issuer.token(**claims))).name == name


async def test_subjects_fit_the_audit_trail_and_stay_apart(issuer: Issuer) -> None:
    subjects = ["s" * 59, "s" * 60, "s" * 61, "a\x00", "a\n", "a", "ä" * 59, "\udcff"]
    ids = [(await read(issuer, issuer.token(sub=subject))).id for subject in subjects]
    assert len(set(ids)) == len(subjects)
    assert all(len(shown) <= 64 and shown.isprintable() for shown in ids)
    assert all(shown.startswith("oidc") for shown in ids)


def test_roles_are_read() -> None:
    text = f"""
      groups:cn=admins,ou=x = superadmin ;
      https://x.example/roles:ml team=GroupAIProviders.Manage@{GROUP}, GroupAIModels.Read@{GROUP};
      sub:repo:org/name:ref:refs/heads/main=AIProviders.Read@global;
    """
    team = (Grant("GroupAIProviders.Manage", GROUP), Grant("GroupAIModels.Read", GROUP))
    assert roles(text) == (
        Role("groups", "cn=admins,ou=x", ROOT),
        Role("https://x.example/roles", "ml team", team),
        Role("sub", "repo:org/name:ref:refs/heads/main", (Grant("AIProviders.Read", "global"),)),
    )


@pytest.mark.parametrize(
    ("piece", "why"),
    [
        ("groups", "is not claim:value=permission@scope"),
        ("groups:x", "is not"),
        ("groups=superadmin", "is not"),
        (":x=superadmin", "is not"),
        ("groups: =superadmin", "is not"),
        ("groups:x=", "is not"),
        ("groups:x=root", "unknown permission"),
        ("groups:x=superadmin,", "unknown permission"),
        (f"groups:x=superadmin@{GROUP}", "granted in the scope global"),
        ("groups:x=GroupAIProviders.Read", "other than global"),
        ("groups:x=GroupAIProviders.Read@group:none", "no scope can be called that"),
        ("groups:x=GroupAIProviders.Read@gateway:files/x", "reserved"),
    ],
)
def test_a_role_that_cannot_be_read_is_named(piece: str, why: str) -> None:
    with pytest.raises(StartRefused, match="WARDGATE_OIDC_ROLES") as caught:
        roles(f"groups:a=superadmin; {piece}")
    assert why in str(caught.value)
    assert repr(piece.strip()) in str(caught.value)


@pytest.mark.parametrize("text", ["", " ; ;", "g:a=superadmin;g:a=AIModels.Read"])
def test_a_mapping_that_maps_nothing_or_twice_is_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="maps nothing|twice"):
        roles(text)


def test_half_of_the_settings_is_refused_and_none_is_fine() -> None:
    whole: dict[str, Any] = {
        "oidc_issuer": "https://i.example",
        "oidc_audience": "w",
        "oidc_roles": "g:a=superadmin",
    }
    assert identities(Settings()) is None
    assert identities(Settings(**whole)) is not None
    for name in whole:
        with pytest.raises(StartRefused, match="go together"):
            identities(Settings(**{**whole, name: ""}))
    with pytest.raises(StartRefused, match="go together"):
        identities(Settings(oidc_jwks_url="https://i.example/keys"))


@pytest.mark.parametrize("name", ["ISSUER", "JWKS_URL"])
@pytest.mark.parametrize(
    "url", ["ftp://i", "https://me:pw@i", "https://i#f", "i.example", "https://"]
)
def test_a_setting_that_is_no_address_is_refused(name: str, url: str) -> None:
    with pytest.raises(StartRefused, match=f"WARDGATE_OIDC_{name} cannot be read"):
        Settings.from_env({f"WARDGATE_OIDC_{name}": url})


def test_an_issuer_keeps_its_last_slash() -> None:
    env = {"WARDGATE_OIDC_ISSUER": "https://i.example/"}
    assert Settings.from_env(env).oidc_issuer == "https://i.example/"


async def test_serve_refuses_roles_it_cannot_read(tmp_path: Path) -> None:
    words = ("serve", "--port", "0", "--admin-port", "0")
    code, _, said = await wardgate(
        tmp_path,
        *words,
        WARDGATE_OIDC_ISSUER="https://i.example",
        WARDGATE_OIDC_AUDIENCE="w",
        WARDGATE_OIDC_ROLES="groups:x=root",
    )
    assert code == 1
    assert said.splitlines()[-1].startswith("Error: WARDGATE_OIDC_ROLES: 'root' in 'groups:x=root'")
    assert "Traceback" not in said
