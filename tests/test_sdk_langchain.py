"""PyPI `langchain-openai`, unmodified, through the gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from admin.demo.ask import SENTENCE
from admin.demo.openai_media import vector_of
from tests.stage import Stage, staged

MODEL = "gpt-4o-mini"


@pytest.fixture
async def stage(capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Stage]:
    async with staged(capfd) as running:
        yield running


@contextlib.contextmanager
def transports() -> Iterator[dict[str, Any]]:
    """Clients of this test alone: LangChain's own are shared by a whole process, never closed."""
    with openai.DefaultHttpxClient() as sync:
        yield {"http_client": sync, "http_async_client": openai.DefaultAsyncHttpxClient()}


@pytest.fixture
async def chat(stage: Stage) -> AsyncIterator[ChatOpenAI]:
    with transports() as given:
        yield ChatOpenAI(
            base_url=f"{stage.url}/v1",
            api_key=stage.key,  # type: ignore[arg-type] # a plain text becomes a SecretStr
            model=MODEL,
            max_retries=0,
            stream_usage=True,
            **given,
        )
        await given["http_async_client"].aclose()


async def test_chat_is_invoked(chat: ChatOpenAI) -> None:
    said = await chat.ainvoke("hi")
    assert said.content == SENTENCE
    assert said.usage_metadata
    assert said.usage_metadata["output_tokens"] == len(SENTENCE.split(" "))


async def test_chat_is_streamed_with_its_usage(chat: ChatOpenAI, stage: Stage) -> None:
    chunks = [chunk async for chunk in chat.astream("hi")]
    assert "".join(str(chunk.content) for chunk in chunks) == SENTENCE
    used = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [one["output_tokens"] for one in used] == [len(SENTENCE.split(" "))]
    assert stage.last.json()["stream_options"] == {"include_usage": True}


async def test_tool_is_called(chat: ChatOpenAI) -> None:
    schema = {"title": "get_weather", "description": "x", "type": "object"}
    tool = chat.bind_tools([schema | {"properties": {"city": {"type": "string"}}}])
    said = await tool.ainvoke("hi")
    assert [(call["name"], call["args"]) for call in said.tool_calls] == [
        ("get_weather", {"city": "Paris"})
    ]


async def test_sync_calls_do_the_same(chat: ChatOpenAI) -> None:
    assert (await asyncio.to_thread(chat.invoke, "hi")).content == SENTENCE
    chunks = await asyncio.to_thread(lambda: list(chat.stream("hi")))
    assert "".join(str(chunk.content) for chunk in chunks) == SENTENCE


async def test_texts_are_embedded(stage: Stage) -> None:
    with transports() as given:
        embedder = OpenAIEmbeddings(
            base_url=f"{stage.url}/v1",
            api_key=stage.key,  # type: ignore[arg-type] # a plain text becomes a SecretStr
            model="text-embedding-3-small",
            check_embedding_ctx_length=False,
            max_retries=0,
            **given,
        )
        found = await embedder.aembed_documents(["a", "b"])
        await given["http_async_client"].aclose()
    assert found == [vector_of(8)] * 2


async def test_refusal_is_a_typed_error(chat: ChatOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await chat.bind(model="missing-model").ainvoke("hi")
