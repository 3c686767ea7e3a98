"""A store copied to the other kind and back: the same rows, the same keys, the same chain.

Killed at any statement it is taken up again, and until it is finished nobody can start with it.
Three moments are tried on each kind; under `make soak` sixty.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Executable, delete, text, update

from admin.configure import audit, keys, tokens
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from gateway.errors import SealBroken, StartRefused
from gateway.store import tables
from gateway.store.compile import compile_snapshot
from gateway.store.migrate import migrate
from gateway.store.transfer import PASSING, copy
from tests import desks
from tests.backends import Backend
from tests.copies import (
    NEVER,
    broken_off,
    copied,
    held,
    in_file,
    lives,
    opened_store,
    opened_target,
    started,
)
from tests.desks import RING, add, key_of
from tests.filled import HEALTH_ROWS, Filled, contents, filled_desk, pass_by

TIMES = 60 if os.environ.get("SOAK") else 2
Place = Callable[[], str]


@pytest.fixture
def place(backend: Backend) -> Place:
    """Each call gives the URL of an empty database, all of one kind."""
    return backend.empty


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[tuple[Desk, Filled]]:
    """The desk of the store that is copied, and what is in it."""
    async with filled_desk(tmp_path) as made:
        yield made


@pytest.fixture
def desk(source: tuple[Desk, Filled]) -> Desk:
    return source[0]


async def test_everything_is_there_and_works(
    source: tuple[Desk, Filled], place: Place, tmp_path: Path
) -> None:
    (desk, filled), url = source, place()
    before = await contents(desk.store)
    assert {name for name, rows in before.items() if not rows} == set()
    done = await copied(desk.store, url)
    assert await held(url) == before == await contents(desk.store)
    assert {name: found.rows for name, found in done.sums.items()} == {
        name: len(rows) for name, rows in before.items()
    }
    assert (done.copied, done.trail.flaw) == (sum(map(len, before.values())), None)
    there = await started(url, tmp_path)
    try:
        await works(there, desk, filled)
    finally:
        await there.aclose()


async def works(there: Desk, here: Desk, filled: Filled) -> None:
    """The copy serves what the store did, and takes changes to it."""
    expected, found = await desks.table(here), await desks.table(there)
    assert found == replace(expected, compiled_at=found.compiled_at, hash_key=found.hash_key)
    assert await key_of(there, filled.config) == f"{desks.KEY}-2"
    actor = await tokens.authenticate(there, filled.token)
    assert actor is not None
    rows = (await audit.verify(here, lambda *_: None)).mark.id
    await add(there, alias="new")
    await keys.create(there, actor, NewKey(name="new"))
    verdict = await audit.verify(there, lambda *_: None)
    assert (verdict.mark.id, verdict.flaw) == (rows + 2, None)


async def test_and_back_again(desk: Desk, place: Place, tmp_path: Path) -> None:
    before, url = await contents(desk.store), place()
    await copied(desk.store, url)
    async with opened_store(url) as store:
        back = f"sqlite+aiosqlite:///{tmp_path / 'back.db'}"
        await copied(store, back)
    assert await held(back) == before


async def test_killed_at_any_statement_it_is_taken_up(
    desk: Desk, place: Place, tmp_path: Path
) -> None:
    before, went = await contents(desk.store), []
    with lives(f"sqlite+aiosqlite:///{tmp_path / 'wardgate.db'}") as live:
        most = live(place(), NEVER)
        for point in [*range(1, most, most // TIMES), most]:
            url = place()
            assert live(url, point) == 0
            went.append((await copied(desk.store, url)).copied)
            assert await held(url) == before
    # Killed early all of it is copied; killed at the end only what may have changed meanwhile.
    assert went == sorted(went, reverse=True)
    passing = sum(len(before[table.name]) for table in PASSING)
    assert (went[0], went[-1]) == (sum(map(len, before.values())), passing)


async def test_an_unfinished_copy_is_nothing_to_start_with(
    desk: Desk, place: Place, tmp_path: Path
) -> None:
    url = place()
    await broken_off(desk.store, url)
    with pytest.raises(StartRefused, match="unfinished copy"):
        await started(url, tmp_path)
    async with opened_store(url) as store:
        with pytest.raises(SealBroken, match="unfinished copy"):
            await compile_snapshot(store, RING, desk.catalog, desk.settings, 0)


async def test_a_change_meanwhile_leaves_it_unfinished(
    desk: Desk, place: Place, tmp_path: Path
) -> None:
    url = place()

    def tell(step: str, _done: int, _total: int) -> None:
        if step == "comparing":
            in_file(tmp_path / "wardgate.db", "UPDATE revision SET value = value + 1")

    async with opened_target(url) as target:
        with pytest.raises(StartRefused, match="changed during the copy"):
            await copy(desk.store, target, RING, tell)
    with pytest.raises(StartRefused, match="unfinished copy"):
        await started(url, tmp_path)
    done = await copied(desk.store, url)
    assert await held(url) == await contents(desk.store)
    assert done.copied == sum(found.rows for found in done.sums.values())


async def test_what_passes_by_between_two_runs_is_there(
    source: tuple[Desk, Filled], place: Place
) -> None:
    (desk, filled), url = source, place()
    await broken_off(desk.store, url)
    desks.later(desk)
    await pass_by(desk, filled)
    async with desk.store.note() as conn:
        await conn.execute(delete(tables.health).where(tables.health.c.slot < HEALTH_ROWS // 2))
    done, now = await copied(desk.store, url), await contents(desk.store)
    assert await held(url) == now
    assert done.copied == sum(len(now[table.name]) for table in PASSING)


@pytest.mark.parametrize(
    "change",
    [
        update(tables.agent).values(name="other"),
        delete(tables.audit).where(tables.audit.c.id == 1),
    ],
    ids=["changed", "removed"],
)
async def test_what_somebody_changed_in_the_target_is_copied_anew(
    desk: Desk, place: Place, change: Executable
) -> None:
    url = place()
    await broken_off(desk.store, url)
    async with opened_store(url) as store, store.note() as conn:
        assert (await conn.execute(change)).rowcount == 1
    await copied(desk.store, url)
    assert await held(url) == await contents(desk.store)


async def test_a_finished_copy_is_left_alone(source: tuple[Desk, Filled], place: Place) -> None:
    (desk, filled), url = source, place()
    await copied(desk.store, url)
    before = await held(url)
    desks.later(desk)
    await pass_by(desk, filled)
    done = await copied(desk.store, url)
    assert (done.copied, done.trail.flaw) == (0, None)
    assert await held(url) == before
    await add(desk, alias="late")
    with pytest.raises(StartRefused, match="has changed since"):
        await copied(desk.store, url)
    assert await held(url) == before


async def test_postgres_has_no_counters_that_a_copy_would_have_to_set(postgres_url: str) -> None:
    await asyncio.to_thread(migrate, postgres_url)
    async with opened_store(postgres_url) as store, store.read() as conn:
        found = await conn.scalars(text("SELECT relname FROM pg_class WHERE relkind = 'S'"))
        assert found.all() == []
