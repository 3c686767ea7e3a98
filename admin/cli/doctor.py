"""`wardgate doctor`: shows what admin/doctor.py found."""

from __future__ import annotations

import asyncio
import os

import click

from admin.cli.show import as_json

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--json", "json", is_flag=True, help="As JSON.")
def doctor(json: bool) -> None:
    """Check the installation of this environment, and say what to fix. Changes nothing.

    Exit code 1 when something fails. Run it where the server runs, with the same variables.
    """
    from admin.doctor import examine

    checks = asyncio.run(examine(os.environ))
    if json:
        as_json(checks)
    else:
        for check in checks:
            state = click.style(f"{check.state:4}", fg=_COLOURS[check.state])
            click.echo(f"{state}  {check.name}: {check.words}")
    if any(check.state == "fail" for check in checks):
        raise click.exceptions.Exit(1)
