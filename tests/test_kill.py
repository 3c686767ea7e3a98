"""kill -9 in the middle of writing: nothing acknowledged is lost, nothing is half done.

Writes of four clients at once over HTTP, cut at random points; after each cut the store must hold
exactly what was acknowledged, plus for each request under way all of it or nothing, with one audit
row per change and an unbroken chain. 300 writes and 15 kills; under `make soak` 1,000 and 50, which
took 46 s on two cores that had other work, too (13 of them to start 51 times).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count

import httpx2

from admin.configure import audit, tokens
from admin.configure.desk import Desk, open_desk
from admin.permit import LOCAL, SUPERADMIN, Grant
from gateway import catalog
from gateway.catalog import Catalog
from gateway.shapes import GLOBAL
from gateway.vault import config_binding
from tests.backends import Backend
from tests.desks import RING, table
from tests.lives import Lives, lives

CONFIGS = "/accounts/wardgate/ai-gateway/gateways/global/provider_configs"
SOAK = os.environ.get("SOAK")
WRITES, KILLS = (1000, 50) if SOAK else (300, 15)
WRITERS = 3  # besides the one who moves the default
FLIPPED = ("flip-a", "flip-b", "flip-c")


@dataclass(frozen=True)
class Op:
    """One write to one config: `key` is the one that it brings, for create and rotate."""

    kind: str
    alias: str
    key: str = ""


@dataclass
class Ledger:
    """What the store must hold: alias to key, and which of FLIPPED is the default."""

    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    default: str = ""
    changes: int = 0
    pending: list[Op] = field(default_factory=list)

    def apply(self, op: Op) -> None:
        self.changes += 1
        if op.kind == "flip":
            self.default = op.alias
        elif op.kind == "delete":
            del self.keys[op.alias]
        else:
            self.keys[op.alias] = op.key

    def happened(self, op: Op, keys: dict[str, str], default: str) -> bool:
        """Whether a write nobody answered for is in the store."""
        if op.kind == "flip":
            return default == op.alias
        if op.kind == "delete":
            return op.alias not in keys
        return keys.get(op.alias) == op.key


class Client:
    """Writes until told to stop, and notes what was acknowledged."""

    def __init__(self, http: httpx2.AsyncClient, ledger: Ledger, chance: random.Random) -> None:
        self._http = http
        self._ledger = ledger
        self._chance = chance
        self._numbers = count()
        self.acknowledged = 0
        self.point = asyncio.Event()
        self.until = 0

    async def write(self, writer: int) -> None:
        """One writer's writes, one after another; ends when the app is gone or all is written."""
        for op in self._ops(writer):
            if self.acknowledged >= WRITES:
                return
            self._ledger.pending.append(op)
            try:
                answer = await self._send(op)
            except httpx2.TransportError:
                return
            assert answer.status_code == 200, answer.text
            if op.kind == "create":
                self._ledger.ids[op.alias] = answer.json()["result"]["id"]
            self._ledger.pending.remove(op)
            self._ledger.apply(op)
            self.acknowledged += 1
            if self.acknowledged >= self.until:
                self.point.set()

    def _ops(self, writer: int) -> Iterator[Op]:
        while True:
            yield self._flip() if writer == WRITERS else self._any(writer)

    def _flip(self) -> Op:
        return Op("flip", self._chance.choice([a for a in FLIPPED if a != self._ledger.default]))

    def _any(self, writer: int) -> Op:
        number = next(self._numbers)
        key = f"sk-proj-{os.urandom(12).hex()}"
        mine = [alias for alias in self._ledger.keys if alias.startswith(f"w{writer}-")]
        kind = self._chance.choice(("create", "rotate", "delete")) if len(mine) > 2 else "create"
        if kind == "create":
            return Op(kind, f"w{writer}-{number}-{os.urandom(3).hex()}", key)
        return Op(kind, self._chance.choice(mine), key if kind == "rotate" else "")

    async def _send(self, op: Op) -> httpx2.Response:
        one = f"{CONFIGS}/{self._ledger.ids.get(op.alias)}"
        match op.kind:
            case "create":
                body = {"alias": op.alias, "provider_slug": "openai", "default_config": False}
                return await self._http.post(CONFIGS, json={**body, "secret": op.key})
            case "rotate":
                return await self._http.put(one, json={"secret": op.key})
            case "delete":
                return await self._http.delete(one)
            case _:
                return await self._http.put(one, json={"default_config": True})


@contextlib.asynccontextmanager
async def desk_of(backend: Backend, models: Catalog) -> AsyncIterator[Desk]:
    desk = await open_desk(backend.settings(), RING, models)
    try:
        yield desk
    finally:
        await desk.aclose()


async def compare(backend: Backend, models: Catalog, ledger: Ledger) -> None:
    """Open what the killed process left, settle what nobody answered for, compare everything."""
    async with desk_of(backend, models) as desk:
        stored = (await table(desk)).configs[GLOBAL]
        ledger.ids = {config.alias: config.id for config in stored}
        keys = {
            config.alias: desk.ring.open(config.sealed, config_binding(config)).expose().decode()
            for config in stored
            if config.sealed is not None
        }
        [default] = [config.alias for config in stored if config.default]
        for op in ledger.pending:
            if ledger.happened(op, keys, default):
                ledger.apply(op)
        ledger.pending.clear()
        assert keys == ledger.keys
        assert default == ledger.default
        verdict = await audit.verify(desk, lambda *_: None)
        assert verdict.flaw is None
        # One row per change, the token's besides.
        assert verdict.mark.id == ledger.changes + 1


async def prepared(backend: Backend, models: Catalog) -> str:
    async with desk_of(backend, models) as desk:
        _, token = await tokens.create(desk, LOCAL, "root", (Grant(SUPERADMIN, GLOBAL),))
    return token


async def first_configs(http: httpx2.AsyncClient, ledger: Ledger) -> None:
    """Those between which the default moves."""
    for alias in FLIPPED:
        body = {"alias": alias, "provider_slug": "groq", "secret": f"gsk_{alias}-0123456789abcdef"}
        answer = await http.post(CONFIGS, json={**body, "default_config": alias == FLIPPED[0]})
        ledger.ids[alias] = answer.json()["result"]["id"]
        ledger.apply(Op("create", alias, body["secret"]))
    ledger.default = FLIPPED[0]


async def one_life(living: Lives, client: Client, delay: float | None) -> None:
    """Write until the client's point, then kill it `delay` seconds later; None: until the end."""
    client.point.clear()
    writing = asyncio.gather(*(client.write(number) for number in range(WRITERS + 1)))
    if delay is not None:
        await asyncio.wait_for(client.point.wait(), 30)
        asyncio.get_running_loop().call_later(delay, living.kill)
        await living.gone()
    await writing


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(backend: Backend) -> None:
    chance = random.Random(int(SOAK or "1"))
    points = sorted(chance.sample(range(1, WRITES), KILLS))
    models, ledger = catalog.load(), Ledger()
    await backend.lay(RING)
    token = await prepared(backend, models)
    headers = {"authorization": f"Bearer {token}"}
    async with lives(backend) as living:
        for number, point in enumerate([*points, WRITES + 1]):
            await living.start()
            async with httpx2.AsyncClient(base_url=living.url, headers=headers) as http:
                if number == 0:
                    client = Client(http, ledger, chance)
                    await first_configs(http, ledger)
                client._http, client.until = http, point
                delay = chance.uniform(0, 0.01) if point <= WRITES else None
                await one_life(living, client, delay)
            await compare(backend, models, ledger)
    assert client.acknowledged >= WRITES
