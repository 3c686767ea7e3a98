"""What an admin does, seen by applications: a house with two workers, all surfaces, real sockets.

Each journey has a scope of its own in one house. What must show within a second is measured on a
connection to each worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio

from admin.demo.upstream import Received, Script, Upstream
from gateway.store.compile import revision
from tests.admin_serve import CANARY
from tests.aws import ACCESS_KEY, REGION, SECRET_KEY, signed_headers
from tests.backends import Backend
from tests.copies import opened_store
from tests.houses import PATIENCE, Running, house
from tests.places import CONFIGURE, CONNECTIONS, LLM, OPENAI, PROVIDERS, ROUTES, group, key
from tests.serve import Answer, RawClient, request_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")
WITHIN = 1.0  # seconds from the admin's answer until every worker does as told
CHAT = "/v1/chat/completions"
PARENT, REFERRED = key("parent"), key("referred")
EVENT = b'data: {"id":"c","object":"chat.completion.chunk","choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"


class Line(RawClient):
    """A connection to one worker, kept open."""

    @property
    def own_port(self) -> int:
        return int(self._inbox.transport.get_extra_info("sockname")[1])

    async def ask(
        self, client: str, model: str | None = "gpt-4.1", path: str = CHAT, **more: Any
    ) -> Answer:
        """One request of an application; `model` None names none."""
        asked = {"messages": [{"role": "user", "content": [{"text": "hi"}]}], **more}
        body = json.dumps(asked if model is None else {**asked, "model": model}).encode()
        return await self.request("POST", path, _headers(client), body)

    async def models(self, client: str) -> set[str]:
        answer = await self.request("GET", "/v1/models", _headers(client))
        return {one["id"] for one in json.loads(answer.body)["data"]}


def _headers(client: str) -> dict[str, str]:
    return {"authorization": f"Bearer {client}", "content-type": "application/json"}


@dataclass
class Town:
    """The house, an admin's client for it, and the provider that it takes for OpenAI."""

    running: Running
    admin: httpx2.AsyncClient
    openai: Upstream
    backend: Backend

    async def said(
        self, status: int, method: str, path: str, body: Any = None, scope: str | None = None
    ) -> Any:
        """The answer's JSON, when it has the status it must have."""
        headers = {} if scope is None else {"wardgate-scope": scope}
        answer = await self.admin.request(method, path, json=body, headers=headers)
        assert answer.status_code == status, (method, path, answer.text)
        return answer.json() if answer.content else None

    async def client(self, scope: str, **more: Any) -> str:
        """A client key of a scope; workers may not know it yet."""
        body = {"name": "app", "scope": scope, **more}
        text: str = (await self.said(201, "POST", "/api/v1/client-keys", body))["key"]
        return text

    @contextlib.asynccontextmanager
    async def lines(self) -> AsyncIterator[list[Line]]:
        """A connection to each worker."""
        pids = self.running.workers()
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            found: dict[int, Line] = {}
            while len(found) < len(pids):
                line = Line(urlsplit(self.running.gateway).port or 0)
                await stack.enter_async_context(line)
                await line.request("GET", "/livez")  # accepted: before that it is nobody's
                found.setdefault(_holder(pids, line), line)
            yield list(found.values())

    async def revision(self) -> int:
        """How many changes were ever committed."""
        async with opened_store(self.backend.place) as store:
            return await revision(store)


def _holder(pids: list[int], line: Line) -> int:
    """The worker at the other end of a connection."""
    remote = f":{line.own_port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(remote)}
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if str(file.readlink()) in sockets:
                    return pid
    raise AssertionError("no worker holds the connection")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(shared_backend: Backend) -> AsyncIterator[Town]:
    async with Upstream() as openai:
        env = {
            "WARDGATE_PROVIDER_BASE_URLS": f"openai={openai.url}",
            "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8",
            "UPSTREAM_JOURNEY": REFERRED,
            **shared_backend.env,
        }
        async with house(shared_backend.folder, "--workers", "2", **env) as running:
            sent = {"authorization": f"Bearer {running.token}"}
            async with httpx2.AsyncClient(base_url=running.admin, headers=sent) as admin:
                made = Town(running, admin, openai, shared_backend)
                await made.said(200, "PUT", OPENAI, {"apiKey": PARENT})
                yield made
            said = running.log.read_bytes()
    assert b'"event":"request"' in said
    kept = said + shared_backend.disk()
    assert not [text for text in (CANARY, SECRET_KEY) if text.encode() in kept]


