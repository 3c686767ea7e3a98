"""The active probe: who is asked, how often, and what the answers count for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from admin.configure import configs, health
from admin.configure.configs import ConfigChange
from admin.configure.desk import Desk
from admin.permit import LOCAL
from admin.rounds import AT_ONCE, Rounds
from gateway.errors import StartRefused
from gateway.settings import Settings
from gateway.shapes import GLOBAL
from tests.backends import Backend
from tests.desks import add, later, opened

INTERVAL = 60.0


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with opened(backend) as made:
        yield made


@dataclass
class Found:
    outcome: str


@dataclass
class Scripted:
    """A provider that answers what the test says; `asked` are config ids in order."""

    outcome: str = "ok"
    asked: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def __call__(self, desk: Desk, config_id: str) -> Found:
        self.asked.append(config_id)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if self.outcome == "defect":
            raise RuntimeError("sk-canary")
        return Found(self.outcome)


async def test_silent_configs_are_asked_once_an_interval(desk: Desk) -> None:
    one, other = await add(desk, "one"), await add(desk, "other")
    probe = Scripted()
    rounds = Rounds(desk, probe, INTERVAL)
    await rounds.once()
    assert sorted(probe.asked) == sorted([one.id, other.id])
    later(desk, INTERVAL - 1)
    await rounds.once()
    assert len(probe.asked) == 2
    later(desk, 1)
    await Rounds(desk, probe, INTERVAL).once()
    # Another admin app: it sees in the store what the first one found.
    await rounds.once()
    assert len(probe.asked) == 4


async def test_configs_that_cannot_be_used_are_left_alone(desk: Desk) -> None:
    sleeping = await add(desk, "sleeping")
    await configs.change(desk, LOCAL, sleeping.id, GLOBAL, ConfigChange(active=False))
    await add(desk, "keyless", secret=None)
    probe = Scripted()
    await Rounds(desk, probe, INTERVAL).once()
    assert probe.asked == []


@pytest.mark.parametrize(
    ("outcome", "state", "codes"),
    [
        ("ok", "healthy", {}),
        ("unreachable", "unhealthy", {"probe_unreachable": 5}),
        ("timeout", "unhealthy", {"probe_timeout": 5}),
        ("unlisted", "unknown", {}),
        ("unsent", "unknown", {}),
        ("defect", "unknown", {}),
    ],
)
async def test_what_a_probe_finds_counts_like_requests_nobody_timed(
    desk: Desk, outcome: str, state: str, codes: dict[str, int]
) -> None:
    config = await add(desk)
    rounds = Rounds(desk, Scripted(outcome), INTERVAL)
    for _ in range(5):
        await rounds.once()
        later(desk, INTERVAL)
    seen = await health.health(desk, config.id)
    assert (seen.state, seen.windows[2].error_codes) == (state, codes)
    assert seen.p50_latency_ms is None


async def test_few_are_asked_at_one_time(desk: Desk) -> None:
    for number in range(AT_ONCE + 3):
        await add(desk, f"c{number}")
    probe = Scripted()
    await Rounds(desk, probe, INTERVAL).once()
    assert (len(probe.asked), probe.most) == (AT_ONCE + 3, AT_ONCE)


async def test_rounds_go_on_after_one_that_failed(desk: Desk) -> None:
    await add(desk)
    probe = Scripted("defect")
    running = asyncio.create_task(Rounds(desk, probe, 0.01).run())
    async with asyncio.timeout(5):
        while len(probe.asked) < 3:
            later(desk, 1)
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


def test_providers_are_not_hammered() -> None:
    assert Settings.from_env({}).probe_interval == 0
    assert Settings.from_env({"WARDGATE_PROBE_INTERVAL": "10"}).probe_interval == 10
    with pytest.raises(StartRefused, match="at least 10"):
        Settings.from_env({"WARDGATE_PROBE_INTERVAL": "9"})
