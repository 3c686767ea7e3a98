"""The admin app over a scripted OpenAI, and surface 1 as its tests speak it.

Called by the tests of surfaces 1 and 4.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from admin.configure import agents, configs, routes
from admin.configure.agents import AgentView, NewAgent
from admin.configure.configs import ConfigView, NewConfig
from admin.configure.routes import NewRoute
from admin.demo.upstream import Received, Script, Upstream
from admin.permit import LOCAL
from gateway.health import Counts, Place, bucket_of, pack
from gateway.shapes import GLOBAL, Secret, Target
from gateway.store import health, proofs
from gateway.store.proofs import Proof
from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend

LIST = "/api/v1/ai-providers"
OPENAI = f"{LIST}/openai"
CONFIGURE = f"{OPENAI}/configure"
MANAGE = "/manage/v1/providers"
TYPE_ID = "gr_01hz1f0kw36f82k9s4nzpc4s33"
GROUP = f"group:{TYPE_ID}"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
NOWHERE = "01977c2a-0000-7000-8000-000000000000"
ANOTHER = f"sk-test-{CANARY}-another-0123456789-NEWK"
REFUSED = f"sk-refused-{CANARY}-0123456789abcdef"
AWS = f"AKIACANARY0123456789::aws/{CANARY}+0123456789abcdefghijklmn::eu-west-1"


def openai(received: Received) -> Script:
    """Refuses one key and nobody's, fails with a 500 for `away`, lists a model for any other."""
    sent = (received.header(b"authorization") or b"").decode().removeprefix("Bearer ")
    if sent in ("", REFUSED):
        return Script(status=401, body=b'{"error":{"message":"Incorrect API key"}}')
    if "away" in sent:
        return Script(status=500)
    return Script(body=b'{"object":"list","data":[{"id":"gpt-4o"}]}')


@contextlib.asynccontextmanager
async def openai_house(backend: Backend, **given: Any) -> AsyncIterator[tuple[Admin, Upstream]]:
    """An admin app and the OpenAI it can reach; no key lies in its store when it is left."""
    async with Upstream(openai) as upstream:
        elsewhere = {"openai": upstream.url, **given.pop("provider_base_urls", {})}
        async with admin(backend, provider_base_urls=elsewhere, **given) as running:
            yield running, upstream
            assert CANARY.encode() not in backend.disk()


async def ask(
    app: Admin, status: int, method: str, path: str, body: Any = None, **more: Any
) -> httpx2.Response:
    """An answer that has the status it must have, and no key in it."""
    answer = await app.call(method, path, body, **more)
    assert answer.status_code == status, (method, path, answer.status_code, answer.text)
    assert CANARY not in answer.text + repr(answer.headers)
    return answer


async def view(app: Admin, query: str = "", path: str = OPENAI, **more: Any) -> Any:
    """What is shown of OpenAI, or of what `query` puts behind it."""
    return (await ask(app, 200, "GET", f"{path}{query}", **more)).json()


async def put(app: Admin, query: str = "", status: int = 200, **body: Any) -> dict[str, Any]:
    """PUT configure of OpenAI; without anything said of a key, with KEY."""
    sent = body if "apiKey" in body or "keep" in body else {"apiKey": KEY, **body}
    sent = {name: value for name, value in sent.items() if name != "keep"}
    shown: dict[str, Any] = (await ask(app, status, "PUT", f"{CONFIGURE}{query}", sent)).json()
    return shown


async def config(
    app: Admin, alias: str = "main", provider: str = "openai", scope: str = GLOBAL, **more: Any
) -> ConfigView:
    """A config made by the desk."""
    given = {"secret": Secret(KEY.encode()), **more}
    new = NewConfig(scope=scope, provider=provider, alias=alias, **given)
    return await configs.create(app.desk, LOCAL, new)


async def agent(app: Admin, name: str, model: str, scope: str = GLOBAL) -> AgentView:
    return await agents.create(app.desk, LOCAL, NewAgent(name=name, scope=scope, model=model))


async def route(app: Admin, config_id: str, name: str = "fast") -> None:
    target = Target(config_id, "gpt-4o")
    await routes.create(app.desk, LOCAL, NewRoute(name=name, targets=(target,)))


async def seen(app: Admin, config_id: str, outcome: str, version: int = 1) -> None:
    """Somebody saw this of that version of the config's key, just now."""
    async with app.desk.store.note() as conn:
        await proofs.put(conn, config_id, Proof(version, outcome, app.desk.clock()))


async def counted(app: Admin, config_id: str, ago: float, *, ok: int = 0, failed: int = 0) -> None:
    """So many requests `ago` seconds ago, the good ones in 300 ms with a first byte after 20."""
    at = app.desk.clock() - ago
    errors = {"http_500": failed} if failed else {}
    timed = {bucket_of(0.3): ok} if ok else {}
    counts = pack(Counts(ok + failed, at, errors, timed, {bucket_of(0.02): ok} if ok else {}))
    slots = {Place(config_id, width, int(at // width)): counts for width in (10, 300, 3600)}
    await health.keep(app.desk.store, f"test-{ago}", slots, {})
