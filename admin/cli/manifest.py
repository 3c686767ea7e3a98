"""`wardgate config plan|apply|export`: config as code. Keys stand in a file only as references."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admin.cli.session import at_desk

if TYPE_CHECKING:
    from admin.configure.desk import Desk
    from admin.manifest.document import Document, ManifestRefused
    from admin.manifest.plan import Step

_MARKS = {"create": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}
_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@_FILE
@click.option("--detailed-exitcode", is_flag=True, help="Exit 3 when there is something to do.")
def plan(file: Path, detailed_exitcode: bool) -> None:
    """Show what applying FILE would change; change nothing."""
    document = _read(file)
    steps = at_desk(lambda desk: _planned(desk, document))
    _show(steps)
    if steps and detailed_exitcode:
        sys.exit(3)


@click.command()
@_FILE
@click.option("--yes", is_flag=True, help="Do not ask.")
def apply(file: Path, yes: bool) -> None:
    """Make the store be as FILE says; what FILE kept and no longer names is removed."""
    document = _read(file)
    at_desk(lambda desk: _apply(desk, document, yes=yes))


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--name", default="wardgate", show_default=True, help="What the file calls itself.")
def export(file: Path, name: str) -> None:
    """Write what is stored to FILE (`-`: stdout); sealed keys are left out."""
    from admin.manifest.export import export as exported
    from admin.manifest.reading import read
    from admin.manifest.state import read_state

    text = exported(at_desk(read_state), name)
    read(text, str(file))  # never a file that `apply` would not understand
    if str(file) == "-":
        click.echo(text, nl=False)
    else:
        file.write_text(text)
        click.echo(f"Wrote {file}", err=True)


def _read(file: Path) -> Document:
    from admin.manifest.document import ManifestRefused
    from admin.manifest.reading import read

    try:
        return read(file.read_text(), str(file))
    except ManifestRefused as error:
        raise _lines(error) from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{file} is not UTF-8 text") from None


def _lines(error: ManifestRefused) -> click.ClickException:
    """Each flaw on a line of its own, where editors find it."""
    return click.ClickException(str(error))


async def _planned(desk: Desk, document: Document) -> list[Step]:
    from admin.manifest.document import ManifestRefused
    from admin.manifest.plan import plan
    from admin.manifest.state import read_state

    try:
        return plan(document, await read_state(desk), desk.catalog)
    except ManifestRefused as error:
        raise _lines(error) from None


async def _apply(desk: Desk, document: Document, *, yes: bool) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from admin.manifest.carry_out import carry_out
    from admin.manifest.document import ManifestRefused

    steps = await _planned(desk, document)
    _show(steps)
    if not steps:
        return
    if not yes:
        click.confirm("Apply?", abort=True, err=True)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Applying", total=len(steps))
        try:
            await carry_out(desk, document, steps, lambda _: progress.advance(task))
        except ManifestRefused as error:
            raise _lines(error) from None
    click.echo(f"Done: {_count(steps)}.")


def _show(steps: list[Step]) -> None:
    if not steps:
        click.echo("Nothing to do: the store is as the file says.")
        return
    for step in steps:
        mark, colour = _MARKS[step.verb]
        click.secho(f"{mark} {step.kind} {step.name}", fg=colour)
        for name, (have, wanted) in step.fields.items():
            arrow = _text(wanted) if step.verb == "create" else f"{_text(have)} -> {_text(wanted)}"
            click.echo(f"    {name}: {arrow}")
    click.echo(f"Plan: {_count(steps)}.")


def _count(steps: list[Step]) -> str:
    done = {verb: sum(step.verb == verb for step in steps) for verb in _MARKS}
    return f"{done['create']} to create, {done['change']} to change, {done['remove']} to remove"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return "nothing" if value is None else str(value)
