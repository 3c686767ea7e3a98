"""Master keys wrapped by HashiCorp Vault: where it is asked, and how Wardgate logs in there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin.demo.upstream import Upstream
from gateway.errors import StartRefused
from gateway.keks.load import load_ring
from gateway.keks.wrapped import add, read_wrapped
from gateway.shapes import Secret
from tests.keyservices import CANARIES, SAID, TOKEN, Vault, answer, running

RANDOM = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
APPROLE = {"role_id": "wardgate-role", "secret_id": "secret-id-canary"}
KUBERNETES = {"role": "wardgate", "jwt": "eyJ.canary.jwt"}


async def refusal(vault: Vault, folder: Path, **more: Any) -> str:
    with pytest.raises(StartRefused) as caught:
        await load_ring(vault.settings(folder, **more))
    said = str(caught.value)
    assert not [canary for canary in CANARIES if canary in said]
    return said


def credential(folder: Path, text: str) -> str:
    """A file with it, as Vault's agent or Kubernetes leaves one."""
    file = folder / "credential"
    file.write_text(text)
    return str(file)


async def test_vault_is_asked_as_its_documentation_says(tmp_path: Path) -> None:
    vault = Vault(mount="team/transit", namespace=b"team/prod")
    where = {"kek_vault_mount": "team/transit", "kek_vault_namespace": "team/prod"}
    async with running(vault) as upstream:
        settings = vault.settings(tmp_path, **where)
        await add(settings, [("k1", RANDOM)])
        assert (await load_ring(settings)).expose() == (("k1", RANDOM),)
        targets = [received.target for received in upstream.received]
        assert targets[:2] == [
            b"/v1/team/transit/encrypt/wardgate",
            b"/v1/team/transit/decrypt/wardgate",
        ]
        assert "KEK_VAULT_NAMESPACE" in await refusal(
            vault, tmp_path, kek_vault_mount="team/transit"
        )
        elsewhere = {"kek_vault_mount": "other", "kek_vault_namespace": "team/prod"}
        assert "KEK_VAULT_MOUNT" in await refusal(vault, tmp_path, **elsewhere)


async def test_vault_may_live_below_a_path(tmp_path: Path) -> None:
    wrapped = answer(200, {"data": {"ciphertext": "vault:v1:AAAA"}})
    async with Upstream(wrapped) as upstream:
        vault = Vault(place=f"{upstream.origin}/behind/vault")
        with pytest.raises(StartRefused, match="to 0 bytes"):
            await add(vault.settings(tmp_path), [("k1", RANDOM)])
    assert upstream.received[0].target == b"/behind/vault/v1/transit/encrypt/wardgate"


async def test_keys_unwrap_after_vault_has_rotated_its_own(tmp_path: Path) -> None:
    vault = Vault()
    async with running(vault):
        settings = vault.settings(tmp_path)
        await add(settings, [("k1", RANDOM)])
        vault.rotate()
        await add(settings, [("k2", RANDOM[::-1])])
        texts = [text for _, text in read_wrapped(tmp_path / "kek.wrapped")]
        assert [text[:9] for text in texts] == ["vault:v2:", "vault:v1:"]
        assert (await load_ring(settings)).expose() == (("k1", RANDOM), ("k2", RANDOM[::-1]))


async def test_another_key_of_vault_does_not_unwrap(tmp_path: Path) -> None:
    vault = Vault()
    vault.rotate("wardgate")
    vault.rotate("other")
    async with running(vault):
        await add(vault.settings(tmp_path), [("k1", RANDOM)])
        for name in ("other", "nosuch"):
            said = await refusal(vault, tmp_path, kek_vault_key=name)
            assert f"with key {name} cannot unwrap 'k1'" in said


async def test_token_from_a_file_is_as_good(tmp_path: Path) -> None:
    vault, file = Vault(), credential(tmp_path, f"{TOKEN}\n")
    async with running(vault):
        settings = vault.settings(tmp_path, kek_vault_token=None, kek_vault_credential_file=file)
        await add(settings, [("k1", RANDOM)])
        assert (await load_ring(settings)).ids == ("k1",)


