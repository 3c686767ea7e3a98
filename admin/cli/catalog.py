"""`wardgate catalog`: where the model catalog is from, what is in it, and getting a newer one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from admin.cli.session import at_desk
from admin.cli.show import as_json, as_table, cell, when
from gateway.errors import StartRefused

if TYPE_CHECKING:
    from admin.catalog import Difference, Step, Synced, Tell
    from admin.configure.desk import Desk
    from gateway.catalog import Model, Provider
    from gateway.store.catalogs import Stored

_STEPS: Mapping[Step, str] = {
    "download": "Downloading",
    "check": "Checking",
    "compare": "Comparing",
}


@click.group()
def catalog() -> None:
    """The model catalog: providers, models and prices, from models.dev.

    A snapshot comes with Wardgate and serves until a newer one is synced. Configs are never
    changed by a sync.

    \b
    Examples:
      wardgate catalog status
      wardgate catalog sync
      wardgate catalog show mistral
    """


@catalog.command()
@click.option("--url", help="Fetch from here.  [WARDGATE_CATALOG_URL]")
@click.option("--force", is_flag=True, help="Also if it drops many models or moves configs in use.")
def sync(url: str | None, force: bool) -> None:
    """Fetch the newest catalog, check it, and serve by it. Running gateways follow in a second.

    Exit code 1 when it cannot be had, is unfit, drops more than a fifth of the models or changes
    the base URL of a config in use; the present catalog then stays as it is.
    """
    from admin.catalog import SyncRefused

    place = _place(url)
    try:
        with _progress() as tell:
            done = at_desk(lambda desk: _sync(desk, place, force, tell))
    except SyncRefused as refused:
        for reason in refused.reasons[1:]:
            click.echo(reason, err=True)
        raise
    _say(done)


@catalog.command()
@click.argument("provider")
@click.option("--json", "json", is_flag=True, help="As JSON.")
def show(provider: str, json: bool) -> None:
    """Show PROVIDER: how it is reached, and its models with what they cost."""
    shown = at_desk(lambda desk: _show(desk, provider))
    if json:
        return as_json(shown.plain())
    as_table(shown.entry.id, ("", ""), shown.facts())
    return as_table("Models, dollars per million tokens", _COLUMNS, list(shown.rows()))


@catalog.command()
@click.option("--json", "json", is_flag=True, help="As JSON.")
def status(json: bool) -> None:
    """Show which catalog is served by, and how old it is."""
    facts = at_desk(_status)
    if json:
        return as_json(facts)
    return as_table("Catalog", ("", ""), list(facts.items()))


def _place(url: str | None) -> str | None:
    from gateway.settings import source_url

    try:
        return source_url(url) if url is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None


async def _sync(desk: Desk, url: str | None, force: bool, tell: Tell) -> Synced:
    from admin import catalog as catalogs
    from admin.permit import LOCAL

    wish = catalogs.Wish(url or desk.settings.catalog_url, force)
    return await catalogs.sync(desk, LOCAL, wish, tell)


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on a terminal; elsewhere each step is a line on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description:11}"), BarColumn(), DownloadColumn())
    said: list[Step] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)

        def tell(step: Step, got: int, total: int | None) -> None:
            if step == "download":
                progress.update(bar, completed=got, total=total)
            progress.update(bar, description=_STEPS[step])
            if step not in said and not console.is_terminal:
                click.echo(f"{_STEPS[step]} …", err=True)
            said.append(step)

        yield tell


def _say(done: Synced) -> None:
    held = f"{done.providers} providers, {done.models} models"
    if done.difference is None:
        click.echo(f"Nothing new at {done.url}: {held}.")
        return
    for objection in done.forced:
        click.echo(f"Forced, though {objection}", err=True)
    click.echo(f"Synced from {done.url}: {held} ({_counts(done.difference)}).")


def _counts(found: Difference) -> str:
    return f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed"


async def _status(desk: Desk) -> dict[str, Any]:
    from gateway.catalog import AS_OF
    from gateway.store import catalogs

    async with desk.store.read() as conn:
        stored = await catalogs.find(conn)
    entries = desk.catalog.providers.values()
    every = desk.settings.catalog_sync_interval
    return {
        "served by": _served_by(stored, desk.catalog_flaw),
        "providers": len(entries),
        "models": sum(len(entry.models) for entry in entries),
        "as of": when(desk.catalog.age_date),
        "synced from": stored.url if stored else None,
        "synced at": when(stored.synced_at) if stored else None,
        "etag": stored.etag if stored else None,
        "sha256": stored.digest if stored else None,
        "packaged": AS_OF,
        "source": desk.settings.catalog_url,
        "synced every": f"{every:g} s" if every else "on demand",
    }


def _served_by(stored: Stored | None, flaw: str) -> str:
    if flaw:
        return f"the last good copy; sync again: {flaw}"
    return "the synced copy" if stored else "the packaged snapshot"


@dataclass(frozen=True)
class _Shown:
    """A provider with everything the catalog has of its models."""

    entry: Provider
    details: Mapping[str, Mapping[str, Any]]

    def facts(self) -> list[tuple[str, object]]:
        entry, reach = self.entry, self.entry.base_url
        if reach is None and entry.template is not None and entry.template.url:
            reach = f"{entry.template.url}, from the setting {entry.template.setting}"
        return [
            ("name", entry.name),
            ("protocol", entry.dialect or f"none: {entry.unsupported}"),
            ("also", tuple(entry.compatible)),
            ("base URL", reach or "the config's own"),
            ("key goes into", _auth(entry)),
            ("environment", entry.env),
            ("documentation", entry.doc),
        ]

    def rows(self) -> Iterator[tuple[object, ...]]:
        for _, model in sorted(self.entry.models.items()):
            more = self.details.get(model.id, {})
            prices = (_dollars(getattr(model, name)) for name in _PRICES)
            yield model.id, model.name, *prices, *_limits(model, more), _takes(more), model.status

    def plain(self) -> dict[str, Any]:
        entry = self.entry
        models = [
            {"id": m.id, "name": m.name, "family": m.family, "status": m.status}
            | dict(self.details.get(m.id, {}))
            for _, m in sorted(entry.models.items())
        ]
        return {
            "id": entry.id,
            "name": entry.name,
            "dialect": entry.dialect,
            "unsupported": entry.unsupported,
            "compatible": list(entry.compatible),
            "base_url": entry.base_url or (entry.template.url if entry.template else None) or None,
            "auth": _auth(entry),
            "env": entry.env,
            "doc": entry.doc,
            "models": models,
        }


_PRICES = ("input_price", "output_price", "cache_read_price", "cache_write_price")
_COLUMNS = (
    *("model", "name", "input", "output", "cache read", "cache write"),
    *("context", "most output", "takes", "status"),
)


async def _show(desk: Desk, provider: str) -> _Shown:
    from admin.catalog import details

    name = desk.catalog.canonical(provider)
    entry = desk.catalog.providers.get(name or "")
    if entry is None:
        raise StartRefused(f"the catalog has no provider {provider[:64]!r}; see docs/providers.md")
    return _Shown(entry, details(desk.catalog, entry.id))


def _auth(entry: Provider) -> str | None:
    """Header and scheme, asked of the dialect itself."""
    from gateway.dialects.table import DIALECTS
    from gateway.shapes import ProviderConfig

    if entry.dialect is None:
        return None
    config = ProviderConfig(
        id="", scope="", provider=entry.id, alias="", dialect=entry.dialect, base_url=""
    )
    headers = DIALECTS[entry.dialect].authorize(config, b"KEY")
    return ", ".join(f"{name.decode()}: {value.decode()}" for name, value in headers)


def _dollars(price: int | None) -> str:
    return "-" if price is None else f"{price / 1_000_000:g}"


def _limits(model: Model, more: Mapping[str, Any]) -> tuple[object, object]:
    return model.context, (more.get("limit") or {}).get("output")


def _takes(more: Mapping[str, Any]) -> str:
    """What goes in beside text, and what the model can do."""
    kinds = [kind for kind in (more.get("modalities") or {}).get("input", ()) if kind != "text"]
    able = [name for name in ("reasoning", "tool_call") if more.get(name)]
    return cell((*kinds, *able))
