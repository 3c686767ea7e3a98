"""`wardgate config`: provider configs, each a stored provider key and how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.cli.manifest import apply, export, plan
from admin.cli.session import at_desk, read_secret
from admin.cli.show import as_json, as_table, limit
from gateway.errors import StartRefused

if TYPE_CHECKING:
    from admin.configure.configs import ConfigView
    from admin.configure.desk import Desk
    from admin.probe import Probed
    from gateway.shapes import DialectName, Secret

_DIALECTS = ("openai", "azure", "anthropic", "gemini")


@click.group()
def config() -> None:
    """Provider configs: a provider's key, stored sealed, and how to use it.

    A key is never an argument: it is asked for, hidden, or comes by pipe or variable.

    \b
    Examples:
      wardgate config add openai
      wardgate config add anthropic --alias team-b --key-env TEAM_B_KEY --rate-limit 100
      pass show google-ai | wardgate config add google --key-stdin
      wardgate config add azure --setting resourceName=my-resource
      wardgate config add custom:vllm --base-url http://10.0.0.5:8000/v1 --dialect openai --no-key
      wardgate config test openai/default
      wardgate config remove openai/default
    """


@config.command()
@click.argument("provider")
@click.option("--alias", default="default", show_default=True, help="Its name in the scope.")
@click.option("--scope", default="global", show_default=True, help="Who may use it.")
@click.option("--name", default="", help="For people.")
@click.option("--key-stdin", is_flag=True, help="Read the key from stdin.")
@click.option("--key-env", metavar="NAME", help="Take the key from this variable.")
@click.option("--no-key", is_flag=True, help="The upstream wants none.")
@click.option("--base-url", help="API root with its version segment.  [the catalog's]")
@click.option("--dialect", type=click.Choice(_DIALECTS), help="What a custom:… provider speaks.")
@click.option("--setting", "settings", multiple=True, metavar="NAME=VALUE", help="Repeatable.")
@click.option("--default/--no-default", default=None, help="Pick it when no alias is named.")
@click.option("--rate-limit", type=click.IntRange(1), help="Requests per period.  [no limit]")
@click.option("--period", type=click.IntRange(1), default=60, show_default=True, help="Seconds.")
@click.option("--json", "json", is_flag=True, help="As JSON.")
def add(
    provider: str,
    alias: str,
    scope: str,
    name: str,
    key_stdin: bool,
    key_env: str | None,
    no_key: bool,
    base_url: str | None,
    dialect: DialectName | None,
    settings: tuple[str, ...],
    default: bool | None,
    rate_limit: int | None,
    period: int,
    json: bool,
) -> None:
    """Store a key for PROVIDER (a catalog id such as `openai`, or `custom:<slug>`)."""
    from admin.configure import configs as desk_configs
    from admin.permit import LOCAL

    secret = _secret(provider, key_stdin, key_env, no_key)
    new = desk_configs.NewConfig(
        scope=scope,
        provider=provider,
        alias=alias,
        name=name,
        secret=secret,
        base_url=base_url,
        auth_type="none" if no_key else "api_key",
        settings=dict(map(_pair, settings)),
        default=default,
        rate_limit=rate_limit,
        rate_limit_period=period,
        dialect=dialect,
    )
    view = at_desk(lambda desk: desk_configs.create(desk, LOCAL, new))
    if json:
        return as_json(view)
    shown = f" ({view.secret_preview})" if view.secret_preview else ""
    return click.echo(f"Stored {view.provider}/{view.alias} in {view.scope}{shown}: {view.id}")


@config.command("list")
@click.option("--scope", help="Only configs of this scope.  [all]")
@click.option("--json", "json", is_flag=True, help="As JSON.")
def show(scope: str | None, json: bool) -> None:
    """Show the configs, their keys only as previews."""
    views = at_desk(lambda desk: _every(desk, scope))
    if json:
        return as_json(views)
    columns = ("id", "scope", "provider", "alias", "default", "active", "key", "limit", "base url")
    return as_table("Provider configs", columns, [_row(view) for view in views])


@config.command()
@click.argument("which", metavar="ID|PROVIDER/ALIAS")
@click.option("--scope", default="global", show_default=True, help="Of PROVIDER/ALIAS.")
def remove(which: str, scope: str) -> None:
    """Delete a config and its key. Running requests finish with it."""
    view = at_desk(lambda desk: _remove(desk, which, scope))
    click.echo(f"Removed {view.provider}/{view.alias} from {view.scope}.", err=True)


@config.command()
@click.argument("which", metavar="ID|PROVIDER/ALIAS")
@click.option("--scope", default="global", show_default=True, help="Of PROVIDER/ALIAS.")
@click.option("--json", "json", is_flag=True, help="As JSON.")
def test(which: str, scope: str, json: bool) -> None:
    """Ask the provider for its models with the stored key, and say what came of it."""
    probed = at_desk(lambda desk: _test(desk, which, scope))
    failed = not probed.ok and probed.outcome != "unlisted"
    if json:
        as_json(probed)
    elif failed:
        raise StartRefused(probed.message)
    else:
        click.echo(f"{probed.message} ({probed.latency_ms} ms)")
    if failed:
        raise SystemExit(1)


def _secret(provider: str, stdin: bool, env: str | None, no_key: bool) -> Secret | None:
    if sum((stdin, env is not None, no_key)) > 1:
        raise click.UsageError("use one of --key-stdin, --key-env and --no-key")
    return None if no_key else read_secret(f"key of {provider}", stdin=stdin, env=env)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter("use NAME=VALUE", param_hint="--setting")
    return name, value


async def _every(desk: Desk, scope: str | None) -> list[ConfigView]:
    from admin.stored import every_config

    return [view async for view in every_config(desk, scope)]


async def _remove(desk: Desk, which: str, scope: str) -> ConfigView:
    from admin.configure import configs as desk_configs
    from admin.permit import LOCAL

    view = await _meant(desk, which, scope)
    return await desk_configs.delete(desk, LOCAL, view.id, view.scope)


async def _test(desk: Desk, which: str, scope: str) -> Probed:
    from admin.probe import Prober

    prober, view = Prober(), await _meant(desk, which, scope)
    try:
        return await prober.stored(desk, view.id)
    finally:
        await prober.aclose()


async def _meant(desk: Desk, which: str, scope: str) -> ConfigView:
    for view in await _every(desk, None):
        named = view.scope == scope and which in (
            f"{view.provider}/{view.alias}",
            f"{view.provider}:{view.alias}",
        )
        if named or view.id == which.lower():
            return view
    raise StartRefused(f"there is no config {which} in {scope}; see `wardgate config list`")


def _row(view: ConfigView) -> tuple[object, ...]:
    return (
        view.id,
        view.scope,
        view.provider,
        view.alias,
        view.default,
        view.active,
        view.secret_preview,
        limit(view.rate_limit, view.rate_limit_period),
        view.base_url or "the catalog's",
    )


for command in (plan, apply, export):
    config.add_command(command)
