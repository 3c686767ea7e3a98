"""PyPI `openai` and streams that end early, by the provider's doing or by the client's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import openai
import pytest

from tests.stage import Stage, staged
from tests.test_sdk_openai import HI, MODEL, Captured, client_of, sync_client_of

EVERY = 13 if os.environ.get("SOAK") else 397  # a stride that meets every part of an event
WAY = ["chat", "responses"]


@pytest.fixture
async def stage(capfd: Captured) -> AsyncIterator[Stage]:
    async with staged(capfd) as running:
        yield running


async def opened(client: openai.AsyncOpenAI, way: str, order: str) -> openai.AsyncStream[object]:
    headers = {"x-demo": order}
    if way == "responses":
        return await client.responses.create(  # type: ignore[return-value] # any event will do
            model="gpt-5.1", input="hi", stream=True, extra_headers=headers
        )
    return await client.chat.completions.create(  # type: ignore[return-value] # any chunk will do
        model=MODEL, messages=HI, stream=True, extra_headers=headers
    )


def opened_sync(client: openai.OpenAI, order: str) -> openai.Stream[object]:
    return client.chat.completions.create(  # type: ignore[return-value] # any chunk will do
        model=MODEL, messages=HI, stream=True, extra_headers={"x-demo": order}
    )


async def length_of(stage: Stage, client: openai.AsyncOpenAI, way: str) -> int:
    """Bytes of the whole stream, up to the blank line that ends it."""
    assert [one async for one in await opened(client, way, "")]
    assert stage.last.script
    return len(stage.last.script.payload.rstrip())


@pytest.mark.parametrize("cut", ["fin", "rst"])
@pytest.mark.parametrize("way", WAY)
async def test_cut_stream_raises_wherever_it_is_cut(stage: Stage, way: str, cut: str) -> None:
    async with client_of(stage) as client:
        length = await length_of(stage, client, way)
        for at in [*range(1, length, EVERY), length]:
            with pytest.raises(openai.APIError):
                async for _ in await opened(client, way, f"cut_at={at}; cut={cut}"):
                    pass


@pytest.mark.parametrize("way", WAY)
async def test_cut_between_events_is_told_in_words(stage: Stage, way: str) -> None:
    async with client_of(stage) as client:
        await length_of(stage, client, way)
        assert stage.last.script
        at = sum(len(piece) for piece in stage.last.script.pieces[:3])
        seen = []
        with pytest.raises(openai.APIError, match="before it was complete"):  # noqa: PT012
            async for one in await opened(client, way, f"cut_at={at}"):
                seen.append(one)
    assert len(seen) == 3


async def test_usage_asked_for_by_a_setting_stays_hidden_also_when_cut(capfd: Captured) -> None:
    settings = {"count_usage": True}
    async with staged(capfd, settings=settings) as stage, client_of(stage) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        chunks = [chunk async for chunk in stream]
        assert stage.last.json()["stream_options"] == {"include_usage": True}
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        for at in (100, 1000, 2003):
            with pytest.raises(openai.APIError, match="before it was complete"):
                async for _ in await opened(client, "chat", f"cut_at={at}"):
                    pass


async def test_cut_stream_raises_in_the_sync_client(stage: Stage) -> None:
    await asyncio.to_thread(_cut_in_turn, stage)


def _cut_in_turn(stage: Stage) -> None:
    with sync_client_of(stage) as client:
        for at in range(1, 2000, 211):
            with pytest.raises(openai.APIError):
                list(opened_sync(client, f"cut_at={at}"))


@pytest.mark.parametrize("way", WAY)
async def test_upstream_is_closed_when_the_stream_is_abandoned(stage: Stage, way: str) -> None:
    async with client_of(stage) as client:
        stream = await opened(client, way, "stall")
        async for _ in stream:
            break
        assert not stage.last.closed.is_set()
        await stream.close()
        async with asyncio.timeout(1):
            await stage.last.closed.wait()


async def test_upstream_is_closed_when_the_sync_stream_is_abandoned(stage: Stage) -> None:
    with sync_client_of(stage) as client:
        stream = await asyncio.to_thread(_first, client)
        assert not stage.last.closed.is_set()
        stream.close()
        async with asyncio.timeout(1):
            await stage.last.closed.wait()


def _first(client: openai.OpenAI) -> openai.Stream[object]:
    stream = opened_sync(client, "stall")
    assert next(iter(stream))
    return stream


async def test_upstream_is_closed_when_a_call_is_cancelled(stage: Stage) -> None:
    async with client_of(stage) as client:
        asking = asyncio.create_task(
            client.chat.completions.create(
                model=MODEL, messages=HI, extra_headers={"x-demo": "delay=60"}
            )
        )
        received = await stage.upstream.wait_received()
        await received.finished.wait()
        asking.cancel()
        async with asyncio.timeout(1):
            await received.closed.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_client_goes_on_after_a_cut(stage: Stage) -> None:
    async with client_of(stage) as client:
        for turn in range(5):
            with pytest.raises(openai.APIError):
                async for _ in await opened(client, "chat", f"cut_at={300 * turn}"):
                    pass
            assert [one async for one in await opened(client, "chat", "")]
