"""The tests' own tools: the served app, the raw client, the real servers, the rule on skips."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from admin.demo.upstream import Script, Upstream
from tests import servers
from tests.ports import dead_port
from tests.serve import RawClient, raw_exchange, request_bytes, serving
from tests.servers import Server, ServerFailed, ServerMissing

ROOT = Path(__file__).parent.parent


class App:
    """An ASGI app that says when it was started and stopped, and answers as it is told."""

    def __init__(self) -> None:
        self.life: list[str] = []
        self.paths: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        self.paths.append(scope["raw_path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]})
        for piece in (b"first ", b"second"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if scope["path"] == "/broken":
            await asyncio.get_running_loop().create_future()
        await send({"type": "http.response.body", "body": b""})

    async def live(self, receive: Any, send: Any) -> None:
        for word in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{word}"
            self.life.append(word)
            await send({"type": f"lifespan.{word}.complete"})


async def test_app_is_started_served_and_stopped() -> None:
    app = App()
    async with serving(app) as base_url, RawClient.to(base_url) as client:
        answer = await client.request("GET", "/a%2Fb")
        assert app.life == ["startup"]
    assert (answer.status, answer.body, answer.ending) == (200, b"first second", "clean")
    assert answer.header(b"X-A") == b"1"
    assert answer.wire.endswith(b"6\r\nsecond\r\n0\r\n\r\n")
    assert app.paths == [b"/a%2Fb"]
    assert app.life == ["startup", "shutdown"]


async def test_serving_runs_on_the_tests_own_loop() -> None:
    async with serving(App()) as base_url:
        assert type(asyncio.get_running_loop()).__module__ == "uvloop"
        assert urlsplit(base_url).hostname == "127.0.0.1"


async def test_serving_raises_when_the_app_does_not_start() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"):
        await serving(app).__aenter__()


async def test_answer_is_cut_when_the_server_stops_in_the_middle() -> None:
    async with serving(App(), grace=0) as base_url:
        client = await RawClient.to(base_url).__aenter__()
        await client.send(request_bytes("GET", "/broken"))
        answer = await client.head()
    await client.body_of(answer)
    await client.__aexit__()
    assert (answer.body, answer.ending) == (b"first second", "cut")


async def test_bytes_before_a_reset_are_not_lost() -> None:
    body = bytes(range(256)) * 100
    script = Script(body=body, cut_at=len(body) - 1, cut="rst")
    async with Upstream(script) as up, RawClient(up.port) as client:
        await client.send(request_bytes("GET", "/"))
        await (await up.wait_received()).closed.wait()
        answer = await client.answer()
        assert (answer.body, answer.ending) == (body[:-1], "reset")


async def test_server_is_held_back_when_the_client_does_not_read() -> None:
    body = bytes(30_000_000)
    async with Upstream(Script(body=body)) as up, RawClient(up.port) as client:
        await client.send(request_bytes("GET", "/"))
        await client.head()
        with pytest.raises(TimeoutError):
            await up.wait_idle(0.1)
        assert len(await client.read_some(10)) == 10
        await client.read_until(body[:20_000_000])
        rest = len(body) - 10 - 20_000_000
        while rest:
            rest -= len(await client.read_some())
        await up.wait_idle()


async def test_answer_to_head_and_to_204_has_no_body() -> None:
    script = Script(headers=[(b"content-length", b"5")], framing="none")
    async with Upstream(script) as up, RawClient(up.port) as client:
        assert (await client.request("HEAD", "/")).body == b""
        script.status, script.headers = 204, ()
        assert (await client.request("GET", "/")).ending == "clean"


async def test_connection_is_refused_when_the_port_is_free() -> None:
    with pytest.raises(ConnectionRefusedError):
        await RawClient(dead_port()).__aenter__()


async def test_raw_exchange_gives_every_byte_until_the_close() -> None:
    async with Upstream(Script(body=b"x")) as up:
        sent = request_bytes("GET", "/", {"connection": "close"})
        got = await raw_exchange(up.port, sent)
        assert got == b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"


async def test_redis_is_empty_and_answers(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left-over", "1")


async def test_redis_is_empty_again_in_the_next_test(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_redis_is_silent_when_it_is_frozen_and_gone_when_killed() -> None:
    with servers.redis_server() as server:
        server.freeze()
        with pytest.raises(TimeoutError):
            servers.redis_command(server.port, "PING", timeout=0.05)
        server.thaw()
        assert servers.redis_command(server.port, "PING") == b"+PONG\r\n"
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            servers.redis_command(server.port, "PING")
        server.start()
        assert servers.redis_command(server.port, "PING") == b"+PONG\r\n"
        pid = server.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_postgres_database_is_fresh_and_ours(postgres_url: str) -> None:
    engine = create_async_engine(postgres_url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE here (n int)"))
        count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        assert (await connection.execute(text(count))).scalar_one() == 1
    await engine.dispose()


async def test_postgres_database_is_fresh_again_in_the_next_test(postgres_url: str) -> None:
    await test_postgres_database_is_fresh_and_ours(postgres_url)


async def test_nginx_serves_the_block_it_was_given() -> None:
    block = "access_log off; server { listen 127.0.0.1:{port}; location / { return 200 hi; } }"
    with servers.nginx_server(block) as server:
        async with RawClient(server.port) as client:
            assert (await client.request("GET", "/")).body == b"hi"


def test_missing_program_names_its_debian_package() -> None:
    with pytest.raises(ServerMissing, match="apt-get install -y some-package"):
        servers.program("no-such-program-anywhere", "some-package")


def test_server_that_dies_at_start_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('the reason')"]
    server = Server(1, tmp_path, command, lambda _: False)
    with pytest.raises(ServerFailed, match="the reason"):
        server.start()


CLEAN = """
import os
def test_clean():
    assert not {"OPENAI_API_KEY", "WARDGATE_PORT", "HTTPS_PROXY"} & set(os.environ)
