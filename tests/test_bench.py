"""The bench measures what it says, and notices a peer that does not do the job. Tiny sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.bench import peers, table, wire
from tests.bench.__main__ import arguments
from tests.bench.load import BenchFailed
from tests.bench.phases import Bench, Sizes

TINY = Sizes(closed=0.2, streams=10, pause=0.05, streaming=0.5, timed=5, idle=20)
Make = Callable[[Path, int], peers.Peer]


@pytest.fixture
async def plan() -> AsyncIterator[tuple[wire.Plan, int]]:
    """The bench's provider and its port."""
    made = wire.Plan()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(wire.Upstream, made), "127.0.0.1", 0)
    async with server:
        yield made, server.sockets[0].getsockname()[1]


async def figures(peer: peers.Peer, plan: wire.Plan, upstream: int) -> dict[str, float]:
    try:
        return await Bench(peer, plan, upstream, TINY).figures(lambda doing: None)
    finally:
        peer.stop()


@pytest.mark.parametrize("make", [peers.nginx, peers.wardgate], ids=lambda make: make.__name__)
async def test_every_figure_is_taken(
    make: Make, plan: tuple[wire.Plan, int], tmp_path: Path
) -> None:
    taken = await figures(make(tmp_path, plan[1]), *plan)
    assert set(taken) == set(table.ROWS)
    assert taken["request-32"] > 1
    assert taken["ready"] > 0


@pytest.mark.parametrize(
    ("swapped", "complaint"),
    [
        ("Bearer {client_key}", "sent the caller's key to the provider"),
        ("Bearer sk-somebody-elses", "did not send the provider's key"),
    ],
)
async def test_a_peer_that_sends_the_wrong_key_has_no_figures(
    swapped: str, complaint: str, plan: tuple[wire.Plan, int], tmp_path: Path
) -> None:
    peer = peers.nginx(tmp_path, plan[1])
    config = tmp_path / "nginx.conf"
    right = f'Authorization "Bearer {wire.UPSTREAM_KEY}'
    wrong = f'Authorization "{swapped.format(client_key=peer.client_key)}'
    assert right in config.read_text()
    config.write_text(config.read_text().replace(right, wrong))
    with pytest.raises(BenchFailed, match=complaint):
        await figures(peer, *plan)


def test_broken_bounds_are_named_when_figures_exceed_them() -> None:
    ours, theirs = {"request-32": 200.0, "ready": 0.5}, {"request-32": 20.0}
    assert table.broken(ours, theirs, {"ready": 1.5}, {"request-32": 10}) == []
    words = table.broken(ours, theirs, {"ready": 0.4}, {"request-32": 9.9, "chunk": 1})
    assert [line.split(":")[0] for line in words] == [
        "start to first answer",
        "one request, 32 connections",
        "one event of a stream",
    ]


def test_bounds_are_read_from_the_command_line() -> None:
    asked = arguments(["--max-ratio", "request-32=18", "--max", "ready=1.5", "--quick"])
    assert asked.quick
    assert (asked.max_ratio, asked.max) == ([("request-32", 18.0)], [("ready", 1.5)])


def test_unknown_figure_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        arguments(["--max", "speed=1"])
    assert "--max" in capsys.readouterr().err
