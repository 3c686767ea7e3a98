"""Where master keys come from: one source, named as a whole; the environment, or a file."""

from __future__ import annotations

import base64
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import pytest

from admin.run import Order, run
from gateway.errors import StartRefused
from gateway.keks.load import load_ring
from gateway.keks.source import described, source_of
from gateway.settings import PREFIX, Settings, secret_names
from gateway.shapes import Secret

RANDOM = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
OLD, NEW = ("old", RANDOM), ("new", RANDOM[::-1])


def write_key(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def encoded(key: bytes = RANDOM) -> str:
    return base64.b64encode(key).decode()


async def test_load_ring_generates_once_on_loopback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    ring = await load_ring(settings)
    path = tmp_path / "data" / "kek"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["kek"]
    said = capsys.readouterr().err
    assert str(path) in said
    assert base64.b64encode(ring.expose()[0][1]).decode() not in said
    assert (await load_ring(settings)).expose() == ring.expose()
    assert capsys.readouterr().err == ""
    assert ring.ids[0].startswith("generated-")


@pytest.mark.parametrize("changed", [{"env": "production"}, {"host": "0.0.0.0"}])
async def test_load_ring_refuses_no_key_and_generated_key_in_earnest(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(StartRefused, match="WARDGATE_KEK_FILE"):
        await load_ring(Settings(data_dir=tmp_path, **changed))
    assert not (tmp_path / "kek").exists()
    await load_ring(Settings(data_dir=tmp_path))
    with pytest.raises(StartRefused, match="generated"):
        await load_ring(Settings(data_dir=tmp_path, **changed))


@pytest.mark.parametrize(
    "key",
    [bytes(32), b"\xff" * 32, bytes(range(8)) * 4, b"wardgate-example-key-do-not-use!"],
)
async def test_load_ring_refuses_example_keys_in_production(key: bytes) -> None:
    keks = Secret(f"mine:{encoded(key)}".encode())
    assert (await load_ring(Settings(keks=keks))).ids == ("mine",)
    with pytest.raises(StartRefused, match="example"):
        await load_ring(Settings(keks=keks, env="production"))


async def test_load_ring_takes_random_keys_in_production() -> None:
    for _ in range(200):
        keks = Secret(encoded(secrets.token_bytes(32)).encode())
        assert (await load_ring(Settings(keks=keks, env="production"))).ids[0].startswith("key-")


async def test_load_ring_seals_with_the_first_key() -> None:
    keks = Secret(f"new:{encoded(NEW[1])}, old:{encoded()}".encode())
    assert (await load_ring(Settings(keks=keks))).ids == ("old", "new")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o660, 0o640, 0o602, 0o601])
async def test_load_ring_refuses_a_file_open_to_others(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "k", encoded(), mode)
    with pytest.raises(StartRefused, match="chmod 600"):
        await load_ring(Settings(kek_file=path))


async def test_load_ring_takes_a_group_readable_file_when_told(tmp_path: Path) -> None:
    path = write_key(tmp_path / "k", f"mounted:{encoded()}\n", 0o440)
    settings = Settings(kek_file=path, kek_file_group_readable=True, env="production")
    assert (await load_ring(settings)).ids == ("mounted",)
    os.chmod(path, 0o660)
    with pytest.raises(StartRefused, match="chmod 600"):
        await load_ring(settings)


async def test_load_ring_reads_several_keys_from_a_file(tmp_path: Path) -> None:
    path = write_key(tmp_path / "k", f"new:{encoded(NEW[1])}\nold:{encoded()}\n")
    assert (await load_ring(Settings(kek_file=path))).ids == ("old", "new")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no master key"),
        ("not base64!", "not base64"),
        (encoded(b"short"), "32 bytes, this one has 5"),
        (encoded(RANDOM + b"x"), "has 33"),
        (f"bad id:{encoded()}", "a key's id"),
        (f"a:{encoded()}\na:{encoded(NEW[1])}", "twice"),
    ],
)
async def test_load_ring_says_what_is_wrong_in_a_file(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(StartRefused, match=why) as caught:
        await load_ring(Settings(kek_file=write_key(tmp_path / "k", text)))
    assert text == "" or text not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_load_ring_refuses_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StartRefused):
            await load_ring(Settings(kek_file=str(path), data_dir=tmp_path))
    assert os.listdir(tmp_path) == []


