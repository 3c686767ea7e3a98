"""Several Redis servers that belong together, for the tests: a primary with a replica and
sentinels, and a cluster. All real, on loopback, kept in memory; gone when the block is left.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from gateway.channel import Channel
from gateway.shapes import Secret
from tests import servers
from tests.certificate import certificate
from tests.serve import free_port
from tests.servers import Server

SERVICE = "limits"
PASSWORD = "canary-of-the-primary"
GUARD = "canary-of-the-sentinels"
PATIENCE = 30.0
# Milliseconds without an answer, after which others take a server's place.
_DOWN_AFTER = 700
_SLOTS = 16384


def until(met: Callable[..., Any], *about: Any) -> None:
    """Looks until it is met; a server that does not answer yet has not met it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if met(*about):
                return
        except RedisError:
            pass
        assert time.monotonic() < deadline, (met, about)
        time.sleep(0.02)


def user_of_the_docs(password: str) -> str:
    """The command that makes a user with the rights docs/redis.md asks for, and no others."""
    page = (Path(__file__).parent.parent / "docs" / "redis.md").read_text()
    found = re.search(r"^ACL SETUSER .*$", page, re.MULTILINE)
    assert found
    return found[0].replace("PASSWORD", password)


async def eventually(met: Callable[[], Awaitable[bool]], what: str) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not await met():
        assert time.monotonic() < deadline, f"waited for: {what}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def channel(url: str, said: list[str]) -> AsyncIterator[Channel]:
    made = Channel(url, Secret(b"0123456789abcdef0123456789ABCDEF"), said.append)
    try:
        yield made
    finally:
        await made.aclose()


async def until_heard(by: Channel, heard: list[int], revision: int) -> None:
    """Tell it until it is heard: nobody tells twice of his own accord, and some tell too early."""

    async def met() -> bool:
        by.tell(revision)
        await asyncio.sleep(0.05)
        return revision in heard

    await eventually(met, f"revision {revision}")


@dataclass
class Watched:
    """A primary with its replica, and the sentinels that put one in the other's place."""

    pair: list[Server]
    sentinels: list[Server]
    authority: Path | None = None

    def url(self, *first: int) -> str:
        """With the sentinels' ports behind those of `first`, which may be nobody's."""
        hosts = [f"127.0.0.1:{port}" for port in (*first, *(one.port for one in self.sentinels))]
        query = f"sentinel_password={GUARD}"
        if self.authority:
            query += f"&ssl_ca_certs={self.authority}"
        scheme = "rediss" if self.authority else "redis"
        return f"{scheme}+sentinel://:{PASSWORD}@{','.join(hosts)}/{SERVICE}/1?{query}"

    def client(self, server: Server) -> Redis:
        more: dict[str, Any] = {"password": PASSWORD, "db": 1, "protocol": 2}
        if server in self.sentinels:
            more |= {"password": GUARD, "db": 0}
        if self.authority:
            more |= {"ssl": True, "ssl_ca_certs": str(self.authority)}
        return Redis("127.0.0.1", server.port, socket_timeout=5, **more)

    def primary(self) -> Server:
        """Whom the first sentinel takes for it."""
        state: Any = self.client(self.sentinels[0]).sentinel_master(SERVICE)
        return next(one for one in self.pair if one.port == state["port"])

    def counted(self) -> None:
        """Wait until the replica has what the primary has."""
        assert self.client(self.primary()).wait(1, 5000) == 1

    def count(self) -> tuple[int | None, int]:
        """Whose database counts config's requests (its port), and how many in all."""
        return _count([self.primary()], self.client)

    def ask_for_another(self) -> None:
        """As an operator does who wants to restart the primary."""
        assert cast(Any, self.client(self.sentinels[0])).sentinel_failover(SERVICE)

    def settle(self) -> None:
        """Wait until all sentinels see each other, a primary, and its replica following it."""
        for one in self.sentinels:
            until(_sees, self.client(one), self)


def _sees(sentinel: Any, fleet: Watched) -> bool:
    state = sentinel.sentinel_master(SERVICE)
    others = state["num-other-sentinels"] == len(fleet.sentinels) - 1
    (replica,) = sentinel.sentinel_slaves(SERVICE) or [{}]
    follows = replica.get("master-link-status") == "ok" and not replica["is_sdown"]
    return bool(others and state["is_master"] and not state["is_sdown"] and follows)


