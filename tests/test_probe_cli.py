"""`wardgate config test`: one line that says what came of it, and an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from admin.cli.main import wardgate
from admin.demo.upstream import Upstream

KEY = "sk-proj-canary-0123456789abcdefghij"
REFUSED = "sk-refuse-canary-0123456789abcdefgh"
Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    env = {
        "WARDGATE_DATA_DIR": str(tmp_path / "data"),
        "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8",
    }

    def run(*words: str, stdin: str = "") -> Result:
        result = CliRunner().invoke(wardgate, words, input=stdin, env=env)
        assert KEY not in result.output
        assert REFUSED not in result.output
        return result

    return run


async def add(cli: Cli, upstream: Upstream, key: str) -> None:
    words = ("config", "add", "openai", "--base-url", upstream.url, "--key-stdin")
    assert (await asyncio.to_thread(cli, *words, stdin=key)).exit_code == 0


async def test_key_that_works_is_said_to(cli: Cli, upstream: Upstream) -> None:
    await add(cli, upstream, KEY)
    tested = await asyncio.to_thread(cli, "config", "test", "openai/default")
    assert tested.exit_code == 0, tested.output
    assert tested.stdout.startswith("openai took the key and lists ")
    shown = await asyncio.to_thread(cli, "config", "test", "openai/default", "--json")
    assert msgspec.json.decode(shown.stdout)["outcome"] == "ok"


async def test_refused_key_is_one_line_on_stderr(cli: Cli, upstream: Upstream) -> None:
    await add(cli, upstream, REFUSED)
    tested = await asyncio.to_thread(cli, "config", "test", "openai:default")
    assert (tested.exit_code, tested.stdout) == (1, "")
    assert tested.stderr.count("\n") == 1
    assert "openai refused the key (status 401)" in tested.stderr
    shown = await asyncio.to_thread(cli, "config", "test", "openai/default", "--json")
    assert shown.exit_code == 1
    assert msgspec.json.decode(shown.stdout)["outcome"] == "key_refused"


def test_config_that_is_not_there_is_said_to(cli: Cli) -> None:
    tested = cli("config", "test", "openai/default")
    assert tested.exit_code == 1
    assert "there is no config openai/default in global" in tested.stderr
