"""The tables in docs/ that say what the code says: `make fix` writes them, a test compares them.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import click
from prometheus_client.metrics import MetricWrapperBase
from starlette.routing import BaseRoute, Mount, Route

from admin import openapi, permit
from admin.api.operations import Operation, Surface
from admin.app import build
from admin.cli.main import wardgate as commands
from admin.configure.desk import Desk
from admin.registry import SURFACES
from gateway import blame, catalog, errors, health, metrics, settings, verdict
from gateway.settings import PREFIX
from tests import capacity

ROOT = Path(__file__).parent.parent
_MOST_NAMED = 10
TABLE = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _rows(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [heading, ["---"] * len(heading), *rows]
    return "".join("| " + " | ".join(_cell(c) for c in row) + " |\n" for row in cells)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _settings() -> str:
    rows = []
    for item in settings.rows():
        name = PREFIX + item.name.upper()
        default = item.default if item.default is not MISSING else None
        rows.append((f"`{name}`", _default(default), str(item.metadata["help"])))
    return _rows(("variable", "default", "meaning"), rows)


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or value in ("", ()):
        return ""
    return f"`{value}`"


def instruments() -> Iterator[MetricWrapperBase]:
    """Every instrument of gateway.metrics, in the order they stand there."""
    return (one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase))


def shown_name(instrument: MetricWrapperBase) -> str:
    """Its name as a scrape shows it."""
    described = next(iter(instrument.describe()))
    return described.name + ("_total" if described.type == "counter" else "")


def _metrics() -> str:
    rows = []
    for one in instruments():
        described = next(iter(one.describe()))
        labels = ", ".join(f"`{label}`" for label in one._labelnames)
        rows.append((f"`{shown_name(one)}`", described.type, labels, described.documentation))
    for name, (names, meaning) in metrics.HEALTH.items():
        rows.append((f"`{name}`", "gauge", ", ".join(f"`{label}`" for label in names), meaning))
    for name, (kind, names, meaning) in metrics.HOUSE.items():
        rows.append((f"`{name}`", kind, ", ".join(f"`{label}`" for label in names), meaning))
    return _rows(("metric", "type", "labels", "meaning"), rows)


def _blame() -> str:
    return _rows(("blame", "when"), [(f"`{row.blame}`", row.when) for row in blame.ROWS])


def _health() -> str:
    return _rows(("state", "when"), [(f"`{state}`", when) for state, when, _ in health.RULE])


def _windows() -> str:
    rows = [
        (f"`{window.name}`", f"{window.width} s", f"{window.seconds + window.width} s")
        for window in health.WINDOWS
    ]
    return _rows(("window", "slots of", "counts nothing older than"), rows)


def _error_classes() -> dict[str, type[errors.GatewayError]]:
    root, found = errors.GatewayError, [o for o in vars(errors).values() if isinstance(o, type)]
    return {one.__name__: one for one in found if issubclass(one, root)}


def statuses() -> dict[str, set[int]]:
    """Code -> the statuses it is raised with, read off gateway/; a class brings its own code."""
    kinds = _error_classes()
    root = errors.GatewayError
    found = {k.default_code: {k.status} for k in kinds.values() if k is not root}
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            kind = kinds.get(ast.unparse(call.func).rpartition(".")[2])
            if kind is not None:
                for code in _codes(call):
                    found.setdefault(code, set()).add(kind.status)
    return found


def _codes(call: ast.Call) -> set[str]:
    """The codes a call may give: every string in its `code=` argument."""
    given = [word.value for word in call.keywords if word.arg == "code"]
    return {
        part.value
        for value in given
        for part in ast.walk(value)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def _errors() -> str:
    raised = statuses()
    rows = [
        (", ".join(str(status) for status in sorted(raised.get(code, ()))), f"`{code}`", meaning)
        for code, meaning in errors.CODES.items()
    ]
    return _rows(("status", "code", "meaning"), rows)


def _providers() -> str:
    rows = []
    for provider in catalog.load().providers.values():
        speaks = provider.unsupported or f"{provider.dialect}"
        url = f"`{provider.base_url}`" if provider.base_url and not provider.unsupported else ""
        environment = ", ".join(f"`{name}`" for name in provider.env)
        rows.append((f"`{provider.id}`", provider.name, speaks, url, environment))
    heading = ("provider", "name", "protocol, or why not yet", "base URL", "environment")
    return _rows(heading, rows)


def _permissions() -> str:
    rows = [
        (
            f"`{name}`",
            "every scope" if row.everywhere else "one scope",
            ", ".join(sorted(row.actions)),
        )
        for name, row in permit.PERMISSIONS.items()
    ]
    return _rows(("permission", "holds in", "allows"), rows)


def _verdict() -> str:
    rows = [(row.happened, row.next_if, row.why) for row in verdict.ROWS]
    return _rows(("what happened to a target", "the next is tried", "why"), rows)


def walk(command: click.Command, name: str = "wardgate") -> Iterator[tuple[str, click.Command]]:
    """Every command below `command` with the words that call it; groups are left out."""
    if isinstance(command, click.Group):
        for word, child in command.commands.items():
            yield from walk(child, f"{name} {word}")
    else:
        yield name, command


def _commands() -> str:
    rows = []
    for name, command in walk(commands):
        context = click.Context(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        rows.append((f"`{usage}`", command.get_short_help_str(200)))
    return _rows(("command", "does"), rows)


def table_of(surface: Surface) -> str:
    """The name of the table that lists a surface's operations."""
    return "operations-" + surface.name.lower().replace(" ", "-")