VAULT = {"KEK_VAULT_URL": "https://vault.example:8200", "KEK_VAULT_KEY": "wardgate"}
AWS = {"KEK_AWS_KEY": "arn:aws:kms:eu-west-1:123456789012:key/1234"}
SOURCES: dict[str, tuple[dict[str, str], str]] = {
    "env": ({"KEKS": encoded()}, "WARDGATE_KEKS"),
    "file": ({"KEK_FILE": "/etc/wardgate/kek"}, "/etc/wardgate/kek"),
    "command": ({"KEK_COMMAND": "/usr/bin/pass show canary"}, "WARDGATE_KEK_COMMAND"),
    "vault": (VAULT, "Vault at vault.example:8200"),
    "aws": (AWS, "AWS KMS at eu-west-1"),
}


def read(given: dict[str, str]) -> Settings:
    return Settings.from_env({PREFIX + name: value for name, value in given.items()})


@pytest.mark.parametrize("name", SOURCES)
def test_source_is_the_one_that_is_set(name: str) -> None:
    given, words = SOURCES[name]
    assert source_of(read(given)) == name
    assert described(read(given)) == words


def test_source_is_the_key_file_of_the_data_folder_otherwise() -> None:
    assert source_of(Settings()) == "file"
    assert described(Settings(data_dir=Path("there"))) == "there/kek"


@pytest.mark.parametrize(
    ("one", "other"), [(a, b) for a in SOURCES for b in SOURCES if a < b], ids=str
)
async def test_two_sources_at_once_are_refused(one: str, other: str) -> None:
    settings = read({**SOURCES[one][0], **SOURCES[other][0]})
    with pytest.raises(StartRefused, match="are both set") as caught:
        await load_ring(settings)
    said = str(caught.value)
    assert all(PREFIX + next(iter(SOURCES[name][0])) in said for name in (one, other))
    assert "canary" not in said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"KEK_VAULT_URL": VAULT["KEK_VAULT_URL"]},
            "VAULT_URL is set, but not WARDGATE_KEK_VAULT_KEY",
        ),
        ({"KEK_VAULT_TOKEN": "x"}, "VAULT_TOKEN is set, but not WARDGATE_KEK_VAULT_URL"),
        ({"KEK_VAULT_MOUNT": "kv"}, "VAULT_MOUNT is set, but not WARDGATE_KEK_VAULT_URL"),
        ({"KEK_AWS_REGION": "eu-west-1"}, "AWS_REGION is set, but not WARDGATE_KEK_AWS_KEY"),
        ({"KEK_WRAPPED_FILE": "k"}, "says who unwraps it"),
        ({"KEK_WRAPPED_FILE": "k", "KEK_FILE": "k"}, "says who unwraps it"),
    ],
)
async def test_source_that_is_named_by_halves_is_refused(given: dict[str, str], why: str) -> None:
    with pytest.raises(StartRefused, match=why):
        await load_ring(read(given))


def test_secret_settings_are_known_by_their_variables() -> None:
    names = {"KEKS", "BOOTSTRAP_ADMIN_TOKEN", "KEK_VAULT_TOKEN", "KEK_AWS_ACCESS_KEY_ID"}
    names |= {"KEK_AWS_SECRET_ACCESS_KEY", "KEK_AWS_SESSION_TOKEN"}
    assert secret_names() == {PREFIX + name for name in names}


async def test_secret_settings_leave_the_environment_before_anything_is_started() -> None:
    env = dict.fromkeys(secret_names(), "canary") | {"PATH": "/bin"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(port=taken.getsockname()[1])
        with pytest.raises(StartRefused, match="cannot listen"):
            await run(Order(settings), env)
    assert env == {"PATH": "/bin"}
