"""`openai.AzureOpenAI`, and plain OpenAI clients at `/openai/v1`, unmodified, with an azure key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from admin.demo.ask import SENTENCE
from admin.demo.openai_media import vector_of
from gateway.shapes import RateLimit
from tests.stage import Stage, put, staged, stored_key
from tests.test_sdk_openai import HI, RECORDING, TOOLS, Captured

DEPLOYMENT = "our own deployment"
VERSION = "2024-10-21"


@pytest.fixture
async def stage(capfd: Captured) -> AsyncIterator[Stage]:
    async with staged(capfd, lambda world, up: put(world, up, "azure")) as running:
        yield running


def classic(stage: Stage, key: str = "") -> openai.AsyncAzureOpenAI:
    return openai.AsyncAzureOpenAI(
        azure_endpoint=stage.url,
        api_version=VERSION,
        api_key=key or stage.key,
        max_retries=0,
        timeout=5,
    )


def version_one(stage: Stage) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{stage.url}/openai/v1/", api_key=stage.key, max_retries=0, timeout=5
    )


async def test_deployment_answers_whole_and_streamed(stage: Stage) -> None:
    async with classic(stage) as client:
        whole = await client.chat.completions.create(model=DEPLOYMENT, messages=HI)
        stream = await client.chat.completions.create(model=DEPLOYMENT, messages=HI, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert whole.choices[0].message.content == "".join(texts) == SENTENCE
    place = b"/azure/openai/deployments/our%20own%20deployment/chat/completions"
    assert stage.last.target == place + b"?api-version=" + VERSION.encode()
    assert stage.last.values(b"api-key") == [stored_key("azure").encode()]
    assert stage.last.values(b"authorization") == []


async def test_deployment_calls_tools_embeds_and_hears(stage: Stage) -> None:
    async with classic(stage) as client:
        async with client.chat.completions.stream(model="d", messages=HI, tools=TOOLS) as stream:
            done = await stream.get_final_completion()
        assert done.choices[0].finish_reason == "tool_calls"
        made = await client.embeddings.create(model="d", input="a")
        assert made.data[0].embedding == vector_of(8)
        assert stage.last.path == "/azure/openai/deployments/d/embeddings"
        heard = await client.audio.transcriptions.create(model="whisper-1", file=RECORDING)
    assert heard.text == "100 bytes of sound."
    assert stage.last.path == "/azure/openai/deployments/whisper-1/audio/transcriptions"


async def test_paths_of_the_resource_need_no_deployment(stage: Stage) -> None:
    async with classic(stage) as client:
        assert len([one async for one in client.files.list()]) == 2
    assert stage.last.path == "/azure/openai/files"
    assert stage.last.query == f"api-version={VERSION}"


async def test_version_one_answers_whole_and_streamed(stage: Stage) -> None:
    async with version_one(stage) as client:
        whole = await client.chat.completions.create(model=DEPLOYMENT, messages=HI)
        assert stage.last.json()["model"] == DEPLOYMENT
        made = await client.responses.create(model=DEPLOYMENT, input="hi")
        async with client.responses.stream(model=DEPLOYMENT, input="hi") as stream:
            kinds = [event.type async for event in stream]
    assert whole.choices[0].message.content == made.output_text == SENTENCE
    assert kinds[-1] == "response.completed"
    assert stage.last.target == b"/azure/openai/v1/responses"


async def test_version_one_also_serves_plain_openai_paths(stage: Stage) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{stage.url}/v1", api_key=stage.key, max_retries=0
    ) as client:
        said = await client.chat.completions.create(model=f"azure/{DEPLOYMENT}", messages=HI)
    assert said.choices[0].message.content == SENTENCE
    assert stage.last.target == b"/azure/openai/v1/chat/completions"
    assert stage.last.json()["model"] == DEPLOYMENT


async def test_sync_client_does_the_same(stage: Stage) -> None:
    await asyncio.to_thread(_in_turn, stage)


def _in_turn(stage: Stage) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=stage.url, api_version=VERSION, api_key=stage.key, max_retries=0
    ) as client:
        said = client.chat.completions.create(model=DEPLOYMENT, messages=HI)
        assert said.choices[0].message.content == SENTENCE
        with client.chat.completions.create(model=DEPLOYMENT, messages=HI, stream=True) as chunks:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SENTENCE


async def test_models_are_listed_under_both_roots(stage: Stage) -> None:
    async with classic(stage) as client:
        old = [model.id async for model in client.models.list()]
    async with version_one(stage) as client:
        new = [model.id async for model in client.models.list()]
    assert old == new
    assert "gpt-4o-mini" in new
    assert stage.upstream.received == []


async def test_refusals_are_typed_errors(capfd: Captured) -> None:
    async with staged(
        capfd,
        lambda world, up: put(world, up, "azure"),
        clock=lambda: 1_000.0,
        limit=RateLimit(1, 60),
    ) as stage:
        async with classic(stage, "not-ours") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model="d", messages=HI)
        async with classic(stage) as client:
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="missing-model", messages=HI)
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model="d", messages=HI)
        assert len(stage.upstream.received) == 1
    assert caught.value.response.headers["retry-after"] == "20"


async def test_bearer_token_goes_upstream_where_the_config_says_so(capfd: Captured) -> None:
    async with staged(
        capfd, lambda world, up: put(world, up, "azure", auth_type="azure_ad")
    ) as stage:
        async with classic(stage) as client:
            await client.chat.completions.create(model="d", messages=HI)
        assert stage.last.values(b"authorization") == [b"Bearer " + stored_key("azure").encode()]
        assert stage.last.values(b"api-key") == []


async def test_cut_stream_raises(stage: Stage) -> None:
    async with classic(stage) as client:
        for at in (1, 300, 700, 1500):
            with pytest.raises(openai.APIError):
                async for _ in await client.chat.completions.create(
                    model="d", messages=HI, stream=True, extra_headers={"x-demo": f"cut_at={at}"}
                ):
                    pass
