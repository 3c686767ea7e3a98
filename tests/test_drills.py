"""A fleet whose parts die, hang and restart under load: who is failed by it, and for how long.

Three gateways (four workers) behind HAProxy, an admin app, a PostgreSQL and a Redis, all of the
test's own. What happened is printed with what failed, and by `make soak`, where every outage is
longer and comes alone; here two share their twenty seconds, and never the same moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from statistics import median
from time import monotonic

import httpx2
import pytest
import pytest_asyncio

from tests.bench.processes import slowness
from tests.drill import LIMITS, LISTS, Load, Site, request, site, status
from tests.faults import KINDS, WELL_WITHIN, Backing, Book, victims
from tests.serve import RawClient

SOAK = os.environ.get("SOAK")
SECONDS = 60.0 if SOAK else 20.0
DRILLS = (
    [("redis",), ("postgres",), ("admin",), ("gateway-2",)]
    if SOAK
    else [("redis", "postgres"), ("admin", "gateway-2")]
)
# A front notices a gateway that hangs after 2.4 s; a store that hangs is away after 5.
DOWN = 12.0 if SOAK else 3.0
# A request's longest wait: 0.2 s for Redis, and what else the machine does, most of all while the
# processes of gateways and admin app start.
WAIT = {"redis": 2.0, "postgres": 2.0, "admin": 5.0, "gateway-2": 5.0}
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("drills"), workers=2) as made:
        yield made


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Says what was measured: beside a failure, and always under `make soak`."""

    def say(text: str) -> None:
        with capfd.disabled() if SOAK else contextlib.nullcontext():
            os.write(1, f"\n{text}\n".encode())

    return say


async def test_change_is_served_by_all_within_a_second(
    fleet: Site, tell: Callable[[str], None]
) -> None:
    made, gone = [], []
    for _ in range(5):  # what else the machine does adds to it, and takes nothing away
        key_id, key = await fleet.make_key()
        made.append(await fleet.until_answered(key, 200))
        await fleet.revoke(key_id)
        gone.append(await fleet.until_answered(key, 401))
    tell(f"everywhere: a new key after {max(made):.2f} s, none after {max(gone):.2f} s")
    assert median(made) < 1.0, made
    assert median(gone) < 1.0, gone


async def test_four_processes_admit_exactly_the_limit(
    fleet: Site, tell: Callable[[str], None]
) -> None:
    began, limit = monotonic(), LIMITS["exact"]
    statuses: Counter[tuple[int, int]] = Counter()

    async def ask(port: int) -> None:
        """Many, one after another; a connection each caller, so that every worker has some."""
        async with RawClient(port, timeout=60) as client:
            for _ in range(125):
                await client.send(request(fleet.key, "exact/any"))
                statuses[port, (await client.answer("POST")).status] += 1

    ports = [member.port for member in (fleet.gateways[0], *fleet.gateways)]
    await asyncio.gather(*(ask(ports[n % 4]) for n in range(40)))
    tell(f"{sum(statuses.values())} requests in {monotonic() - began:.1f} s")
    assert {code for _, code in statuses} == {200, 429}
    assert sum(count for (_, code), count in statuses.items() if code == 200) == limit
    assert all(statuses[port, 200] for port in ports)
    assert sum(statuses.values()) == 5000


@pytest.mark.parametrize("names", DRILLS, ids=" ".join)
async def test_outages_fail_nobody_else_and_are_over_soon(
    fleet: Site, names: tuple[str, ...], tell: Callable[[str], None]
) -> None:
    hit = victims(fleet)
    async with Load(fleet) as load:
        book, begin = Book(load), monotonic() + 0.5

        async def happen(name: str, at: float) -> None:
            """One kind after another, each in a third of the time."""
            for number, kind in enumerate(KINDS):
                await asyncio.sleep(begin + at + number * SECONDS / 3 - monotonic())
                await book.happen(hit[name], kind, DOWN)

        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(names):
                group.create_task(happen(name, number * SECONDS / 3 / len(names)))
        await asyncio.sleep(begin + SECONDS - monotonic())
    tell(book.report())
    assert book.failures() == []
    assert all(entry.ended for entry in load.entries)
    slow = slowness()
    recoveries = [outcome.recovery - outcome.queued for outcome in book.outcomes]
    assert max(recoveries) < WELL_WITHIN * slow, slow
    for outcome in book.outcomes:
        assert book.longest(outcome) < WAIT[outcome.victim] * slow, outcome
    assert len(book.outcomes) == len(KINDS) * len(names)


async def test_without_a_database_all_is_served_and_nothing_forgotten(fleet: Site) -> None:
    key_id, key = await fleet.make_key()
    await fleet.until_answered(key, 200)
    database, newcomer = Backing(fleet.postgres), fleet.gateways[2]
    await newcomer.kill()
    await database.kill()
    await newcomer.start()
    assert newcomer.running is not None
    assert "The store is away" in newcomer.running.said
    ports = [member.port for member in fleet.gateways] * 10
    answers = await asyncio.gather(*(status(port, key, "told/any") for port in ports))
    assert answers == [200] * 30
    async with fleet.asking() as http:
        for path, where in LISTS.items():
            answer = await http.get(path)
            assert answer.status_code == 503
            assert "the store cannot be reached" in str(answer.json()[where]), answer.text
        await database.start()
        async with asyncio.timeout(2 * WELL_WITHIN):  # counts are kept every three seconds
            while not await used(http, key_id) or await told(http) != 30:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def used(http: httpx2.AsyncClient, key_id: str) -> bool:
    answer = await http.get(f"/api/v1/client-keys/{key_id}")
    return answer.status_code == 200 and answer.json()["lastUsedAt"] is not None


async def told(http: httpx2.AsyncClient) -> int:
    """Requests to the provider `told` in the last hour, by the gateways together."""
    text = (await http.get("/metrics")).text
    lines = [line for line in text.splitlines() if 'alias="told"' in line and 'window="1h"' in line]
    [line] = [line for line in lines if line.startswith("wardgate_provider_requests")] or [" 0"]
    return int(float(line.rpartition(" ")[2]))
