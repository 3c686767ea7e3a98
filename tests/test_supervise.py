"""The parent of the house: what it starts, what it replaces, what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from ipaddress import ip_network
from pathlib import Path

import httpx2
import pytest

from gateway.errors import StartRefused
from gateway.health import Counts, Report
from gateway.process import child
from gateway.process.child import LONGEST_PAUSE, Role, pause
from gateway.process.pipe import (
    Boot,
    Health,
    Leave,
    Message,
    Reload,
    Serving,
    Stop,
    Used,
    connect,
    spell,
)
from gateway.process.publish import write_private
from gateway.process.supervise import House, Plan, listen
from gateway.settings import Settings
from gateway.shapes import Secret
from tests.backends import Backend, lent
from tests.databases import Databases
from tests.houses import Running, children, environment, gone, house, until, wardgate

DIED = "process died, starting another"


@pytest.mark.parametrize(
    "message",
    [
        Boot({"WARDGATE_PORT": "1"}, [("a", b"\x00" * 32)], 1, 2, "/s", "/m"),
        Reload(7),
        Leave(),
        Stop(),
        Serving(3),
        Used({"k": 1.5}),
        Health(Report(1.5, {"c": Counts(1, 1.5, {"http_500": 1}, {7: 1}, {})}, {"c": (1, "ok")})),
    ],
)
async def test_pipe_carries_every_message(message: Message) -> None:
    left, right = socket.socketpair()
    one, other = await connect(left), await connect(right)
    one.send(message)
    assert await other.receive() == message
    await one.aclose()
    assert await other.receive() is None
    await other.aclose()


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{}", b"\x00\x00"])
async def test_pipe_ends_when_the_other_side_talks_nonsense(junk: bytes) -> None:
    left, right = socket.socketpair()
    pipe = await connect(right)
    left.sendall(junk)
    left.close()
    assert await pipe.receive() is None
    await pipe.aclose()


def test_boot_message_does_not_show_the_ring() -> None:
    assert "secret" not in repr(Boot({}, [("a", b"secret")]))


def test_settings_survive_being_spelled() -> None:
    settings = Settings(
        data_dir=Path("/srv/x"),
        host="::1",
        port=0,
        workers=3,
        kek_file_group_readable=True,
        allowed_upstream_cidrs=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        provider_base_urls={"openai": "http://a/v1", "groq": "http://b/v1"},
        idle_timeout=0.05,
        heartbeat=0.0,
    )
    assert Settings.from_env(spell(settings)) == settings


def test_settings_are_spelled_without_secrets() -> None:
    settings = Settings(keks=Secret(b"a:xyz"), bootstrap_admin_token=Secret(b"wga_xyz"))
    assert "xyz" not in str(spell(settings))


def test_pause_grows_and_is_bounded() -> None:
    assert pause(0) == 0.0
    assert pause(1) < pause(2) < pause(3)
    assert pause(500) == LONGEST_PAUSE


def test_listen_binds_every_address_of_a_name_at_one_port() -> None:
    bound = listen("localhost", 0)
    ports = {sock.getsockname()[1] for sock in bound}
    assert len(ports) == 1
    for sock in bound:
        sock.close()


def test_listen_refuses_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartRefused, match=f"127.0.0.1:{port}.*choose another port"):
            listen("127.0.0.1", port)


def test_listen_refuses_a_port_it_holds_itself() -> None:
    [held] = listen("127.0.0.1", 0)
    with held, pytest.raises(StartRefused, match="choose another port"):
        listen("127.0.0.1", held.getsockname()[1])


def test_children_inherit_no_settings_and_no_keys() -> None:
    given = {"WARDGATE_DATABASE_URL": "p", "OPENAI_API_KEY": "k", "HF_TOKEN": "t"}
    kept = {"PATH": "/bin", "UPSTREAM_OPENAI_KEY": "referred to", "LANG": "C"}
    handed = child.environment({**given, **kept})
    assert handed.pop("PYTHONPATH")
    assert handed == kept


def test_listen_refuses_an_address_of_another_machine() -> None:
    with pytest.raises(StartRefused, match="no such address"):
        listen("192.0.2.1", 0)


def test_private_file_is_replaced_whole_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.sealed"
    write_private(path, b"old")
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


async def test_house_gives_up_when_a_process_never_starts(tmp_path: Path) -> None:
    deaths: list[tuple[str, int]] = []
    plan = Plan(
        Settings(data_dir=tmp_path),
        neighbours=(Role("broken", ("no_such_module",)),),
        died=lambda name, pid, code: deaths.append((name, code)),
    )
    async with House(plan, environment(tmp_path)) as broken:
        with pytest.raises(StartRefused, match="the broken process does not start"):
            await broken.open([("a", b"\x00" * 32)])
    assert deaths == [("broken", 1)] * 3
    assert os.listdir(tmp_path) == []


async def test_house_sweeps_metrics_of_parents_that_were_killed(tmp_path: Path) -> None:
    # Ids say nothing: in another container, this one's may belong to a parent that lives.
    dead = tmp_path / f"metrics-{os.getpid()}-0"
    dead.mkdir()
    plan = Plan(Settings(data_dir=tmp_path))
    async with House(plan, environment(tmp_path)) as first:
        assert not dead.exists()
        async with House(plan, environment(tmp_path)) as second:
            assert first.metrics.is_dir()
            assert second.metrics.is_dir()
        assert os.listdir(tmp_path) == [first.metrics.name]
    assert os.listdir(tmp_path) == []


async def scraped(running: Running) -> list[str]:
    async with httpx2.AsyncClient(base_url=running.admin, timeout=30) as client:
        return (await client.get("/metrics")).text.splitlines()


async def test_dead_workers_are_replaced_and_others_serve_on(tmp_path: Path) -> None:
    async with house(tmp_path / "data", "--workers", "2") as running:
        before = running.workers()
        assert len(before) == 2
        assert "wardgate_workers 2.0" in await scraped(running)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: gone(before[0]), "the worker to die")
        async with httpx2.AsyncClient(base_url=running.gateway) as client:
            assert (await client.get("/readyz")).status_code == 200
        await until(lambda: len(set(running.workers()) - set(before)) == 1, "another worker")
        assert before[1] in running.workers()
        [line] = [line for line in running.lines() if line["event"] == DIED]
        assert (line["pid"], line["code"]) == (before[0], -signal.SIGKILL)
        shown = await scraped(running)
        assert 'wardgate_process_deaths_total{process="worker"} 1.0' in shown
        assert 'wardgate_process_deaths_total{process="admin"} 0.0' in shown


async def test_dead_admin_is_replaced_and_the_gateway_serves_on(tmp_path: Path) -> None:
    async with house(tmp_path / "data") as running:
        workers, admin = running.workers(), running.neighbour("admin")
        os.kill(admin, signal.SIGKILL)
        await until(lambda: gone(admin), "the admin app to die")
        async with httpx2.AsyncClient(timeout=30) as client:
            assert (await client.get(f"{running.gateway}/readyz")).status_code == 200
            # The parent holds the listening socket: this waits for the next admin app.
            assert (await client.get(f"{running.admin}/livez")).status_code == 200
        assert running.neighbour("admin") != admin
        assert running.workers() == workers


async def test_house_starts_from_the_sealed_file_while_the_store_is_away(backend: Backend) -> None:
    data, env = backend.folder, backend.env
    async with house(data, **env) as running:
        assert await running.stop() == 0
    backend.take_away()
    async with house(data, **env) as running:
        events = [str(line["event"]) for line in running.lines()]
        assert "store away, serving from the sealed file" in events
        assert "The store is away" in running.said
        async with httpx2.AsyncClient(timeout=30) as client:
            assert (await client.get(f"{running.gateway}/readyz")).status_code == 200
            backend.give_back()
            back = await client.get(f"{running.admin}/readyz")  # waits for it in the queue
        assert back.status_code == 200
        await until(
            lambda: "store back" in [line["event"] for line in running.lines()], "the store"
        )


async def taken(client: httpx2.AsyncClient, running: Running, key: str) -> None:
    """Until a worker takes this client key."""
    url, headers = f"{running.gateway}/v1/models", {"authorization": f"Bearer {key}"}
    async with asyncio.timeout(10):
        while (await client.get(url, headers=headers)).status_code != 200:
            pass


async def test_house_takes_up_a_database_that_went_away_under_it(
    shared_databases: Databases, tmp_path: Path
) -> None:
    # Of PostgreSQL by nature: nobody takes a file away from who has it open.
    with lent(tmp_path, shared_databases) as backend:
        env = backend.env
        async with house(tmp_path, **env) as running, httpx2.AsyncClient(timeout=30) as client:
            _, key, _ = await wardgate(tmp_path, "keys", "create", "app", **env)
            backend.take_away()
            assert (await client.get(f"{running.admin}/readyz")).status_code == 503
            assert (await client.get(f"{running.gateway}/readyz")).status_code == 200
            backend.give_back()
            assert (await client.get(f"{running.admin}/readyz")).status_code == 200
            code, another, _ = await wardgate(tmp_path, "keys", "create", "another", **env)
            assert code == 0
            for text in (key, another):
                await taken(client, running, text.strip())


async def test_house_without_store_or_sealed_file_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "wardgate.db").write_bytes(b"not a database" * 100)
    code, _, said = await wardgate(tmp_path, "serve", "--port", "0", "--admin-port", "0")
    assert code == 1
    assert "no routing table to start from" in said


async def test_start_says_why_the_store_is_away(tmp_path: Path) -> None:
    words = ("serve", "--port", "0", "--admin-port", "0")
    url = "postgresql+asyncpg://me:canary@127.0.0.1:1/none"
    code, _, said = await wardgate(tmp_path, *words, WARDGATE_DATABASE_URL=url)
    assert code == 1
    assert "cannot be opened: [Errno 111]" in said.splitlines()[-1]
    assert "canary" not in said


async def test_data_folder_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in (("serve", "--port", "0", "--admin-port", "0"), ("keys", "list")):
        code, _, said = await wardgate(tmp_path / "file", *words)
        assert (code, said.splitlines()[-1].startswith("Error: ")) == (1, True)
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("urls", "why"),
    [
        ("nosuch=http://127.0.0.1:9/v1", "names nosuch, which is no provider"),
        ("grok=http://127.0.0.1:9/v1", "names grok, which is called xai here"),
    ],
)
async def test_override_that_would_move_nothing_is_refused(
    tmp_path: Path, urls: str, why: str
) -> None:
    words = ("serve", "--port", "0", "--admin-port", "0")
    code, _, said = await wardgate(tmp_path, *words, WARDGATE_PROVIDER_BASE_URLS=urls)
    assert code == 1
    assert why in said.splitlines()[-1]


async def test_redis_url_that_is_none_ends_the_start(tmp_path: Path) -> None:
    words = ("serve", "gateway", "--port", "0")
    code, _, said = await wardgate(tmp_path, *words, WARDGATE_REDIS_URL="redis://127.0.0.1/?db=x")
    assert code == 1
    assert "WARDGATE_REDIS_URL cannot be used" in said.splitlines()[-1]
    assert "Traceback" not in said


async def test_gateway_alone_serves_metrics_on_a_port_of_its_own(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    async with house(tmp_path / "data", "gateway", "--metrics-port", port) as running:
        assert len(children(running.pid)) == 1
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200
            assert "wardgate_build_info" in (await client.get("/metrics")).text
            assert (await client.get("/elsewhere")).status_code == 404
            assert (await client.post("/metrics")).status_code == 404


async def test_metrics_folder_is_gone_after_the_house(tmp_path: Path) -> None:
    async with house(tmp_path / "data") as running:
        assert list((tmp_path / "data").glob(f"metrics-{running.pid}-*/*.db"))
        assert await running.stop(signal.SIGINT) == 0
    assert not list((tmp_path / "data").glob("metrics-*"))
