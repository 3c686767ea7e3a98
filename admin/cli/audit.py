"""`wardgate audit`: the trail of changes, verified from its first row to its last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.cli.session import at_desk
from admin.cli.show import as_json

if TYPE_CHECKING:
    from admin.configure.desk import Desk
    from gateway.store.audit import Verdict


@click.group()
def audit() -> None:
    """The audit trail: who changed what, when; each row sealed to the one before it."""


@audit.command()
@click.option("--json", "json", is_flag=True, help="As JSON.")
def verify(json: bool) -> None:
    """Verify every row; exit code 1 when one was edited, removed or put in.

    The management API says the same of what it shows and of what is new; this reads everything.

    \b
    Examples:
      wardgate audit verify
      wardgate audit verify --json
    """
    verdict = at_desk(_verified)
    if json:
        as_json({"rows": verdict.mark.id, "flaw": verdict.flaw})
    elif verdict.flaw is None:
        click.echo(f"The chain holds: {verdict.mark.id} rows.")
    else:
        held = f"it holds up to row {verdict.mark.id}"
        click.echo(f"The chain is broken: {verdict.flaw} ({held}).", err=True)
    if verdict.flaw is not None:
        raise click.exceptions.Exit(1)


async def _verified(desk: Desk) -> Verdict:
    from rich.console import Console
    from rich.progress import Progress

    from admin.configure import audit as desk_audit

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Rows", total=None)
        return await desk_audit.verify(
            desk, lambda seen, total: progress.update(task, completed=seen, total=total)
        )
