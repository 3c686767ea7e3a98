"""A newcomer's first minutes: what `make run` starts, the curl it prints, and leaving it again.

Of the files that run beside others, only this one may start demos: two that look for the usual port
at the same time would both take it for free.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import shlex
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import httpx2
import msgspec

from admin.run import DEMO_PORT
from admin.welcome import curl
from gateway.credential import mint
from tests.houses import PATIENCE, ROOT, Running, accepts, children, gone, house, until, wardgate

OPENAI = "sk-proj-nobody-may-see-this-0123456789abcdefghij"
SECRET_PART = b"nobody-may-see-this"


def make_run_words() -> list[str]:
    """The words behind `wardgate serve` in the Makefile's target `run`."""
    found = re.search(r"^run:.*?\n(?:\t.*\n)*?\t.*wardgate serve (.*)$", read("Makefile"), re.M)
    assert found
    return [word for word in found[1].split() if word.startswith("--")]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def curls(running: Running) -> list[str]:
    """The commands of the welcome, as somebody would copy them."""
    return re.findall(r"^curl (?:.*\\\n)*.*$", running.said, re.M)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def environ_of(pid: int) -> str:
    """The environment a process was started with."""
    return read(f"/proc/{pid}/environ")


async def paste(command: str) -> tuple[int, str]:
    """Run it in a shell: exit code and stdout."""
    process = await asyncio.create_subprocess_exec("sh", "-c", command, stdout=PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode or 0, out.decode()


def words_of(stream: str) -> str:
    """The text of a streamed chat completion, which must be complete."""
    assert stream.rstrip().endswith("data: [DONE]"), stream
    chunks = [line.removeprefix("data: ") for line in stream.splitlines() if "{" in line]
    deltas = [msgspec.json.decode(chunk)["choices"][0]["delta"] for chunk in chunks]
    return "".join(delta.get("content") or "" for delta in deltas)


async def test_first_minutes_of_a_newcomer(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with house(data, *make_run_words(), OPENAI_API_KEY=OPENAI) as running:
        pids = [running.pid, *children(running.pid)]
        assert len(pids) == 4
        assert "taken in: openai:default (scope global) from OPENAI_API_KEY" in running.said
        demo, provider = curls(running)
        assert f"{sys.executable} -m admin.cli keys create my-app" in running.said
        code, stream = await paste(demo)
        assert (code, bool(words_of(stream))) == (0, True)
        assert '"model":"openai/' in provider
        async with httpx2.AsyncClient(base_url=running.admin) as client:
            headers = {"authorization": f"Bearer {running.token}"}
            assert (await client.get("/api/v1/client-keys", headers=headers)).status_code == 200
            shown = 'wardgate_requests_total{alias="demo",outcome="ok"'
            async with asyncio.timeout(PATIENCE):  # workers write their counts out once a second
                while shown not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert await running.stop() == 0
        assert all(map(gone, pids))
    assert not accepts(running.gateway)
    assert not accepts(running.admin)


async def test_next_start_prints_a_curl_that_works_and_keeps_the_first_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    words = make_run_words()
    async with house(data, *words) as running:
        [first] = curls(running)
        old = running.gateway
    async with house(data, *words, OPENAI_API_KEY=OPENAI) as running:
        assert "superadmin" not in running.said
        second, provider = curls(running)
        assert second.partition("Bearer")[2] != first.partition("Bearer")[2]
        assert "openai/" in provider
        for command in (second, first.replace(old, running.gateway)):
            code, stream = await paste(command)
            assert (code, bool(words_of(stream))) == (0, True)
    async with house(data, *words, OPENAI_API_KEY=OPENAI) as running:
        assert "kept: the config of openai" in running.said
        assert len(curls(running)) == 2


async def test_demo_moves_aside_when_its_port_is_taken(tmp_path: Path) -> None:
    data, words = tmp_path / "data", make_run_words()
    async with house(data, *words):
        pass
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Whoever else has it, it is taken either way.
        if not accepts(f"http://127.0.0.1:{DEMO_PORT}"):
            taken.bind(("127.0.0.1", DEMO_PORT))
            taken.listen()
        async with house(data, *words) as running:
            [command] = curls(running)
            code, stream = await paste(command)
            assert (code, bool(words_of(stream))) == (0, True)


async def test_stored_keys_show_nowhere(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with house(data, *make_run_words(), OPENAI_API_KEY=OPENAI) as running:
        for command in curls(running)[:1]:
            await paste(command)
        assert OPENAI not in running.said
        await running.stop()
    left = contents(tmp_path)
    assert {path.name for path in left} >= {"wardgate.db", "kek", "snapshot.sealed", "data.log"}
    assert [path for path, held in left.items() if SECRET_PART in held] == []


async def test_secrets_among_settings_do_not_reach_the_processes(tmp_path: Path) -> None:
    kek = "test:" + base64.b64encode(secrets.token_bytes(32)).decode()
    token = mint("wga").text
    env = {"WARDGATE_KEKS": kek, "WARDGATE_BOOTSTRAP_ADMIN_TOKEN": token}
    env["OPENAI_API_KEY"] = OPENAI
    async with house(tmp_path / "data", "--import-env", **env) as running:
        for pid in running.children:
            handed = environ_of(pid)
            assert "PYTHONPATH" in handed
            assert OPENAI not in handed
            assert kek not in handed
            assert token not in handed
        async with httpx2.AsyncClient(base_url=running.admin) as client:
            headers = {"authorization": f"Bearer {token}"}
            assert (await client.get("/api/v1/client-keys", headers=headers)).status_code == 200


async def test_running_stream_ends_whole_when_told_to_stop(tmp_path: Path) -> None:
    async with house(tmp_path / "data", *make_run_words()) as running:
        [command] = curls(running)
        slow = f"{command} -H 'x-demo: chunks=30; chunk_delay=0.05'"
        process = await asyncio.create_subprocess_exec("sh", "-c", slow, stdout=PIPE)
        assert process.stdout is not None
        start = await asyncio.wait_for(process.stdout.readuntil(b"\n\n"), PATIENCE)
        stopping = asyncio.create_task(running.stop())
        await until(lambda: not accepts(running.gateway), "new connections to be refused")
        rest = await asyncio.wait_for(process.stdout.read(), PATIENCE)
        assert words_of((start + rest).decode())
        assert await process.wait() == 0
        assert await stopping == 0


async def test_children_leave_when_the_parent_is_killed(tmp_path: Path) -> None:
    async with house(tmp_path / "data", "--demo", "--workers", "2") as running:
        pids = list(children(running.pid))
        assert len(pids) == 4
        assert await running.stop(signal.SIGKILL) == -signal.SIGKILL
        await until(lambda: all(map(gone, pids)), "every child to leave")


async def test_demo_is_refused_in_production(tmp_path: Path) -> None:
    words = ("serve", "--demo", "--port", "0", "--admin-port", "0")
    code, _, said = await wardgate(tmp_path, *words, WARDGATE_ENV="production")
    assert code == 1
    assert said.count("\n") == 1
    assert "--demo is for trying things out" in said


def test_curl_is_split_by_a_shell_as_it_is_meant() -> None:
    words = shlex.split(curl("http://h", "wg_key", "anthropic", "anthropic/m").replace("\\\n", ""))
    assert words[:3] == ["curl", "-sN", "http://h/v1/messages"]
    assert words[4] == "x-api-key: wg_key"
    assert msgspec.json.decode(words[-1])["model"] == "anthropic/m"
