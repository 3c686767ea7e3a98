"""A store with something in every table, and what a store holds, to be compared.

What is odd is in there: rows that others refer to and that sort behind them, texts beyond ASCII,
times no decimal spells, nested JSON, a retired key. Called by the tests of `wardgate store copy`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from admin.configure import (
    agents,
    choices,
    configs,
    gateways,
    idempotency,
    keys,
    models,
    routes,
    scopes,
    tokens,
)
from admin.configure.agents import NewAgent
from admin.configure.choices import NewChoice
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from admin.configure.orders import ConfigChange
from admin.configure.routes import NewRoute
from admin.permit import LOCAL, SUPERADMIN, Grant
from gateway.health import PROVEN, Place
from gateway.shapes import GLOBAL, Target
from gateway.store import catalogs, health, tables, telemetry
from gateway.store.engine import Store
from gateway.store.proofs import Proof
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, KEY, add, later, secret

HEALTH_ROWS = 20
_MADE: list[tuple[bytes, Filled]] = []
ACCOUNT = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Filled:
    """What a test asks for later: a config's id, a client key's, and an admin token's text."""

    config: str
    key: str
    token: str


@contextlib.asynccontextmanager
async def filled_desk(folder: Path) -> AsyncIterator[tuple[Desk, Filled]]:
    """A desk on such a store, filled once, copied for every test.

    An SQLite file in `folder`, to be spoilt as one: what it is copied into is of both kinds.
    """
    if not _MADE:
        with tempfile.TemporaryDirectory() as made:
            async with desks.opened(Backend(Path(made))) as desk:
                filled = await fill(desk)
            _MADE.append((desks.files(Path(made))["wardgate.db"], filled))
    [(data, filled)] = _MADE
    (folder / "wardgate.db").write_bytes(data)
    async with desks.opened(Backend(folder)) as desk:
        yield desk, filled


async def fill(desk: Desk) -> Filled:
    """Put rows into every table there is; the desk's clock is moved."""
    settings = {"organization": "org-1"}
    config = await add(desk, alias="Haupt", settings=settings, name="Größe 😀")
    change = ConfigChange(secret=secret(f"{KEY}-2"))
    await configs.change(desk, LOCAL, config.id, GLOBAL, change)
    later(desk, 0.1 + 0.2)
    await scopes.create(desk, LOCAL, "instance:z", parent=GLOBAL)
    await scopes.create(desk, LOCAL, GROUP, parent="instance:z")
    await gateways.create(desk, LOCAL, ACCOUNT, "gw", {"cache_ttl": 5, "kept": {"b": [1, None]}})
    choice = NewChoice(provider="openai", model="gpt-4o", secret=secret())
    await choices.choose(desk, LOCAL, GROUP, choice)
    agent = await agents.create(desk, LOCAL, NewAgent(name="bot", scope=GROUP))
    new = NewKey(name="app", scope=GROUP, agent=agent.id, allowed_models=("gpt-4o",))
    key, _ = await keys.create(desk, LOCAL, new)
    targets = [Target(config.id, "gpt-4o"), Target(config.id, "gpt-4.1")]
    await routes.create(desk, LOCAL, NewRoute(name="r", scope=GROUP, targets=targets))
    await models.set_enabled(desk, LOCAL, GROUP, "openai", "gpt-4o", False)
    _, token = await tokens.create(desk, LOCAL, "ci", (Grant(SUPERADMIN, GLOBAL),))
    await idempotency.claim(desk, LOCAL, "once", [b"POST", b"/"])
    async with desk.store.write(None) as conn:
        stored = catalogs.Stored(
            url="https://x", etag=None, digest="0", data=b"\0\xff", synced_at=1.5
        )
        await catalogs.put(conn, stored)
    filled = Filled(config.id, key.id, token)
    await pass_by(desk, filled)
    return filled


async def pass_by(desk: Desk, filled: Filled) -> None:
    """What traffic leaves in the store, without a new revision."""
    await telemetry.record_used(desk.store, {filled.key: desk.clock() + 1 / 3})
    counts = {Place(filled.config, 10, slot): bytes([slot]) for slot in range(HEALTH_ROWS)}
    looks = {filled.config: Proof(2, PROVEN, desk.clock())}
    await health.keep(desk.store, "parent", counts, looks)


async def contents(store: Store) -> dict[str, list[Any]]:
    """Every row of every table, in no order of the database's."""
    async with store.read() as conn:
        return {
            table.name: sorted((tuple(row) for row in await conn.execute(select(table))), key=repr)
            for table in tables.metadata.sorted_tables
        }
