"""PyPI `google-genai`, unmodified, through the gateway, under `/v1` (its default) and `/v1beta`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import httpx2
import pytest
from google import genai
from google.genai import errors, types

from admin.demo.ask import SENTENCE
from admin.demo.openai_media import vector_of
from gateway.shapes import RateLimit
from tests.stage import Stage, put, staged, stored_key

MODEL = "gemini-2.5-flash"
EMBEDDER = "gemini-embedding-001"
EVERY = 13 if os.environ.get("SOAK") else 397
Captured = pytest.CaptureFixture[str]
VERSIONS = pytest.mark.parametrize("version", [None, "v1", "v1beta"])


@pytest.fixture
async def stage(capfd: Captured) -> AsyncIterator[Stage]:
    async with staged(capfd) as running:
        yield running


def client_of(stage: Stage, version: str | None = None, key: str = "") -> genai.Client:
    options = types.HttpOptions(base_url=stage.url, api_version=version, timeout=5000)
    return genai.Client(api_key=key or stage.key, http_options=options)


@VERSIONS
async def test_content_is_generated_whole_and_streamed(stage: Stage, version: str | None) -> None:
    with client_of(stage, version) as client:
        async with client.aio as asking:
            whole = await asking.models.generate_content(model=MODEL, contents="hi")
            assert whole.text == SENTENCE
            stream = await asking.models.generate_content_stream(model=MODEL, contents="hi")
            chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text or "" for chunk in chunks) == SENTENCE
    assert len(chunks) > 5
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert stage.last.path == f"/google/v1beta/models/{MODEL}:streamGenerateContent"
    assert stage.last.query == "alt=sse"
    assert stage.last.values(b"x-goog-api-key") == [stored_key("google").encode()]


@VERSIONS
async def test_tokens_are_counted_and_texts_embedded(stage: Stage, version: str | None) -> None:
    with client_of(stage, version) as client:
        async with client.aio as asking:
            counted = await asking.models.count_tokens(model=MODEL, contents="hi")
            embedded = await asking.models.embed_content(model=EMBEDDER, contents=["a", "b"])
    assert counted.total_tokens
    assert embedded.embeddings
    assert [one.values for one in embedded.embeddings] == [vector_of(8)] * 2


@VERSIONS
async def test_models_are_listed_and_retrieved(stage: Stage, version: str | None) -> None:
    with client_of(stage, version) as client:
        async with client.aio as asking:
            names = [model.name async for model in await asking.models.list()]
            assert (await asking.models.get(model=MODEL)).name == f"models/{MODEL}"
    assert f"models/{MODEL}" in names
    assert stage.upstream.received == []


async def test_function_is_called(stage: Stage) -> None:
    city = types.Schema(type=types.Type.STRING)
    function = types.FunctionDeclaration(
        name="get_weather",
        parameters=types.Schema(type=types.Type.OBJECT, properties={"city": city}),
    )
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[function])])
    with client_of(stage) as client:
        async with client.aio as asking:
            said = await asking.models.generate_content(model=MODEL, contents="hi", config=config)
    assert said.function_calls
    assert said.function_calls[0].args == {"city": "Paris"}


async def test_prefix_of_the_model_is_cut_off(stage: Stage) -> None:
    with client_of(stage) as client:
        async with client.aio as asking:
            await asking.models.generate_content(model=f"google/{MODEL}", contents="hi")
    assert stage.last.path.startswith("/google/v1beta/")
    assert stage.last.path.endswith(f"models/{MODEL}:generateContent")


async def test_sync_client_does_the_same(stage: Stage) -> None:
    await asyncio.to_thread(_in_turn, stage)
    assert len(stage.upstream.received) == 4


def _in_turn(stage: Stage) -> None:
    with client_of(stage) as client:
        assert client.models.generate_content(model=MODEL, contents="hi").text == SENTENCE
        stream = client.models.generate_content_stream(model=MODEL, contents="hi")
        assert "".join(chunk.text or "" for chunk in stream) == SENTENCE
        assert client.models.count_tokens(model=MODEL, contents="hi").total_tokens
        assert client.models.embed_content(model=EMBEDDER, contents="hi").embeddings
        assert f"models/{MODEL}" in [model.name for model in client.models.list()]
    refused = client_of(stage, key="AIza-not-ours")
    with refused, pytest.raises(errors.ClientError) as caught:
        refused.models.generate_content(model=MODEL, contents="hi")
    assert caught.value.code == 401


async def failure(client: genai.Client, model: str, **http: Any) -> errors.APIError:
    """What a streamed call raises."""
    config = types.GenerateContentConfig(http_options=types.HttpOptions(**http)) if http else None
    with client, pytest.raises(errors.APIError) as caught:  # noqa: PT012 # call or stream
        async with client.aio as asking:
            stream = await asking.models.generate_content_stream(
                model=model, contents="hi", config=config
            )
            async for _ in stream:
                pass
    return caught.value


async def test_key_that_is_not_ours_is_an_unauthenticated_error(stage: Stage) -> None:
    error = await failure(client_of(stage, key="AIza-not-ours"), MODEL)
    assert (error.code, error.status) == (401, "UNAUTHENTICATED")
    assert stage.upstream.received == []


async def test_model_nobody_serves_is_not_found(capfd: Captured) -> None:
    async with staged(capfd, lambda world, up: put(world, up, "openai")) as stage:
        error = await failure(client_of(stage), "no-such-model")
        assert stage.upstream.received == []
    assert (error.code, error.status) == (404, "NOT_FOUND")
    assert error.message
    assert "no-such-model" in error.message


async def test_limit_is_an_error_that_says_when_to_come_back(
    capfd: Captured, limits_url: str
) -> None:
    limit, settings = RateLimit(1, 60), {"redis_url": limits_url}
    async with staged(capfd, clock=lambda: 1_000.0, settings=settings, limit=limit) as stage:
        with client_of(stage) as client:
            async with client.aio as asking:
                await asking.models.generate_content(model=MODEL, contents="hi")
        error = await failure(client_of(stage), MODEL)
        assert len(stage.upstream.received) == 1
    assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")
    assert error.response.headers["retry-after"] == "20"


@pytest.mark.parametrize(
    ("model", "code", "status"),
    [("missing-model", 404, "NOT_FOUND"), ("limited-model", 429, "RESOURCE_EXHAUSTED")],
)
async def test_errors_of_the_provider_keep_their_code(
    stage: Stage, model: str, code: int, status: str
) -> None:
    error = await failure(client_of(stage), model)
    assert (error.code, error.status) == (code, status)


async def test_provider_that_breaks_off_is_a_server_error(stage: Stage) -> None:
    error = await failure(client_of(stage), MODEL, headers={"x-demo": "cut_at=0"})
    assert isinstance(error, errors.ServerError)
    assert (error.code, error.status) == (502, "UNAVAILABLE")


def _streamed(client: genai.Client, order: str) -> int:
    config = types.GenerateContentConfig(http_options=types.HttpOptions(headers={"x-demo": order}))
    stream = client.models.generate_content_stream(model=MODEL, contents="hi", config=config)
    return len(list(stream))


async def test_cut_between_events_is_told_in_words(stage: Stage) -> None:
    with client_of(stage) as client:
        assert await asyncio.to_thread(_streamed, client, "") > 20
        assert stage.last.script
        at = sum(len(piece) for piece in stage.last.script.pieces[:3])
        with pytest.raises(errors.ServerError, match="before it was complete") as caught:
            await asyncio.to_thread(_streamed, client, f"cut_at={at}")
    assert (caught.value.code, caught.value.status) == (502, "UNAVAILABLE")


@pytest.mark.parametrize("cut", ["fin", "rst"])
async def test_cut_stream_raises_wherever_it_is_cut(stage: Stage, cut: str) -> None:
    with client_of(stage) as client:
        assert await asyncio.to_thread(_streamed, client, "") > 20
        assert stage.last.script
        length = len(stage.last.script.payload.rstrip())
        for at in [*range(1, length, EVERY), length - 1]:
            with pytest.raises((errors.APIError, httpx2.HTTPError)):
                await asyncio.to_thread(_streamed, client, f"cut_at={at}; cut={cut}")


async def test_cut_stream_raises_in_the_async_client(stage: Stage) -> None:
    with client_of(stage) as client:
        async with client.aio as asking:
            for at in range(1, 2000, 411):
                # Unlike the sync client it speaks through aiohttp, whose errors it lets through.
                with pytest.raises((errors.APIError, aiohttp.ClientError)):
                    await _drain(asking.models.generate_content_stream, f"cut_at={at}")


async def _drain(call: Callable[..., Any], order: str) -> int:
    config = types.GenerateContentConfig(http_options=types.HttpOptions(headers={"x-demo": order}))
    return len([_ async for _ in await call(model=MODEL, contents="hi", config=config)])


async def test_upstream_is_closed_when_the_stream_is_abandoned(stage: Stage) -> None:
    config = types.GenerateContentConfig(
        http_options=types.HttpOptions(headers={"x-demo": "stall"})
    )
    with client_of(stage) as client:
        async with client.aio as asking:
            stream: Any = await asking.models.generate_content_stream(
                model=MODEL, contents="hi", config=config
            )
            async for _ in stream:
                break
            assert not stage.last.closed.is_set()
            await stream.aclose()
        async with asyncio.timeout(1):
            await stage.last.closed.wait()
