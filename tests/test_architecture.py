"""The laws of the house that no linter knows, read off the source itself.

Which package may import which is import-linter's business (pyproject.toml); this is the rest.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("gateway", "admin")
LONGEST_FILE = 400
LONGEST_HEADER = 6
VAGUE = re.compile(r"(^|_)(util|utils|helper|helpers|common|base|manager|misc|stuff)(_|$)|^models$")
VAGUE_CLASS = re.compile(r"^_?Base[A-Z]|(Manager|Helper|Helpers|Util|Utils|Service)$")

# `models` says nothing but where it means language models.
OF_LANGUAGE_MODELS = {"admin/configure/models.py"}
# The tree of errors is drawn in its file's header, and is longer than a header may be.
LONG_HEADERS = {"gateway/errors.py"}
# The boundaries of the programs: what nobody foresaw becomes a 500 and a log line there.
# And what an operator plugs into OpenTelemetry ends no request.
CATCHES_ALL = {"gateway/app.py", "admin/app.py", "gateway/process/otel.py"}
KNOWS_SQL = {"sqlalchemy", "alembic", "aiosqlite", "asyncpg", "sqlite3"}
# Where a secret becomes bytes, and why there. Everything else passes it on closed.
OPENS_SECRETS = {
    "gateway/inject.py": "puts the provider's key into the request that leaves",
    "gateway/channel.py": "names a channel by a keyed hash",
    "gateway/keks/load.py": "reads the master keys given in a setting",
    "gateway/keks/transit.py": "logs in to the service that unwraps the master keys",
    "gateway/keks/kms.py": "signs requests to the service that unwraps the master keys",
    "gateway/snapshot.py": "hashes client keys, seals the hash key with the routing table",
    "gateway/store/sealed.py": "begins the audit chain, proves the master keys",
    "admin/opening.py": "hands the master keys to the processes over a socketpair",
    "admin/configure/audit.py": "continues the audit chain",
    "admin/configure/idempotency.py": "makes the keyed hash of a request",
    "admin/configure/keying.py": "looks at a key somebody just sent, before it is sealed",
    "admin/configure/keys.py": "hashes a client key just made",
    "admin/probe.py": "puts a provider's key into the request that tests it",
    "admin/configure/tokens.py": "hashes admin tokens, made or presented",
}
# Where something sealed is opened: a provider's key in the first two of these and nowhere else.
UNSEALS = {
    "gateway/inject.py",
    "admin/probe.py",
    "gateway/snapshot.py",
    "gateway/store/sealed.py",
}
READS_ENVIRONMENT = {
    "gateway/references.py": "a key stored as $env:NAME is looked up when it is used",
    "gateway/metrics.py": "where prometheus_client keeps the numbers of several processes",
}
# What no test may say, and why: test files are searched for it.
NEVER_SAID = {
    "pytest.skip": "a test that does not run proves nothing",
    "pytest.importorskip": "what is missing is a failure",
    "pytest.xfail": "a test that may fail proves nothing",
    "pytest.mark.skip": "as a mark it is the same",
    "pytest.mark.skipif": "as a mark it is the same: what a machine lacks is a failure",
    "pytest.mark.xfail": "as a mark it is the same",
    "time.sleep": "one that sleeps is slow",
}
SPAWNS = {
    "gateway/process/child.py": "starts the processes of the house",
    "gateway/keks/command.py": "runs what an operator named in WARDGATE_KEK_COMMAND, at start",
}
DANGEROUS_CALLS = {"eval", "exec", "compile", "__import__"}
DANGEROUS_IMPORTS = {"pickle", "marshal", "shelve", "subprocess", "pty", "ctypes"}


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return [path for path in found if "node_modules" not in path.parts]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name_of(path))


def imports(path: Path) -> Iterator[str]:
    """Top-level names of everything a file imports, also inside functions."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


def test_no_file_outgrows_its_room() -> None:
    long = {name_of(p): n for p in sources(*PACKAGES, "tests") if (n := lines_of(p)) > LONGEST_FILE}
    assert not long


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_functions_are_short() -> None:
    lengths = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in sources(*PACKAGES)
        for node in functions(path)
    ]
    assert statistics.median(lengths) <= 9
    assert statistics.quantiles(lengths, n=20)[-1] <= 45


def test_package_inits_hold_a_docstring_and_nothing_else() -> None:
    wrong = []
    for path in sources(*PACKAGES, "tests"):
        if path.name != "__init__.py":
            continue
        body = [ast.unparse(node) for node in tree_of(path).body]
        extra = [line for line in body[1:] if not line.startswith("__version__ = ")]
        if not ast.get_docstring(tree_of(path)) or extra:
            wrong.append((name_of(path), extra))
    assert not wrong


