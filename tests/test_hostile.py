"""Nothing a client sends gives a 5xx, kills a worker or reaches an upstream it should not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from admin.demo.upstream import Script, Upstream
from tests.serve import Answer, Pair, RawClient, raw_exchange, request_bytes
from tests.world import Served, World, served

CHAT = "/v1/chat/completions"
GOOD = b'{"model":"gpt-4o","messages":[]}'


class Target:
    """A gateway with one openai, one anthropic and one google config; every answer is `{}`."""

    def __init__(self, house: Served, upstream: Upstream, key: str) -> None:
        self.house, self.upstream, self.key = house, upstream, key

    async def ask(
        self,
        method: str,
        path: str | bytes,
        headers: list[Pair] | None = None,
        body: bytes | None = GOOD,
    ) -> Answer:
        pairs = headers if headers is not None else [(b"authorization", b"Bearer " + self.own)]
        async with RawClient(self.house.port) as client:
            await client.send(request_bytes(method, path, pairs, body))
            return await client.answer(method)

    @property
    def own(self) -> bytes:
        return self.key.encode()

    async def still_serves(self) -> None:
        assert (await self.ask("POST", CHAT)).status == 200


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        world.config("anthropic", upstream.url, dialect="anthropic")
        world.config("google", upstream.url, dialect="gemini")
        key = world.key()
        async with served(world, max_body_bytes=4_000_000, body_timeout=0.2) as house:
            yield Target(house, upstream, key)


def assert_openai(answer: Answer, status: int, code: str) -> None:
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert error["message"]
    assert error["type"]


BODIES = {
    "not json": (b"hello", "invalid_json"),
    "empty": (b"", "invalid_json"),
    "a list": (b"[1]", "invalid_json"),
    "a number": (b"1", "invalid_json"),
    "cut off": (b'{"model":"gpt-4o"', "invalid_json"),
    "trailing": (b'{"model":"gpt-4o"} x', "invalid_json"),
    "not utf-8": (b'{"model":"\xff\xfe"}', "invalid_json"),
    "model a number": (b'{"model":1}', "invalid_json"),
    "model null": (b'{"model":null}', "model_required"),
    "no model": (b"{}", "model_required"),
    "depth 100,000": (b'{"model":"gpt-4o","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    "depth 100,000 objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, None),
}


@pytest.mark.parametrize("name", BODIES)
async def test_bad_body_is_a_4xx_in_the_callers_dialect(target: Target, name: str) -> None:
    body, code = BODIES[name]
    answer = await target.ask("POST", CHAT, body=body)
    assert 400 <= answer.status < 500
    error = json.loads(answer.body)["error"]
    assert code is None or error["code"] == code
    assert target.upstream.received == []
    await target.still_serves()


async def test_bad_body_is_told_in_anthropics_and_geminis_words(target: Target) -> None:
    answer = await target.ask("POST", "/v1/messages", body=b"hello")
    told = json.loads(answer.body)
    assert (answer.status, told["type"]) == (400, "error")
    assert told["error"]["type"] == "invalid_request_error"
    answer = await target.ask("POST", "/v1beta/models/gemini-2.5-flash:generateContent", body=b"x")
    told = json.loads(answer.body)["error"]
    assert (answer.status, told["code"], told["status"]) == (400, 400, "INVALID_ARGUMENT")


async def test_model_of_a_megabyte_is_not_found_and_not_echoed_whole(target: Target) -> None:
    answer = await target.ask("POST", CHAT, body=b'{"model":"%s"}' % (b"m/" * 500_000))
    assert 400 <= answer.status < 500
    assert len(answer.body) < 4096
    await target.still_serves()


async def test_body_past_the_limit_is_413(target: Target) -> None:
    answer = await target.ask("POST", CHAT, body=b" " * 4_000_001)
    assert_openai(answer, 413, "body_too_large")
    chunk = b"%x\r\n%s\r\n" % (1_000_000, b" " * 1_000_000)
    headers = [(b"authorization", b"Bearer " + target.own), (b"transfer-encoding", b"chunked")]
    async with RawClient(target.house.port) as client:
        await client.send(request_bytes("POST", CHAT, headers) + chunk * 5)
        assert_openai(await client.answer("POST"), 413, "body_too_large")


PATHS = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/../v1/chat/completions",
    "/v1/./chat/completions",
    "/v1/chat/completions/..",
    "/v1/files/..%2f..%2fadmin",
    "/v1/files/%2e%2e/x",
    "/v1/files/%2E%2E",
    "/v1/files/a%5Cb",
    "/v1/files/a%00b",
    "/v1/files/a%0d%0ab",
    "/v1/files/a\\b",
    "/v1/files/a%zz",
    "/v1/files/é",
    "/v1/files/<x>",
    "http://evil.example/v1/chat/completions",
    "http://127.0.0.1/v1/chat/completions",
    "HTTPS://evil.example",
]


@pytest.mark.parametrize("path", PATHS)
async def test_path_that_could_climb_is_refused(target: Target, path: str) -> None:
    for method in ("POST", "GET"):
        answer = await target.ask(method, path.encode(), body=GOOD)
        assert 400 <= answer.status < 500
        assert "error" in json.loads(answer.body)
    assert target.upstream.received == []
    await target.still_serves()


RAW = {
    "cr in a header": b"x-odd: a\rb\r\n",
    "lf in a header": b"x-odd: a\nb\r\n",
    "nul in a header": b"x-odd: a\x00b\r\n",
    "space before colon": b"x-odd : a\r\n",
    "folded header": b"x-odd: a\r\n b\r\n",
    "two hosts": b"host: other\r\n",
    "two lengths": b"content-length: 3\r\n",
    "length and chunked": b"transfer-encoding: chunked\r\n",
    "negative length": b"content-length: -1\r\n",
    "odd encoding": b"transfer-encoding: gzip\r\n",
}


@pytest.mark.parametrize("name", RAW)
async def test_head_that_two_servers_might_read_differently_is_refused(
    target: Target, name: str
) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
    length = b"" if name in ("negative length",) else b"content-length: %d\r\n" % len(GOOD)
    got = await raw_exchange(
        target.house.port,
        head + target.own + b"\r\n" + RAW[name] + length + b"connection: close\r\n\r\n" + GOOD,
    )
    assert got[9:12] in (b"400", b"431"), got[:200]
    assert b'"error"' in got
    assert target.upstream.received == []
    await target.still_serves()


async def test_request_without_host_is_refused(target: Target) -> None:
    got = await raw_exchange(target.house.port, b"GET /v1/models HTTP/1.1\r\n\r\n")
    assert got[9:12] == b"400"


@pytest.mark.parametrize("start", [b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n"])
async def test_what_is_not_http_is_refused(target: Target, start: bytes) -> None:
    got = await raw_exchange(target.house.port, start + b"\r\n\r\n")
    assert got[9:12] == b"400"
    await target.still_serves()


async def test_too_many_headers_are_431(target: Target) -> None:
    own = [(b"authorization", b"Bearer " + target.own)]
    answer = await target.ask("POST", CHAT, own + [(b"x-%d" % n, b"v") for n in range(80)])
    assert_openai(answer, 431, "headers_too_large")
    answer = await target.ask("POST", CHAT, [*own, (b"x-long", b"v" * 40_000)])
    assert_openai(answer, 431, "headers_too_large")
    got = await raw_exchange(
        target.house.port, b"GET / HTTP/1.1\r\nhost: x\r\nx-endless: " + b"v" * 500_000
    )
    assert got[9:12] == b"431"


async def test_head_that_does_not_arrive_is_408() -> None:
    async with served(World(), header_timeout=0.05) as house:
        for sent in (b"", b"GET /v1/mod", b"GET /v1/models HTTP/1.1\r\nhost: x\r\n"):
            got = await raw_exchange(house.port, sent)
            assert got[9:12] == b"408"


async def test_body_that_stops_arriving_is_408(target: Target) -> None:
    headers = [(b"authorization", b"Bearer " + target.own), (b"content-length", b"100")]
    for path in (CHAT, "/v1/files"):
        answer = await target.ask("POST", path, headers, b"{")
        assert_openai(answer, 408, "request_timeout")
    await target.still_serves()


async def test_connection_is_closed_when_an_answered_requests_body_never_ends() -> None:
    async with served(World(), header_timeout=0.05) as house, RawClient(house.port) as client:
        head = request_bytes("POST", "/v1/files", [(b"content-length", b"100")])
        await client.send(head + b"x")
        assert (await client.answer("POST")).status == 401
        await client.send(b"x")
        assert await client.at_end()


async def test_connection_serves_on_when_an_answered_requests_body_ends(target: Target) -> None:
    async with RawClient(target.house.port) as client:
        await client.send(request_bytes("POST", "/v1/files", [(b"content-length", b"100000")]))
        assert (await client.answer("POST")).status == 401
        own = [(b"authorization", b"Bearer " + target.own)]
        await client.send(b"x" * 100_000 + request_bytes("POST", CHAT, own, GOOD))
        assert (await client.answer("POST")).status == 200


async def test_body_of_an_upgrade_is_not_served_as_a_request(target: Target) -> None:
    own: list[Pair] = [(b"authorization", b"Bearer " + target.own)]
    hidden = request_bytes("POST", CHAT, own, GOOD)
    asked = [*own, (b"connection", b"upgrade"), (b"upgrade", b"h2c")]
    head = request_bytes("POST", CHAT, [*asked, (b"content-length", b"%d" % len(hidden))])
    async with RawClient(target.house.port) as client:
        await client.send(head)
        assert_openai(await client.answer("POST"), 400, "malformed_request")
        assert await client.at_end()
    got = await raw_exchange(target.house.port, head + hidden)
    assert got.count(b"HTTP/1.1 ") == 1
    assert target.upstream.received == []


async def test_absolute_target_is_refused_with_an_upgrade_too(target: Target) -> None:
    own = [(b"authorization", b"Bearer " + target.own)]
    asked = [*own, (b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    answer = await target.ask("GET", "http://evil.example/v1/models", asked, None)
    assert_openai(answer, 400, "malformed_request")


async def test_upgrade_nobody_serves_is_an_ordinary_request(target: Target) -> None:
    own = [(b"authorization", b"Bearer " + target.own)]
    asked = [*own, (b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    answer = await target.ask("GET", "/v1/models", asked, None)
    assert (answer.status, answer.header(b"connection")) == (200, b"close")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "CONNECT"])
async def test_other_methods_are_refused(target: Target, method: str) -> None:
    answer = await target.ask(method, CHAT)
    assert answer.status in (400, 405)
    await target.still_serves()


async def test_unknown_path_is_404_in_the_callers_dialect(target: Target) -> None:
    assert_openai(await target.ask("GET", "/v1/nonsense"), 404, "not_found")
    answer = await target.ask("POST", "/v1/messages/nonsense")
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (404, "not_found_error")


async def test_pipelined_requests_are_answered_in_order(target: Target) -> None:
    headers = [(b"authorization", b"Bearer " + target.own)]
    one = request_bytes("POST", CHAT, headers, GOOD)
    async with RawClient(target.house.port) as client:
        await client.send(one * 5)
        assert [(await client.answer("POST")).status for _ in range(5)] == [200] * 5


async def test_smuggled_second_request_is_not_served(target: Target) -> None:
    inner = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n"
    headers = [
        (b"authorization", b"Bearer " + target.own),
        (b"content-length", b"%d" % len(GOOD)),
        (b"transfer-encoding", b"chunked"),
    ]
    got = await raw_exchange(
        target.house.port, request_bytes("POST", CHAT, headers) + b"0\r\n\r\n" + inner
    )
    assert got.count(b"HTTP/1.1 ") == 1
    assert got[9:12] == b"400"
