"""Master keys wrapped by AWS KMS: what is signed, with whose credentials, and under which id."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from admin.demo.upstream import Received, Script, Upstream
from gateway.errors import StartRefused
from gateway.keks.kms import endpoint
from gateway.keks.load import load_ring
from gateway.keks.wrapped import add
from gateway.settings import Settings
from gateway.shapes import Secret
from tests.aws import ACCESS_KEY, REGION, SECRET_KEY
from tests.aws import TOKEN as SESSION
from tests.keyservices import ALIAS, CANARIES, KEY_ARN, Kms, answer, running

RANDOM = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
SECRET = Secret(SECRET_KEY.encode())
NOBODY: dict[str, Any] = {"kek_aws_access_key_id": None, "kek_aws_secret_access_key": None}


async def refusal(kms: Kms, folder: Path, **more: Any) -> str:
    with pytest.raises(StartRefused) as caught:
        await load_ring(kms.settings(folder, **more))
    said = str(caught.value)
    assert not [canary for canary in (*CANARIES, SESSION) if canary in said]
    return said


@contextlib.contextmanager
def machine(folder: Path, **more: str) -> Iterator[None]:
    """This process's environment with nothing of AWS in it but `more`; put back afterwards."""
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    empty = str(folder / "none")
    given = {"AWS_CONFIG_FILE": empty, "AWS_SHARED_CREDENTIALS_FILE": empty}
    given |= {"AWS_EC2_METADATA_DISABLED": "true", **more}
    try:
        for name in before:
            del os.environ[name]
        os.environ.update(given)
        yield
    finally:
        for name in given:
            os.environ.pop(name, None)
        os.environ.update(before)


async def test_everything_that_matters_is_signed(tmp_path: Path) -> None:
    kms = Kms()
    async with running(kms):
        settings = kms.settings(tmp_path)
        await add(settings, [("k1", RANDOM)])
        assert (await load_ring(settings)).expose() == (("k1", RANDOM),)
    assert kms.asked == ["Encrypt", "Decrypt", "Decrypt"]
    assert kms.signed == [{"content-type", "host", "x-amz-date", "x-amz-target"}] * 3


async def test_session_of_temporary_credentials_is_sent_and_signed(tmp_path: Path) -> None:
    kms = Kms(session=SESSION.encode())
    async with running(kms):
        settings = kms.settings(tmp_path, kek_aws_session_token=Secret(SESSION.encode()))
        await add(settings, [("k1", RANDOM)])
        assert "x-amz-security-token" in kms.signed[0]
        assert "(UnrecognizedClientException)" in await refusal(kms, tmp_path)


async def test_wrong_secret_and_wrong_region_are_refused(tmp_path: Path) -> None:
    kms = Kms()
    async with running(kms):
        await add(kms.settings(tmp_path), [("k1", RANDOM)])
        wrong = Secret(b"aws/canary-wrong")
        for given in ({"kek_aws_secret_access_key": wrong}, {"kek_aws_region": "us-east-1"}):
            said = await refusal(kms, tmp_path, **given)
            assert "refuses the credentials" in said
            assert said.endswith("(InvalidSignatureException)")


async def test_key_unwraps_under_its_own_id_only(tmp_path: Path) -> None:
    kms, file = Kms(), tmp_path / "kek.wrapped"
    async with running(kms):
        await add(kms.settings(tmp_path), [("k1", RANDOM), ("k2", RANDOM[::-1])])
        one, two = file.read_text().split()
        file.write_text(f"k1{two[2:]}\nk2{one[2:]}\n")
        assert "cannot unwrap 'k1'" in await refusal(kms, tmp_path)


async def test_key_goes_by_its_alias_too(tmp_path: Path) -> None:
    kms = Kms()
    async with running(kms):
        named = {"kek_aws_key": ALIAS, "kek_aws_region": REGION}
        await add(kms.settings(tmp_path, **named), [("k1", RANDOM)])
        assert (await load_ring(kms.settings(tmp_path))).ids == ("k1",)
        assert "name the region" in await refusal(kms, tmp_path, kek_aws_key=ALIAS)
        unknown = {"kek_aws_key": KEY_ARN[:-1] + "1"}
        assert "has no such key" in await refusal(kms, tmp_path, **unknown)


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"kek_aws_key": KEY_ARN}, f"https://kms.{REGION}.amazonaws.com"),
        ({"kek_aws_key": KEY_ARN, "kek_aws_region": "eu-north-1"}, "https://kms.eu-north-1."),
        (
            {"kek_aws_key": "x", "kek_aws_region": "cn-north-1"},
            "https://kms.cn-north-1.amazonaws.com.cn",
        ),
        ({"kek_aws_key": KEY_ARN, "kek_aws_endpoint": "https://vpce"}, "https://vpce"),
    ],
)
def test_kms_is_asked_in_the_keys_region(given: dict[str, str], where: str) -> None:
    settings: dict[str, Any] = dict(given)
    assert endpoint(Settings(**settings)).startswith(where)


@pytest.mark.parametrize(
    "given",
    [
        {"kek_aws_access_key_id": None},
        {"kek_aws_secret_access_key": None},
        {**NOBODY, "kek_aws_session_token": SECRET},
    ],
)
async def test_half_of_the_credentials_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "kek.wrapped").write_text("k1:aws-kms:AAAA")
    kms = Kms(place="http://127.0.0.1:9")
    assert "go together" in await refusal(kms, tmp_path, **given)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("DisabledException", "has disabled this key (DisabledException)"),
        ("com.amazonaws.kms#KMSInvalidStateException", "in the state it is in (KMSInvalidState"),
        ("AccessDeniedException", "may not use this key"),
        ("ThrottlingException", "answered 400 (ThrottlingException)"),
        ("", "answered 400"),
        ("canary 1", "answered 400"),
        ("x#canary-of-the-service", "answered 400"),
    ],
)
async def test_problem_is_told_by_its_name_alone(kind: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "kek.wrapped").write_text("k1:aws-kms:AAAA")
    kms = Kms(instead=answer(400, {"__type": kind, "message": "canary"}))
    async with running(kms):
        assert why in await refusal(kms, tmp_path)


def container(received: Received) -> Script:
    """The endpoint a container gets its role's credentials from."""
    assert received.header(b"authorization") == b"pod-token-canary"
    keys = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": SESSION}
    return answer(200, {**keys, "Expiration": "2099-01-01T00:00:00Z"})


async def test_credentials_are_found_where_aws_tools_find_them(tmp_path: Path) -> None:
    kms, token = Kms(session=SESSION.encode()), tmp_path / "token"
    token.write_text("pod-token-canary")
    in_env = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    in_env["AWS_SESSION_TOKEN"] = SESSION
    async with running(kms), Upstream(container) as pod:
        in_pod = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{pod.origin}/v1/credentials"}
        in_pod["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(token)
        settings = kms.settings(tmp_path, **NOBODY)
        for number, given in enumerate((in_env, in_pod)):
            with machine(tmp_path, **given):
                await add(settings, [(f"k{number}", os.urandom(32))])
        assert pod.connections == 1
        with machine(tmp_path):
            assert "no AWS credentials" in await refusal(kms, tmp_path, **NOBODY)
        pod.respond = lambda received: answer(200, {"canary": SECRET_KEY})
        with machine(tmp_path, **in_pod):
            assert "cannot be had (KeyError)" in await refusal(kms, tmp_path, **NOBODY)
