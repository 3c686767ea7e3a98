"""Traces as a collector gets them: what spans say, whose children they are, what they never say."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from admin.demo.upstream import Script, Upstream
from gateway.shapes import RateLimit
from tests.collector import CLIENT, SERVER, Collector, Seen, collecting, exporting
from tests.rig import CHAT, JSON, SSE, STREAM, failing, good, rig
from tests.serve import RawClient, request_bytes
from tests.world import PROVIDER_KEY, Served, World, served

MODEL = "gpt-4o-mini"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
MESSAGE = "a-prompt-nobody-else-may-read"
HI: Any = [{"role": "user", "content": MESSAGE}]
USAGE = b'{"prompt_tokens":12,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}'
WHOLE = b'{"id":"1","model":"m","choices":[],"usage":' + USAGE + b"}"
PIECES = [
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n',
    b'data: {"choices":[],"usage":' + USAGE + b"}\n\n",
    b"data: [DONE]\n\n",
]


@dataclass
class Scene:
    """A gateway whose requests become traces."""

    world: World
    house: Served
    key: str
    upstream: Upstream
    collector: Collector

    def sdk(self, key: str = "", **headers: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.house.url}/v1",
            api_key=key or self.key,
            max_retries=0,
            timeout=5,
            default_headers=headers,
        )

    def request(
        self, path: str = CHAT, method: str = "POST", model: str = f"openai/{MODEL}", **headers: str
    ) -> bytes:
        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        body = json.dumps({"model": model, "messages": HI}).encode()
        return request_bytes(method, path, {**given, **headers}, body)

    async def ask(self, path: str = CHAT, method: str = "POST", **more: str) -> int:
        """One raw request that nobody need like; gives its status."""
        async with RawClient(self.house.port) as client:
            await client.send(self.request(path, method, **more))
            return (await client.answer(method)).status


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Its collector saw no secret when the block is left."""
    async with (
        collecting() as collector,
        exporting(collector.url) as traces,
        Upstream(lambda _: Script(headers=JSON, body=WHOLE)) as upstream,
    ):
        world = World()
        world.config("openai", upstream.url, alias="main")
        key = world.key()
        async with served(world, traces=traces) as house:
            yield Scene(world, house, key, upstream, collector)
        await traces.aclose()
    told_nothing(collector, key, PROVIDER_KEY)


def told_nothing(collector: Collector, *secrets: str) -> None:
    assert collector.bodies
    for word in (*secrets, *(key.split("_")[1] for key in secrets if key[:3] == "wg_"), MESSAGE):
        assert word.encode() not in collector.wire


def own(seen: Seen) -> dict[str, Any]:
    """What it says, without what differs from run to run."""
    differing = {"wardgate.request.id", "server.port", "gen_ai.response.time_to_first_chunk"}
    return {name: value for name, value in seen.said.items() if name not in differing}


SERVED = {
    "http.request.method": "POST",
    "http.route": CHAT,
    "http.response.status_code": 200,
    "url.scheme": "http",
    "server.address": "127.0.0.1",
    "wardgate.outcome": "ok",
    "wardgate.provider": "openai",
    "wardgate.config": "main",
    "wardgate.scope": "global",
}
ASKED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": MODEL,
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 9,
    "gen_ai.usage.cache_read.input_tokens": 4,
    "http.response.status_code": 200,
    "server.address": "127.0.0.1",
    "wardgate.provider": "openai",
    "wardgate.config": "main",
    "wardgate.scope": "global",
}


async def test_a_request_is_a_span_and_its_attempt_another(scene: Scene) -> None:
    async with scene.sdk() as client:
        answer = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
    server, asked = await scene.collector.wait(2)
    assert (server.name, server.kind, server.parent) == (f"POST {CHAT}", SERVER, "")
    assert (asked.name, asked.kind, asked.parent) == (f"chat {MODEL}", CLIENT, server.id)
    assert asked.trace == server.trace != "0" * 32
    assert server.started < asked.started < asked.ended <= server.ended
    assert (own(server), own(asked)) == (SERVED, ASKED)
    assert server.said["wardgate.request.id"] == answer.headers["wardgate-request-id"]
    assert asked.said["server.port"] == scene.upstream.port
    assert {server.failed, asked.failed} == {False}
    assert server.resource["service.name"] == "wardgate"
    assert len(server.resource["service.instance.id"]) == 36  # one for each worker


async def test_a_stream_tells_when_its_first_byte_came(scene: Scene) -> None:
    scene.upstream.respond = lambda _: Script(headers=SSE, chunks=PIECES, framing="chunked")
    async with scene.sdk() as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
        )
        assert [chunk async for chunk in stream]
    _, asked = await scene.collector.wait(2)
    assert own(asked) == {**ASKED, "gen_ai.request.stream": True}
    waited = asked.said["gen_ai.response.time_to_first_chunk"]
    assert 0 < waited <= (asked.ended - asked.started) / 1e9


