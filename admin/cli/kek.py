"""`wardgate kek`: master keys that a key service wraps."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from gateway.settings import Settings


@click.group()
def kek() -> None:
    """Master keys wrapped by HashiCorp Vault or AWS KMS (docs/security.md)."""


@kek.command()
@click.option(
    "--key-file", type=click.Path(path_type=Path), help="Wrap the keys in here.  [a new one]"
)
@click.option("--last", is_flag=True, help="Behind the others: it opens, and seals nothing yet.")
def wrap(key_file: Path | None, last: bool) -> None:
    """Make a master key and keep it wrapped, for a first start or to rotate.

    The service is the one the settings name (WARDGATE_KEK_VAULT_… or WARDGATE_KEK_AWS_…), the file
    WARDGATE_KEK_WRAPPED_FILE. The first key of the file seals from the next start on, all open.

    \b
    Examples:
      wardgate kek wrap                          before the first start
      wardgate kek wrap --key-file data/kek      go on with the keys there are
      wardgate kek wrap --last                   first step of a rotation without a gap
    """
    from gateway.keks.source import described, wrapped_file
    from gateway.keks.wrapped import add, keys_to_wrap

    settings = Settings.from_env(os.environ)
    keys = keys_to_wrap(settings, key_file)
    kept = asyncio.run(add(settings, keys, last=last))
    named = ", ".join(name for name, _ in keys)
    click.echo(f"{described(settings)} wrapped {named}.", err=True)
    click.echo(
        f"{wrapped_file(settings)} holds {len(kept)}; {kept[0][0]} seals from the next start on. "
        "Back that file up, and never delete the service's key.",
        err=True,
    )
