"""One worker on its own: the test plays the parent, over the very socketpair a parent uses."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from admin.demo.upstream import Upstream
from gateway.credential import digest, mint
from gateway.process.pipe import (
    Boot,
    Health,
    Message,
    Pipe,
    Reload,
    Serving,
    Stop,
    Used,
    connect,
    spell,
)
from gateway.process.server import absent
from gateway.settings import Settings
from gateway.shapes import GLOBAL, Client, Scope, Secret
from gateway.snapshot import Snapshot, pack
from gateway.vault import KeyRing
from tests.houses import PATIENCE, environment
from tests.ports import dead_port
from tests.rig import CHAT, good
from tests.world import PROVIDER_KEY, World, settings

KEK = ("test", bytes(range(32)))
RING = KeyRing([KEK])
HASH_KEY = Secret(b"h" * 32)
# What a worker must never hold: a database, and what only the admin app needs.
HEAVY = ("sqlalchemy", "alembic", "aiosqlite", "pydantic", "starlette.applications", "admin")
# And what costs a start time and a worker memory, whichever library would bring it along.
UNUSED = {"aiohttp", "multidict", "yarl", "redis", "rich", "pygments", "botocore", "httpx2"}
UNUSED |= {"sqlalchemy", "alembic", "pydantic", "starlette", "admin"}
WORKER = ("-P", "-m", "gateway.process.worker")
# The same worker, which at its end says what it has loaded.
TELLING = """
import atexit, runpy, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
runpy.run_module("gateway.process.worker", run_name="__main__", alter_sys=True)
"""


def table(revision: int, *clients: Client) -> Snapshot:
    return Snapshot(
        revision=revision,
        compiled_at=0.0,
        hash_key=HASH_KEY,
        scopes={GLOBAL: Scope(GLOBAL, "global", None)},
        configs={},
        clients={client.id: client for client in clients},
        agents={},
        gateways={},
        choices={},
    )


@dataclass
class Started:
    """A worker process, our end of its pipe, and where it listens."""

    process: Process
    pipe: Pipe
    url: str
    file: Path

    def boot(self, settings: Settings) -> None:
        self.pipe.send(Boot(spell(settings), [KEK], 0, 1, str(self.file)))

    async def hear(self) -> Message | None:
        return await asyncio.wait_for(self.pipe.receive(), PATIENCE)

    async def line(self) -> bytes:
        """The next line of its log."""
        assert self.process.stdout is not None
        return await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@contextlib.asynccontextmanager
async def worker(
    tmp_path: Path, snapshot: Snapshot, *options: str, program: tuple[str, ...] = WORKER
) -> AsyncIterator[Started]:
    """A started worker, not yet booted; it is gone when the block is left."""
    file = tmp_path / "snapshot.sealed"
    file.write_bytes(pack(snapshot, RING))
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fds = [theirs.fileno(), listener.fileno()]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *options, *program, *map(str, fds)),
            pass_fds=fds, env=environment(tmp_path), stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    theirs.close()
    started = Started(process, await connect(ours), url, file)
    try:
        yield started
    finally:
        await started.pipe.aclose()
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_worker_serves_what_it_was_booted_with_and_stops_when_told(tmp_path: Path) -> None:
    async with worker(tmp_path, table(5)) as started:
        started.boot(Settings())
        assert await started.hear() == Serving(5)
        async with httpx2.AsyncClient(base_url=started.url) as client:
            assert (await client.get("/readyz")).status_code == 200
        started.pipe.send(Stop())
        assert await started.exit_code() == 0


async def test_worker_takes_the_newer_table_and_keeps_it_over_a_broken_one(tmp_path: Path) -> None:
    async with worker(tmp_path, table(1)) as started:
        started.boot(Settings())
        assert await started.hear() == Serving(1)
        started.file.write_bytes(b"edited by somebody")
        started.pipe.send(Reload(2))
        assert b"routing table not taken" in await started.line()
        async with httpx2.AsyncClient(base_url=started.url) as client:
            assert (await client.get("/readyz")).status_code == 200
        started.file.write_bytes(pack(table(3), RING))
        started.pipe.send(Reload(3))
        assert await started.hear() == Serving(3)
        started.pipe.send(Stop())
        assert await started.exit_code() == 0


async def test_worker_reports_which_keys_were_used(tmp_path: Path) -> None:
    minted = mint("wg")
    client_key = Client(
        id=minted.public_id,
        digest=digest(HASH_KEY.expose(), minted.text),
        scope=GLOBAL,
        name="app",
    )
    async with worker(tmp_path, table(1, client_key)) as started:
        started.boot(Settings())
        await started.hear()
        async with httpx2.AsyncClient(base_url=started.url) as client:
            headers = {"authorization": f"Bearer {minted.text}"}
            assert (await client.get("/v1/models", headers=headers)).status_code == 200
        used = await started.hear()
        assert isinstance(used, Used)
        assert list(used.keys) == [minted.public_id]


async def test_worker_reports_how_providers_did(tmp_path: Path) -> None:
    world = World(ring=RING)
    config = world.config("openai", f"http://127.0.0.1:{dead_port()}/v1")
    headers = {"authorization": f"Bearer {world.key()}"}
    async with worker(tmp_path, world.snapshot()) as started:
        started.boot(settings())
        await started.hear()
        async with httpx2.AsyncClient(base_url=started.url, headers=headers) as client:
            asked = {"model": "openai/gpt-4o", "messages": []}
            assert (await client.post("/v1/chat/completions", json=asked)).status_code == 502
        while not isinstance(heard := await started.hear(), Health):
            assert isinstance(heard, Used)
    assert heard.report.counts[config.id].errors == {"upstream_failed": 1}
    assert PROVIDER_KEY not in repr(heard)


async def test_worker_leaves_when_its_parent_is_gone(tmp_path: Path) -> None:
    async with worker(tmp_path, table(1)) as started:
        started.boot(Settings())
        await started.hear()
        await started.pipe.aclose()
        assert await started.exit_code() == 0


async def test_worker_leaves_when_its_parent_goes_before_the_boot_message(tmp_path: Path) -> None:
    async with worker(tmp_path, table(1)) as started:
        await started.pipe.aclose()
        assert await started.exit_code() == 0


async def test_worker_leaves_alone_on_sigterm_and_not_on_sigint(tmp_path: Path) -> None:
    async with worker(tmp_path, table(1)) as started:
        started.boot(Settings())
        await started.hear()
        os.kill(started.process.pid, signal.SIGINT)
        async with httpx2.AsyncClient(base_url=started.url) as client:
            assert (await client.get("/readyz")).status_code == 200
        os.kill(started.process.pid, signal.SIGTERM)
        assert await started.exit_code() == 0


async def test_worker_refuses_a_table_it_cannot_open(tmp_path: Path) -> None:
    other = KeyRing([("other", bytes(reversed(range(32))))])
    async with worker(tmp_path, table(1)) as started:
        started.file.write_bytes(pack(table(1), other))
        started.boot(Settings())
        assert await started.hear() is None
        assert await started.exit_code() == 1


async def test_worker_never_imports_a_database_or_the_admin_app(tmp_path: Path) -> None:
    async with worker(tmp_path, table(1), "-X", "importtime") as started:
        started.boot(Settings())
        stderr = asyncio.create_task(started.process.communicate())
        assert await started.hear() == Serving(1)
        async with httpx2.AsyncClient(base_url=started.url) as client:
            await client.post("/v1/chat/completions", json={"model": "x"})
        started.pipe.send(Stop())
        _, said = await stderr
    imported = {line.rpartition("|")[2].strip() for line in said.decode().splitlines()}
    assert "gateway.receive" in imported
    found = sorted(n for n in imported for h in HEAVY if n == h or n.startswith(f"{h}."))
    assert found == []
    assert not any(name.startswith("gateway.store") for name in imported)


async def test_worker_has_loaded_nothing_it_does_not_use(tmp_path: Path) -> None:
    world = World(ring=RING)
    headers = {"authorization": f"Bearer {world.key()}"}
    async with Upstream(good()) as upstream:
        world.config("openai", upstream.url)
        program = ("-P", "-c", TELLING)
        async with worker(tmp_path, world.snapshot(), program=program) as started:
            started.boot(settings())
            stderr = asyncio.create_task(started.process.communicate())
            assert isinstance(await started.hear(), Serving)
            async with httpx2.AsyncClient(base_url=started.url, headers=headers) as client:
                asked = {"model": "openai/gpt-4o", "messages": []}
                assert (await client.post(CHAT, json=asked)).status_code == 200
            started.pipe.send(Stop())
            _, said = await stderr
    loaded = {name.partition(".")[0] for name in said.decode().split()}
    assert {"gateway", "msgspec", "uvloop"} <= loaded
    assert loaded & UNUSED == set()


def test_absent_package_is_missing_inside_the_block_unless_it_is_loaded() -> None:
    assert "this" not in sys.modules
    with absent("this"), pytest.raises(ImportError):
        importlib.import_module("this")
    assert "this" not in sys.modules
    with absent("json"):
        assert importlib.import_module("json") is sys.modules["json"]
