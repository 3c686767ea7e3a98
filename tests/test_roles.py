"""A gateway on PostgreSQL as the role docs/deploy.md makes: what it may do, and that it is enough.

The statements are the page's own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from admin.configure import keys
from admin.configure.desk import Desk, open_desk
from admin.configure.keys import NewKey
from admin.permit import LOCAL
from gateway import catalog
from gateway.errors import StartRefused
from gateway.health import Counts, Report
from gateway.logs import request_logger
from gateway.process.reports import Reports
from gateway.settings import Settings
from gateway.store.engine import forbidden
from gateway.store.migrate import migrate, newest
from gateway.store.rights import KEPT, READ, Rights, keeps_reports, rights
from gateway.store.tables import metadata
from gateway.vault import KeyRing
from tests.databases import name_of
from tests.desks import RING, Clock, add
from tests.docs_tables import ROOT
from tests.houses import Running, house, until, wardgate
from tests.left import house_of
from tests.serve import free_port
from tests.servers import Server, ServerFailed, postgres_url, sql
from tests.stage import logged

READING, REPORTING = re.findall(
    r"```sql\n(.*?)```",
    (ROOT / "docs/deploy.md").read_text().partition("## A database role for gateways")[2],
    re.DOTALL,
)[:2]
TABLES = [*metadata.tables, "alembic_version"]
NEW = ("new", b"abcdef0123456789ABCDEF0123456789")


class Place:
    """A database of a used installation; `role` is a gateway's in it, with the page's rights."""

    def __init__(self, server: Server, url: str, folder: Path) -> None:
        self.server = server
        self.database = name_of(url)
        self.owner = url
        self.folder = folder
        self.role = f"gateway_of_{self.database}"
        self.url = postgres_url(server, self.database).replace("wardgate@", f"{self.role}@")

    def run(self, statements: str) -> str:
        """As the owner of the tables, who is no superuser's business."""
        named = statements.replace("wardgate_gateway", self.role)
        named = named.replace("DATABASE wardgate", f"DATABASE {self.database}")
        return sql(self.server, named, self.database)

    @contextlib.asynccontextmanager
    async def desk(self, url: str = "", ring: KeyRing = RING) -> AsyncIterator[Desk]:
        settings = Settings(data_dir=self.folder / "desk", database_url=url or self.url)
        desk = await open_desk(settings, ring, catalog.load(), Clock())
        try:
            yield desk
        finally:
            await desk.aclose()

    async def refuses(self, words: str, **given: Any) -> None:
        """Opening it ends in a refusal to start that says `words`."""
        with pytest.raises(StartRefused, match=words):
            await self.desk(**given).__aenter__()

    def refused(self, statement: str) -> bool:
        """Whether the role may not say it."""
        try:
            sql(self.server, f"SET ROLE {self.role}; {statement}", self.database)
        except ServerFailed as error:
            return "permission denied" in str(error)
        return False


@pytest.fixture
async def place(shared_postgres: Server, new_postgres: Callable[[], str], tmp_path: Path) -> Place:
    made = Place(shared_postgres, new_postgres(), tmp_path)
    async with made.desk(made.owner) as desk:
        await add(desk)
    made.run(READING)
    return made


def variables(place: Place) -> dict[str, str]:
    keks = ",".join(f"{name}:{base64.b64encode(key).decode()}" for name, key in RING.expose())
    return {"WARDGATE_DATABASE_URL": place.url, "WARDGATE_KEKS": keks}


_TRIED = {
    "SELECT": 'SELECT * FROM "{table}" LIMIT 1',
    "INSERT": 'INSERT INTO "{table}" SELECT * FROM "{table}" WHERE false',
    "UPDATE": 'UPDATE "{table}" SET {column} = {column} WHERE false',
    "DELETE": 'DELETE FROM "{table}" WHERE false',
}


