"""`wardgate store`: the database itself, moved from one kind to the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from admin.cli.session import at_desk
from admin.cli.show import as_json, as_table

if TYPE_CHECKING:
    from admin.configure.desk import Desk
    from gateway.store.transfer import Copied, Tell


@click.group()
def store() -> None:
    """The store: the database with configs, keys, tokens and the audit trail in it."""


@store.command()
@click.option(
    "--to",
    "url",
    required=True,
    metavar="URL",
    help="Database to fill: postgresql+asyncpg://user@host/database or sqlite+aiosqlite:///path.",
)
@click.option("--json", "json", is_flag=True, help="As JSON, digests in full.")
def copy(url: str, json: bool) -> None:
    """Copy the whole store into an empty database, and verify that both hold the same.

    The store is the one of this environment (WARDGATE_DATABASE_URL, or SQLite in
    WARDGATE_DATA_DIR); it is only read. Sealed keys go over as they are: the same master key opens
    them. Stop the admin app first, or changes made meanwhile end the command without a copy to use.

    Stopped or killed, it is taken up by running it again. A password for PostgreSQL is best left
    out of URL: PGPASSWORD or ~/.pgpass keep it out of the process list.

    \b
    Examples:
      wardgate store copy --to postgresql+asyncpg://wardgate@db.example/wardgate
      wardgate store copy --to sqlite+aiosqlite:////srv/wardgate/wardgate.db
    """
    place = _place(url)
    with _progress() as tell:
        done = at_desk(lambda desk: _copied(desk, place, tell), only_there=True)
    if json:
        return as_json({**_plain(done), "tables": done.sums})
    rows = [(name, found.rows, found.digest[:16]) for name, found in sorted(done.sums.items())]
    as_table("Held by both", ("table", "rows", "digest"), rows)
    return _say(done)


def _place(url: str) -> str:
    from gateway.settings import database_url

    try:
        return database_url(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--to") from None


async def _copied(desk: Desk, url: str, tell: Tell) -> Copied:
    from gateway.store.transfer import copy, open_target

    target = await open_target(url)
    try:
        return await copy(desk.store, target, desk.ring, tell)
    finally:
        await target.aclose()


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on a terminal; elsewhere each step is a line on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn())
    said: set[str] = set()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("", total=None)

        def tell(step: str, done: int, total: int) -> None:
            progress.update(bar, description=step, completed=done, total=total)
            if step not in said and not console.is_terminal:
                click.echo(f"{step} …", err=True)
            said.add(step)

        yield tell


def _plain(done: Copied) -> dict[str, object]:
    return {
        "revision": done.revision,
        "copied": done.copied,
        "audit_rows": done.trail.mark.id,
        "audit_flaw": done.trail.flaw,
    }


def _say(done: Copied) -> None:
    if done.trail.flaw is not None:
        held = f"{done.trail.flaw} (it holds up to row {done.trail.mark.id})"
        click.echo(f"The audit chain is broken, here as there: {held}.", err=True)
    rows = sum(found.rows for found in done.sums.values())
    went = f"{done.copied} went over now" if done.copied else "all of them were there"
    click.echo(
        f"Both hold revision {done.revision}: {rows} rows, {went}; the master key opens the copy, "
        f"the audit chain was followed over {done.trail.mark.id} rows."
    )
