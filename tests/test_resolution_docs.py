"""docs/resolution.md says what happens: each row of its examples is resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import catalog
from gateway.errors import GatewayError
from gateway.resolve import Ask, explain, resolve
from gateway.rules import RULES
from gateway.shapes import Agent, Choice, Client
from tests.routing import Table, ask, key

PAGE = Path(__file__).parent.parent / "docs" / "resolution.md"
VERDICTS = "what happened to a target"  # a generated table, no example
Row = dict[str, str]


@dataclass
class Installation:
    """What the tables above an example have set up."""

    table: Table = field(default_factory=Table)
    configs: dict[str, str] = field(default_factory=dict)  # number in the page -> id
    keys: dict[str, Client] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    section: str
    row: Row
    where: Installation


def tables() -> Iterator[tuple[str, tuple[str, ...], list[Row]]]:
    """Section, column names and rows of each table of the page."""
    section, block = "", list[str]()
    for line in [*PAGE.read_text().splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
            continue
        if block:
            heads, _, *rows = (tuple(cells(row)) for row in block)
            yield section, heads, [dict(zip(heads, row, strict=True)) for row in rows]
            block = []
        if line.startswith("#"):
            section = line.lstrip("# ")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def word(cell: str) -> str | None:
    return next(iter(words(cell)), None)


def examples() -> list[Example]:
    found: list[Example] = []
    here = Installation()
    described = True  # a description that follows examples begins another installation
    for section, heads, rows in tables():
        if heads[0] == VERDICTS:
            continue
        if heads[0] == "request":
            found += [Example(section, row, here) for row in rows]
            described = True
            continue
        if described and heads[0] in ("scope", "config"):
            here, described = Installation(), False
        for row in rows:
            SET_UP[heads[0]](here, row)
    return found


def add_scope(here: Installation, row: Row) -> None:
    inherits = row.get("notes") != "inherits nothing"
    here.table.scope(str(word(row["scope"])), str(word(row["parent"])), inherits=inherits)


def add_config(here: Installation, row: Row) -> None:
    notes, scope = row["notes"], str(word(row["scope"]))
    added = here.table.add(
        str(word(row["provider"])),
        str(word(row["alias"])),
        scope,
        active="inactive" not in notes,
        default="default" in notes,
        allow_unlisted="listed models only" not in notes,
    )
    here.configs[row["config"]] = added
    if model := word(notes):
        assert notes.startswith("choice")
        here.table.choices[scope] = Choice(added, model)


def add_route(here: Installation, row: Row) -> None:
    targets = re.findall(r"(\d+) `([^`]+)`", row["targets"])
    leading = [(here.configs[number], model) for number, model in targets]
    here.table.route(str(word(row["route"])), *leading, scope=str(word(row["scope"])))


def switch_off(here: Installation, row: Row) -> None:
    provider, model = words(row["off"])
    here.table.disabled.add((str(word(row["scope"])), provider, model))


def add_key(here: Installation, row: Row) -> None:
    name, agent = row["key"], None
    if bound := words(row["agent bound to"]):
        agent = f"agent of {name}"
        here.table.agents[agent] = Agent(
            id=agent, scope="global", name=agent, provider=bound[0], model=bound[1]
        )
    allowed = tuple(words(row["allowed models"]))
    here.keys[name] = key(str(word(row["scope"])), agent=agent, allowed_models=allowed)


SET_UP = {
    "scope": add_scope,
    "config": add_config,
    "key": add_key,
    "route": add_route,
    "off": switch_off,
}
EXAMPLES = examples()


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{n}-{example.section}" for n, example in enumerate(EXAMPLES)]
)
def test_the_pages_example_is_true(example: Example) -> None:
    row = example.row
    assert answer(example.where, asked(example)) == (row["goes to"], words(row["model sent"]))


def asked(example: Example) -> Ask:
    row = example.row
    client = example.where.keys[row["key"]]
    return ask(str(word(row["request"])), word(row["model"]), word(row["header"]), client)


def answer(here: Installation, question: Ask) -> tuple[str, list[str]]:
    """The configs' numbers in the page, in order, or the refusal; and the models sent."""
    try:
        candidates = resolve(here.table.snapshot(), catalog.load(), question)
    except GatewayError as error:
        return f"{error.status} {error.code}", []
    numbers = {name: number for number, name in here.configs.items()}
    sent = [one.model for one in candidates if one.model is not None]
    return ", ".join(numbers[one.config.id] for one in candidates), sent


def test_every_rule_has_a_section_with_an_example_of_it() -> None:
    shown: dict[str, set[str]] = {}
    for example in EXAMPLES:
        trace = explain(example.where.table.snapshot(), catalog.load(), asked(example))
        hits = {f"{step.rule}" for step in trace.steps if step.hit}
        shown.setdefault(example.section[:1], set()).update(hits)
    for rule in RULES:
        assert str(rule.number) in shown[str(rule.number)], rule.name
    assert len(EXAMPLES) > 40