def code(answer: Answer) -> tuple[int, str | None]:
    """Status, and the code of an error."""
    error = json.loads(answer.body).get("error") if answer.status != 200 else None
    return answer.status, error and error["code"]


async def measured(
    lines: list[Line], client: str, wanted: tuple[int, str | None], **asked: Any
) -> tuple[float, set[tuple[int, str | None]]]:
    """Seconds until each worker answered as wanted, and all answers before that."""
    began, before = time.monotonic(), set[tuple[int, str | None]]()

    async def settle(line: Line) -> float:
        while (got := code(await line.ask(client, **asked))) != wanted:
            before.add(got)
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    async with asyncio.timeout(PATIENCE):
        return max(await asyncio.gather(*(settle(line) for line in lines))), before


OK = (200, None)


def sent_keys(received: list[Received]) -> list[str]:
    """The bearer keys a provider got with requests for answers."""
    asked = [one for one in received if one.method == "POST"]
    return [(one.header(b"authorization") or b"").decode().removeprefix("Bearer ") for one in asked]


async def custom(town: Town, scope: str, name: str, upstream: Upstream, secret: str) -> str:
    """A config of a server of one's own; gives its id."""
    body = {"apiKey": secret, "baseUrl": upstream.url, "dialect": "openai"}
    await town.said(200, "PUT", CONFIGURE.format(f"custom:{name}"), body, scope)
    one = await town.said(200, "GET", f"{CONNECTIONS}/custom:{name}:default", scope=scope)
    found: str = one["id"]
    return found


async def test_detaching_a_provider_stops_its_agents_on_every_worker(town: Town) -> None:
    scope, own = group(1), key("detached")
    await town.said(200, "PUT", OPENAI, {"apiKey": own}, scope)
    model = "/api/v1/ai-providers/openai/models/gpt-4o"
    await town.said(200, "PUT", model, {"enabled": False}, scope)
    bound = {"name": "bot", "scope": scope, "modelId": "openai/gpt-4.1"}
    agent = await town.said(201, "POST", "/api/v1/ai-agents", bound)
    client = await town.client(scope, agentId=agent["id"])
    async with town.lines() as lines:
        await measured(lines, client, OK)
        seen, revision = len(town.openai.received), await town.revision()
        gone = await town.said(200, "DELETE", OPENAI, scope=scope)
        assert await town.revision() == revision + 1, "config, records and agents: one transaction"
        assert gone == {"disabledAgents": [agent["id"]], "removedModels": 1}
        took, before = await measured(lines, client, (403, "agent_disabled"))
    assert took <= WITHIN
    assert before <= {OK}
    # Half of it would have been: no config any more, and the agent served with the parent's key.
    assert set(sent_keys(town.openai.received[seen:])) <= {own}
    path = "/api/v1/ai-providers/openai/models?enabled=false"
    assert await town.said(200, "GET", path, scope=scope) == []


async def test_a_model_switched_off_is_gone_on_every_worker_until_it_is_on(town: Town) -> None:
    scope = group(2)
    await town.said(200, "PUT", OPENAI, {"apiKey": key("switched")}, scope)
    client = await town.client(scope)
    model = "/api/v1/ai-providers/openai/models/gpt-4.1"
    async with town.lines() as lines:
        await measured(lines, client, OK)
        for enabled, wanted in ((False, (404, "model_not_enabled")), (True, OK)):
            await town.said(200, "PUT", model, {"enabled": enabled}, scope)
            took, _ = await measured(lines, client, wanted)
            assert took <= WITHIN
            for line in lines:
                assert ("gpt-4.1" in await line.models(client)) is enabled
                assert "gpt-4o" in await line.models(client)


