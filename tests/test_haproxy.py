"""deploy/haproxy.cfg before two real gateways: streams, and gateways that die, hang or restart."""

from __future__ import annotations

import asyncio
import csv
import os
import re
import signal
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx2
import pytest
import pytest_asyncio

from admin.demo.upstream import Script, Upstream
from gateway.settings import Settings
from tests import fronts, servers
from tests.certificate import certificate, negotiated
from tests.fleet import Fleet, Load, fleet, quiet_port
from tests.houses import until
from tests.serve import free_port
from tests.servers import Server

CONFIG = Path(__file__).parent.parent / "deploy" / "haproxy.cfg"
OUT_WITHIN = 3.0
ROUNDS = 20 if os.environ.get("SOAK") else 1
DEAD = {"GATEWAY_1": "127.0.0.1:9", "GATEWAY_2": "127.0.0.1:9"}
in_module = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Front:
    """HAProxy, and the gateways behind it."""

    server: Server
    fleet: Fleet

    @property
    def port(self) -> int:
        return self.server.port

    async def lines(self, there: str) -> str:
        """Its log, once `there` stands in it."""
        await until(lambda: there in self.server.log, there)
        return self.server.log

    async def until(self, *states: str, within: float = 10.0) -> None:
        await until_states(self.server, *states, within=within)


async def until_states(server: Server, *wanted: str, within: float = 10.0) -> None:
    """Until HAProxy thinks so of its gateways: UP, DOWN, or on the way there."""
    async with asyncio.timeout(within), httpx2.AsyncClient() as client:
        while await states(client, server.env["STATUS"]) != [*wanted]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def states(client: httpx2.AsyncClient, status: str) -> list[str]:
    text = (await client.get(f"http://{status}/;csv")).text
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    named = {row["svname"]: row["status"] for row in rows if row["pxname"] == "gateways"}
    return [named["gateway-1"], named["gateway-2"]]


def seconds(directive: str) -> float:
    """A timeout of the file."""
    [(number, unit)] = re.findall(rf"^    {directive} (\d+)(ms|s)$", CONFIG.read_text(), re.M)
    return float(number) / (1000 if unit == "ms" else 1)


def test_silence_is_waited_for_longer_than_the_gateway_waits() -> None:
    longest = max(Settings().first_byte_timeout, Settings().idle_timeout)
    assert min(seconds("timeout server"), seconds("timeout client")) > longest
    assert seconds("timeout http-keep-alive") <= Settings().keep_alive_timeout


