"""Bytes in = bytes out, both ways; the credential is the only thing that changes."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from admin.demo.upstream import Received, Script, Upstream
from gateway.shapes import DialectName
from tests.serve import Answer, Pair, RawClient, request_bytes
from tests.world import PROVIDER_KEY, World, served

WIRE = Path(__file__).parent / "wire"
SEED = 20260601
CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
OURS = {b"connection", b"transfer-encoding", b"content-length", b"host", b"accept-encoding"}


def exchanges() -> Iterator[Any]:
    """Recorded exchanges that a same-protocol route carries."""
    for file in sorted(WIRE.glob("*/*.json")):
        recorded = json.loads(file.read_text())
        provider = provider_of(recorded["request"]["path"])
        if provider is not None:
            yield pytest.param(recorded, *provider, id=f"{file.parent.name}/{file.stem}")


def provider_of(path: str) -> tuple[str, DialectName] | None:
    if path.endswith("/models") or "/publishers/" in path or path == "/":
        return None  # answered by us, or of a protocol that is not served yet
    if path.startswith("/openai/"):
        return "azure", "azure"
    if path.endswith(("/messages", "/count_tokens")):
        return "anthropic", "anthropic"
    if "/models/" in path:
        return "google", "gemini"
    if path.startswith("/model/"):
        return "amazon-bedrock", "bedrock"
    known = ("/chat/completions", "/responses", "/embeddings")
    return ("openai", "openai") if path.endswith(known) and "/v2/" not in path else None


def body_of(message: dict[str, Any]) -> bytes:
    body = message.get("body") or {}
    if "json" in body:
        return json.dumps(body["json"], ensure_ascii=False, indent=1).encode()
    if "b64" in body:
        return base64.b64decode(body["b64"])
    return str(body.get("text", "")).encode()


def client_headers(request: dict[str, Any], key: str) -> list[Pair]:
    pairs = []
    for name, value in request["headers"]:
        if name.lower() in ("host", "content-length", "transfer-encoding"):
            continue
        swapped = name.lower() in CREDENTIALS
        prefix = "Bearer " if swapped and value.startswith("Bearer ") else ""
        pairs.append((name.encode(), (prefix + key if swapped else value).encode()))
    return pairs


def answer_of(response: dict[str, Any]) -> Script:
    headers = [(k.encode(), v.encode()) for k, v in (response.get("headers") or {}).items()]
    headers = [pair for pair in headers if pair[0].lower() not in OURS]
    if response.get("content_type"):
        headers.append((b"content-type", response["content_type"].encode()))
    body = body_of(response)
    return Script(
        status=response["status"],
        headers=headers,
        chunks=[body[i : i + 37] for i in range(0, len(body), 37)],
        framing="chunked",
    )


def assert_only_stored_credential(received: Received, key: str) -> None:
    seen = [value for name, value in received.headers if name.lower().decode() in CREDENTIALS]
    assert seen in ([PROVIDER_KEY.encode()], [b"Bearer " + PROVIDER_KEY.encode()])
    head = b"".join(name + value for name, value in received.headers) + received.target
    assert key.encode() not in head


@pytest.mark.parametrize(("recorded", "provider", "dialect"), list(exchanges()))
async def test_recorded_exchange_passes_byte_for_byte(
    recorded: dict[str, Any], provider: str, dialect: DialectName
) -> None:
    request, script = recorded["request"], answer_of(recorded["response"])
    sent = body_of(request)
    async with Upstream(script) as upstream:
        world = World()
        base = upstream.origin + ("/openai/v1" if dialect == "azure" else "/v1")
        world.config(provider, base, dialect=dialect)
        key = world.key()
        target = request["path"] + (f"?{request['query']}" if request["query"] else "")
        async with served(world) as house, RawClient(house.port) as client:
            headers = client_headers(request, key)
            await client.send(request_bytes(request["method"], target, headers, sent))
            answer = await client.answer(request["method"])
        received = await upstream.wait_received()
    assert received.body == sent
    assert_only_stored_credential(received, key)
    assert answer.status == script.status
    if script.status < 400:  # an error's body may have a key masked in it
        assert answer.body == script.payload
    assert answer.ending == "clean"


def odd_json(rng: random.Random, depth: int = 0) -> str:
    """JSON as no serialiser of ours would write it."""
    gap = rng.choice(["", " ", "\n", "\t ", "  \r\n"])
    kind = rng.randrange(7 if depth < 4 else 5)
    if kind == 0:
        return gap + rng.choice(["true", "false", "null"]) + gap
    if kind == 1:
        return gap + rng.choice(["0", "-0", "1e5", "1E+2", "12.50", "-3.0e-1", "9007199254740993"])
    if kind in (2, 3, 4):
        return gap + odd_string(rng)
    items = [odd_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return f"[{','.join(items)}{gap}]"
    return "{" + ",".join(f"{odd_string(rng)}{gap}:{item}" for item in items) + gap + "}"


def odd_string(rng: random.Random) -> str:
    parts = ["a", "Ω", "😀", "\\u00e9", "\\ud83d\\ude00", "\\/", "\\n", '\\"', "model", "\\u0000"]
    return '"' + "".join(rng.choices(parts, k=rng.randrange(6))) + '"'


def odd_body(rng: random.Random) -> bytes:
    """A chat request with unknown fields around its model, in any order."""
    fields = [f'"field{n}"{rng.choice(["", " "])}:{odd_json(rng)}' for n in range(rng.randrange(5))]
    fields += ['"model" :\t"gpt-4o"', '"messages":[ ]']
    rng.shuffle(fields)
    return ("{" + ",\n ".join(fields) + "}" + rng.choice(["", "\n", "  "])).encode()


async def test_generated_bodies_pass_byte_for_byte() -> None:
    rng = random.Random(SEED)
    async with Upstream(lambda got: Script(body=got.body)) as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {"authorization": f"Bearer {world.key()}"}
        async with served(world) as house, RawClient(house.port) as client:
            for turn in range(300):
                body = odd_body(rng)
                answer = await client.request("POST", "/v1/chat/completions", headers, body)
                assert upstream.received[turn].body == body == answer.body, turn


async def test_only_the_models_name_changes_when_a_prefix_is_cut_off() -> None:
    rng = random.Random(SEED)
    async with Upstream(lambda got: Script(body=got.body)) as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {"authorization": f"Bearer {world.key()}"}
        async with served(world) as house, RawClient(house.port) as client:
            for _ in range(100):
                expected = odd_body(rng)
                body = expected.replace(b'"model" :\t"gpt-4o"', b'"model" :\t"openai/gpt-4o"')
                answer = await client.request("POST", "/v1/chat/completions", headers, body)
                assert answer.body == expected


async def test_binary_answer_and_multipart_upload_pass_byte_for_byte() -> None:
    sound = bytes(random.Random(SEED).randbytes(300_000))
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + sound
        + b"\r\n--b--\r\n"
    )
    speech = Script(headers=((b"content-type", b"audio/mpeg"),), body=sound)
    async with Upstream(speech) as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {
            "authorization": f"Bearer {world.key()}",
            "content-type": "multipart/form-data; boundary=b",
        }
        async with served(world) as house, RawClient(house.port) as client:
            answer = await client.request("POST", "/v1/audio/transcriptions", headers, form)
        received = await upstream.wait_received()
    assert received.body == form
    assert received.header(b"content-length") == b"%d" % len(form)
    assert answer.body == sound


async def test_upload_reaches_the_upstream_before_it_is_complete() -> None:
    async with Upstream() as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {"authorization": f"Bearer {world.key()}", "content-length": "200000"}
        async with served(world) as house, RawClient(house.port) as client:
            await client.send(request_bytes("POST", "/v1/files", headers, b"x" * 100_000))
            received = await upstream.wait_received()
            assert not received.complete


async def test_first_bytes_reach_the_client_while_the_rest_is_held_back() -> None:
    gate = asyncio.Event()
    event = b'data: {"choices":[]}\n\n'
    script = Script(
        headers=((b"content-type", b"text/event-stream"),),
        chunks=[event, b"data: [DONE]\n\n"],
        framing="chunked",
        gates=[None, gate],
    )
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {"authorization": f"Bearer {world.key()}"}
        body = b'{"model":"gpt-4o","stream":true}'
        async with served(world) as house, RawClient(house.port) as client:
            await client.send(request_bytes("POST", "/v1/chat/completions", headers, body))
            answer = await client.head()
            assert await client.read_until(event + b"\r\n")
            gate.set()
            answer = await client.body_of(answer)
    assert (answer.body, answer.ending) == (b"data: [DONE]\n\n", "clean")
    assert answer.header(b"cache-control") == b"no-cache"
    assert answer.header(b"x-accel-buffering") == b"no"


async def test_header_in_utf8_passes_as_it_is() -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        note = "zażółć 😀".encode()
        headers: list[Pair] = [
            (b"authorization", b"Bearer " + world.key().encode()),
            (b"x-note", note),
        ]
        async with served(world) as house, RawClient(house.port) as client:
            await client.request("POST", "/v1/chat/completions", headers, b'{"model":"gpt-4o"}')
        assert upstream.received[0].header(b"x-note") == note


@pytest.mark.parametrize("status", [204, 304])
async def test_answer_that_has_no_body_ends_where_its_head_does(status: int) -> None:
    # A 304 may say how long the body would be that it does not send.
    length = () if status == 204 else ((b"content-length", b"20"),)
    script = Script(status=status, headers=((b"etag", b"x"), *length), framing="none")
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {"authorization": f"Bearer {world.key()}"}
        async with served(world) as house, RawClient(house.port) as client:
            for _ in range(2):
                answer = await client.request("GET", "/v1/files", headers)
                assert (answer.status, answer.header(b"etag")) == (status, b"x")
                assert answer.header(b"content-length") is None


@pytest.mark.parametrize("status", [b"000", b"099", b"101", b"600", b"999"])
async def test_status_that_ends_nothing_is_502(status: bytes) -> None:
    raw = b"HTTP/1.1 " + status + b" Odd\r\ncontent-length: 2\r\n\r\n{}"
    async with Upstream(Script(raw=raw)) as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {"authorization": f"Bearer {world.key()}"}
        async with served(world) as house, RawClient(house.port) as client:
            answer = await client.request("GET", "/v1/files", headers)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (502, "upstream_failed")


async def test_error_that_says_it_is_not_compressed_is_shown() -> None:
    told = b'{"error":{"message":"no such file"}}'
    script = Script(status=404, headers=((b"content-encoding", b"identity"),), body=told)
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        headers = {"authorization": f"Bearer {world.key()}"}
        async with served(world) as house, RawClient(house.port) as client:
            answer = await client.request("GET", "/v1/files/x", headers)
    assert (answer.status, answer.body) == (404, told)


def _ids(answer: Answer) -> tuple[bytes | None, bytes | None]:
    return answer.header(b"x-request-id"), answer.header(b"wardgate-request-id")


async def test_upstreams_request_id_is_kept_and_ours_stands_beside_it() -> None:
    async with Upstream(Script(headers=((b"x-request-id", b"theirs"),), body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url, alias="main")
        headers = {"authorization": f"Bearer {world.key()}"}
        body = b'{"model":"gpt-4o"}'
        async with served(world) as house, RawClient(house.port) as client:
            answer = await client.request("POST", "/v1/chat/completions", headers, body)
    theirs, ours = _ids(answer)
    assert theirs == b"theirs"
    assert ours is not None
    assert ours.startswith(b"req_")
    assert answer.header(b"wardgate-provider") == b"openai"
    assert answer.header(b"wardgate-config") == b"main"
    timing = answer.header(b"server-timing") or b""
    assert timing.startswith(b"upstream;dur=")
    assert b"gateway;dur=" in timing