def test_every_module_says_what_happens_in_it_briefly() -> None:
    wrong = {}
    for path in sources(*PACKAGES):
        header = ast.get_docstring(tree_of(path)) or ""
        if not header or (
            len(header.splitlines()) > LONGEST_HEADER and name_of(path) not in LONG_HEADERS
        ):
            wrong[name_of(path)] = len(header.splitlines())
    assert not wrong


def test_files_and_classes_are_named_for_one_concept() -> None:
    vague = {name_of(p) for p in sources(*PACKAGES, "tests") if VAGUE.search(p.stem)}
    files = sorted(vague - OF_LANGUAGE_MODELS)
    classes = [
        f"{name_of(path)}: {node.name}"
        for path in sources(*PACKAGES, "tests")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and VAGUE_CLASS.search(node.name)
    ]
    assert not files + classes


def test_everything_is_caught_only_at_the_boundary() -> None:
    catching = {
        name_of(path)
        for path in sources(*PACKAGES)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and not passes_on(node)
        and (node.type is None or {"Exception", "BaseException"} & names_in(node.type))
    }
    assert catching <= CATCHES_ALL


def passes_on(handler: ast.ExceptHandler) -> bool:
    """Tidies up and lets the exception go on, whatever it is."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def names_in(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def test_sql_stands_in_the_store_only() -> None:
    knowing = {name_of(p) for p in sources(*PACKAGES) if KNOWS_SQL & set(imports(p))}
    assert knowing
    assert {name for name in knowing if not name.startswith("gateway/store/")} == set()


def test_secrets_are_opened_in_few_places() -> None:
    opening = {
        name_of(path)
        for path in sources(*PACKAGES)
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr == "expose"
    }
    assert opening == set(OPENS_SECRETS)


def test_sealed_values_are_opened_on_the_hot_path_and_at_start_only() -> None:
    opening = {
        name_of(path)
        for path in sources(*PACKAGES)
        for call in calls(path)
        if ast.unparse(call.func).endswith("ring.open")
    }
    assert opening == UNSEALS


def test_no_user_code_runs_and_processes_start_where_they_may() -> None:
    wrong = []
    for path in sources(*PACKAGES):
        if name_of(path) in SPAWNS:
            continue
        wrong += [f"{name_of(path)}: {name}" for name in DANGEROUS_IMPORTS & set(imports(path))]
        wrong += [
            f"{name_of(path)}:{call.lineno}"
            for call in calls(path)
            if (isinstance(call.func, ast.Name) and call.func.id in DANGEROUS_CALLS)
            or ast.unparse(call.func).startswith(("os.system", "os.popen", "os.exec", "os.spawn"))
            or "subprocess" in ast.unparse(call.func)
        ]
    assert not wrong


def test_the_environment_is_read_where_it_is_meant_to_be() -> None:
    # Proxies, keys and switches of somebody's shell must not steer a worker.
    reading = {
        name_of(path)
        for path in sources("gateway")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert reading <= set(READS_ENVIRONMENT)


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_*.py")), ids=lambda p: p.name)
def test_tests_are_functions_without_mocks_or_skips(path: Path) -> None:
    assert "unittest" not in set(imports(path))
    assert "mock" not in set(imports(path))
    classes = [n.name for n in ast.walk(tree_of(path)) if isinstance(n, ast.ClassDef)]
    assert not [name for name in classes if name.startswith("Test")]
    patched = [
        function.name
        for function in functions(path)
        if "monkeypatch" in {argument.arg for argument in function.args.args}
    ]
    assert not patched
    said = {ast.unparse(n) for n in ast.walk(tree_of(path)) if isinstance(n, ast.Attribute)}
    assert not said & NEVER_SAID.keys()


def text_files() -> Iterator[Path]:
    """Everything that is part of the project and is text."""
    kept = (".py", ".md", ".toml", ".yml", ".yaml", ".lock", ".json", ".js", ".mjs", ".cfg", "")
    top = [p for p in ROOT.iterdir() if p.is_file()]
    folders = ("gateway", "admin", "tests", "docs", "deploy", ".github", ".ci")
    for path in [*top, *(p for folder in folders for p in (ROOT / folder).rglob("*"))]:
        ours = not {"node_modules", "__pycache__", ".venv"} & set(path.parts)
        if path.is_file() and ours and path.suffix in kept:
            yield path


def test_the_project_names_no_machine_and_no_package_index() -> None:
    # Spelled in pieces, or this file would be the first to break its own rule.
    hosts = ("pypi" + ".org", "files.python" + "hosted", "registry." + "npmjs")
    folders = ("/ro" + "ot/", "/ho" + "me/", "/wo" + "rk/", "/Us" + "ers/")
    pattern = re.compile("|".join(re.escape(word) for word in (*hosts, *folders)))
    found = [
        f"{name_of(path)}:{number}"
        for path in text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
    found = [
        f"{name_of(path)}:{number}"
        for path in sources(*PACKAGES, "tests")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if later.search(line)
    ]
    assert not found
