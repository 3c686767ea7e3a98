"""The tables in docs/ that say what the code says: `make fix` writes them, a test compares them.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path

import click
from prometheus_client.metrics import MetricWrapperBase
from starlette.routing import BaseRoute, Mount, Route

from admin import permit
from admin.cli.main import wardgate as commands
from gateway import catalog, errors, metrics, settings
from gateway.settings import PREFIX

ROOT = Path(__file__).parent.parent
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
    return _rows(("metric", "type", "labels", "meaning"), rows)


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


TABLES: Mapping[str, Callable[[], str]] = {
    "settings": _settings,
    "metrics": _metrics,
    "errors": _errors,
    "providers": _providers,
    "permissions": _permissions,
    "commands": _commands,
}


def routes(found: Sequence[BaseRoute], before: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route of a Starlette app, mounts resolved."""
    for one in found:
        if isinstance(one, Mount):
            yield from routes(one.routes, before + one.path)
        elif isinstance(one, Route):
            yield from ((m, before + one.path) for m in sorted(one.methods or ()) if m != "HEAD")


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
