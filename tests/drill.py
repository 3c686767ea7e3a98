"""A whole fleet whose parts may be killed, frozen and restarted, under a load that writes it down.

Three gateways behind HAProxy, an admin app, a PostgreSQL and a Redis, each a process of its own;
callers at a steady rate, and a ledger of every request: when, through which gateway, how it ended.
Called by the tests of outages.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from time import monotonic, time

import httpx2

from admin.configure import configs, keys
from admin.configure.configs import NewConfig
from admin.configure.desk import Desk, open_desk
from admin.configure.keys import NewKey
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway import catalog
from gateway.settings import Settings
from gateway.shapes import GLOBAL
from gateway.vault import KeyRing
from tests import servers
from tests.desks import secret
from tests.fleet import CHAT, Member, flaw, quiet_port
from tests.serve import RawClient, request_bytes
from tests.servers import Server

DEPLOY = Path(__file__).parent.parent / "deploy" / "haproxy.cfg"
KEK = bytes(range(32))
RATE = 100  # requests a second
# Providers by alias: without a limit, with one nobody reaches, and with one that is reached.
LIMITS = {"demo": None, "told": None, "counted": 10**7, "exact": 500}
# A list of each surface, and where its error says what is wrong.
LISTS = {
    "/api/v1/ai-providers": "detail",
    "/connections": "detail",
    "/accounts/wardgate/ai-gateway/gateways/global/provider_configs": "errors",
    "/manage/v1/providers": "error",
    "/llm-config/": "detail",
}
SHORT, COUNTED, STREAM = "short", "counted", "stream"  # COUNTED: by a limit in Redis
_MIX = (STREAM, COUNTED, SHORT, SHORT, COUNTED, SHORT, SHORT, COUNTED, SHORT, SHORT)
_STREAM = "chunks=20; chunk_delay=0.05"
_LINE = re.compile(r" gateways/(\S+) .* id=(\S+)-(\d+)$", re.MULTILINE)
_PATIENCE = 60.0


@dataclass
class Site:
    """All of it. `token` is a superadmin's, `key` an application's."""

    postgres: Server
    redis: Server
    upstream: Upstream
    gateways: list[Member]
    admin: Member
    front: Server
    token: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def asking(self) -> httpx2.AsyncClient:
        """A client of the admin app."""
        url = f"http://{self.admin.address}"
        return httpx2.AsyncClient(base_url=url, headers=self.headers, timeout=3)

    async def make_key(self) -> tuple[str, str]:
        """A new client key by the API: its id and its text."""
        async with self.asking() as http:
            made = await http.post("/api/v1/client-keys", json={"name": "app"})
        assert made.status_code == 201, made.text
        return made.json()["id"], made.json()["key"]

    async def revoke(self, key_id: str) -> None:
        async with self.asking() as http:
            assert (await http.delete(f"/api/v1/client-keys/{key_id}")).status_code == 204

    async def statuses(self, key: str, model: str = "demo/any") -> set[int]:
        """What each gateway answers that key, and each worker of it."""
        asked = [member for member in self.gateways for _ in range(_workers(member) ** 2)]
        return set(await asyncio.gather(*(status(each.port, key, model) for each in asked)))

    async def until_answered(self, key: str, wanted: int, within: float = 10.0) -> float:
        """Seconds until every gateway answers the key so."""
        began = monotonic()
        async with asyncio.timeout(within):
            while await self.statuses(key) != {wanted}:  # noqa: ASYNC110 # other processes
                await asyncio.sleep(0.02)
        return monotonic() - began


def _workers(member: Member) -> int:
    return int(member.env.get("WARDGATE_WORKERS", "1"))


async def status(port: int, key: str, model: str) -> int:
    """Of one request, on a connection of its own."""
    async with RawClient(port) as client:
        await client.send(request(key, model))
        return (await client.answer("POST")).status


def request(key: str, model: str, *, stream: bool = False, **headers: str) -> bytes:
    """A chat request as it stands on the wire."""
    given = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    message = {"role": "user", "content": "hi"}
    body = json.dumps({"model": model, "stream": stream, "messages": [message]}).encode()
    return request_bytes("POST", CHAT, given, body)


@contextlib.asynccontextmanager
async def site(folder: Path, *, workers: int = 1, front: bool = True) -> AsyncIterator[Site]:
    """Everything serves when the block begins; everything is gone when it is left.

    `workers`: of the first gateway; the others have one each.
    """
    async with AsyncExitStack() as stack:
        # What it has acknowledged it has to have when it is killed.
        keeping = servers.postgres_server(quiet_port, "synchronous_commit=on")
        postgres = stack.enter_context(keeping)
        redis = stack.enter_context(servers.redis_server(quiet_port))
        upstream = await stack.enter_async_context(Upstream(record=False))
        env = {
            "WARDGATE_DATABASE_URL": servers.postgres_url(postgres, "postgres"),
            "WARDGATE_REDIS_URL": servers.redis_url(redis),
            "WARDGATE_KEKS": f"k1:{base64.b64encode(KEK).decode()}",
            "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8",
            "WARDGATE_DRAIN_DELAY": "1.5",
        }
        admin = Member(folder / "admin", quiet_port(), env, ("admin", "--admin-port"))
        gateways = [_gateway(folder, n, env, workers if n == 1 else 1) for n in (1, 2, 3)]
        stack.push_async_callback(_close, (admin, *gateways))
        await admin.start()
        assert admin.running is not None
        key = await _furnish(env["WARDGATE_DATABASE_URL"], upstream.url)
        await asyncio.gather(*(member.start() for member in gateways))
        before = stack.enter_context(_front(folder, gateways))
        made = Site(postgres, redis, upstream, gateways, admin, before, admin.running.token, key)
        await until_states(made, "UP", "UP", "UP")
        yield made


async def _close(members: Sequence[Member]) -> None:
    await asyncio.gather(*(member.aclose() for member in members))


def _gateway(folder: Path, number: int, env: dict[str, str], workers: int) -> Member:
    given = {**env, "WARDGATE_WORKERS": str(workers)}
    return Member(folder / f"gateway-{number}", quiet_port(), given)


def _front(folder: Path, gateways: list[Member]) -> contextlib.AbstractContextManager[Server]:
    """As deploy/ has it, with a line more for the third gateway."""
    [line] = re.findall(r"^    server gateway-2 .*$", DEPLOY.read_text(), re.MULTILINE)
    third = line.replace("gateway-2", "gateway-3").replace("GATEWAY_2", "GATEWAY_3")
    settings = folder / "haproxy.cfg"
    settings.write_text(DEPLOY.read_text().replace(line, f"{line}\n{third}"))
    env = {f"GATEWAY_{n}": member.address for n, member in enumerate(gateways, 1)}
    return servers.haproxy_server(settings, env)


@contextlib.asynccontextmanager
async def desk_of(url: str) -> AsyncIterator[Desk]:
    loopback = Settings.from_env({"WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8"})
    settings = Settings(database_url=url, allowed_upstream_cidrs=loopback.allowed_upstream_cidrs)
    desk = await open_desk(settings, KeyRing([("k1", KEK)]), catalog.load())
    try:
        yield desk
    finally:
        await desk.aclose()


def _period() -> int:
    """Of a window that does not end while a test runs."""
    return next(period for period in (86_400, 86_401) if period - time() % period > 3600)


async def _furnish(url: str, upstream: str) -> str:
    """The providers of LIMITS, and a key."""
    async with desk_of(url) as desk:
        for name, limit in LIMITS.items():
            new = NewConfig(
                scope=GLOBAL, provider=f"custom:{name}", alias=name, base_url=upstream,
                dialect="openai", secret=secret(), rate_limit=limit, rate_limit_period=_period(),
            )  # fmt: skip
            await configs.create(desk, LOCAL, new)
        _, key = await keys.create(desk, LOCAL, NewKey(name="app"))
    return key


async def until_states(made: Site, *wanted: str, within: float = 15.0) -> None:
    """Until HAProxy thinks so of its gateways."""
    async with asyncio.timeout(within), httpx2.AsyncClient() as client:
        while await states(made, client) != [*wanted]:  # noqa: ASYNC110 # another process
            await asyncio.sleep(0.02)


async def states(made: Site, client: httpx2.AsyncClient) -> list[str]:
    text = (await client.get(f"http://{made.front.env['STATUS']}/;csv")).text
    found = dict(re.findall(r"^gateways,(gateway-\d),(?:[^,]*,){15}([^,]*)", text, re.MULTILINE))
    return [found[name] for name in sorted(found)]


@dataclass
class Entry:
    """One request. `through`: the gateway that had it; "" as long as nobody knows."""

    number: int
    kind: str
    began: float
    ended: float = 0.0
    flaw: str = ""
    through: str = ""

    @property
    def took(self) -> float:
        return self.ended - self.began


@dataclass
class Load:
    """RATE requests a second through the front until the block is left; `entries` are all."""

    site: Site
    name: str = field(default_factory=lambda: token_hex(4))
    entries: list[Entry] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Load:
        self._asking = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._asking
        self._name_gateways()

    async def _ask(self) -> None:
        began, kinds = monotonic(), _kinds()
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                await asyncio.sleep(began + len(self.entries) / RATE - monotonic())
                entry = Entry(len(self.entries), next(kinds), monotonic())
                self.entries.append(entry)
                group.create_task(self._one(entry))

    async def _one(self, entry: Entry) -> None:
        stream, model = entry.kind == STREAM, "counted" if entry.kind == COUNTED else "demo"
        orders = {"x_demo": _STREAM} if stream else {}
        sent = request(
            self.site.key, f"{model}/any", stream=stream,
            x_request_id=f"{self.name}-{entry.number}", **orders,
        )  # fmt: skip
        try:
            async with RawClient(self.site.front.port, timeout=_PATIENCE) as client:
                await client.send(sent)
                entry.flaw = flaw(await client.answer("POST"), stream=stream)
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            entry.flaw = repr(error)
        entry.ended = monotonic()

    def _name_gateways(self) -> None:
        for gateway, load, number in _LINE.findall(self.site.front.log):
            if load == self.name:
                self.entries[int(number)].through = gateway


def _kinds() -> Iterator[str]:
    while True:
        yield from _MIX
