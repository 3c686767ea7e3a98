"""A command's time at the desk: settings, key ring and store of this environment, opened once.

Secrets come in by pipe, environment or hidden prompt, never as an argument: shells remember those.
Called by every command that reads or writes the store.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.errors import StartRefused
from gateway.presence import missing
from gateway.settings import Settings
from gateway.shapes import Secret

if TYPE_CHECKING:
    from admin.configure.desk import Desk

T = TypeVar("T")
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def at_desk(work: Callable[[Desk], Awaitable[T]], *, only_there: bool = False) -> T:
    """Open the desk, do `work` there, close it. Raises StartRefused and Refusal.

    `only_there`: make no new store where there is none.
    """
    return asyncio.run(_at_desk(work, only_there))


async def _at_desk(work: Callable[[Desk], Awaitable[T]], only_there: bool) -> T:
    from admin.configure.desk import open_desk
    from gateway.catalog import load as load_catalog
    from gateway.keks.load import load_ring
    from gateway.store.engine import current_revision

    settings = Settings.from_env(os.environ)
    _say_if_new(settings, only_there)
    ring = await load_ring(settings)
    desk = await open_desk(settings, ring, load_catalog(), say=_say)
    try:
        async with desk.store.read() as conn:
            before = await current_revision(conn)
        done = await work(desk)
        async with desk.store.read() as conn:
            changed = await current_revision(conn) != before
        if changed:
            from admin.cli.leave import leave_table

            await leave_table(desk)
    finally:
        await desk.aclose()
    return done


def _say(text: str) -> None:
    click.echo(text, err=True)


def _say_if_new(settings: Settings, only_there: bool) -> None:
    # The usual reason is another working directory, and then nothing done here has any effect.
    if not settings.database_url and missing(settings.data_dir / "wardgate.db"):
        where = settings.data_dir.resolve()
        if only_there:
            raise StartRefused(f"there is no store in {where} (WARDGATE_DATA_DIR names another)")
        click.echo(f"Making a new store in {where} (WARDGATE_DATA_DIR names another)", err=True)


def read_secret(what: str, *, stdin: bool = False, env: str | None = None) -> Secret:
    """A secret from a pipe, a variable, or the keyboard (not echoed). Raises StartRefused."""
    if stdin:
        text = sys.stdin.readline()
    elif env is not None:
        text = os.environ.get(env, "")
    elif sys.stdin.isatty():
        text = click.prompt(what, hide_input=True)
    else:
        raise StartRefused(f"no {what}: pipe it in with --key-stdin, or name a variable: --key-env")
    if not text.strip():
        raise StartRefused(f"the {what} is empty" + (f": {env} is not set" if env else ""))
    return Secret(text.strip().encode())


class Moment(click.ParamType[float]):
    """`30d`, `12h`, `45m`, `2w` from now, or a date like 2026-12-31; Unix seconds."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return moment(str(value), datetime.now(UTC))
        except ValueError:
            self.fail("use 45m, 12h, 30d, 2w or a date like 2026-12-31", param, ctx)


def moment(text: str, now: datetime) -> float:
    """Unix seconds of a span from `now` or of a date (UTC). Raises ValueError."""
    span = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if span:
        return now.timestamp() + int(span[1]) * _UNITS[span[2]]
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
