"""A collector that is away, slow or unwilling: traffic does not notice, nothing is miscounted."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from prometheus_client import REGISTRY

from admin.demo.upstream import Upstream
from gateway.process.otel import OtelTraces
from tests.collector import collecting, exporting
from tests.rig import CHAT, good, rig
from tests.serve import RawClient, request_bytes
from tests.test_tracing import MESSAGE, MODEL
from tests.world import Served, World, served


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("wardgate_spans_total", {"outcome": outcome}) or 0.0


async def ask_many(house: Served, key: str, count: int) -> None:
    async with RawClient(house.port) as client:
        for _ in range(count):
            body = json.dumps({"model": f"openai/{MODEL}", "messages": []}).encode()
            given = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            await client.send(request_bytes("POST", CHAT, given, body))
            assert (await client.answer("POST")).status == 200


@pytest.mark.parametrize("status", [200, 307, 400, 503, 0])
async def test_a_collector_that_fails_keeps_nobody_waiting(status: int) -> None:
    """What it takes, refuses and never gets adds up to all spans there were."""
    before = {outcome: counted(outcome) for outcome in ("exported", "failed", "dropped")}
    async with (
        collecting(status) as collector,
        exporting(collector.url, most=16, OTEL_EXPORTER_OTLP_TIMEOUT="0.5") as traces,
        Upstream(good()) as upstream,
    ):
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world, traces=traces) as house:
            await ask_many(house, key, 50)
            await collector.wait_for(lambda: collector.bodies)
            await ask_many(house, key, 50)
        await traces.aclose()
    grown = {outcome: counted(outcome) - number for outcome, number in before.items()}
    assert sum(grown.values()) == 200
    assert (grown["exported"] > 0) is (status == 200)
    assert grown["exported"] == len(collector.spans)


async def test_nobody_listens_there() -> None:
    before = counted("failed")
    async with exporting("http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="0.2") as traces:
        async with rig(good(), traces=traces) as at:
            assert (await at.ask()).status == 200
        await traces.aclose()
        assert counted("failed") == before + 2


async def ended(traces: OtelTraces, exported: int, failed: int) -> None:
    """Return once so many spans have been exported, or have not."""
    async with asyncio.timeout(5):
        while f"{exported} exported, {failed} failed" not in repr(traces):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_the_log_says_once_that_a_collector_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """And never what its endpoint's query or its answer's reason hold."""
    async with collecting(503) as collector:
        where = f"{collector.url}/v1/traces?api_key={MESSAGE}"
        os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = where
        async with (
            exporting("http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="0.2") as traces,
            rig(good(), traces=traces) as at,
        ):
            for status, counts in (503, (0, 2)), (400, (0, 4)), (200, (2, 4)), (200, (4, 4)):
                collector.status = status
                assert (await at.ask()).status == 200
                await ended(traces, *counts)
                traces.report()
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    told = [(one["event"], one.get("status")) for one in said if "collector" in one["event"]]
    assert told == [("collector takes no traces", 503), ("collector takes traces again", None)]
    assert MESSAGE.encode() in collector.wire
    assert MESSAGE not in json.dumps(said)