def test_file_is_taken_as_it_is_without_a_warning() -> None:
    command = [servers.haproxy_program(), "-dW", "-c", "-f", str(CONFIG)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_example_of_tls_speaks_http_2(tmp_path: Path) -> None:
    file = certificate(tmp_path, "127.0.0.1")
    port, text = free_port(), CONFIG.read_text()
    assert text.count("    # bind :443 ssl crt /etc/haproxy/wardgate.pem") == 1
    text = text.replace("    # bind :443 ", f"    bind 127.0.0.1:{port} ")
    (tmp_path / "haproxy.cfg").write_text(text.replace("/etc/haproxy/wardgate.pem", str(file)))
    with servers.haproxy_server(tmp_path / "haproxy.cfg", DEAD):
        assert await negotiated(port, file) == "h2"


async def test_gateway_that_says_no_is_out_before_it_refuses() -> None:
    async with Upstream(Script(status=200)) as yes, Upstream(Script(status=503)) as no:
        env = {"GATEWAY_1": f"127.0.0.1:{yes.port}", "GATEWAY_2": f"127.0.0.1:{no.port}"}
        with servers.haproxy_server(CONFIG, env) as server:
            await until_states(server, "UP", "DOWN", within=OUT_WITHIN)
        assert {received.path for received in (*yes.received, *no.received)} == {"/readyz"}


class Names(asyncio.DatagramProtocol):
    """A name server that gives every name the same address."""

    def __init__(self) -> None:
        self.address = "127.0.0.2"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.port = int(transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = data[12 : data.index(b"\0", 12) + 5]
        record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(self.address)
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        self.transport.sendto(head + question + record, addr)


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    loop, made = asyncio.get_running_loop(), Names()
    await loop.create_datagram_endpoint(lambda: made, ("127.0.0.1", 0))
    try:
        yield made
    finally:
        made.transport.close()


async def test_front_follows_a_name_to_its_new_address(names: Names) -> None:
    port = quiet_port()
    env = {"GATEWAY_1": f"gateway-1.test:{port}", "RESOLVER": f"127.0.0.1:{names.port}"}
    with servers.haproxy_server(CONFIG, {**DEAD, **env}) as server:
        for address in ("127.0.0.2", "127.0.0.3"):
            names.address = address
            async with Upstream(Script(body=address.encode()), address, port):
                await until_answered(server.port, address)


async def until_answered(port: int, by: str) -> None:
    async with asyncio.timeout(10), httpx2.AsyncClient() as client:
        while (await client.get(f"http://127.0.0.1:{port}/")).text != by:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    folder = tmp_path_factory.mktemp("haproxy")
    async with fleet(folder, WARDGATE_DRAIN_DELAY="1.5") as made:
        one, two = made.members
        env = {"GATEWAY_1": one.address, "GATEWAY_2": two.address}
        with servers.haproxy_server(CONFIG, env) as server:
            running = Front(server, made)
            await running.until("UP", "UP")
            yield running


@in_module
async def test_each_event_passes_before_the_next_is_sent(front: Front) -> None:
    await fronts.each_event_passes_before_the_next_is_sent(front.fleet, front.port)


@in_module
async def test_leaving_is_seen_at_the_provider(front: Front) -> None:
    await fronts.leaving_is_seen_at_the_provider(front.fleet, front.port)


@in_module
async def test_large_heads_and_bodies_pass(front: Front) -> None:
    await fronts.large_heads_and_bodies_pass(front.fleet, front.port)


@in_module
async def test_log_has_the_requests_id_and_no_key(front: Front) -> None:
    ids = await fronts.ids_are_kept_or_made(front.fleet, front.port)
    await fronts.key_in_a_query_is_taken(front.fleet, front.port)
    lines = await front.lines("/v1beta/models")
    assert [f"id={each}" in lines for each in ids] == [True, True]
    assert front.fleet.key not in lines


@in_module
async def test_hanging_gateway_is_out_within_three_seconds(front: Front) -> None:
    hanging = front.fleet.members[0]
    hanging.signal(signal.SIGSTOP)
    try:
        await front.until("DOWN", "UP", within=OUT_WITHIN)
        await fronts.requests_pass_whoever_is_refused(front.fleet, front.port, 0.2)
    finally:
        hanging.signal(signal.SIGCONT)
    await front.until("UP", "UP")


@in_module
async def test_killed_gateway_is_out_within_three_seconds_and_new_requests_pass(
    front: Front,
) -> None:
    killed = front.fleet.members[1]
    await killed.kill()
    async with asyncio.timeout(OUT_WITHIN):
        passing = fronts.requests_pass_whoever_is_refused(front.fleet, front.port, OUT_WITHIN)
        asking = asyncio.create_task(passing)
        await front.until("UP", "DOWN")
    await asking
    await killed.start()
    await front.until("UP", "UP")


@in_module
async def test_rolling_restart_fails_nobody(front: Front) -> None:
    async with Load(front.fleet, front.port) as load:
        for _ in range(ROUNDS):
            for member in front.fleet.members:
                await front.fleet.restart(member)
                await front.until("UP", "UP")
    assert load.failures == []
    assert load.asked > 50 * ROUNDS


@in_module
async def test_what_a_killed_gateway_had_is_cut_and_not_asked_for_again(front: Front) -> None:
    victim = front.fleet.members[0]
    await fronts.what_a_killed_gateway_had_is_cut_and_not_asked_for_again(
        front.fleet, front.port, victim
    )