"""
# Source of tests that are run apart, in a folder of their own, each beside what it proves: that
# conftest.py counts it as failed whichever way it tries not to run.
SKIPPING = {
    "mark": "@pytest.mark.skip(reason='tired')\ndef test_it(): pass",  # a mark does not excuse it
    "call": "def test_it(): pytest.skip('tired')",  # nor does giving up in the middle
    "module": "pytest.skip('tired', allow_module_level=True)",  # nor giving up for a whole file
    "missing": "pytest.importorskip('no_such_module', reason='tired')",  # nor what is not installed
    "xfail": "@pytest.mark.xfail(reason='tired')\ndef test_it(): assert 0",  # nor expecting it
    "fixture": "@pytest.fixture\ndef it(): "  # nor a fixture
    "pytest.skip('tired')\ndef test_it(it): pass",  # that gives up for its test
}


def test_developers_environment_does_not_reach_a_test(tmp_path: Path) -> None:
    (tmp_path / "test_clean.py").write_text(CLEAN)
    shell = {"OPENAI_API_KEY": "x", "WARDGATE_PORT": "1", "HTTPS_PROXY": "http://x"}
    done = run_pytest(tmp_path, shell)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_every_way_to_skip_is_a_failure(tmp_path: Path) -> None:
    for name, source in SKIPPING.items():
        (tmp_path / f"test_{name}.py").write_text(f"import pytest\n{source}\n")
    done = run_pytest(tmp_path, {})
    bad = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert done.returncode == 1
    assert {name for name in SKIPPING if any(f"test_{name}.py" in line for line in bad)} == set(
        SKIPPING
    )
    assert "skipped" not in done.stdout.splitlines()[-1]


# By name, as SKIPPING has them.
ENDS_WELL_ALONE = ["call", "xfail"]  # without conftest.py pytest would end with exit status 0


@pytest.mark.parametrize("name", ENDS_WELL_ALONE)
def test_one_skip_alone_makes_the_exit_status_1(tmp_path: Path, name: str) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\n{SKIPPING[name]}\n")
    assert run_pytest(tmp_path, {}).returncode == 1


def run_pytest(folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """pytest on a folder of its own, with our conftest in force."""
    options = ["-q", "--continue-on-collection-errors", "-c", os.devnull]
    options += ["-p", "pytest_asyncio.plugin", "-p", "tests.conftest"]
    fixed = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(folder), str(folder)],
        cwd=ROOT,
        env={**os.environ, **env, **fixed},
        capture_output=True,
        text=True,
        check=False,
    )
