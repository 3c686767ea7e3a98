"""deploy/nginx.conf before two real gateways: streams, a gateway that dies, restarts by reload."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.settings import Settings
from tests import fronts, servers
from tests.certificate import certificate, negotiated
from tests.fleet import Fleet, Load, Member, fleet
from tests.houses import children, until
from tests.servers import Server

CONFIG = Path(__file__).parent.parent / "deploy" / "nginx.conf"
# Of one gateway, where time is short: HAProxy's test restarts both.
ROUNDS, RESTARTED = (20, 2) if os.environ.get("SOAK") else (1, 1)
DEAD = ["127.0.0.1:9", "127.0.0.1:9"]
in_module = pytest.mark.asyncio(loop_scope="module")


def configured(text: str, addresses: list[str]) -> str:
    """The file as somebody would adapt it: their gateways, their port, their logs."""
    for theirs, ours in _PLACES.items():
        assert text.count(theirs) == 1, theirs
        text = text.replace(theirs, ours)
    for name, address in zip(("ONE", "TWO"), addresses, strict=True):
        text = text.replace(name, address)
    return text


_PLACES = {
    "server 127.0.0.1:8080 ": "server ONE ",
    "server 127.0.0.1:8090 ": "server TWO ",
    "listen 127.0.0.1:8000;": "listen 127.0.0.1:{port};",
    "/var/log/nginx/wardgate.log": "access.log",
    "/var/log/nginx/wardgate-error.log": "error.log",
}


@dataclass
class Front:
    """nginx, and the gateways behind it."""

    server: Server
    fleet: Fleet

    @property
    def port(self) -> int:
        return self.server.port

    async def lines(self, until_there: str) -> str:
        """Both its logs, once the first has `until_there`."""
        log = self.server.folder / "access.log"
        await until(lambda: until_there in log.read_text(), until_there)
        return log.read_text() + (self.server.folder / "error.log").read_text()

    async def without(self, member: Member | None) -> None:
        """Reload with this gateway marked `down`; returns when the old workers take nothing new."""
        file = self.server.folder / "nginx.conf"
        text = file.read_text().replace(" down ", " ")
        if member is not None:
            text = text.replace(f"server {member.address} ", f"server {member.address} down ")
        file.write_text(text)
        old = set(children(self.server.pid))
        os.kill(self.server.pid, signal.SIGHUP)

        def taken_over() -> bool:
            now = children(self.server.pid)
            leaving = {pid for pid, words in now.items() if "shutting down" in words}
            return bool(now.keys() - old) and not (now.keys() & old) - leaving

        await until(taken_over, "nginx to take its new configuration")


def test_nothing_is_kept_for_later() -> None:
    """For what comes in small pieces no run tells the difference: nginx passes it on either way."""
    directives = CONFIG.read_text().split("location / {")[1]
    for wanted in ("proxy_buffering off;", "proxy_request_buffering off;", "gzip off;"):
        assert wanted in directives


def test_silence_is_waited_for_longer_than_the_gateway_waits() -> None:
    waits = dict(re.findall(r"^ +(\w+_timeout) +(\d+)s;$", CONFIG.read_text(), re.M))
    longest = max(Settings().first_byte_timeout, Settings().idle_timeout)
    silence = [int(waits[name]) for name in ("proxy_read_timeout", "send_timeout")]
    assert min(silence) > longest
    assert int(waits["keepalive_timeout"]) <= Settings().keep_alive_timeout


async def test_example_of_tls_speaks_http_2(tmp_path: Path) -> None:
    file, text = certificate(tmp_path, "127.0.0.1"), configured(CONFIG.read_text(), DEAD)
    example = {
        "# listen 443 ssl": "listen 127.0.0.1:{port} ssl",
        "# ssl_certificate     /etc/nginx/wardgate.crt;": f"ssl_certificate {file};",
        "# ssl_certificate_key /etc/nginx/wardgate.key;": f"ssl_certificate_key {file};",
    }
    text = text.replace("    listen 127.0.0.1:{port};\n", "")
    for theirs, ours in example.items():
        assert text.count(theirs) == 1, theirs
        text = text.replace(theirs, ours)
    with servers.nginx_server(text) as server:
        assert await negotiated(server.port, file) == "h2"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with fleet(tmp_path_factory.mktemp("nginx")) as made:
        text = configured(CONFIG.read_text(), [member.address for member in made.members])
        with servers.nginx_server(text) as server:
            yield Front(server, made)


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
async def test_killed_gateway_is_out_at_once_and_no_key_is_logged(front: Front) -> None:
    """What a gateway that refuses connections brings into the log of errors would name one."""
    killed = front.fleet.members[1]
    await killed.kill()
    for _ in range(4):
        await fronts.key_in_a_query_is_taken(front.fleet, front.port)
    await fronts.requests_pass_whoever_is_refused(front.fleet, front.port, 1.0)
    ids = await fronts.ids_are_kept_or_made(front.fleet, front.port)
    lines = await front.lines(ids[-1])
    assert [f"id={each}" in lines for each in ids] == [True, True]
    assert front.fleet.key not in lines
    await killed.start()


@in_module
async def test_rolling_restart_by_reload_fails_nobody(front: Front) -> None:
    # On a connection a client keeps, nginx's own reload may meet its next request.
    async with Load(front.fleet, front.port, kept=False) as load:
        for _ in range(ROUNDS):
            for member in front.fleet.members[:RESTARTED]:
                await front.without(member)
                await front.fleet.restart(member)
                await front.without(None)
    assert load.failures == []
    assert load.asked > 20 * ROUNDS


@in_module
async def test_what_a_killed_gateway_had_is_cut_and_not_asked_for_again(front: Front) -> None:
    victim = front.fleet.members[0]
    await fronts.what_a_killed_gateway_had_is_cut_and_not_asked_for_again(
        front.fleet, front.port, victim
    )
