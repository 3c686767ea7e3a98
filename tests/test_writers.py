"""Eight writers move the default at once: there is always exactly one, and nobody gets a 5xx.

Over HTTP, on both kinds of store, beside a reader that never rests; 40 moves each, and 200 under
`make soak`: those 1,600 writes took 85 s a store on two cores that had other work, too.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest

from admin.configure import audit
from gateway.store.compile import revision
from tests.admin_serve import CONFIGS, Admin, admin, new
from tests.backends import Backend
from tests.desks import table

SOAK = os.environ.get("SOAK")
WRITERS = 8
TIMES = 200 if SOAK else 40


@pytest.fixture
async def apps(backend: Backend) -> AsyncIterator[list[Admin]]:
    """Two admin apps on one store, which know of each other by its locks only."""
    async with admin(backend) as one, admin(backend) as other:
        yield [one, other]


async def defaults(app: Admin) -> list[str]:
    """The configs that are the default, as one read shows them."""
    listed = await app.call("GET", f"{CONFIGS}?per_page=100")
    assert listed.status_code == 200
    shown = listed.json()["result"]
    assert len(shown) == WRITERS
    return [config["id"] for config in shown if config["default_config"]]


async def routed(app: Admin) -> list[str]:
    """The same, as the routing table has it."""
    configs = [config for group in (await table(app.desk)).configs.values() for config in group]
    assert len(configs) == WRITERS
    return [config.id for config in configs if config.default]


async def write(app: Admin, ids: list[str], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(TIMES):
        chosen = chance.choice(ids)
        answer = await app.call("PUT", f"{CONFIGS}/{chosen}", {"default_config": True})
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"]["default_config"] is True


async def watch(app: Admin, seen: set[str]) -> None:
    while True:
        for look in (defaults, routed):
            found = await look(app)
            assert len(found) == 1, found
            seen.update(found)


async def test_every_read_sees_exactly_one_default(apps: list[Admin]) -> None:
    app = apps[0]
    made = [await app.call("POST", CONFIGS, new(f"config-{n}")) for n in range(WRITERS)]
    ids = [answer.json()["result"]["id"] for answer in made]
    before, rows = await revision(app.desk.store), (await audit.page(app.desk, 1))[0][0].id
    seen: set[str] = set()
    seeds = range(int(SOAK or "0"), int(SOAK or "0") + WRITERS)
    async with asyncio.TaskGroup() as group:
        # A read that saw none, or two, or no 200, ends the group and the test.
        watching = group.create_task(watch(app, seen))
        await asyncio.gather(*(write(apps[seed % 2], ids, seed) for seed in seeds))
        watching.cancel()
    assert len(seen) > 1
    # The last change in the trail is what stands, and each had its row and its revision.
    trail, valid = await audit.page(app.desk, 1)
    assert (valid, trail[0].id) == (True, rows + WRITERS * TIMES)
    assert await revision(app.desk.store) == before + WRITERS * TIMES
    assert await defaults(app) == await routed(app) == [trail[0].target]