def check_refused(place: Place, may: set[tuple[str, str]]) -> None:
    """Of every table nothing may be done but `may` (table, right)."""
    for table in TABLES:
        for right, statement in _TRIED.items():
            tried = statement.format(table=table, column=_column(table))
            assert place.refused(tried) == ((table, right) not in may), (table, right)
    assert place.refused("CREATE TABLE more (id integer)")


def _column(table: str) -> str:
    return (
        "version_num" if table == "alembic_version" else next(iter(metadata.tables[table].c)).name
    )


def test_the_page_names_the_tables_the_code_reads() -> None:
    named = set(re.findall(r"\w+", READING.partition("GRANT SELECT ON")[2].partition(" TO ")[0]))
    assert named == set(READ)
    assert {"admin_token", "grant", "audit", "audit_head", "idempotency"} == set(TABLES) - named


class Served:
    """A gateway that runs as the role, and what its metrics show of reports in the end."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.port = free_port()
        self.words = ("gateway", "--metrics-port", str(self.port))

    async def follow(self, running: Running, used: Callable[[str], bool]) -> None:
        """A new key is taken and a revoked one refused; `used` hears the key's id in between."""
        async with self.place.desk(self.place.owner) as desk:
            view, key = await keys.create(desk, LOCAL, NewKey(name="app"))
            headers = {"authorization": f"Bearer {key}"}
            async with httpx2.AsyncClient(base_url=running.gateway, headers=headers) as client:
                await _until_status(client, 200)
                await until(lambda: used(view.id), "what was to become of the report")
                await keys.revoke(desk, LOCAL, view.id)
                await _until_status(client, 401)

    def shows(self, line: str) -> bool:
        return line in httpx2.get(f"http://127.0.0.1:{self.port}/metrics").text


async def _until_status(client: httpx2.AsyncClient, wanted: int) -> None:
    async with asyncio.timeout(5):
        while (await client.get("/v1/models")).status_code != wanted:
            pass


async def test_it_serves_and_keeps_reports_and_may_do_nothing_else(place: Place) -> None:
    place.run(REPORTING)
    served, asked = Served(place), "SELECT key_id FROM telemetry"
    async with house(place.folder / "data", *served.words, **variables(place)) as running:
        await served.follow(running, lambda key_id: key_id in place.run(asked))
        assert served.shows("wardgate_reports_kept 1.0")
        check_refused(place, {(name, "SELECT") for name in READ} | set(KEPT))
        assert await running.stop() == 0
    assert [line for line in running.lines() if line["level"] != "info"] == []


async def test_it_serves_without_keeping_anything(place: Place) -> None:
    served, before = Served(place), len(place.server.log)
    async with house(place.folder / "data", *served.words, **variables(place)) as running:
        await served.follow(running, lambda _: served.shows("wardgate_reports_kept 0.0"))
        assert served.shows("wardgate_store_away 0.0")
        # Nothing was tried that the database refuses and writes down each time.
        assert "ERROR" not in place.server.log[before:]
        check_refused(place, {(name, "SELECT") for name in READ})
        assert await running.stop() == 0
    [said] = [line for line in running.lines() if line["level"] != "info"]
    assert "may not keep reports" in str(said["event"])
    assert place.run("SELECT count(*) FROM telemetry") == "0\n"


@dataclass
class Reporter:
    """Workers that report the use of a key and a request, each time the clock was moved."""

    place: Place
    desk: Desk
    key_id: str

    def __post_init__(self) -> None:
        self.house, self.clock = house_of(self.desk.settings), Clock()
        self.reports = Reports(self.house, self.clock)

    async def report(self) -> bool | None:
        """Whether it was kept."""
        self.clock.now += 90_000  # a day and more
        now = self.clock.now
        self.house.put_back({self.key_id: now})
        self.house.ledger.add(Report(now, {"a config": Counts(requests=1)}, {}), now)
        await self.reports.flush(self.desk.store, request_logger, last=True)
        assert self.house.take_used() == {}
        assert "dirty=0" in repr(self.house.ledger)
        return self.reports.kept


