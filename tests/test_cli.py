"""The command line: what goes to stdout, what is one line on stderr, and which exit code."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from admin.cli.main import wardgate
from admin.cli.session import moment
from gateway.credential import read
from tests.houses import wardgate as wardgate_process

KEY = "sk-proj-canary-0123456789abcdefghij"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


class Cli:
    """`cli("keys", "list")` runs a command against a store of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.env = {"WARDGATE_DATA_DIR": str(folder / "data"), "COLUMNS": "200"}

    def __call__(self, *words: str, stdin: str = "", **env: str) -> Result:
        return CliRunner().invoke(wardgate, words, input=stdin, env={**self.env, **env})

    def json(self, *words: str, **more: Any) -> Any:
        result = self(*words, "--json", **more)
        assert result.exit_code == 0, result.stderr
        return msgspec.json.decode(result.stdout)


def test_key_is_alone_on_stdout_and_shown_once(cli: Cli) -> None:
    made = cli("keys", "create", "my-app")
    key = made.stdout.strip()
    presented = read(key)
    assert made.exit_code == 0
    assert presented is not None
    assert presented.prefix == "wg"
    assert "not shown again" in made.stderr
    listed = cli("keys", "list")
    assert presented.public_id in listed.stdout
    assert key not in listed.stdout


def test_key_holds_what_was_asked_for(cli: Cli) -> None:
    limits = ("--rate-limit", "10", "--period", "30", "--expires", "2030-01-01")
    models = ("--allowed-model", "openai/gpt-4.1-mini", "--allowed-model", "anthropic/*")
    made = cli.json("keys", "create", "trial", *limits, *models[:2])
    assert made["view"]["rate_limit"] == 10
    assert made["view"]["rate_limit_period"] == 30
    assert made["view"]["allowed_models"] == ["openai/gpt-4.1-mini"]
    assert made["view"]["expires_at"] == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert read(made["key"])


def test_revoked_key_is_listed_no_more(cli: Cli) -> None:
    made = cli.json("keys", "create", "my-app")
    revoked = cli("keys", "revoke", made["view"]["id"])
    assert revoked.exit_code == 0
    assert cli.json("keys", "list") == []


def test_token_needs_a_grant_that_can_be_held(cli: Cli) -> None:
    assert cli("tokens", "create", "ops").exit_code == 2
    refused = cli("tokens", "create", "ops", "--grant", "everything")
    assert refused.exit_code == 2
    assert "unknown permission" in refused.stderr


def test_token_is_shown_once_and_revoked(cli: Cli) -> None:
    made = cli("tokens", "create", "reader", "--grant", "AIProviders.Read")
    presented = read(made.stdout.strip())
    assert presented is not None
    assert presented.prefix == "wga"
    [view] = [view for view in cli.json("tokens", "list") if view["name"] == "reader"]
    assert view["grants"] == [{"permission": "AIProviders.Read", "scope": "global"}]
    assert cli("tokens", "revoke", view["id"]).exit_code == 0
    assert "reader" not in [view["name"] for view in cli.json("tokens", "list")]


def test_config_takes_its_key_from_stdin(cli: Cli) -> None:
    added = cli("config", "add", "openai", "--key-stdin", stdin=f"{KEY}\n")
    assert added.exit_code == 0
    assert "openai/default in global" in added.stdout
    assert KEY not in added.output
    [view] = cli.json("config", "list")
    assert view["secret_preview"] == "sk-proj-...ghij"


def test_config_takes_its_key_from_a_variable(cli: Cli) -> None:
    added = cli("config", "add", "openai", "--key-env", "TEAM_KEY", TEAM_KEY=KEY)
    assert added.exit_code == 0
    missing = cli("config", "add", "openai", "--alias", "b", "--key-env", "TEAM_KEY")
    assert missing.exit_code == 1
    assert "TEAM_KEY is not set" in missing.stderr


def test_config_without_a_key_is_refused_when_nobody_can_be_asked(cli: Cli) -> None:
    refused = cli("config", "add", "openai")
    assert refused.exit_code == 1
    assert "--key-stdin" in refused.stderr


def test_config_never_takes_a_key_as_an_argument(cli: Cli) -> None:
    command = wardgate.commands["config"]
    assert isinstance(command, click.Group)
    names = {name for param in command.commands["add"].params for name in param.opts}
    assert not names & {"--key", "--secret", "--api-key"}
    assert cli("config", "add", "openai", KEY).exit_code == 2


def test_custom_provider_needs_no_key(cli: Cli) -> None:
    url = ("--base-url", "https://vllm.example.com/v1", "--dialect", "openai")
    view = cli.json("config", "add", "custom:vllm", *url, "--no-key", "--alias", "vllm")
    assert (view["auth_type"], view["secret_preview"]) == ("none", "")


def test_settings_of_a_config_are_pairs(cli: Cli) -> None:
    words = ("config", "add", "azure", "--key-stdin", "--setting")
    view = cli.json(*words, "resourceName=mine", stdin="0123456789abcdef0123456789abcdef")
    assert view["settings"] == {"resourceName": "mine"}
    assert cli(*words, "resourceName", stdin=KEY).exit_code == 2


