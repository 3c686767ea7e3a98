"""Bedrock through the gateway, byte by byte: what goes out signed, what comes back, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from admin.demo.bedrock_runtime import STREAM, frame
from admin.demo.script import Cut, Framing
from admin.demo.upstream import Script, Upstream
from gateway.eventstream import EXCEPTION, Reader
from gateway.shapes import GLOBAL, Scope
from gateway.sign import AwsKeys, can_sign, read_keys, region_of, sign
from gateway.upstream.seam import BROKE_OFF
from tests import aws
from tests.serve import Answer, RawClient, request_bytes
from tests.stage import check_log, logged
from tests.world import Served, World, served

STRIDE = 1 if os.environ.get("SOAK") else 11
BODY = b'{"messages": [ {"role":"user", "content":[{"text":"\\u00e9"}]}] }\n'
CONVERSE = "/model/m%3A0/converse"
CONVERSED = (
    frame("messageStart", {"role": "assistant"})
    + frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
    + frame("messageStop", {"stopReason": "end_turn"})
    + frame("metadata", {"usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4}})
)
FAILED = frame("messageStart", {"role": "assistant"}) + frame(
    "throttlingException", {"message": "slow down"}, "exception"
)
INVOKED = frame("chunk", {"bytes": "e30="}) + frame("chunk", {"bytes": "e30=", "p": "ab"})
STREAMS = {
    "converse": ("/model/m/converse-stream", CONVERSED),
    "exception": ("/model/m/converse-stream", FAILED),
    "invoke": ("/model/m/invoke-with-response-stream", INVOKED),
}
FRAMED = ((b"content-type", STREAM),)


@dataclass
class Row:
    house: Served
    upstream: Upstream
    key: str

    async def ask(
        self, path: str, headers: dict[str, str] | None = None, body: bytes | None = BODY
    ) -> Answer:
        async with RawClient(self.house.port, timeout=5) as client:
            given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
            return await client.request("POST", path, {**given, **(headers or {})}, body)


@contextlib.asynccontextmanager
async def bedrock(config: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Row]:
    async with Upstream() as upstream:
        world = World()
        aws.put(world, upstream.origin, **(config or {}))
        key = world.key()
        async with served(world, **settings) as house:
            yield Row(house, upstream, key)
        sent = b"".join(bytes(wire) for wire in upstream.wire)
        assert key.encode() not in sent
        assert aws.SECRET_KEY.encode() not in sent


@pytest.mark.parametrize(
    "path",
    [
        CONVERSE,
        "/model/m:0/converse",
        "/model/a%20b~(c)!%C3%A9/converse",
        "/model/arn:aws:bedrock:x:1:p%2Fq/converse",
        CONVERSE + "?b=2&a=1&a=",
    ],
)
async def test_the_signature_is_of_exactly_what_is_sent(path: str) -> None:
    async with bedrock() as row:
        answer = await row.ask(path)
        [received] = row.upstream.received
        assert answer.status == 200
        assert received.target.decode() == path
        assert received.body == BODY
        assert aws.signed_headers(received) == {"content-type", "host", "x-amz-date"}


async def test_a_clients_signature_stays_here_and_what_aws_asks_for_is_signed() -> None:
    inbound = {
        "x-api-key": "AKIAOFTHECLIENT",
        "x-amz-date": "20200101T000000Z",
        "x-amz-security-token": "client-token",
        "x-amz-content-sha256": "0" * 64,
        "amz-sdk-invocation-id": "1",
        "amz-sdk-request": "attempt=1",
        "x-amzn-bedrock-trace": "ENABLED",
        "accept": "application/json",
    }
    query = "?X-Amz-Signature=0&X-Amz-Credential=c&x-amz-security-token=t&a=1"
    async with bedrock({"token": aws.TOKEN}) as row:
        assert (await row.ask(CONVERSE + query, inbound)).status == 200
        [received] = row.upstream.received
        assert received.query == "a=1"
        assert received.values(b"x-amz-security-token") == [aws.TOKEN.encode()]
        gone = ("x-api-key", "x-amz-content-sha256", "amz-sdk-invocation-id", "amz-sdk-request")
        assert not [name for name in gone if received.values(name.encode())]
        assert {"x-amzn-bedrock-trace", "x-amz-security-token"} <= aws.signed_headers(received)


@pytest.mark.parametrize("auth_type", ["bearer", "api_key"])
async def test_an_api_key_of_bedrock_is_sent_as_it_is(auth_type: str) -> None:
    async with bedrock({"auth_type": auth_type, "secret": aws.API_KEY}) as row:
        assert (await row.ask(CONVERSE, {"x-amz-date": "20200101T000000Z"})).status == 200
        [received] = row.upstream.received
        assert received.values(b"authorization") == [b"Bearer " + aws.API_KEY.encode()]
        assert received.values(b"x-amz-date") == []


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_paths_nobody_knows_are_signed_too(method: str) -> None:
    path = f"/v1/acme/shop/aws-bedrock/bedrock-runtime/{aws.REGION}/guardrail/g/apply"
    async with Upstream(lambda got: Script(body=got.body)) as upstream:
        world = World()
        world.scopes["gateway:acme/shop"] = Scope("gateway:acme/shop", "gateway", GLOBAL)
        aws.put(world, upstream.origin)
        headers = {"authorization": f"Bearer {world.key()}"}
        async with served(world) as house, RawClient(house.port) as client:
            body = BODY if method == "POST" else None
            answer = await client.request(method, path, headers, body)
        assert (answer.status, answer.body) == (200, body or b"")
        assert upstream.received[0].path == "/guardrail/g/apply"
        assert aws.signed_headers(upstream.received[0])


async def test_a_body_that_is_no_json_is_refused_in_bedrocks_words() -> None:
    async with bedrock() as row:
        answer = await row.ask(CONVERSE, body=b"{not json")
        assert (answer.status, answer.header(b"x-amzn-errortype")) == (400, b"ValidationException")
        assert set(json.loads(answer.body)) == {"message"}
        assert row.upstream.received == []


@pytest.mark.parametrize("secret", ["not json", '{"access_key_id":"a"}', "{", "a::b", "a::b::"])
async def test_credentials_that_cannot_be_read_are_unavailable(secret: str) -> None:
    async with bedrock({"secret": secret}) as row:
        answer = await row.ask(CONVERSE)
        assert answer.status == 503
        assert answer.header(b"x-amzn-errortype") == b"ServiceUnavailableException"
        assert answer.body.endswith(b'cannot be opened"}')
        assert row.upstream.received == []


async def test_without_a_region_nothing_is_signed() -> None:
    async with bedrock({"settings": {}}) as row:
        answer = await row.ask(CONVERSE)
        assert (answer.status, b"no region" in answer.body) == (503, True)


@pytest.mark.parametrize("name", STREAMS)
async def test_streams_pass_byte_for_byte_however_they_are_cut_up(name: str) -> None:
    path, stream = STREAMS[name]
    async with bedrock() as row:
        for size in (1, 7, 100, len(stream)):
            pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
            script = Script(headers=FRAMED, chunks=pieces, framing="chunked")
            row.upstream.respond = lambda _, now=script: now  # type: ignore[misc] # bound now
            answer = await row.ask(path)
            assert (answer.ending, answer.body) == ("clean", stream)
            assert answer.header(b"content-type") == STREAM


def whole_after(name: str, framing: Framing, offset: int) -> bool:
    """A stream without a terminal event, delimited by the connection's end alone, may end
    between any two frames: nobody could tell."""
    if name != "invoke" or framing != "close":
        return False
    reader = Reader()
    return bool(reader.feed(INVOKED[:offset])) and not reader.partial


ENDINGS: list[tuple[Framing, Cut]] = [
    *(("chunked", "fin"), ("chunked", "rst"), ("chunked", "stall"), ("chunked", "garbage")),
    *(("close", "fin"), ("close", "rst"), ("close", "stall")),
]


@pytest.mark.parametrize(("framing", "cut"), ENDINGS)
@pytest.mark.parametrize("name", STREAMS)
async def test_stream_never_ends_cleanly_when_cut(name: str, framing: Framing, cut: Cut) -> None:
    path, stream = STREAMS[name]
    stride = STRIDE if cut != "stall" else STRIDE * 5
    async with bedrock(idle_timeout=0.05) as row:
        for offset in [*range(0, len(stream), stride), len(stream) - 1]:
            row.upstream.respond = lambda _, at=offset: Script(  # type: ignore[misc] # bound now
                headers=FRAMED, chunks=[stream], framing=framing, cut_at=at, cut=cut
            )
            answer = await row.ask(path)
            if answer.status != 200:
                assert (answer.status, offset == 0 or cut == "garbage") in ((502, 1), (504, 1))
            elif not (whole_after(name, framing, offset) and cut == "fin"):
                assert answer.ending in ("cut", "reset"), offset


async def test_a_frame_with_an_edited_byte_never_ends_cleanly() -> None:
    spoiled = bytearray(CONVERSED)
    spoiled[150] ^= 1
    async with bedrock() as row:
        row.upstream.respond = lambda _: Script(
            headers=FRAMED, body=bytes(spoiled), framing="chunked"
        )
        answer = await row.ask("/model/m/converse-stream")
    assert answer.ending in ("cut", "reset")


async def test_a_cut_between_frames_is_told_in_a_frame() -> None:
    first = len(frame("messageStart", {"role": "assistant"}))
    async with bedrock() as row:
        row.upstream.respond = lambda _: Script(
            headers=FRAMED, chunks=[CONVERSED], framing="chunked", cut_at=first
        )
        answer = await row.ask("/model/m/converse-stream")
    assert answer.body.startswith(CONVERSED[:first])
    [told] = Reader().feed(answer.body[first:])
    assert (told.event, json.loads(told.data)) == (EXCEPTION, {"message": BROKE_OFF})
    assert b"modelStreamErrorException" in answer.body
    assert answer.ending in ("cut", "reset")


async def test_upstream_is_closed_when_the_client_leaves_midway() -> None:
    never = asyncio.Event()
    half = len(CONVERSED) // 2
    async with bedrock() as row:
        row.upstream.respond = lambda _: Script(
            headers=FRAMED,
            chunks=[CONVERSED[:half], CONVERSED[half:]],
            framing="chunked",
            gates=[None, never],
        )
        async with RawClient(row.house.port) as client:
            headers = {"authorization": f"Bearer {row.key}"}
            await client.send(request_bytes("POST", "/model/m/converse-stream", headers, BODY))
            received = await row.upstream.wait_received()
            await client.read_until(b"messageStart")
        async with asyncio.timeout(1):
            await received.closed.wait()


async def test_usage_is_logged_and_no_credential_is(capfd: pytest.CaptureFixture[str]) -> None:
    with logged():
        async with bedrock({"token": aws.TOKEN}) as row:
            key = row.key
            row.upstream.respond = lambda _: Script(headers=FRAMED, body=CONVERSED)
            assert (await row.ask("/model/m/converse-stream")).status == 200
            row.upstream.respond = lambda _: Script(status=403, body=b'{"message":"no"}')
            assert (await row.ask(CONVERSE)).status == 403
    captured = capfd.readouterr()
    check_log(captured, {key, aws.SECRET_KEY, aws.TOKEN})
    assert '"input":3' in captured.out
    assert "CanonicalRequest" not in captured.out + captured.err


def test_botocore_tells_nothing_while_it_signs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = AwsKeys(aws.ACCESS_KEY, aws.SECRET_KEY, aws.TOKEN)
    made = dict(sign(keys, aws.REGION, "GET", "https://h/x", [], None))
    assert made[b"x-amz-security-token"] == aws.TOKEN.encode()
    assert caplog.records == []
    assert aws.SECRET_KEY not in repr(keys) + str(keys)


def test_credentials_are_read_as_sealed_and_as_written() -> None:
    written = f"{aws.ACCESS_KEY}::{aws.SECRET_KEY}::{aws.REGION}"
    for text, token in (
        (aws.sealed(), None),
        (aws.sealed(aws.TOKEN), aws.TOKEN),
        (written, None),
        (f"{written}::{aws.TOKEN}", aws.TOKEN),
    ):
        keys = read_keys(text.encode())
        assert (keys.access_key, keys.secret_key, keys.token) == (
            *(aws.ACCESS_KEY, aws.SECRET_KEY),
            token,
        )


@pytest.mark.parametrize("text", [b"", b"\xff", b"{\xff}", b"[]", b"a::b::c::d::e", b"::::", b"a"])
def test_what_is_no_credential_is_not_read(text: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        read_keys(text)
    assert "::" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "settings", "region"),
    [
        ("https://h", {"region": "eu-west-1"}, "eu-west-1"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", {}, "us-east-1"),
        ("https://bedrock-runtime-fips.us-west-2.amazonaws.com/x", {}, "us-west-2"),
        ("https://vpce-1.bedrock-runtime.eu-west-3.vpce.amazonaws.com", {}, "eu-west-3"),
        ("https://h", {}, None),
        ("https://h", {"region": ""}, None),
    ],
)
def test_region_is_the_setting_or_the_hosts(
    url: str, settings: dict[str, Any], region: str | None
) -> None:
    assert region_of(url, settings) == region


def interpreted(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_worker_starts_without_botocore() -> None:
    program = "import sys, gateway.process.worker; print('botocore' in sys.modules)"
    assert interpreted(program) == "False"
    assert can_sign()


def test_without_botocore_the_answer_says_what_to_install() -> None:
    program = """
import sys
sys.modules["botocore"] = None
from gateway import sign
from gateway.errors import Unavailable
try:
    sign.sign(sign.AwsKeys("a", "b"), "eu-west-1", "GET", "https://h/", [], None)
except Unavailable as error:
    print(error.code, error.message)
"""
    assert "secret_unavailable" in (said := interpreted(program))
    assert "pip install 'wardgate[bedrock]'" in said
