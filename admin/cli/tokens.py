"""`wardgate tokens`: admin tokens, which people and scripts hold to manage Wardgate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from admin.cli.session import at_desk
from admin.cli.show import as_json, as_table, when

if TYPE_CHECKING:
    from admin.configure.desk import Desk
    from admin.configure.tokens import TokenView
    from admin.permit import Grant


class GrantText(click.ParamType["Grant"]):
    """`permission@scope`; without a scope: global."""

    name = "permission@scope"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Grant:
        from admin.permit import Grant, flaw

        permission, _, scope = str(value).partition("@")
        grant = Grant(permission, scope or "global")
        wrong = flaw(grant)
        if wrong:
            self.fail(wrong, param, ctx)
        return grant


@click.group()
def tokens() -> None:
    """Admin tokens: for the management API, each with the permissions it needs.

    \b
    Examples:
      wardgate tokens create ops --grant superadmin
      wardgate tokens create reader --grant AIProviders.Read
      wardgate tokens create team --grant GroupAIProviders.Manage@group:GROUP_ID
      TOKEN=$(wardgate tokens create ops --grant superadmin)
    """


@tokens.command()
@click.argument("name")
@click.option(
    "--grant", "grants", type=GrantText(), multiple=True, required=True, help="Repeatable."
)
@click.option("--json", "json", is_flag=True, help="As JSON.")
def create(name: str, grants: tuple[Grant, ...], json: bool) -> None:
    """Make a token called NAME; it is shown this once."""
    from admin.configure import tokens as desk_tokens
    from admin.permit import LOCAL

    view, text = at_desk(lambda desk: desk_tokens.create(desk, LOCAL, name, grants))
    if json:
        return as_json({"token": text, "view": view})
    click.echo(text)
    return click.echo(f"Token {view.id} for {name!r}; it is not shown again.", err=True)


@tokens.command("list")
@click.option("--json", "json", is_flag=True, help="As JSON.")
def show(json: bool) -> None:
    """Show the tokens that are valid, without their secrets."""
    views = at_desk(_every)
    if json:
        return as_json(views)
    rows = [(view.id, view.name, _grants(view), when(view.created_at)) for view in views]
    return as_table("Admin tokens", ("id", "name", "grants", "created"), rows)


@tokens.command()
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Take a token back for good, by its id (`wardgate tokens list`)."""
    from admin.configure import tokens as desk_tokens
    from admin.permit import LOCAL

    view = at_desk(lambda desk: desk_tokens.revoke(desk, LOCAL, token_id))
    click.echo(f"Revoked {view.name!r} ({view.id}).", err=True)


async def _every(desk: Desk) -> list[TokenView]:
    from admin.stored import every_token

    return [view async for view in every_token(desk)]


def _grants(view: TokenView) -> str:
    return ", ".join(f"{grant.permission}@{grant.scope}" for grant in view.grants)
