"""`wardgate catalog`: what people see of a sync, of a provider, and of what is served by."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from admin.cli.main import wardgate
from admin.demo.script import Script
from admin.demo.upstream import Upstream
from gateway import catalog
from tests.catalogs import TEN, Source, entry, url_of

KEY = "sk-acme-canary-0123456789abcdef"


class Cli:
    """`await cli("catalog", "status")`: in a thread, so that a source may answer meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.env = {"WARDGATE_DATA_DIR": str(folder / "data"), "COLUMNS": "200"}

    async def __call__(self, *words: str, stdin: str = "") -> Result:
        runner = CliRunner()
        return await asyncio.to_thread(
            runner.invoke, wardgate, words, input=stdin, env=self.env, catch_exceptions=False
        )

    async def json(self, *words: str) -> Any:
        result = await self(*words, "--json")
        assert result.exit_code == 0, result.stderr
        return msgspec.json.decode(result.stdout)

    async def sync(self, source: Upstream, *words: str) -> Result:
        return await self("catalog", "sync", "--url", url_of(source), *words)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


async def test_sync_says_its_steps_and_what_changed(cli: Cli) -> None:
    source = Source(entry("acme"))
    async with Upstream(source) as up:
        first = await cli.sync(up, "--force")
        assert first.exit_code == 0
        steps = [line for line in first.stderr.splitlines() if line.endswith("…")]
        assert steps == ["Downloading …", "Checking …", "Comparing …"]
        assert "Forced, though it drops 5276 of 5276 models (100.0 %)" in first.stderr
        counts = "10 added, 5276 removed, 0 changed"
        wanted = f"Synced from {url_of(up)}: 1 providers, 10 models ({counts}).\n"
        assert first.stdout == wanted
        again = await cli.sync(up)
        assert again.exit_code == 0
        assert again.stdout == f"Nothing new at {url_of(up)}: 1 providers, 10 models.\n"


async def test_refused_sync_lists_why_and_fails(cli: Cli) -> None:
    source = Source(entry("acme"))
    async with Upstream(source) as up:
        await cli.sync(up, "--force")
        added = await cli("config", "add", "acme", "--key-stdin", stdin=KEY)
        assert added.exit_code == 0
        before = await cli.json("catalog", "status")
        source.put(entry("acme", TEN[:7], api="https://api.other.example/v1"))
        refused = await cli.sync(up)
        assert refused.exit_code == 1
        assert refused.stdout == ""
        assert "it drops 3 of 10 models (30.0 %)\n" in refused.stderr
        moved = "https://api.acme.example/v1 → https://api.other.example/v1\n"
        assert f"it moves a config in use: acme/default of global: {moved}" in refused.stderr
        last = "Error: the new catalog is not taken, the last one stays; --force takes it\n"
        assert refused.stderr.endswith(last)
        assert await cli.json("catalog", "status") == before
        assert (await cli.sync(up, "--force")).exit_code == 0
        assert KEY not in refused.stderr


async def test_source_that_sends_no_catalog_is_one_line(cli: Cli) -> None:
    async with Upstream(Script(body=b"<html>canary</html>")) as up:
        failed = await cli.sync(up, "--force")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[-1].startswith("Error: this is no catalog: JSON is malformed")
    assert "canary" not in failed.stderr


@pytest.mark.parametrize("url", ["ftp://h/x", "https://me:canary@h/x", "https://h/x?key=canary"])
async def test_url_that_is_none_is_a_wrong_call(cli: Cli, url: str) -> None:
    wrong = await cli("catalog", "sync", "--url", url)
    assert wrong.exit_code == 2
    assert "--url" in wrong.stderr
    assert "canary" not in wrong.stderr


async def test_status_tells_the_packaged_snapshot_from_a_synced_copy(cli: Cli) -> None:
    packaged = await cli.json("catalog", "status")
    assert packaged["served by"] == "the packaged snapshot"
    assert (packaged["providers"], packaged["models"]) == (147, 5276)
    assert packaged["as of"].startswith(catalog.AS_OF)
    assert packaged["synced every"] == "on demand"
    async with Upstream(Source(entry("acme"))) as up:
        await cli.sync(up, "--force")
        told = await cli.json("catalog", "status")
        assert (told["served by"], told["synced from"]) == ("the synced copy", url_of(up))
        assert (told["providers"], told["models"]) == (1, 10)
    shown = (await cli("catalog", "status")).stdout
    assert "the synced copy" in shown


async def test_show_tells_how_a_provider_is_reached_and_what_its_models_cost(cli: Cli) -> None:
    shown = await cli("catalog", "show", "openai")
    assert shown.exit_code == 0
    for words in ("https://api.openai.com/v1", "authorization: Bearer KEY", "OPENAI_API_KEY"):
        assert words in shown.stdout
    [line] = [row for row in shown.stdout.splitlines() if row.startswith("gpt-4o ")]
    cells = ["gpt-4o", "GPT-4o", "2.5", "10", "1.25", "-", "128000", "16384"]
    assert line.split()[: len(cells)] == cells
    assert "image, pdf, tool_call" in line


@pytest.mark.parametrize(
    ("asked", "provider", "auth", "base_url"),
    [
        ("anthropic", "anthropic", "x-api-key: KEY", "https://api.anthropic.com/v1"),
        ("google-ai-studio", "google", "x-goog-api-key: KEY", None),
        ("together", "togetherai", "authorization: Bearer KEY", None),
        ("gitlab", "gitlab", None, None),
    ],
)
async def test_show_knows_every_spelling_and_dialect(
    cli: Cli, asked: str, provider: str, auth: str | None, base_url: str | None
) -> None:
    told = await cli.json("catalog", "show", asked)
    assert (told["id"], told["auth"]) == (provider, auth)
    assert base_url in (None, told["base_url"])
    assert all(isinstance(one.get("cost", {}), dict) for one in told["models"])
    assert told["models"]
    assert ("KEY" in (await cli("catalog", "show", asked)).stdout) == (auth is not None)


async def test_show_is_of_the_synced_catalog_and_keeps_brackets(cli: Cli) -> None:
    async with Upstream(Source(entry("acme", name="Ac[red]me"))) as up:
        await cli.sync(up, "--force")
    assert "Ac[red]me" in (await cli("catalog", "show", "acme")).stdout
    gone = await cli("catalog", "show", "openai")
    assert gone.exit_code == 1
    assert gone.stderr.splitlines()[-1].startswith("Error: the catalog has no provider 'openai'")
