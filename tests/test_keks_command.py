"""Master keys printed by a command: run without a shell, and given up when it goes wrong."""

from __future__ import annotations

import base64
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StartRefused
from gateway.keks.load import load_ring
from gateway.settings import Settings
from tests.houses import gone, until

RANDOM = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
NEW = f"new:{base64.b64encode(RANDOM).decode()}"
OLD = f"old:{base64.b64encode(RANDOM[::-1]).decode()}"


def runs(*words: str, **more: Any) -> Settings:
    return Settings(kek_command=shlex.join(words), **more)


def shell(script: str, **more: Any) -> Settings:
    """A command that is a script of its own, with the shell named by its path."""
    return runs("/bin/sh", "-c", script, **more)


async def refusal(settings: Settings) -> str:
    with pytest.raises(StartRefused) as caught:
        await load_ring(settings)
    said = str(caught.value)
    assert said.startswith("WARDGATE_KEK_COMMAND")
    assert "canary" not in said
    assert "\n" not in said
    return said


async def test_first_key_it_prints_seals_and_all_open() -> None:
    ring = await load_ring(runs("/usr/bin/printf", "%s\\n", NEW, OLD, env="production"))
    assert ring.expose() == (("old", RANDOM[::-1]), ("new", RANDOM))


async def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    settings = Settings(kek_command=f"/bin/echo {NEW} ; /bin/touch {touched} $(id) | cat > x")
    assert "base64" in await refusal(settings)
    assert not touched.exists()


async def test_words_are_parted_as_a_shell_would_part_them(tmp_path: Path) -> None:
    file = tmp_path / "two words"
    file.write_text(NEW)
    assert (await load_ring(Settings(kek_command=f"/bin/cat '{file}'"))).ids == ("new",)


async def test_it_has_no_input_and_its_stderr_goes_nowhere(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert "holds no master key" in await refusal(runs("/bin/cat"))
    assert (await load_ring(shell(f"echo canary >&2; echo {NEW}"))).ids == ("new",)
    assert "exit code 3; run it by hand" in await refusal(shell("echo canary >&2; exit 3"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (f"echo {NEW}; exit 1", "exit code 1"),
        (f"echo {NEW}; kill -9 $$", "exit code -9"),
        ("", "holds no master key"),
        ("echo canary!", "not base64"),
        ("echo Y2FuYXJ5", "32 bytes, this one has 6"),
        (f"echo {NEW}; echo {NEW}", "twice"),
        (f"echo 'two words:{NEW[4:]}'", "a key's id"),
        ("head -c 9000 /dev/zero", "not base64"),
    ],
)
async def test_what_is_no_key_set_is_refused(script: str, why: str) -> None:
    assert why in await refusal(shell(script))


async def test_keys_that_are_no_secret_are_refused_in_production() -> None:
    zeros = f"mine:{base64.b64encode(bytes(32)).decode()}"
    assert "example" in await refusal(shell(f"echo {zeros}", env="production"))
    assert "generated" in await refusal(shell(f"echo generated-{NEW}", env="production"))


@pytest.mark.parametrize("path", ["none", ".", "plain"])
async def test_what_cannot_be_run_is_named(path: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("canary")
    assert f"{tmp_path / path} cannot be run: " in await refusal(runs(str(tmp_path / path)))


async def test_endless_output_is_given_up() -> None:
    begun = time.monotonic()
    assert "more than 64 KiB" in await refusal(runs("/usr/bin/yes"))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "script",
    [
        "echo $$ > {file}; sleep 60",
        "sleep 60 & echo $! > {file}",  # ends, and leaves somebody holding its stdout
        "exec >&-; echo $$ > {file}; sleep 60",
    ],
)
async def test_command_that_takes_too_long_is_ended_with_all_it_started(
    script: str, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    begun = time.monotonic()
    assert "not done in 0.3 s" in await refusal(shell(script.format(file=file), kek_timeout=0.3))
    assert time.monotonic() - begun < 5
    await until(lambda: gone(int(file.read_text())), "its end")
