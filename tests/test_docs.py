"""Documentation that says what the code says: tables, routes, commands, settings, links, examples.

`make fix` writes the tables anew; everything else is for people to mend.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from admin.cli.main import wardgate
from gateway import errors, settings
from tests import docs_tables
from tests.docs_tables import ROOT, TABLE, TABLES, pages

PAGES = pages()
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"```(?P<language>\w*)\n(?P<body>.*?)\n[ ]*```", re.DOTALL)
EXAMPLE = re.compile(
    r"(?:<!-- from (?P<file>tests/examples/\w+\.py) -->\n)?```python\n(?P<body>.*?)```", re.DOTALL
)
CODE = re.compile(r"`([^`\n]+)`")
everywhere = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def test_there_are_pages() -> None:
    names = {page.name for page in PAGES}
    assert {"README.md", "quickstart.md", "configuration.md", "resolution.md"} <= names


@everywhere
def test_tables_say_what_the_code_says(page: Path) -> None:
    assert docs_tables.written(page.read_text()) == page.read_text(), "run `make fix`"


def test_every_table_stands_on_some_page() -> None:
    shown = {hit["name"] for page in PAGES for hit in TABLE.finditer(page.read_text())}
    assert shown == set(TABLES)


def test_every_error_code_is_raised_somewhere_and_every_raised_one_is_documented() -> None:
    assert set(docs_tables.statuses()) == set(errors.CODES)


def test_every_route_of_the_admin_app_is_documented_and_no_other() -> None:
    served = {(method, one_spelling(path)) for method, path in docs_tables.admin_routes()}
    text = (ROOT / "docs/management.md").read_text().partition("## The gateway's own routes")[0]
    assert {(method, one_spelling(path)) for method, path in documented(text)} == served


def one_spelling(path: str) -> str:
    """The page says in words where a prefix or a slash may be left out."""
    path = re.sub(r"^/docs/.*", "/docs", path)
    return path.removeprefix("/client/v4").rstrip("/")


def documented(text: str) -> Iterator[tuple[str, str]]:
    """(method, path) of every row of a table whose first cell is methods and a path in code."""
    for line in text.splitlines():
        if line.startswith("| `"):
            *methods, path = CODE.findall(line.split("|")[1])
            yield from ((method, path) for method in methods)


def test_every_setting_named_in_docs_and_deploy_exists() -> None:
    deployed = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    files = [*PAGES, *deployed, *(ROOT / ".github").glob("*.md")]
    wrong = {
        f"{path.name}: {name}"
        for path in files
        for name in re.findall(rf"\b{settings.PREFIX}[A-Z0-9_]+", path.read_text())
        if name not in settings.env_names()
    }
    assert not wrong


def commands_in(text: str) -> Iterator[str]:
    """Everything that is typed after `wardgate` in fenced blocks and inline code."""
    for fence in FENCE.finditer(text):
        if fence["language"] in ("sh", ""):
            joined = fence["body"].replace("\\\n", " ")
            yield from re.findall(r"(?:^|/|\s)wardgate ((?!\.)\S.*)$", joined, re.MULTILINE)
    outside = TABLE.sub("", FENCE.sub("", text))
    yield from (code[9:] for code in CODE.findall(outside) if code.startswith("wardgate "))


def problem_with(typed: str) -> str:
    """What is wrong with a command line as documented; empty when nothing is."""
    command: click.Command = wardgate
    # Placeholders in capitals stand for arguments or commands.
    words = [w for w in shlex.split(typed, comments=True) if not re.fullmatch(r"[A-Z_|]+|…", w)]
    options = {"--help", "--version"}
    for word in words:
        if word.startswith("-"):
            options |= {name for param in command.params for name in (*param.opts, *_off(param))}
            if word.partition("=")[0] not in options:
                return f"{typed}: no option {word}"
        elif isinstance(command, click.Group):
            found = command.commands.get(word)
            if found is None:
                return f"{typed}: no command {word}"
            command = found
    return ""


def _off(param: click.Parameter) -> list[str]:
    return list(param.secondary_opts)


@everywhere
def test_every_command_in_docs_exists(page: Path) -> None:
    assert [why for typed in commands_in(page.read_text()) if (why := problem_with(typed))] == []


def test_commands_are_found_where_they_stand() -> None:
    text = "```sh\n.venv/bin/wardgate keys create my-app --no-such 90d\n```\n`wardgate fly`"
    assert [problem_with(typed) for typed in commands_in(text)] == [
        "keys create my-app --no-such 90d: no option --no-such",
        "fly: no command fly",
    ]


def test_every_target_of_make_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*?## ", makefile, re.MULTILINE))
    assert {"install", "run", "test", "check", "fix", "bench", "soak"} <= targets
    named = {
        word
        for path in [*PAGES, ROOT / ".github/CONTRIBUTING.md"]
        for words in re.findall(r"(?:^|`)make ((?:[a-z]+ ?)+)", path.read_text(), re.MULTILINE)
        for word in words.split()
    }
    assert named
    assert named <= targets


@pytest.mark.parametrize(
    "page",
    [*PAGES, *sorted((ROOT / ".github").glob("*.md"))],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    lost = []
    for hit in LINK.finditer(FENCE.sub("", page.read_text())):
        target, _, anchor = hit["target"].partition("#")
        if ":" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(hit["target"])
    assert not lost


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@everywhere
def test_every_python_example_is_a_file_that_tests_run(page: Path) -> None:
    for hit in EXAMPLE.finditer(page.read_text()):
        assert hit["file"], f"which file of tests/examples is this?\n{hit['body']}"
        assert (ROOT / hit["file"]).read_text() == hit["body"]


def test_every_dependency_has_its_sentence_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[\[<>=~! ]", line)[0] for group in groups for line in group}
    page = (ROOT / "docs/decisions/0016-what-we-depend-on.md").read_text()
    first_cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {name for cell in first_cells for name in CODE.findall(cell)} == declared


def test_readme_begins_with_the_two_commands() -> None:
    first = FENCE.search((ROOT / "README.md").read_text())
    assert first
    assert [line.split(" #")[0].strip() for line in first["body"].splitlines()] == [
        "make run",
        "make test",
    ]