async def test_the_clients_own_trace_goes_on(scene: Scene) -> None:
    async with scene.sdk(traceparent=PARENT, tracestate=f"vendor={MESSAGE}") as client:
        await client.chat.completions.create(model=MODEL, messages=HI)
    server, asked = await scene.collector.wait(2)
    assert (server.trace, server.parent) == (TRACE, SPAN) == (asked.trace, server.parent)
    assert asked.parent == server.id != SPAN
    [received] = scene.upstream.received
    assert received.header(b"traceparent") == PARENT.encode()
    assert received.header(b"tracestate") == f"vendor={MESSAGE}".encode()


async def test_what_its_client_does_not_sample_is_not_exported(scene: Scene) -> None:
    assert await scene.ask(traceparent=f"00-{TRACE}-{SPAN}-00") == 200
    assert await scene.ask(traceparent=PARENT) == 200
    server, asked = await scene.collector.wait(2)
    assert {server.trace, asked.trace} == {TRACE}


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "00",
        PARENT[:-1],
        PARENT + "-x",
        PARENT.upper().replace("00-", "zz-"),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{PARENT}, {PARENT}",
        "x" * 4000,
        "\xff" * 55,
    ],
)
async def test_a_malformed_parent_is_none(scene: Scene, malformed: str) -> None:
    assert await scene.ask(traceparent=malformed) == 200
    server, asked = await scene.collector.wait(2)
    assert server.parent == ""
    assert server.trace == asked.trace != TRACE
    assert scene.upstream.received[0].header(b"traceparent") == malformed.encode("latin-1")


async def test_two_parents_are_none(scene: Scene) -> None:
    twice = b"\r\ntraceparent: %b" % PARENT.encode() * 2 + b"\r\n\r\n"
    async with RawClient(scene.house.port) as client:
        await client.send(scene.request().replace(b"\r\n\r\n", twice, 1))
        assert (await client.answer("POST")).status == 200
    server, _ = await scene.collector.wait(2)
    assert (server.parent, server.trace == TRACE) == ("", False)


async def test_refusals_are_spans_without_an_attempt(scene: Scene) -> None:
    limited = scene.world.key(limit=RateLimit(1, 3600))
    scene.house.gateway.swap(scene.world.snapshot())
    assert await scene.ask(authorization="Bearer nobody") == 401
    assert await scene.ask(authorization=f"Bearer {limited}") == 200
    assert await scene.ask(authorization=f"Bearer {limited}") == 429
    assert await scene.ask("/no/such/path?key=" + MESSAGE) == 404
    assert await scene.ask(method="PROPFIND") == 405
    told = {one.said["http.response.status_code"]: one for one in (await scene.collector.wait(6))}
    assert {status: one.name for status, one in told.items() if status != 200} == {
        401: f"POST {CHAT}",
        429: f"POST {CHAT}",
        404: "POST",
        405: "HTTP",
    }
    assert own(told[401]) == {
        **{name: SERVED[name] for name in SERVED if not name.startswith("wardgate.")},
        "http.response.status_code": 401,
        "error.type": "missing_api_key",
        "wardgate.outcome": "refused",
    }
    assert told[429].said["error.type"] == "rate_limit_exceeded"
    assert told[429].said["wardgate.limit"] == "client"
    assert "http.route" not in told[404].said
    assert told[405].said["http.request.method"] == "_OTHER"
    assert not any(one.failed for one in told.values())  # it was the client's doing


async def test_a_clients_own_word_is_in_no_name_and_masked(scene: Scene) -> None:
    for model in ("openai/mine-own", f"openai/{PROVIDER_KEY}"):
        assert await scene.ask(model=model) == 200
    *_, first, second = await scene.collector.wait(4)
    assert first.name == second.name == "chat"
    assert first.said["gen_ai.request.model"] == "mine-own"
    assert second.said["gen_ai.request.model"] == "sk-...cdef"


async def test_numbers_that_cannot_be_are_left_out(scene: Scene) -> None:
    usage = b'{"prompt_tokens":%d,"completion_tokens":5}' % 2**60
    body = b'{"id":"1","choices":[],"usage":' + usage + b"}"
    scene.upstream.respond = lambda _: Script(headers=JSON, body=body)
    assert await scene.ask() == 200
    _, asked = await scene.collector.wait(2)
    assert "gen_ai.usage.input_tokens" not in asked.said
    assert asked.said["gen_ai.usage.output_tokens"] == 5