async def test_a_route_serves_falls_back_and_holds_its_configs(town: Town) -> None:
    scope = group(3)
    keys = {"first": key("first"), "second": key("second")}
    async with Upstream() as second:
        async with Upstream() as first, town.lines() as lines:
            ids = [
                await custom(town, scope, name, upstream, keys[name])
                for name, upstream in (("first", first), ("second", second))
            ]
            targets = [{"configId": one, "model": "demo"} for one in ids]
            body = {"name": "team/fast", "scope": scope, "targets": targets}
            route = await town.said(201, "POST", ROUTES, body)
            client = await town.client(scope)
            await measured(lines, client, OK, model="team/fast")
            for line in lines:
                assert "team/fast" in await line.models(client)
            assert (len(sent_keys(first.received)) >= 2, second.received) == (True, [])
        async with town.lines() as lines:
            for line in lines:
                answer = await line.ask(client, "team/fast")
                assert code(answer) == OK
                assert answer.header(b"wardgate-provider") == b"custom:second"
        assert set(sent_keys(first.received)) == {keys["first"]}
        assert set(sent_keys(second.received)) == {keys["second"]}
    await _refused_by_all(town, scope, ids[0])
    await town.said(204, "DELETE", f"{ROUTES}/{route['id']}")
    await town.said(200, "DELETE", f"{CONNECTIONS}/{ids[0]}")


async def _refused_by_all(town: Town, scope: str, config: str) -> None:
    """Each surface refuses to delete what the route leads to, and names the route."""
    three = f"/client/v4/accounts/wardgate/ai-gateway/gateways/{scope}/provider_configs/{config}"

    async def refused(status: int, path: str) -> Any:
        answer = await town.said(status, "DELETE", path, scope=scope)
        assert "team/fast" in str(answer)
        return answer

    one = await refused(409, CONFIGURE.format("custom:first"))
    assert (one["title"], one["references"]) == ("Conflict", ["team/fast"])
    two = await refused(400, f"{CONNECTIONS}/{config}")
    assert (two["title"], two["detail"]) == ("Bad Request", "Connection in use")
    [error] = (await refused(400, three))["errors"]
    assert (error["code"], error["message"][:6]) == (7001, "in use")
    four = (await refused(409, f"{PROVIDERS}/{config}"))["error"]
    assert (four["code"], four["references"]) == ("provider_in_use", ["team/fast"])
    assert "in use" in (await refused(409, f"{LLM}?id={config}"))["detail"]


async def test_a_stream_ends_with_the_key_it_began_with(town: Town) -> None:
    scope, old, new = group(4), key("old"), key("new")
    held = asyncio.Event()

    def provider(received: Received) -> Script:
        if received.method == "GET":
            return Script(body=b'{"object":"list","data":[{"id":"demo"}]}')
        if not received.json().get("stream"):
            return Script(body=b'{"object":"chat.completion","choices":[]}')
        head = ((b"content-type", b"text/event-stream"),)
        return Script(
            headers=head, chunks=[EVENT, EVENT, DONE], framing="chunked", gates=[None, held]
        )

    async with Upstream(provider) as upstream, town.lines() as lines:
        config = await custom(town, scope, "held", upstream, old)
        client = await town.client(scope)
        await measured(lines, client, OK, model="custom:held/demo")
        async with Line.to(town.running.gateway) as streaming:
            body = b'{"model":"custom:held/demo","stream":true,"messages":[]}'
            await streaming.send(request_bytes("POST", CHAT, _headers(client), body))
            head = await streaming.head()
            assert EVENT in await streaming.read_until(EVENT)
            begun = len(upstream.received)
            await town.said(200, "PATCH", f"{PROVIDERS}/{config}", {"api_key": new})
            await _until_sent(lines, client, upstream, new)
            assert not upstream.received[begun - 1].done.is_set()
            held.set()
            rest = await streaming.read_until(DONE)
            assert (head.status, EVENT in rest) == (200, True)
    assert sent_keys(upstream.received[begun - 1 : begun]) == [old]


