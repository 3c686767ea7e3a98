"""How commands show things: tables for people, JSON for programs.

Called by the commands that list or explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

# Wide enough for ids and URLs when nobody looks at it on a terminal.
_PIPE_WIDTH = 220


def as_json(value: Any) -> None:
    """Views and lists of them, with the names the desk uses; times are Unix seconds."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    click.echo(text.decode())


def as_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows under columns; nothing but `none` when there are no rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    if not rows:
        return console.print(f"{title}: none")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, so that a name with square brackets is no markup.
        table.add_row(*(Text(cell(value)) for value in row))
    return console.print(table)


def cell(value: Any) -> str:
    match value:
        case None | "" | ():
            return "-"
        case True:
            return "yes"
        case False:
            return "no"
        case tuple() | list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def when(seconds: float | None) -> str:
    """A time as people read it, UTC."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def limit(amount: int | None, period: int) -> str:
    return "-" if amount is None else f"{amount} per {period} s"
