"""PyPI `anthropic`, unmodified, through the gateway: what answers, and what fails as which type."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from admin.demo.ask import SENTENCE
from gateway.shapes import RateLimit
from tests.stage import PLACEHOLDER, Stage, put, staged, stored_key

MODEL = "claude-opus-4-8"
HI: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hi"}]
SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: anthropic.types.ToolParam = {"name": "get_weather", "input_schema": SCHEMA}
EVERY = 13 if os.environ.get("SOAK") else 397
Captured = pytest.CaptureFixture[str]


@pytest.fixture
async def stage(capfd: Captured) -> AsyncIterator[Stage]:
    async with staged(capfd) as running:
        yield running


def client_of(stage: Stage, **given: Any) -> anthropic.AsyncAnthropic:
    given = {"api_key": stage.key, **given}
    return anthropic.AsyncAnthropic(base_url=stage.url, max_retries=0, timeout=5, **given)


def text_of(message: anthropic.types.Message) -> str:
    assert isinstance(message.content[0], anthropic.types.TextBlock)
    return message.content[0].text


async def test_messages_answer_whole_and_streamed(stage: Stage) -> None:
    async with client_of(stage) as client:
        whole = await client.messages.create(model=MODEL, max_tokens=9, messages=HI)
        assert text_of(whole) == SENTENCE
        assert whole._request_id
        async with client.messages.stream(model=MODEL, max_tokens=9, messages=HI) as stream:
            assert "".join([text async for text in stream.text_stream]) == SENTENCE
            last = await stream.get_final_message()
    assert last.stop_reason == whole.stop_reason == "end_turn"
    assert last.usage.output_tokens == whole.usage.output_tokens
    assert stage.last.path == "/anthropic/v1/messages"
    assert stage.last.values(b"x-api-key") == [stored_key("anthropic").encode()]
    assert stage.last.values(b"authorization") == []


async def test_version_and_betas_of_the_client_go_on_untouched(stage: Stage) -> None:
    async with client_of(stage) as client:
        beta = {"anthropic-beta": "context-1m-2025-08-07"}
        said = await client.messages.with_raw_response.create(
            model=MODEL, max_tokens=9, messages=HI, extra_headers=beta
        )
    asked = said.http_request.headers
    assert stage.last.values(b"anthropic-version") == [asked["anthropic-version"].encode()]
    assert stage.last.header(b"anthropic-beta") == b"context-1m-2025-08-07"
    assert stage.last.body == said.http_request.content
    assert "set-cookie" not in said.headers


async def test_tool_is_used_in_a_stream(stage: Stage) -> None:
    async with (
        client_of(stage) as client,
        client.messages.stream(model=MODEL, max_tokens=9, messages=HI, tools=[TOOL]) as stream,
    ):
        last = await stream.get_final_message()
    block = last.content[0]
    assert isinstance(block, anthropic.types.ToolUseBlock)
    assert (block.name, block.input, last.stop_reason) == (
        "get_weather",
        {"city": "Paris"},
        "tool_use",
    )


async def test_tokens_are_counted(stage: Stage) -> None:
    async with client_of(stage) as client:
        counted = await client.messages.count_tokens(model=MODEL, messages=HI)
    assert counted.input_tokens > 0
    assert stage.last.path == "/anthropic/v1/messages/count_tokens"


async def test_models_are_listed_and_retrieved(stage: Stage) -> None:
    async with client_of(stage) as client:
        assert MODEL in [model.id async for model in client.models.list()]
        assert (await client.models.retrieve(MODEL)).id == MODEL
    assert stage.upstream.received == []


@pytest.mark.parametrize(
    ("field", "header"), [("api_key", "authorization"), ("auth_token", "authorization")]
)
async def test_key_is_accepted_from_either_field(stage: Stage, field: str, header: str) -> None:
    given = {"api_key": None, "auth_token": None} | {field: stage.key}
    async with client_of(stage, **given) as client:
        said = await client.messages.with_raw_response.create(
            model=MODEL, max_tokens=9, messages=HI
        )
    assert said.http_request.headers[header] == f"Bearer {stage.key}"
    assert text_of(await _parsed(said)) == SENTENCE


async def _parsed(said: Any) -> anthropic.types.Message:
    message: anthropic.types.Message = await said.parse()
    return message


async def test_key_in_x_api_key_is_taken_beside_a_placeholder(stage: Stage) -> None:
    headers = {"x-api-key": stage.key}
    async with client_of(stage, api_key=PLACEHOLDER, default_headers=headers) as client:
        said = await client.messages.create(model=MODEL, max_tokens=9, messages=HI)
    assert text_of(said) == SENTENCE


async def test_sync_client_does_the_same(stage: Stage) -> None:
    await asyncio.to_thread(_in_turn, stage)
    assert len(stage.upstream.received) == 3


def _in_turn(stage: Stage) -> None:
    with anthropic.Anthropic(base_url=stage.url, api_key=stage.key, max_retries=0) as client:
        assert text_of(client.messages.create(model=MODEL, max_tokens=9, messages=HI)) == SENTENCE
        with client.messages.stream(model=MODEL, max_tokens=9, messages=HI) as stream:
            assert "".join(stream.text_stream) == SENTENCE
        assert client.messages.count_tokens(model=MODEL, messages=HI).input_tokens
        assert MODEL in [model.id for model in client.models.list()]
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("no-such-model")
    refused = anthropic.Anthropic(base_url=stage.url, api_key="sk-ant-x", max_retries=0)
    with refused, pytest.raises(anthropic.AuthenticationError):
        refused.messages.create(model=MODEL, max_tokens=9, messages=HI)


async def test_key_that_is_not_ours_is_an_authentication_error(stage: Stage) -> None:
    async with client_of(stage, api_key="sk-ant-not-ours") as client:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await client.messages.create(model=MODEL, max_tokens=9, messages=HI)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert caught.value.request_id == caught.value.body["request_id"]
    assert stage.upstream.received == []


async def test_model_nobody_serves_is_not_found(capfd: Captured) -> None:
    async with staged(capfd, lambda world, up: put(world, up, "openai")) as stage:
        async with client_of(stage) as client:
            with pytest.raises(anthropic.NotFoundError, match="no-such-model"):
                await client.messages.create(model="no-such-model", max_tokens=9, messages=HI)
        assert stage.upstream.received == []


async def test_limit_is_a_rate_limit_error_that_says_when_to_come_back(
    capfd: Captured, limits_url: str
) -> None:
    limit, settings = RateLimit(1, 60), {"redis_url": limits_url}
    async with staged(capfd, clock=lambda: 1_000.0, settings=settings, limit=limit) as stage:
        async with client_of(stage) as client:
            await client.messages.create(model=MODEL, max_tokens=9, messages=HI)
            with pytest.raises(anthropic.RateLimitError) as caught:
                await client.messages.create(model=MODEL, max_tokens=9, messages=HI)
        assert len(stage.upstream.received) == 1
    assert caught.value.response.headers["retry-after"] == "20"
    assert caught.value.response.headers["request-id"] == caught.value.request_id


@pytest.mark.parametrize("model", ["missing-model", "limited-model"])
async def test_errors_of_the_provider_pass_as_they_are(stage: Stage, model: str) -> None:
    kind = anthropic.NotFoundError if model == "missing-model" else anthropic.RateLimitError
    async with client_of(stage) as client:
        with pytest.raises(kind) as caught:
            await client.messages.create(model=model, max_tokens=9, messages=HI)
    assert stage.last.script
    assert caught.value.response.content == stage.last.script.payload


async def test_provider_that_breaks_off_is_a_typed_server_error(stage: Stage) -> None:
    async with client_of(stage) as client:
        with pytest.raises(anthropic.InternalServerError) as caught:
            await _streamed(client, "cut_at=0")
    assert caught.value.status_code == 502


async def _streamed(client: anthropic.AsyncAnthropic, order: str) -> int:
    stream = await client.messages.create(
        model=MODEL, max_tokens=9, messages=HI, stream=True, extra_headers={"x-demo": order}
    )
    return len([event async for event in stream])


@pytest.mark.parametrize("cut", ["fin", "rst"])
async def test_cut_stream_raises_wherever_it_is_cut(stage: Stage, cut: str) -> None:
    async with client_of(stage) as client:
        assert await _streamed(client, "") > 20
        assert stage.last.script
        length = len(stage.last.script.payload.rstrip())
        for at in [*range(1, length, EVERY), length]:
            with pytest.raises(anthropic.APIError, match="before it was complete"):
                await _streamed(client, f"cut_at={at}; cut={cut}")


async def test_cut_stream_raises_in_the_sync_client(stage: Stage) -> None:
    await asyncio.to_thread(_cut_in_turn, stage)


def _cut_in_turn(stage: Stage) -> None:
    with anthropic.Anthropic(base_url=stage.url, api_key=stage.key, max_retries=0) as client:
        for at in range(1, 2000, 411):
            headers = {"x-demo": f"cut_at={at}"}
            with (
                pytest.raises(anthropic.APIError),
                client.messages.stream(
                    model=MODEL, max_tokens=9, messages=HI, extra_headers=headers
                ) as stream,
            ):
                stream.get_final_message()


async def test_upstream_is_closed_when_the_stream_is_abandoned(stage: Stage) -> None:
    async with client_of(stage) as client:
        stream = await client.messages.create(
            model=MODEL, max_tokens=9, messages=HI, stream=True, extra_headers={"x-demo": "stall"}
        )
        async for _ in stream:
            break
        assert not stage.last.closed.is_set()
        await stream.close()
        async with asyncio.timeout(1):
            await stage.last.closed.wait()
