"""From no key at all to a house that serves, its master keys wrapped: what an operator types."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx2
from click.testing import CliRunner, Result

from admin import doctor
from admin.cli.main import wardgate as commands
from gateway.keks.wrapped import read_wrapped
from gateway.settings import Settings
from tests.aws import ACCESS_KEY, REGION, SECRET_KEY
from tests.houses import house, until
from tests.keyservices import ALIAS, CANARIES, TOKEN, Kms, Vault, answer, encoded, running

KEY = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")


def environment(vault: Vault, **more: str) -> dict[str, str]:
    given = {"WARDGATE_KEK_VAULT_URL": vault.place, "WARDGATE_KEK_VAULT_KEY": "wardgate"}
    return {**given, "WARDGATE_KEK_VAULT_TOKEN": TOKEN, "WARDGATE_ENV": "production", **more}


def silent(*texts: str) -> bool:
    """Nothing in there that nobody should read."""
    return not [canary for canary in CANARIES for text in texts if canary in text]


async def command(folder: Path, *words: str, **env: str) -> Result:
    """A command in a thread of this process, so that the service can answer it."""
    env = {"WARDGATE_DATA_DIR": str(folder), **env}
    return await asyncio.to_thread(CliRunner().invoke, commands, words, env=env)


async def test_house_serves_on_while_vault_is_away(tmp_path: Path) -> None:
    data, vault = tmp_path / "data", Vault()
    async with running(vault) as upstream:
        env = environment(vault)
        made = await command(data, "kek", "wrap", **env)
        [(name, _)] = read_wrapped(data / "kek.wrapped")
        assert (made.exit_code, made.stdout, f"wrapped {name}." in made.stderr) == (0, "", True)
        async with house(data, "gateway", **env) as running_house:
            asked, vault.instead = len(upstream.received), answer(503, {"errors": ["sealed"]})
            [worker] = running_house.workers()
            os.kill(worker, signal.SIGKILL)
            await until(lambda: running_house.workers() not in ([], [worker]), "another worker")
            async with httpx2.AsyncClient(base_url=running_house.gateway) as client:
                assert (await client.get("/v1/models")).status_code == 401
            assert len(upstream.received) == asked
        settings = Settings.from_env({**env, "WARDGATE_DATA_DIR": str(data)})
        ring, check = await doctor.check_master_key(settings)
        assert (ring, check.state) == (None, "fail")
        assert check.words.endswith("is sealed, or not ready")
    assert silent(made.output, running_house.said, running_house.log.read_text(), check.words)


async def test_keys_go_from_a_file_to_kms_and_on(tmp_path: Path) -> None:
    file, kms = tmp_path / "plain", Kms()
    file.write_text(f"first:{encoded(KEY)}\n")
    file.chmod(0o600)
    assert (
        await command(tmp_path, "keys", "create", "app", WARDGATE_KEK_FILE=str(file))
    ).exit_code == 0
    async with running(kms):
        env = {"WARDGATE_KEK_AWS_KEY": ALIAS, "WARDGATE_KEK_AWS_REGION": REGION}
        env |= {
            "WARDGATE_KEK_AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "WARDGATE_KEK_AWS_ENDPOINT": kms.place,
        }
        env |= {"WARDGATE_KEK_AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        wrap = await command(tmp_path, "kek", "wrap", "--key-file", str(file), **env)
        assert (wrap.exit_code, wrap.stdout) == (0, "")
        assert "first seals from the next start on" in wrap.stderr
        more = await command(tmp_path, "kek", "wrap", "--last", **env)
        assert "holds 2; first seals" in more.stderr
        listed = await command(tmp_path, "keys", "list", **env)
        assert (listed.exit_code, "app" in listed.stdout) == (0, True)
        settings = Settings.from_env(env | {"WARDGATE_DATA_DIR": str(tmp_path)})
        ring, check = await doctor.check_master_key(settings)
        assert ring is not None
        where = kms.place.removeprefix("http://")
        assert check == doctor.Check(
            "master key", "ok", f"first seals, 2 can open; from AWS KMS at {where}"
        )
        again = await command(tmp_path, "kek", "wrap", "--key-file", str(file), **env)
        assert (again.exit_code, "twice" in again.stderr) == (1, True)
        assert silent(wrap.output, more.output, listed.output, again.output, check.words)


async def test_wrapping_needs_a_service(tmp_path: Path) -> None:
    refused = await command(tmp_path, "kek", "wrap")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: no key service: set WARDGATE_KEK_VAULT_URL")
    assert os.listdir(tmp_path) == []
    half = await command(tmp_path, "kek", "wrap", WARDGATE_KEK_VAULT_KEY="wardgate")
    assert "but not WARDGATE_KEK_VAULT_URL" in half.stderr


async def test_doctor_runs_the_command_and_names_two_sources(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, kek_command=f"/bin/echo mine:{encoded(KEY)}")
    ring, check = await doctor.check_master_key(settings)
    assert ring is not None
    assert check.words == "mine seals, 1 can open; from WARDGATE_KEK_COMMAND"
    both = Settings(data_dir=tmp_path, kek_command="/bin/false", kek_file="kek")
    assert (await doctor.check_master_key(both))[1].state == "fail"
    env = {"WARDGATE_DATA_DIR": str(tmp_path), "WARDGATE_KEK_COMMAND": settings.kek_command}
    assert (await command(tmp_path, "keys", "create", "app", **env)).exit_code == 0