def _operations(surface: Surface, rows: Sequence[Operation]) -> str:
    cells = []
    for row in rows:
        place = f"`{row.method}` `{openapi.documented(surface, row)}`"
        cells.append((place, row.summary, _body(row), row.action))
    return _rows(("operation", "does", "body", "needs"), cells)


def _body(row: Operation) -> str:
    """The names in a body; after those that must be there some of the rest, with question marks."""
    if row.body is None:
        return ""
    fields = [(one.alias or name, one.is_required()) for name, one in row.body.model_fields.items()]
    names = [name for name, required in fields if required]
    rest = [f"{name}?" for name, required in fields if not required]
    more = ["…"] if len(rest) > _MOST_NAMED else []
    return f"`{{{', '.join([*names, *rest[:_MOST_NAMED], *more])}}}`"


TABLES: Mapping[str, Callable[[], str]] = {
    **{table_of(surface): partial(_operations, surface, rows) for surface, rows in SURFACES},
    "settings": _settings,
    "metrics": _metrics,
    "blame": _blame,
    "health": _health,
    "windows": _windows,
    "errors": _errors,
    "providers": _providers,
    "permissions": _permissions,
    "commands": _commands,
    "verdict": _verdict,
    "capacity": lambda: _rows(capacity.HEADING, capacity.rows()),
}


def routes(found: Sequence[BaseRoute], before: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route of a Starlette app, mounts resolved."""
    for one in found:
        if isinstance(one, Mount):
            yield from routes(one.routes, before + one.path)
        elif isinstance(one, Route):
            path = before + one.path.replace(":path}", "}")
            yield from ((m, path) for m in sorted(one.methods or ()) if m != "HEAD")


def admin_routes() -> set[tuple[str, str]]:
    """(method, path) of all that the admin app serves, in the document's notation."""
    desk = SimpleNamespace(settings=settings.Settings())
    app = build(cast(Desk, desk), metrics=lambda: b"")
    return {(method, path.replace(":path}", "}")) for method, path in routes(app.routes)}


def pages() -> list[Path]:
    """Every page of documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def written(text: str) -> str:
    """A page's text with its tables as the code has them now."""
    return TABLE.sub(lambda hit: f"{hit[1]}{TABLES[hit['name']]()}{hit[3]}", text)


def write() -> None:
    for page in pages():
        text = page.read_text()
        if written(text) != text:
            page.write_text(written(text))


if __name__ == "__main__":
    assert sys.argv[1:] == ["--write"], "python -m tests.docs_tables --write"
    write()
