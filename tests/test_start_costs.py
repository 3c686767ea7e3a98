"""What a start costs before the first answer, and what a worker holds when it is at rest.

`make bench` measures the seconds; here the bounds hold on any machine, however busy: processor time
is counted in the start of a bare interpreter with an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2

from admin.demo.upstream import Upstream
from tests.houses import PATIENCE, ROOT, children, environment
from tests.left import App, left
from tests.rig import CHAT, good
from tests.serve import free_port

MOST_STARTS = 10.0
MOST_MIB = 60.0
BARE = "import asyncio"
BARE_STARTS = 4
# What the parent imports before a worker serves, and what is not needed for that.
PARENT = """
from admin.cli.main import wardgate
wardgate.commands["serve"]
import admin.run, admin.opening, gateway.keks.load
"""
HEAVY = {"aiosqlite", "alembic", "httpx2", "jwt", "mcp", "prometheus_client", "pydantic", "rich"}
HEAVY |= {"sqlalchemy", "starlette", "structlog", "uvicorn", "uvloop"}
_TICK = os.sysconf("SC_CLK_TCK")


def python(code: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def bare_start() -> float:
    """Processor seconds of an interpreter that does nothing, at this moment on this machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(BARE_STARTS):
        python(BARE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent / BARE_STARTS


def used(pid: int) -> float:
    """Processor seconds of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICK


def held(pid: int) -> float:
    """MiB that are this process's own, and its share of what others hold too."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return (sizes["Pss:"] + sizes["SwapPss:"]) / 1024


@contextlib.asynccontextmanager
async def started(folder: Path, port: int, upstream: Upstream) -> AsyncIterator[Process]:
    """`wardgate serve`, just started; it is gone when the block is left."""
    env = environment(folder, WARDGATE_ALLOWED_UPSTREAM_CIDRS="127.0.0.0/8")
    env["WARDGATE_PROVIDER_BASE_URLS"] = f"openai={upstream.url}"
    command = (sys.executable, "-P", "-m", "admin.cli", "serve", "--admin-port", "0")
    process = await asyncio.create_subprocess_exec(
        *command, "--port", str(port), env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE)


async def answered(client: httpx2.AsyncClient) -> None:
    """Return with the first good answer."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(httpx2.ConnectError):
                asked = {"model": "openai/gpt-4.1-mini", "messages": []}
                assert (await client.post(CHAT, json=asked)).status_code == 200
                return
            await asyncio.sleep(0.005)


async def test_start_is_cheap_and_a_worker_at_rest_is_small(tmp_path: Path) -> None:
    async with Upstream(good()) as upstream:
        async with left(tmp_path, provider_base_urls={"openai": upstream.url}) as (_, app):
            pass
        costs: list[tuple[float, float]] = []
        # What else the machine does adds to a figure and never takes away.
        while len(costs) < 3 and not any(starts <= MOST_STARTS for starts, _ in costs):
            costs.append(await cost(tmp_path, upstream, app))
    assert min(starts for starts, _ in costs) <= MOST_STARTS, costs
    assert max(mib for _, mib in costs) <= MOST_MIB, costs


async def cost(folder: Path, upstream: Upstream, app: App) -> tuple[float, float]:
    """Processor time up to the first answer, in bare starts; then a worker's memory, in MiB."""
    port = free_port()
    async with (
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=app.headers) as client,
        started(folder, port, upstream) as process,
    ):
        await answered(client)
        [worker, *others] = children(process.pid)
        spent = sum(map(used, (process.pid, worker, *others)))
        for _ in range(20):
            await answered(client)
        return spent / await asyncio.to_thread(bare_start), held(worker)


def test_parent_imports_nothing_heavy_before_a_worker_serves() -> None:
    told = python(f"{PARENT}\nimport sys; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in told.split()}
    assert {"admin", "click", "gateway"} <= loaded
    assert loaded & HEAVY == set()
    assert {name for name in told.split() if name.startswith("admin.cli.")} == {
        "admin.cli.main",
        "admin.cli.serve",
    }
