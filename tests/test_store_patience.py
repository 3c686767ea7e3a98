"""A PostgreSQL that takes connections and answers nothing: nobody waits for it without end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from admin.app import build
from admin.configure import tokens
from admin.configure.desk import Desk, open_desk
from admin.permit import LOCAL, SUPERADMIN, Grant
from gateway import catalog
from gateway.settings import Settings
from gateway.shapes import GLOBAL
from gateway.store.compile import revision
from gateway.store.engine import Store, make_engine
from tests import servers
from tests.desks import RING
from tests.drill import LISTS
from tests.faults import Backing
from tests.serve import serving
from tests.servers import Server

PATIENCE = 0.2
# SQLAlchemy gives a connection two seconds to end in order, the app two to say that it is there.
BOUND = PATIENCE + 8.0


@pytest.fixture
def postgres() -> Iterator[Server]:
    """A PostgreSQL of the test's own, to be frozen."""
    with servers.postgres_server() as server:
        yield server


@pytest.fixture
async def desk(postgres: Server) -> AsyncIterator[Desk]:
    """One that is as impatient as the test."""
    url = servers.postgres_url(postgres, "postgres")
    made = await open_desk(Settings(database_url=url), RING, catalog.load())
    await made.store.aclose()
    made.store = Store(make_engine(url), PATIENCE)
    yield made
    await made.aclose()


@contextlib.asynccontextmanager
async def silent(postgres: Server) -> AsyncIterator[None]:
    await Backing(postgres).freeze()
    try:
        yield
    finally:
        await Backing(postgres).thaw()


async def test_database_that_is_silent_is_away(postgres: Server, desk: Desk) -> None:
    before = await revision(desk.store)
    async with silent(postgres):
        for _ in range(2):  # with the connection it had, and with one that is made anew
            began = time.monotonic()
            with pytest.raises(TimeoutError, match="no answer in"):
                await revision(desk.store)
            assert time.monotonic() - began < BOUND
    assert await revision(desk.store) == before


async def test_every_surface_says_503_in_its_shape_while_the_database_is_silent(
    postgres: Server, desk: Desk
) -> None:
    _, token = await tokens.create(desk, LOCAL, "root", (Grant(SUPERADMIN, GLOBAL),))
    headers = {"authorization": f"Bearer {token}"}
    async with (
        serving(build(desk, metrics=lambda: b"")) as url,
        httpx2.AsyncClient(base_url=url, headers=headers, timeout=BOUND) as http,
    ):
        for path in LISTS:
            assert (await http.get(path)).status_code == 200, path
        async with silent(postgres):
            answers = await asyncio.gather(*(http.get(path) for path in LISTS))
        for answer, where in zip(answers, LISTS.values(), strict=True):
            assert answer.status_code == 503
            assert "the store cannot be reached" in str(answer.json()[where]), answer.text
        assert (await http.get("/readyz")).status_code == 200
