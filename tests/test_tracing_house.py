"""Traces of a whole house: each worker's own, exported to the last one when it is told to leave."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from admin.demo.upstream import Upstream
from gateway import tracing
from gateway.errors import StartRefused
from gateway.process.otel import GRACE
from gateway.process.supervise import LAST_GRACE
from tests.collector import SERVER, collecting
from tests.houses import PATIENCE, Running, environment, house
from tests.left import App, left
from tests.rig import CHAT, good
from tests.test_start_costs import python

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
STORED = "sk-canary"
# Two spans leave at once; one alone waits for longer than any test does.
WAITING = {"OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}


def variables(upstream: Upstream, endpoint: str) -> dict[str, str]:
    return {
        "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8",
        "WARDGATE_PROVIDER_BASE_URLS": f"openai={upstream.url}",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-collector=collector-key",
        ENDPOINT: endpoint,
        **WAITING,
    }


ASKED = {"model": "openai/gpt-4.1-mini", "messages": []}


def calling(running: Running, headers: dict[str, str]) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=running.gateway, headers=headers)


async def ask(running: Running, headers: dict[str, str], status: int = 200) -> None:
    async with calling(running, headers) as client:
        assert (await client.post(CHAT, json=ASKED)).status_code == status


def environ(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def told(running: Running, line: str) -> None:
    """Return once /metrics has that line: workers bring their numbers there every second."""
    async with httpx2.AsyncClient(base_url=running.admin) as client, asyncio.timeout(PATIENCE):
        while line not in (await client.get("/metrics")).text.splitlines():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def prepared(folder: Path, upstream: Upstream) -> App:
    async with left(folder, provider_base_urls={"openai": upstream.url}) as (_, app):
        return app


async def test_the_last_span_is_exported_before_a_worker_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    async with collecting() as collector, Upstream(good()) as upstream:
        app = await prepared(folder, upstream)
        env = variables(upstream, collector.url)
        async with house(folder, WARDGATE_WORKERS="2", **env) as running:
            # While both are connected each worker has one of them.
            async with calling(running, app.headers) as one, calling(running, app.headers) as two:
                for client in (one, two, one, two):
                    assert (await client.post(CHAT, json=ASKED)).status_code == 200
            await collector.wait_for(lambda: len(collector.spans) == 8)
            await told(running, 'wardgate_spans_total{outcome="exported"} 8.0')
            await ask(running, {"authorization": "Bearer nobody"}, 401)
            for pid in running.workers():
                assert b"collector-key" in environ(pid)
            assert b"OTEL_" not in environ(running.neighbour("admin"))
            assert await running.stop() == 0
        spans = await collector.wait(9)
        assert [one.kind for one in spans].count(SERVER) == 5
        assert len({one.resource["service.instance.id"] for one in spans}) == 2
        assert b"x-collector: collector-key" in collector.wire
        for word in (app.key, app.view.id, STORED):
            assert word.encode() not in collector.wire
        assert b"collector-key" not in running.log.read_bytes()


async def test_a_collector_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    async with collecting(status=0) as collector, Upstream(good()) as upstream:
        app = await prepared(folder, upstream)
        async with house(folder, "gateway", **variables(upstream, collector.url)) as running:
            await ask(running, app.headers)
            started = time.monotonic()
            assert await running.stop() == 0
            assert time.monotonic() - started < GRACE + LAST_GRACE
    assert GRACE < LAST_GRACE  # or the parent kills it, and what was counted is lost


def test_a_worker_without_traces_imports_nothing_of_them() -> None:
    told = python("import gateway.process.worker, sys; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in told.split()}
    assert "gateway" in loaded
    assert loaded & {"opentelemetry", "requests", "google"} == set()


def test_a_start_without_the_extra_is_refused_by_its_name(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from admin.cli.main import main\n"
        "sys.argv = ['wardgate', 'serve', '--port', '0', '--admin-port', '0']\n"
        "main()"
    )
    env = environment(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9/")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert "pip install 'wardgate[otel]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SERVICE_NAME": "gateway"},
    ],
)
def test_without_an_endpoint_there_are_no_traces(env: dict[str, str]) -> None:
    assert tracing.spans_that_wait(env) == 0


@pytest.mark.parametrize(
    ("env", "queue"),
    [
        ({ENDPOINT: "http://c:4318"}, 2048),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/v1/traces?x=1"}, 2048),
        ({ENDPOINT: "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, 2048),
        ({ENDPOINT: "http://c", "OTEL_BSP_MAX_QUEUE_SIZE": "512"}, 512),
    ],
)
def test_with_one_so_many_spans_may_wait(env: dict[str, str], queue: int) -> None:
    assert tracing.spans_that_wait(env) == queue


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (ENDPOINT, "c:4318"),
        (ENDPOINT, "grpc://user:word@c"),
        (ENDPOINT, "http://"),
        (ENDPOINT, "http://c:x"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1.5"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(StartRefused) as refused:
        tracing.spans_that_wait({ENDPOINT: "http://c:4318", name: value})
    told = str(refused.value)
    assert name in told
    assert "word" not in told
