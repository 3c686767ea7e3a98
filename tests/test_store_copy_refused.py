"""What `wardgate store copy` does not copy, or not into; and the command as it is typed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from admin.cli.main import wardgate as commands
from admin.configure.desk import Desk
from gateway.errors import StartRefused
from gateway.store import sealed
from gateway.store.migrate import make_file, migrate
from gateway.store.transfer import copy
from gateway.vault import KeyRing
from tests.backends import Backend
from tests.copies import copied, held, in_file, opened_store, opened_target, started
from tests.desks import RING
from tests.filled import contents, filled_desk
from tests.houses import wardgate

OTHER = KeyRing([("test", bytes(range(32)))])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """The desk of the store that is copied."""
    async with filled_desk(tmp_path) as (made, _):
        yield made


@pytest.fixture
def url(backend: Backend) -> str:
    """An empty database of each kind."""
    return backend.empty()


async def run(url: str, *statements: str) -> None:
    async with opened_store(url) as store, store.note() as conn:
        for statement in statements:
            await conn.execute(text(statement))


async def test_a_target_with_data_of_its_own(desk: Desk, url: str) -> None:
    await asyncio.to_thread(migrate, url)
    for statement in (
        "UPDATE revision SET value = 1",
        "INSERT INTO scope (id, kind, parent_id, created_at) VALUES ('a', 'group', 'global', 1)",
    ):
        await run(url, statement)
        before = await held(url)
        with pytest.raises(StartRefused, match="data of its own"):
            await copied(desk.store, url)
        assert await held(url) == before


async def test_a_target_that_was_started_with(desk: Desk, url: str, tmp_path: Path) -> None:
    await (await started(url, tmp_path)).aclose()
    before = await held(url)
    with pytest.raises(StartRefused, match="data of its own"):
        await copied(desk.store, url)
    assert await held(url) == before


async def test_the_tables_of_something_else(desk: Desk, url: str) -> None:
    make_file(url)
    await run(url, "CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(StartRefused, match="something else"):
        await copied(desk.store, url)
    with pytest.raises(SQLAlchemyError, match="revision"):
        await run(url, "SELECT * FROM revision")


async def test_another_version_of_the_tables(desk: Desk, url: str) -> None:
    await asyncio.to_thread(migrate, url)
    await run(url, "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(StartRefused, match="another version"):
        await copied(desk.store, url)


async def test_the_unfinished_copy_of_another_store(desk: Desk, url: str) -> None:
    await asyncio.to_thread(migrate, url)
    async with opened_store(url) as store, store.note() as conn:
        await sealed.mark_unfinished(conn, bytes(40))
    with pytest.raises(StartRefused, match="another store"):
        await copied(desk.store, url)


async def test_a_store_that_nobody_ever_started_with(url: str, tmp_path: Path) -> None:
    source = f"sqlite+aiosqlite:///{tmp_path / 'wardgate.db'}"
    await asyncio.to_thread(migrate, source)
    async with opened_store(source) as store:
        with pytest.raises(StartRefused, match="nothing to copy"):
            await copied(store, url)


async def test_a_target_that_somebody_else_writes_to(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "target.db"

    def tell(step: str, _done: int, _total: int) -> None:
        if step == "comparing admin_token":
            in_file(file, "DELETE FROM route_target WHERE position = 1")

    async with opened_target(f"sqlite+aiosqlite:///{file}") as target:
        with pytest.raises(StartRefused, match="table route_target is not the same"):
            await copy(desk.store, target, RING, tell)


async def test_a_row_the_target_cannot_hold(desk: Desk, postgres_url: str, tmp_path: Path) -> None:
    in_file(tmp_path / "wardgate.db", "UPDATE agent SET name = hex(zeroblob(101))")
    with pytest.raises(StartRefused, match="table agent cannot be copied: value too long"):
        await copied(desk.store, postgres_url)


async def test_a_ring_that_does_not_open_the_copy(desk: Desk, url: str, tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="master key does not open the copy"):
        await copied(desk.store, url, OTHER)
    with pytest.raises(StartRefused, match="unfinished copy"):
        await started(url, tmp_path)


async def test_a_broken_chain_is_told_and_copied(desk: Desk, url: str, tmp_path: Path) -> None:
    in_file(tmp_path / "wardgate.db", "UPDATE audit SET action = 'x' WHERE id = 3")
    done = await copied(desk.store, url)
    assert (done.trail.mark.id, done.trail.flaw) == (2, "row 3 is not as it was written")
    assert await held(url) == await contents(desk.store)


async def test_the_command(desk: Desk, postgres_url: str, tmp_path: Path) -> None:
    [(name, kek)] = RING.expose()
    url, ring = postgres_url, f"{name}:{base64.b64encode(kek).decode()}"
    code, out, err = await wardgate(tmp_path, "store", "copy", "--to", url, WARDGATE_KEKS=ring)
    assert (code, await held(url)) == (0, await contents(desk.store)), err
    rows = sum(map(len, (await held(url)).values()))
    assert f"{rows} rows, {rows} went over now" in out
    assert "copying audit …\n" in err
    code, out, err = await wardgate(
        tmp_path, "store", "copy", "--to", url, "--json", WARDGATE_KEKS=ring
    )
    said = json.loads(out)
    assert (code, said["copied"], said["audit_flaw"]) == (0, 0, None), err
    assert said["tables"]["agent"]["rows"] == 1
    assert len(said["tables"]["agent"]["digest"]) == 64


@pytest.mark.parametrize(
    ("make", "to", "code", "words"),
    [
        (False, "sqlite+aiosqlite:///x.db", 1, "there is no store"),
        (False, "postgresql://me:canary@h/db", 2, "use postgresql+asyncpg://"),
        (True, "postgresql+asyncpg://me:canary@127.0.0.1:1/none", 1, "cannot be opened"),
    ],
)
def test_the_command_refuses(tmp_path: Path, make: bool, to: str, code: int, words: str) -> None:
    env, cli = {"WARDGATE_DATA_DIR": str(tmp_path / "data")}, CliRunner()
    if make:
        assert cli.invoke(commands, ["keys", "list"], env=env).exit_code == 0
    said = cli.invoke(commands, ["store", "copy", "--to", to], env=env)
    assert (said.exit_code, words in said.stderr) == (code, True), said.output
    assert "canary" not in said.output
    assert (tmp_path / "data").exists() is make