@contextmanager
def watched(tls: bool = False) -> Iterator[Watched]:
    """Two servers and three sentinels, two of which have to agree."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="wardgate-test-")))
        fleet = Watched([], [], certificate(folder, "127.0.0.1") if tls else None)

        def start(make: Callable[[int, Path, list[str]], Server]) -> Server:
            more = _tls(fleet.authority)
            return stack.enter_context(servers.running(lambda p, at: make(p, at, more)))

        fleet.pair.append(start(_server))
        primary = str(fleet.pair[0].port)
        fleet.pair.append(start(partial(_server, primary=primary)))
        fleet.sentinels += [start(partial(_sentinel, primary=primary)) for _ in range(3)]
        fleet.settle()
        yield fleet


def _server(port: int, folder: Path, tls: list[str], primary: str = "") -> Server:
    command = [servers.redis_program(), *_listening(port, tls)]
    command += ["--requirepass", PASSWORD, "--masterauth", PASSWORD]
    command += ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
    if primary:
        command += ["--replicaof", f"127.0.0.1 {primary}"]
    return Server(port, folder, command, servers.answers_tcp)


def _sentinel(port: int, folder: Path, tls: list[str], primary: str) -> Server:
    lines = [
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
        f"sentinel auth-pass {SERVICE} {PASSWORD}",
        f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER}",
        f"sentinel failover-timeout {SERVICE} 3000",
        f"sentinel sentinel-pass {GUARD}",
        f"requirepass {GUARD}",
    ]
    (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
    command = [servers.redis_program(), "sentinel.conf", "--sentinel", *_listening(port, tls)]
    return Server(port, folder, command, servers.answers_tcp)


def _listening(port: int, tls: list[str]) -> list[str]:
    ports = ["--port", "0", "--tls-port", str(port)] if tls else ["--port", str(port)]
    return ["--bind", "127.0.0.1", *ports, *tls]


def _tls(file: Path | None) -> list[str]:
    if file is None:
        return []
    files = ["--tls-cert-file", str(file), "--tls-key-file", str(file)]
    files += ["--tls-ca-cert-file", str(file)]
    return ["--tls-replication", "yes", "--tls-auth-clients", "no", *files]


@dataclass
class Cluster:
    """Three primaries that share the slots, and for each a replica."""

    nodes: list[Server]

    def url(self, *named: Server) -> str:
        """That of a client who is told of `named` alone."""
        hosts = (f"127.0.0.1:{node.port}" for node in named or self.nodes)
        return f"redis+cluster://{','.join(hosts)}"

    def keeper(self, key: str, asked: Server | None = None) -> Server:
        """Which node keeps `key`, as a node that is up has it."""
        client = _plain(asked or next(node for node in self.nodes if node.process))
        slot = client.execute_command("CLUSTER KEYSLOT", key)
        for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody keeps {slot}")

    def id_of(self, node: Server) -> str:
        return str(self.say(node, "CLUSTER MYID"), "ascii")

    def say(self, node: Server, *command: Any) -> Any:
        return _plain(node).execute_command(*command)

    def count(self) -> tuple[int | None, int]:
        """Who counts a config's requests (its port), and how many in all."""
        return _count(self._primaries(), _plain)

    def forget(self) -> None:
        """All that is counted."""
        for node in self._primaries():
            self.say(node, "FLUSHALL")

    def _primaries(self) -> list[Server]:
        up = [node for node in self.nodes if node.process]
        return [node for node in up if self.say(node, "ROLE")[0] == b"master"]

    def until_well(self) -> None:
        """Every node that is up says that all slots are kept."""
        for node in self.nodes:
            if node.process:
                until(_well, node)


def _count(primaries: list[Server], reach: Callable[[Server], Any]) -> tuple[int | None, int]:
    for server in primaries:
        client = reach(server)
        keys = client.keys("wardgate:config/*")
        if keys:
            return server.port, sum(int(client.get(key)) for key in keys)
    return None, 0


def _plain(node: Server) -> Any:
    return Redis("127.0.0.1", node.port, socket_timeout=5, protocol=2)


def _well(node: Server) -> bool:
    return bool(_plain(node).cluster("INFO")["cluster_state"] == "ok")


@contextmanager
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        nodes = [stack.enter_context(servers.running(_node)) for _ in range(6)]
        made = Cluster(nodes)
        primaries, replicas = nodes[:3], nodes[3:]
        for number, node in enumerate(primaries):
            first, last = _SLOTS * number // 3, _SLOTS * (number + 1) // 3 - 1
            made.say(node, "CLUSTER ADDSLOTSRANGE", first, last)
        for node in nodes[1:]:
            made.say(nodes[0], "CLUSTER MEET", "127.0.0.1", node.port, _bus(node))
        for node in nodes:
            until(_knows, node, len(nodes))
        for primary, replica in zip(primaries, replicas, strict=True):
            made.say(replica, "CLUSTER REPLICATE", made.id_of(primary))
        for primary in primaries:
            until(_followed, primary)
        made.until_well()
        yield made


def _followed(primary: Server) -> bool:
    return bool(_plain(primary).wait(1, 100) == 1)


def _knows(node: Server, count: int) -> bool:
    return bool(_plain(node).cluster("INFO")["cluster_known_nodes"] == str(count))


def _node(port: int, folder: Path) -> Server:
    bus = free_port()
    (folder / "bus").write_text(str(bus))
    command = [servers.redis_program(), "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
    command += ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
    command += ["--cluster-node-timeout", str(_DOWN_AFTER), "--cluster-require-full-coverage", "no"]
    return Server(port, folder, command, servers.answers_tcp)


def _bus(node: Server) -> str:
    return (node.folder / "bus").read_text()
