"""Two workers, each on a core of its own, against one: processor time a request, and whose it is.

`make bench` has both on one core, where they take each other's caches. Here callers (wrk) and the
provider (nginx) are programs in C that run beside them on the same two cores. Only processor time
is looked at. `python -m tests.bench.apart`, which needs wrk; other arguments: slices, connections….
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from urllib.request import urlopen

from tests import servers
from tests.bench import peers, processes, wire
from tests.bench.load import BenchFailed
from tests.bench.peers import Job, Peer
from tests.servers import Server

SLICES: Final = 7
CONNECTIONS: Final = (4, 32, 64, 256)
_SECONDS: Final = 1  # the least that wrk takes
# What a request leaves to be done in batches (log lines, counters) counts with its slice.
_AFTER: Final = 0.15
_PROVIDER: Final = """\
daemon off; worker_processes 1; pid nginx.pid; error_log stderr error; {user}
events {{ worker_connections 4096; multi_accept on; }}
http {{
  access_log off; client_body_temp_path t1; keepalive_requests 1000000000;
  client_body_buffer_size 64k;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""
_SCRIPT: Final = """\
wrk.method = "POST"
wrk.body = [[{body}]]
wrk.headers["Authorization"] = "Bearer {key}"
wrk.headers["Content-Type"] = "application/json"
"""


@dataclass(frozen=True)
class Found:
    """What two workers take over so many connections: in times of one that has them all, of one
    that has half of them, and the busier one's part in percent."""

    connections: int
    of_one: float
    of_half: float
    busier: float


def measure(slices: int, connections: Sequence[int]) -> Iterator[Found]:
    """Slices by turns, so that all see the same machine."""
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.running(_provider) as provider,
        _gateways(Path(folder), provider.port) as (one, two),
    ):
        for many in connections:
            for peer in (one, two):
                _slice(peer, many)  # warms it up
            turns = [
                (_slice(one, many), _slice(one, many // 2), _slice(two, many))
                for _ in range(slices)
            ]
            whole, half, both = (median(turn[n][0] for turn in turns) for n in range(3))
            busier = 100 * median(turn[2][1] for turn in turns)
            yield Found(many, both / whole, both / half, busier)


def _provider(port: int, folder: Path) -> Server:
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_PROVIDER.format(port=port, user=user, answer=wire.ANSWER.decode()))
    command = [servers.nginx_program(), "-p", str(folder), "-c", str(config)]
    return Server(port, folder, command, servers.answers_tcp)


@contextmanager
def _gateways(folder: Path, provider: int) -> Iterator[tuple[Peer, Peer]]:
    one, two = (peers.wardgate(folder, provider, Job(workers=count)) for count in (1, 2))
    try:
        for peer in (one, two):
            peer.start()
            _until_ready(peer)
            cores = (processes.PEER_CORE, processes.LOAD_CORE)
            for pid in peer.pids:
                _pin(pid, set(cores))
            for pid, core in zip(peer.workers, cores, strict=False):
                _pin(pid, {core})
        (folder / "wrk.lua").write_text(_script(one.client_key))
        yield one, two
    finally:
        one.stop()
        two.stop()


def _until_ready(peer: Peer) -> None:
    deadline = time.monotonic() + 30
    while True:
        with suppress(OSError), urlopen(f"http://127.0.0.1:{peer.port}/readyz", timeout=5):
            return
        if time.monotonic() > deadline:
            raise BenchFailed(f"{peer.name} does not answer: {peer.last_words()}")
        time.sleep(0.05)


def _pin(pid: int, cores: set[int]) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


def _script(key: str) -> str:
    body = wire.request(key).split(b"\r\n\r\n", 1)[1]
    return _SCRIPT.format(body=body.decode(), key=key)


def _slice(peer: Peer, connections: int) -> tuple[float, float]:
    """Processor seconds a request, and the part of the workers' time that was the busier one's."""
    before = {pid: processes.cpu_seconds(pid) for pid in peer.pids}
    command = [servers.program("wrk", "wrk"), "-t", "1", "-c", str(connections)]
    command += ["-d", f"{_SECONDS}s", "-s", str(peer.folder / "wrk.lua")]
    url = f"http://127.0.0.1:{peer.port}/v1/chat/completions"
    told = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=60)
    time.sleep(_AFTER)
    used = {pid: processes.cpu_seconds(pid) - was for pid, was in before.items()}
    found = re.search(r"(\d+) requests in", told.stdout)
    if found is None or "Non-2xx" in told.stdout or "Socket errors" in told.stdout:
        raise BenchFailed(f"wrk says: {told.stdout}")
    work = [used[pid] for pid in peer.workers]
    return sum(used.values()) / int(found[1]), max(work) / sum(work)


def main(slices: int = SLICES, *connections: int) -> None:
    for found in measure(slices, connections or CONNECTIONS):
        sys.stdout.write(
            f"| {found.connections} | {found.of_one:.2f} | {found.of_half:.2f} |"
            f" {found.busier:.0f} % |\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