async def test_wrong_token_is_refused_with_what_it_must_be_allowed(tmp_path: Path) -> None:
    vault = Vault()
    async with running(vault):
        await add(vault.settings(tmp_path), [("k1", RANDOM)])
        said = await refusal(vault, tmp_path, kek_vault_token=Secret(b"hvs.canary-wrong"))
    assert said.endswith("does its policy allow update on transit/decrypt/wardgate?")
    assert SAID not in said


@pytest.mark.parametrize(
    "text", ["", "\n", "two words", "line\nfeed", "caf\u00e9", "nul\0", "a\tb"]
)
async def test_what_is_no_token_is_never_sent(text: str, tmp_path: Path) -> None:
    vault = Vault()
    async with running(vault) as upstream:
        await add(vault.settings(tmp_path), [("k1", RANDOM)])
        asked, file = len(upstream.received), credential(tmp_path, text)
        for given in (
            {"kek_vault_token": Secret(text.encode())},
            {"kek_vault_token": None, "kek_vault_credential_file": file},
        ):
            assert "holds no token" in await refusal(vault, tmp_path, **given)
        assert len(upstream.received) == asked


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"kek_vault_token": None}, "set WARDGATE_KEK_VAULT_CREDENTIAL_FILE"),
        ({"kek_vault_credential_file": "/x"}, "another way to log in"),
        ({"kek_vault_auth": "approle"}, "another way to log in"),
        ({"kek_vault_token": None, "kek_vault_auth": "approle"}, "_CREDENTIAL_FILE"),
        ({"kek_vault_token": None, "kek_vault_auth": "kubernetes"}, "cannot be read"),
        ({"kek_vault_token": None, "kek_vault_credential_file": "/none"}, "cannot be read"),
    ],
)
async def test_login_that_lacks_something_says_what(
    given: dict[str, Any], why: str, tmp_path: Path
) -> None:
    (tmp_path / "kek.wrapped").write_text("k1:vault:v1:AAAA")
    vault = Vault(place="http://127.0.0.1:9")
    assert why in await refusal(vault, tmp_path, **given)


@pytest.mark.parametrize(
    ("auth", "mount", "proof"),
    [
        ("approle", "", APPROLE),
        ("approle", "team/roles", APPROLE),
        ("kubernetes", "", KUBERNETES),
        ("kubernetes", "k8s-prod", KUBERNETES),
    ],
)
async def test_role_logs_in_and_gets_a_token_for_this_once(
    auth: str, mount: str, proof: dict[str, str], tmp_path: Path
) -> None:
    role, secret = proof.values()
    vault = Vault(roles={f"auth/{mount or auth}": proof})
    given = {
        "kek_vault_token": None,
        "kek_vault_auth": auth,
        "kek_vault_auth_mount": mount,
        "kek_vault_role": role,
        "kek_vault_credential_file": credential(tmp_path, secret + "\n"),
    }
    async with running(vault) as upstream:
        settings = vault.settings(tmp_path, **given)
        await add(settings, [("k1", RANDOM), ("k2", RANDOM[::-1])])
        assert len(upstream.received) == 5  # one login for all of them
        assert (await load_ring(settings)).ids == ("k2", "k1")
        login = upstream.received[0]
        assert login.target == f"/v1/auth/{mount or auth}/login".encode()
        assert login.header(b"x-vault-token") is None
        said = await refusal(vault, tmp_path, **given | {"kek_vault_role": "another"})
        assert f"refuses to log in this role at auth/{mount or auth}/login" in said
        assert "needs WARDGATE_KEK_VAULT_ROLE" in await refusal(
            vault, tmp_path, **given | {"kek_vault_role": ""}
        )


async def test_login_that_gives_no_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kek.wrapped").write_text("k1:vault:v1:AAAA")
    file = credential(tmp_path, "secret-id-canary")
    given = {"kek_vault_auth": "approle", "kek_vault_role": "r", "kek_vault_credential_file": file}
    for body in ({"auth": None}, {}, {"auth": {"client_token": 1}}):
        vault = Vault(instead=answer(200, body))
        async with running(vault):
            said = await refusal(vault, tmp_path, kek_vault_token=None, **given)
            assert "something else than was asked for" in said
    vault = Vault(instead=answer(200, {"auth": {"client_token": "canary\r\nx: y"}}))
    async with running(vault) as upstream:
        assert "holds no token" in await refusal(vault, tmp_path, kek_vault_token=None, **given)
        assert len(upstream.received) == 1
