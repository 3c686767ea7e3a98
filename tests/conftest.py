"""Fixtures every test may use, and the rule that nothing is skipped.

Servers start when the first test asks for them and live as long as the session. Tests run on
uvloop, as the gateway does.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admin.demo.upstream import Upstream
from tests import node, servers
from tests.admin_serve import Admin, admin
from tests.backends import KINDS, Backend, lent
from tests.certificate import certificate
from tests.databases import Databases, databases
from tests.servers import Server

_OURS = ("wardgate_", "openai_", "anthropic_", "aws_", "google_", "azure_", "otel_", "pg")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def pytest_configure(config: pytest.Config) -> None:
    # google-genai 3.4 subclasses aiohttp's session, which aiohttp discourages.
    config.addinivalue_line(
        "filterwarnings", "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
    )
    # Before any fixture of a session or module, which `clean_environ` comes too late for.
    for name in filter(_is_ours, list(os.environ)):
        del os.environ[name]
    # Nobody's certificates are trusted here but the tests' own, and reading all authorities of the
    # world anew for each client an SDK makes took an eighth of the time.
    folder = Path(tempfile.mkdtemp(prefix="wardgate-test-"))
    config.add_cleanup(partial(shutil.rmtree, folder))
    os.environ["SSL_CERT_FILE"] = str(certificate(folder, "nobody.invalid"))


def pytest_collection_finish(session: pytest.Session) -> None:
    _first_draw()
    # Eight thousand tests need not be looked through each time the collector runs.
    gc.collect()
    gc.freeze()


@settings(max_examples=1, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text())
def _first_draw(_: str) -> None:
    """On a fresh clone Hypothesis takes seconds over a table of all characters before it draws its
    first text, and a test it falls to can fail for drawing too slowly.
    """


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """What hangs behind a failure fails, too: pytest's own watch ends with the failure."""
    if limit := float(node.config.getini("faulthandler_timeout")):
        faulthandler.dump_traceback_later(limit, exit=True, file=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that did not run proves nothing: a skip is a failure."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed: {_reason(report.longrepr)}"
        vars(report).pop("wasxfail", None)  # left on it, pytest would not count the failure
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed: {_reason(report.longrepr)}"
    return report


def _reason(longrepr: object) -> str:
    return str(longrepr[-1]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.fixture(autouse=True)
def clean_environ() -> Iterator[None]:
    """What a test puts there is gone after it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def _is_ours(name: str) -> bool:
    """No setting, provider key, database or proxy of the developer's shell reaches a test."""
    low = name.lower()
    return (
        low.startswith(
            ("wardgate_", "openai_", "anthropic_", "aws_", "google_", "azure_", "pg", "otel_")
        )
        or low.endswith(("_api_key", "_auth_token"))
        or low in _PROXIES
    )


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The demo upstream with its own answers, scripted by `x-demo`."""
    async with Upstream() as running:
        yield running


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[Server]:
    with servers.redis_server() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[Server]:
    """A Redis of the test's own, to be looked at, frozen, changed and killed."""
    with servers.redis_server() as server:
        yield server


@pytest.fixture
def redis_url(shared_redis: Server) -> str:
    """A Redis with nothing in it."""
    servers.redis_command(shared_redis.port, "FLUSHALL")
    return servers.redis_url(shared_redis)


@pytest.fixture(params=["memory", "redis"])
def limits_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where limits are counted, as `redis_url` says it: in this process, or in a Redis."""
    if request.param == "memory":
        yield ""
        return
    server: Server = request.getfixturevalue("shared_redis")
    servers.redis_command(server.port, "CONFIG RESETSTAT")
    yield request.getfixturevalue("redis_url")
    # With Redis away limits are counted here as well: nothing else would tell.
    asked = servers.redis_command(server.port, "INFO commandstats")
    assert b"cmdstat_eval" in asked or b"cmdstat_get" in asked


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Server]:
    with servers.postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_databases(shared_postgres: Server) -> Iterator[Databases]:
    with databases(shared_postgres) as made:
        yield made


@pytest.fixture
def new_postgres(shared_databases: Databases) -> Iterator[Callable[[], str]]:
    """Each call gives the URL of a database with nothing in it."""
    urls: list[str] = []

    def make() -> str:
        urls.append(shared_databases.make())
        return urls[-1]

    yield make
    for url in urls:
        shared_databases.drop(url)


@pytest.fixture
def postgres_url(new_postgres: Callable[[], str]) -> str:
    """A database with nothing in it."""
    return new_postgres()


@pytest.fixture(scope="module", params=KINDS)
def store_databases(request: pytest.FixtureRequest) -> Databases | None:
    """Every test of a store is there twice; this is the one place that says so. None: SQLite."""
    if request.param == "sqlite":
        return None
    made: Databases = request.getfixturevalue("shared_databases")
    return made


@pytest.fixture
def backend(store_databases: Databases | None, tmp_path: Path) -> Iterator[Backend]:
    """Where the test's own store is."""
    with lent(tmp_path, store_databases) as made:
        yield made


@pytest.fixture(scope="module")
def shared_backend(
    store_databases: Databases | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    """Where the one store of a module is."""
    with lent(tmp_path_factory.mktemp("shared"), store_databases) as made:
        yield made


@pytest.fixture(scope="session")
def nginx_program() -> str:
    """Path of nginx's binary."""
    return servers.nginx_program()


@pytest.fixture(scope="session")
def npm_clients() -> None:
    """The npm clients are installed."""
    node.install()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_backend: Backend) -> AsyncIterator[Admin]:
    """One admin app for a module's many requests that change nothing."""
    async with admin(shared_backend) as running:
        yield running


@pytest.fixture
async def app(backend: Backend) -> AsyncIterator[Admin]:
    """An admin app of the test's own."""
    async with admin(backend) as running:
        yield running