def test_config_is_removed_by_name_or_id(cli: Cli) -> None:
    first = cli.json("config", "add", "openai", "--key-stdin", stdin=KEY)
    cli.json("config", "add", "openai", "--alias", "second", "--key-stdin", stdin=KEY)
    assert cli("config", "remove", first["id"]).exit_code == 0
    assert cli("config", "remove", "openai/second").exit_code == 0
    assert cli.json("config", "list") == []
    again = cli("config", "remove", "openai/second")
    assert again.exit_code == 1
    assert "there is no config openai/second in global" in again.stderr


def test_refusal_is_one_line_and_exit_code_1(cli: Cli) -> None:
    refused = cli("config", "add", "no-such-provider", "--key-stdin", stdin=KEY)
    assert refused.exit_code == 1
    *_, line = refused.stderr.splitlines()
    assert line.startswith("Error: provider: ")
    assert KEY not in refused.output


def test_unknown_setting_is_refused(cli: Cli) -> None:
    refused = cli("keys", "list", WARDGATE_PROT="1")
    assert refused.exit_code == 1
    assert "unknown setting WARDGATE_PROT" in refused.stderr


def test_new_store_is_announced_once(cli: Cli) -> None:
    assert "Making a new store in" in cli("keys", "list").stderr
    assert "Making a new store in" not in cli("keys", "list").stderr


def test_explain_says_which_config_and_why(cli: Cli) -> None:
    cli.json("config", "add", "openai", "--alias", "team-b", "--key-stdin", stdin=KEY)
    trace = cli.json("explain", "gpt-4.1-mini")
    assert trace["chosen"]["alias"] == "team-b"
    shown = cli("explain", "team-b/gpt-4.1-mini")
    assert "openai/team-b of global" in shown.stdout
    assert KEY not in shown.output


def test_explain_of_a_refused_request_has_exit_code_1(cli: Cli) -> None:
    refused = cli("explain", "gpt-4.1-mini")
    assert refused.exit_code == 1
    assert "404 model_not_found" in refused.stdout
    assert cli("explain", "x", "--endpoint", "/nowhere/at/all").exit_code == 1
    assert cli("explain", "x", "--key-id", "nobody").exit_code == 1
    assert cli("explain", "x", "--key-id", "a", "--scope", "global").exit_code == 2


def test_explain_speaks_for_a_key(cli: Cli) -> None:
    cli.json("config", "add", "openai", "--key-stdin", stdin=KEY)
    made = cli.json("keys", "create", "narrow", "--allowed-model", "openai/gpt-4.1")
    key_id = made["view"]["id"]
    assert cli("explain", "gpt-4.1", "--key-id", key_id).exit_code == 0
    refused = cli("explain", "gpt-4.1-mini", "--key-id", key_id)
    assert "model_not_allowed" in refused.stdout


def test_names_with_brackets_are_shown_as_they_are(cli: Cli) -> None:
    cli.json("keys", "create", "[bold]app[/bold]")
    assert "[bold]app[/bold]" in cli("keys", "list").stdout


@pytest.mark.parametrize("words", [(), ("serve",), ("keys",), ("tokens",), ("config",)])
def test_help_teaches_by_examples(cli: Cli, words: tuple[str, ...]) -> None:
    shown = cli(*words, "--help")
    assert shown.exit_code == 0
    assert "wardgate " in shown.stdout.partition("Usage:")[2].partition("\n")[2]


def test_every_command_and_option_says_what_it_is_for() -> None:
    def walk(command: click.Command) -> Iterator[click.Command]:
        yield command
        if isinstance(command, click.Group):
            for below in command.commands.values():
                yield from walk(below)

    for command in walk(wardgate):
        assert command.help, command.name
        options = [param for param in command.params if isinstance(param, click.Option)]
        silent = [o.name for o in options if not (o.help or o.name in ("host", "port"))]
        assert silent == [], command.name


def test_moment_reads_spans_and_dates() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert moment("45m", now) == now.timestamp() + 45 * 60
    assert moment("2w", now) == now.timestamp() + 14 * 86400
    assert moment("2026-12-31", now) == datetime(2026, 12, 31, tzinfo=UTC).timestamp()
    assert moment("2026-12-31T00:00:00+01:00", now) < moment("2026-12-31", now)
    for nonsense in ("soon", "30", "d30", "-1d"):
        with pytest.raises(ValueError):
            moment(nonsense, now)


async def test_serve_on_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, said = await wardgate_process(tmp_path, "serve", "--port", port)
    assert (code, out) == (1, "")
    assert said.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in said


async def test_serve_off_loopback_without_a_master_key_is_refused(tmp_path: Path) -> None:
    words = ("serve", "--host", "0.0.0.0", "--port", "0", "--admin-port", "0")
    code, _, said = await wardgate_process(tmp_path, *words)
    assert code == 1
    assert said.count("\n") == 1
    assert "WARDGATE_KEK_FILE" in said
    assert not (tmp_path / "kek").exists()


async def test_demo_needs_a_gateway(tmp_path: Path) -> None:
    code, _, said = await wardgate_process(tmp_path, "serve", "admin", "--demo")
    assert code == 2
    assert "--demo needs the gateway" in said
