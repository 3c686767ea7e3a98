"""A gateway with a route to scripted upstreams: what the tests of fallback stand on.

On the way out: each upstream saw its own key and no other, and no connection was left over.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from admin.demo.upstream import Script, Upstream
from gateway.shapes import ProviderConfig, RateLimit
from gateway.vault import config_binding
from tests.ports import dead_port
from tests.serve import Answer, RawClient, request_bytes
from tests.world import Served, World, served

CHAT = "/v1/chat/completions"
JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream"),)
OK = b'{"id":"1","model":"upstreams-own-name","choices":[]}'
STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
BUSY = b'{"error":{"message":"slow down","type":"rate_limit","code":"busy"}}'


def good() -> Script:
    return Script(headers=JSON, body=OK)


def failing(status: int = 503, body: bytes = BUSY) -> Script:
    headers = (*JSON, (b"retry-after", b"7"))
    return Script(status=status, headers=headers, body=body)


def secret(number: int) -> str:
    """Each target has a key of its own, so that none can stand in for another."""
    return f"sk-upstream-canary-target-{number}"


@dataclass
class Rig:
    """A gateway with a route `smart` to these upstreams, in their order. None: a dead port."""

    world: World
    house: Served
    key: str
    upstreams: list[Upstream | None]
    client: RawClient
    seen: list[Answer] = field(default_factory=list)

    async def ask(
        self, model: str = "smart", *, stream: bool = False, headers: Mapping[str, str] = {}
    ) -> Answer:
        """One chat request for the route, and its whole answer."""
        body = json.dumps({"model": model, "stream": stream, "messages": []}).encode()
        await self.client.send(self.request(body, headers))
        self.seen.append(await self.client.answer("POST"))
        return self.seen[-1]

    def request(self, body: bytes, headers: Mapping[str, str] = {}, **more: Any) -> bytes:
        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        return request_bytes("POST", more.get("path", CHAT), {**given, **headers}, body)

    @property
    def counts(self) -> list[int]:
        """How many requests each upstream has had."""
        return [len(up.received) if up is not None else 0 for up in self.upstreams]

    @property
    def configs(self) -> list[ProviderConfig]:
        return self.world.configs


@contextlib.asynccontextmanager
async def rig(
    *scripts: Script | None,
    limits: Mapping[int, RateLimit] = MappingProxyType({}),
    keyless: frozenset[int] = frozenset(),
    client: Mapping[str, Any] = MappingProxyType({}),
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A script for each target; `keyless` ones hold a key that does not open.

    On the way out: each upstream saw its own key and no other, and no connection is left over.
    """
    async with contextlib.AsyncExitStack() as stack:
        upstreams: list[Upstream | None] = []
        world = World()
        for number, script in enumerate(scripts):
            made = await stack.enter_async_context(Upstream(script)) if script else None
            upstreams.append(made)
            url = made.url if made is not None else f"http://127.0.0.1:{dead_port()}/v1"
            more: dict[str, Any] = {"limit": limits.get(number)}
            if number in keyless:
                more |= {"secret": None, "reference": "$env:WARDGATE_TEST_NOBODY_SETS_THIS"}
            else:
                more["secret"] = secret(number)
            world.config(f"custom:t{number}", url, alias=f"t{number}", **more)
        world.route("smart", *((row, f"model-{n}") for n, row in enumerate(world.configs)))
        key = world.key(**client)
        async with served(world, **settings) as house, RawClient(house.port) as raw:
            running = Rig(world, house, key, upstreams, raw)
            yield running
        for number, upstream in enumerate(upstreams):
            if upstream is not None:
                await upstream.wait_disconnected()
                check_keys(number, upstream, key)
        for answer in running.seen:
            assert b"canary" not in answer.wire


def check_keys(number: int, upstream: Upstream, key: str) -> None:
    wire = b"".join(bytes(part) for part in upstream.wire)
    assert key.encode() not in wire
    for received in upstream.received:
        assert received.values(b"authorization") == [f"Bearer {secret(number)}".encode()]
    assert wire.count(b"canary") == len(upstream.received)


def attempts(answer: Answer) -> bytes | None:
    return answer.header(b"wardgate-attempts")


def move(at: Rig, number: int, **changed: Any) -> None:
    """Change a target, as if it had been stored like that."""
    row = replace(at.configs[number], **changed)
    sealed = at.world.ring.seal(secret(number).encode(), config_binding(row))
    at.configs[number] = replace(row, sealed=sealed)
    at.house.gateway.swap(at.world.snapshot())
