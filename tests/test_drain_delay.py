"""Leaving in two steps: first `/readyz` says so and all are served, then nobody new is let in."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import httpx2

from gateway.process.supervise import House, Plan
from gateway.settings import Settings
from tests.houses import Running, accepts, house, until
from tests.serve import free_port


async def status(url: str, path: str) -> int:
    """On a connection of its own."""
    async with httpx2.AsyncClient(base_url=url) as client:
        return (await client.get(path)).status_code


async def until_it_says_no(url: str) -> None:
    async with asyncio.timeout(10):
        while await status(url, "/readyz") != 503:
            pass


def ask_to_leave(running: Running, number: int = signal.SIGTERM) -> None:
    running.process.send_signal(number)


async def test_requests_are_served_until_the_delay_is_over(tmp_path: Path) -> None:
    port = free_port()
    words = ("gateway", "--metrics-port", str(port))
    async with house(tmp_path / "data", *words, WARDGATE_DRAIN_DELAY="1") as running:
        metrics = f"http://127.0.0.1:{port}"
        assert {await status(url, "/readyz") for url in (running.gateway, metrics)} == {200}
        began = time.monotonic()
        ask_to_leave(running)
        for url in (running.gateway, metrics):
            await until_it_says_no(url)
        assert await status(running.gateway, "/livez") == 200
        assert await status(running.gateway, "/v1/models") == 401  # served, as far as it goes
        await until(lambda: not accepts(running.gateway), "new connections to be refused")
        assert time.monotonic() - began >= 1
        assert await running.process.wait() == 0


async def test_asked_twice_it_waits_for_nothing(tmp_path: Path) -> None:
    async with house(tmp_path / "data", "gateway", WARDGATE_DRAIN_DELAY="600") as running:
        ask_to_leave(running)
        await until_it_says_no(running.gateway)
        assert await running.stop() == 0


async def test_house_without_workers_has_nobody_to_wait_for(tmp_path: Path) -> None:
    house = House(Plan(Settings(data_dir=tmp_path, drain_delay=600.0)), {})
    house.close()
    assert house.closing.is_set()