async def test_reports_do_not_pile_up_and_are_kept_once_they_may_be(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    async with place.desk(place.owner) as owner:
        view, _ = await keys.create(owner, LOCAL, NewKey(name="app"))
    async with place.desk() as desk:
        workers = Reporter(place, desk, view.id)
        with logged():
            for _ in range(5):
                assert await workers.report() is False
            assert "slots=3" in repr(workers.house.ledger)  # of the last day alone
            place.run(REPORTING)
            assert await workers.report() is False  # it asks once a minute
            workers.reports._asked = float("-inf")
            assert await workers.report() is True
            kept = workers.clock.now
            place.run("REVOKE INSERT, UPDATE ON telemetry FROM wardgate_gateway")
            assert await workers.report() is False
    said = capfd.readouterr().out
    assert (said.count("may not keep reports"), said.count("kept again")) == (2, 1)
    assert float(place.run("SELECT last_used_at FROM telemetry")) == kept


async def test_where_transactions_only_read_nothing_is_tried(place: Place) -> None:
    place.run(REPORTING)
    async with place.desk() as desk:
        assert (desk.rights, await keeps_reports(desk.store)) == (Rights(changes=False), True)
        async with desk.store.note() as conn:
            await conn.execute(text("SET TRANSACTION READ ONLY"))
            with pytest.raises(DBAPIError) as raised:
                await conn.execute(text("DELETE FROM health"))
        assert forbidden(raised.value)
    # As on a standby, for the owner, too.
    place.run(f"ALTER DATABASE {place.database} SET default_transaction_read_only = on")
    for url in (place.url, place.owner):
        async with place.desk(url) as desk:
            assert (desk.rights, await keeps_reports(desk.store)) == (Rights(changes=False), False)


async def test_an_older_database_is_left_alone_and_refused_in_words(
    place: Place, new_postgres: Callable[[], str]
) -> None:
    assert await asyncio.to_thread(migrate, place.url) is False
    place.run("UPDATE alembic_version SET version_num = '0001'")
    await place.refuses(f"is at 0001; .* needs {newest()}, .*start the admin")
    assert place.run("SELECT version_num FROM alembic_version") == "0001\n"
    place.run("UPDATE alembic_version SET version_num = '9999'")
    await place.refuses("not one this version knows")
    empty = f"{place.url.rpartition('/')[0]}/{name_of(new_postgres())}"
    await place.refuses("is new, or keeps its version", url=empty)


async def test_what_it_may_not_read_is_named(place: Place) -> None:
    place.run("REVOKE SELECT ON route, sealed FROM wardgate_gateway")
    await place.refuses("may not read route, sealed: grant it")
    place.run("REVOKE SELECT ON alembic_version FROM wardgate_gateway")
    await place.refuses("permission denied for table alembic_version")


async def test_a_master_key_that_is_new_needs_nobody_who_writes(place: Place) -> None:
    before = place.run("SELECT name FROM sealed ORDER BY name")
    async with place.desk(ring=KeyRing([NEW, *RING.expose()])):
        assert place.run("SELECT name FROM sealed ORDER BY name") == before
    await place.refuses("does not open this database", ring=KeyRing([NEW]))
    place.run("DELETE FROM sealed")
    await place.refuses("start the admin app once")


async def test_whoever_is_to_change_something_is_refused(place: Place) -> None:
    for words in (("serve", "--admin-port", "0"), ("serve", "gateway", "--import-env")):
        data = place.folder / words[1]
        given = variables(place)
        code, _, said = await wardgate(data, *words, "--port", "0", stdin=b"", **given)
        assert (code, said.count("\n")) == (1, 1)
        assert "the database role may not change configuration" in said


async def test_in_a_file_everything_is_allowed(tmp_path: Path) -> None:
    desk = await open_desk(Settings(data_dir=tmp_path), RING, catalog.load())
    async with desk.store.read() as conn:
        assert await rights(conn) == Rights()
    assert await keeps_reports(desk.store)
    await desk.aclose()
