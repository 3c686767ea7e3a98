"""What the listener refuses by itself, since no request comes of it: what is no HTTP, heads too
large or too late. In the caller's words, where its path or its headers tell them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest

from tests.serve import Answer, request_bytes
from tests.test_listener import BARE, COUNTED, HEARD, bodies, listening

NONSENSE = {
    "no http": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "another protocol's": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version unheard of": b"GET / HTTP/3.7\r\nhost: x\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nhost\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "a length too long": b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
}


@pytest.mark.parametrize("case", NONSENSE)
async def test_what_is_no_http_is_400_and_nobodys_request(case: str) -> None:
    async with listening() as house, house.client() as client:
        await client.send(NONSENSE[case])
        answer = await client.answer()
        assert (answer.status, answer.ending) == (400, "clean")
        assert answer.header(b"connection") == b"close"
        assert await client.at_end()
    assert house.door.turns == []


def is_openai(answer: Answer, code: str) -> bool:
    return bool(json.loads(answer.body)["error"]["code"] == code)


def is_anthropic(answer: Answer, code: str) -> bool:
    told = json.loads(answer.body)
    return bool(told["type"] == "error" and told["error"]["type"])


def is_gemini(answer: Answer, code: str) -> bool:
    error = json.loads(answer.body)["error"]
    return bool(error["code"] == answer.status and error["status"])


def is_bedrock(answer: Answer, code: str) -> bool:
    return answer.header(b"x-amzn-errortype") is not None and "message" in json.loads(answer.body)


TONGUES: list[tuple[bytes, Callable[[Answer, str], bool]]] = [
    (b"POST /v1/chat/completions?key=x HTTP/1.1\r\n", is_openai),
    (b"POST /openai/deployments/d/chat/completions HTTP/1.1\r\n", is_openai),
    (b"POST /v1/messages?beta=true HTTP/1.1\r\n", is_anthropic),
    (b"GET /v1/models HTTP/1.1\r\nanthropic-version: 1\r\nx: y\r\n", is_anthropic),
    (b"GET /v1/models HTTP/1.1\r\nX-Goog-Api-Key: 1\r\nx: y\r\n", is_gemini),
    (b"POST /v1beta/models/m:generateContent HTTP/1.1\r\n", is_gemini),
    (b"POST /model/m/converse HTTP/1.1\r\n", is_bedrock),
]


@pytest.mark.parametrize(("start", "shaped"), TONGUES)
async def test_listeners_refusals_are_in_the_callers_words(
    start: bytes, shaped: Callable[[Answer, str], bool]
) -> None:
    refused = [
        (start + b"no colon\r\n\r\n", 400, "malformed_request"),
        (start + b"x-endless: " + b"x" * 70_000, 431, "headers_too_large"),
        (start + b"host: x\r\n", 408, "request_timeout"),
    ]
    async with listening(header_timeout=0.05) as house:
        for sent, status, code in refused:
            async with house.client() as client:
                await client.send(sent)
                answer = await client.answer()
                assert (answer.status, answer.ending) == (status, "clean")
                assert shaped(answer, code)
                assert await client.at_end()


@pytest.mark.parametrize("size", [1024, None])
async def test_head_of_64_kib_may_still_go_on_and_a_larger_one_not(size: int | None) -> None:
    start = b"GET /bare HTTP/1.1\r\nhost: x\r\n"
    most = start + b"x-long: " + b"x" * (65_536 - len(start) - 8)
    async with listening(portions=size) as house, house.client() as client:
        await client.send(most)
        for _ in range(20):
            await asyncio.sleep(0)
        await client.send(b"\r\n\r\n" + b"\r\n" * 510)
        assert await bodies(client, 1) == [HEARD[2]]
        await client.send(most + b"x" * 1024)
        answer = await client.answer()
        assert (answer.status, answer.ending) == (431, "clean")
    assert len(house.door.turns) == 1


@pytest.mark.parametrize("portions", [(9000, 1), (1,), (33, 8980, 1), None])
async def test_all_of_a_head_counts_whatever_came_with_it(portions: Sequence[int] | None) -> None:
    """What had come when a head was whole is at least the head: the edge relies on it."""
    long = request_bytes("GET", "/long", [(b"x-long", b"x" * 9000)])
    batch = COUNTED + BARE + long + BARE
    async with listening(portions=portions) as house, house.client() as client:
        await client.send(batch)
        heard = await bodies(client, 4)
    assert [turn.path for turn in house.door.turns] == [b"/counted", b"/bare", b"/long", b"/bare"]
    assert heard[1] == HEARD[2]
    for turn in house.door.turns:
        size = sum(len(name) + len(value) for name, value in turn.headers)
        assert size + len(turn.path) < turn.received
