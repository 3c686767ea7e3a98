"""`wardgate keys`: client keys, which applications hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.cli.session import Moment, at_desk
from admin.cli.show import as_json, as_table, limit, when

if TYPE_CHECKING:
    from admin.configure.desk import Desk
    from admin.configure.keys import KeyView


@click.group()
def keys() -> None:
    """Client keys: what an application holds instead of a provider's key.

    \b
    Examples:
      wardgate keys create my-app
      wardgate keys create ci --scope group:GROUP_ID --expires 30d
      wardgate keys create trial --allowed-model openai/gpt-4.1-mini --rate-limit 10
      KEY=$(wardgate keys create my-app)       the key alone is on stdout
      wardgate keys revoke KEY_ID              within a second no worker takes it any more
    """


@keys.command()
@click.argument("name")
@click.option("--scope", default="global", show_default=True, help="Whose configs it may use.")
@click.option(
    "--allowed-model", "models", multiple=True, help="Only this model (repeatable).  [all]"
)
@click.option("--rate-limit", type=click.IntRange(1), help="Requests per period.  [no limit]")
@click.option("--period", type=click.IntRange(1), default=60, show_default=True, help="Seconds.")
@click.option("--expires", type=Moment(), help="45m, 12h, 30d, 2w or a date.  [never]")
@click.option("--json", "json", is_flag=True, help="The key and all that is known of it, as JSON.")
def create(
    name: str,
    scope: str,
    models: tuple[str, ...],
    rate_limit: int | None,
    period: int,
    expires: float | None,
    json: bool,
) -> None:
    """Make a key for NAME; it is shown this once."""
    from admin.configure import keys as desk_keys
    from admin.permit import LOCAL

    new = desk_keys.NewKey(
        name=name,
        scope=scope,
        allowed_models=models,
        rate_limit=rate_limit,
        rate_limit_period=period,
        expires_at=expires,
    )
    view, text = at_desk(lambda desk: desk_keys.create(desk, LOCAL, new))
    if json:
        return as_json({"key": text, "view": view})
    click.echo(text)
    return click.echo(f"Key {view.id} for {name!r} in {scope}; it is not shown again.", err=True)


@keys.command("list")
@click.option("--scope", help="Only keys of this scope.  [all]")
@click.option("--json", "json", is_flag=True, help="As JSON.")
def show(scope: str | None, json: bool) -> None:
    """Show the keys that are valid or have expired, without their secrets."""
    views = at_desk(lambda desk: _every(desk, scope))
    if json:
        return as_json(views)
    columns = ("id", "name", "scope", "models", "limit", "expires", "last used")
    return as_table("Client keys", columns, [_row(view) for view in views])


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Take a key back for good, by its id (`wardgate keys list`)."""
    from admin.configure import keys as desk_keys
    from admin.permit import LOCAL

    view = at_desk(lambda desk: desk_keys.revoke(desk, LOCAL, key_id))
    click.echo(f"Revoked {view.name!r} ({view.id}).", err=True)


async def _every(desk: Desk, scope: str | None) -> list[KeyView]:
    from admin.stored import every_key

    return [view async for view in every_key(desk, scope)]


def _row(view: KeyView) -> tuple[object, ...]:
    return (
        view.id,
        view.name,
        view.scope,
        view.allowed_models or "all",
        limit(view.rate_limit, view.rate_limit_period),
        when(view.expires_at),
        when(view.last_used_at),
    )