async def _until_sent(lines: list[Line], client: str, upstream: Upstream, new: str) -> None:
    """Until each worker's requests carry the new key."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        for line in lines:
            while True:
                assert code(await line.ask(client, "custom:held/demo")) == OK
                if sent_keys(upstream.received)[-1] == new:
                    break
                await asyncio.sleep(0.01)
    assert time.monotonic() - began <= WITHIN


async def test_an_instance_on_its_own_has_what_it_chose(town: Town) -> None:
    scope, own = "instance:lonely", key("lonely")
    await town.said(201, "POST", "/api/v1/scopes", {"id": scope, "inherit": False})
    heir, client = await town.client("instance:heir"), await town.client(scope)
    async with town.lines() as lines:
        await measured(lines, heir, OK)
        await measured(lines, client, (404, "model_not_found"))
        for line in lines:
            assert await line.models(client) == set()
            assert code(await line.ask(client, None)) == (400, "model_required")
    async with town.lines() as lines:
        chosen = {"provider": "openai", "model": "gpt-4.1-mini", "api_key": own}
        answer = await town.admin.post(LLM, json=chosen, headers={"x-instance-id": "lonely"})
        assert (answer.status_code, answer.json()["instance_id"]) == (201, "lonely")
        took, _ = await measured(lines, client, OK)
        assert took <= WITHIN
        for line in lines:
            assert code(await line.ask(client, None)) == OK
            last = town.openai.received[-1]
            assert (last.json()["model"], sent_keys([last])) == ("gpt-4.1-mini", [own])


async def test_a_reference_is_resolved_where_it_is_used(town: Town) -> None:
    scope = group(6)
    body = {"alias": "referred", "name": "R", "providerId": "openai"}
    settings = {"apiKey": "$env:UPSTREAM_JOURNEY"}
    made = await town.said(201, "POST", CONNECTIONS, {**body, "settings": settings}, scope)
    assert made["settings"]["apiKey"] == settings["apiKey"]
    client = await town.client(scope)
    async with town.lines() as lines:
        await measured(lines, client, OK)
        assert set(sent_keys(town.openai.received[-2:])) == {REFERRED}
        settings = {"apiKey": "$env:UPSTREAM_NOWHERE"}
        await town.said(200, "PUT", f"{CONNECTIONS}/{made['id']}", {"settings": settings}, scope)
        await measured(lines, client, (503, "secret_unavailable"))
        seen = len(town.openai.received)
        for line in lines:
            refusal = (await line.ask(client)).body
            assert b"openai/referred" in refusal
            assert b"$env:UPSTREAM_NOWHERE" in refusal
        assert len(town.openai.received) == seen, "nothing was sent, least of all an empty key"
    tested = await town.said(200, "POST", f"{CONNECTIONS}/{made['id']}/test")
    said = "$env:UPSTREAM_NOWHERE leads to no key"
    assert tested == {"success": False, "errorMessage": said}


async def test_a_composite_key_reaches_bedrock_as_a_signature(town: Town) -> None:
    scope = group(7)
    async with Upstream() as aws, town.lines() as lines:
        secret = f"{ACCESS_KEY}::{SECRET_KEY}::{REGION}"
        body = {"vendor": "bedrock", "name": "AWS", "api_key": secret, "base_url": aws.origin}
        made = await town.said(201, "POST", PROVIDERS, body, scope)
        assert made["api_key_preview"] == f"AKIA...{ACCESS_KEY[-4:]}"
        client = await town.client(scope)
        await measured(lines, client, OK, model=None, path="/model/x/converse")
        asked = [one for one in aws.received if one.path == "/model/x/converse"]
        assert len(asked) == len(lines)
        assert all({"host", "x-amz-date"} <= signed_headers(one) for one in asked)
        assert not [wire for wire in aws.wire if SECRET_KEY.encode() in wire]


async def test_a_killed_admin_process_has_kept_what_it_acknowledged(town: Town) -> None:
    scope = group(8)
    body = {"alias": "kept", "name": "Kept", "providerId": "openai"}
    pid = town.running.neighbour("admin")
    sent = {**body, "settings": {"apiKey": key("kept")}}
    made = await town.said(201, "POST", CONNECTIONS, sent, scope)
    os.kill(pid, signal.SIGKILL)
    assert await _again(town, f"{CONNECTIONS}/{made['id']}") == made
    assert town.running.neighbour("admin") != pid
    client = await town.client(scope)
    async with town.lines() as lines:
        await measured(lines, client, OK)
    assert set(sent_keys(town.openai.received[-2:])) == {key("kept")}


async def _again(town: Town, path: str) -> Any:
    """What the admin app says once there is one again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                return await town.said(200, "GET", path)
            await asyncio.sleep(0.01)