async def test_a_client_that_leaves_is_no_failure(scene: Scene) -> None:
    never = asyncio.Event()
    scene.upstream.respond = lambda _: Script(before_head=never)
    async with RawClient(scene.house.port) as client:
        await client.send(scene.request())
        await scene.upstream.wait_received(1)
    server, asked = await scene.collector.wait(2)
    for one in (server, asked):
        assert one.said["error.type"] == "client_closed_request"
        assert "http.response.status_code" not in one.said
        assert not one.failed
    assert server.said["wardgate.outcome"] == "client_gone"


async def test_a_cut_stream_has_failed(scene: Scene) -> None:
    whole = b"".join(PIECES[:2])
    scene.upstream.respond = lambda _: Script(
        headers=SSE, chunks=[whole], framing="chunked", cut_at=len(whole)
    )
    async with scene.sdk() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        with pytest.raises(openai.APIError):
            [chunk async for chunk in stream]
    server, asked = await scene.collector.wait(2)
    for one in (server, asked):
        assert one.said["error.type"] == "upstream_incomplete"
        assert one.said["http.response.status_code"] == 200
        assert one.failed
    assert asked.said["wardgate.usage.partial"] is True
    assert asked.said["gen_ai.usage.output_tokens"] == 9


async def test_attempts_that_were_given_up_are_siblings() -> None:
    async with (
        collecting() as collector,
        exporting(collector.url, host="0.0.0.0") as traces,
        rig(failing(503), None, good(), traces=traces, limits={2: RateLimit(1, 3600)}) as at,
    ):
        assert (await at.ask()).status == 200
        spans = await collector.wait(4)
        server, *tried = spans
        assert [one.name for one in tried] == ["chat model-0", "chat model-1", "chat model-2"]
        assert {one.parent for one in tried} == {server.id}
        assert [one.failed for one in tried] == [True, True, False]
        assert [one.said.get("error.type") for one in tried] == [
            "http_503",
            "upstream_failed",
            None,
        ]
        statuses = [one.said.get("http.response.status_code") for one in tried]
        assert statuses == [503, None, 200]
        assert [one.said["wardgate.config"] for one in tried] == ["t0", "t1", "t2"]
        for before, after in zip(tried, tried[1:], strict=False):
            assert before.started < before.ended <= after.started
        assert "server.address" not in server.said  # it listens everywhere
        # The last one's limit is used up: it is never asked, and no span says it was.
        assert (await at.ask()).status == 429
        spans = await collector.wait(7)
        [limited] = [one for one in spans if one.said.get("wardgate.limit")]
        assert limited.said["error.type"] == "rate_limit_exceeded"
        told_nothing(collector, at.key, "canary")


async def test_a_target_that_was_never_sent_to_is_no_attempt() -> None:
    async with (
        collecting() as collector,
        exporting(collector.url) as traces,
        rig(good(), good(), keyless=frozenset({0}), traces=traces) as at,
    ):
        assert (await at.ask()).status == 200
        _, tried = await collector.wait(2)
        assert tried.name == "chat model-1"


async def test_credentials_and_resource_are_as_the_variables_say(tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    os.environ |= {"NETRC": str(netrc), "HTTP_PROXY": "http://127.0.0.1:9"}
    async with (
        collecting() as collector,
        exporting(
            collector.url,
            OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20collector-key",
            OTEL_SERVICE_NAME="front-door",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.instance.id=one",
        ) as traces,
        rig(good(), traces=traces) as at,
    ):
        assert (await at.ask()).status == 200
        [server, _] = await collector.wait(2)
        assert b"authorization: bearer collector-key" in bytes(collector.wire).lower()
        assert server.resource["service.name"] == "front-door"
        assert server.resource["service.instance.id"] == "one"
        assert server.resource["deployment.environment.name"] == "test"


async def test_a_sampler_decides_about_traces_that_begin_here() -> None:
    async with (
        collecting() as collector,
        exporting(collector.url, OTEL_TRACES_SAMPLER="parentbased_always_off") as traces,
        rig(good(), traces=traces) as at,
    ):
        assert (await at.ask()).status == 200
        assert (await at.ask(headers={"traceparent": PARENT})).status == 200
        server, _ = await collector.wait(2)
        assert server.trace == TRACE


async def test_a_house_beside_it_makes_no_traces() -> None:
    async with (
        collecting() as collector,
        exporting(collector.url) as traces,
        rig(good(), traces=traces) as at,
        rig(Script(headers=SSE, body=STREAM)) as other,
    ):
        for _ in range(3):
            assert (await other.ask(stream=True)).status == 200
            assert (await at.ask()).status == 200
        assert len({one.trace for one in await collector.wait(6)}) == 3
