"""Cloudflare-shaped URLs: SDKs pointed at `/v1/{account}/{gateway}/…`, as its documentation says.

The Wardgate key stands in `cf-aig-authorization`, a placeholder where the SDK wants a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from admin.demo.ask import SENTENCE
from admin.demo.openai_media import SPEECH, vector_of
from admin.demo.upstream import Upstream
from gateway.shapes import RateLimit, Scope
from tests.stage import (
    PLACEHOLDER,
    Stage,
    credentials,
    provider_of,
    put,
    put_usual,
    staged,
    stored_key,
)
from tests.test_sdk_anthropic import HI as CLAUDE_HI
from tests.test_sdk_anthropic import MODEL as CLAUDE
from tests.test_sdk_anthropic import text_of
from tests.test_sdk_gemini import MODEL as GEMINI
from tests.test_sdk_openai import HI, MODEL, RECORDING, Captured
from tests.world import World

ACCOUNT = "0123456789abcdef0123456789abcdef"
SCOPE = f"gateway:{ACCOUNT}/my-gateway"


def put_gateway(world: World, upstream: Upstream) -> None:
    world.scopes[SCOPE] = Scope(SCOPE, "gateway", "global")
    put_usual(world, upstream)
    put(world, upstream, "openai", alias="second", secret=stored_key("openai"))


@pytest.fixture
async def stage(capfd: Captured) -> AsyncIterator[Stage]:
    async with staged(capfd, put_gateway, scope=SCOPE) as running:
        yield running


def base(stage: Stage, rest: str, gateway: str = "my-gateway") -> str:
    return f"{stage.url}/v1/{ACCOUNT}/{gateway}/{rest}"


def signed(stage: Stage, **more: str) -> dict[str, str]:
    return {"cf-aig-authorization": f"Bearer {stage.key}"} | more


def open_ai(stage: Stage, rest: str, **more: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=base(stage, rest),
        api_key=PLACEHOLDER,
        default_headers=signed(stage, **more),
        max_retries=0,
        timeout=5,
    )


def claude(stage: Stage) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        base_url=base(stage, "anthropic"),
        api_key=PLACEHOLDER,
        default_headers=signed(stage),
        max_retries=0,
        timeout=5,
    )


def google(stage: Stage, slug: str, version: str | None) -> genai.Client:
    options = types.HttpOptions(
        base_url=base(stage, slug), headers=signed(stage), api_version=version
    )
    return genai.Client(api_key=PLACEHOLDER, http_options=options)


async def test_openai_answers_whole_and_streamed(stage: Stage) -> None:
    async with open_ai(stage, "openai") as client:
        whole = await client.chat.completions.create(model=MODEL, messages=HI)
        stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        made = await client.responses.create(model=MODEL, input="hi")
    assert whole.choices[0].message.content == "".join(texts) == made.output_text == SENTENCE
    assert [one.path for one in stage.upstream.received] == [
        "/openai/v1/chat/completions",
        "/openai/v1/chat/completions",
        "/openai/v1/responses",
    ]


async def test_other_endpoints_of_openai_work_as_well(stage: Stage) -> None:
    async with open_ai(stage, "openai") as client:
        made = await client.embeddings.create(model="text-embedding-3-small", input="a")
        assert made.data[0].embedding == vector_of(8)
        heard = await client.audio.transcriptions.create(model="whisper-1", file=RECORDING)
        assert heard.text == "100 bytes of sound."
        spoken = await client.audio.speech.create(model="tts-1", voice="alloy", input="hi")
        assert spoken.content == SPEECH
        # The list of a provider's native path is the provider's own.
        assert "demo-chat" in [model.id async for model in client.models.list()]
    assert stage.last.path == "/openai/v1/models"


async def test_model_names_of_a_native_path_are_left_alone(stage: Stage) -> None:
    async with open_ai(stage, "openai") as client:
        await client.chat.completions.create(model="anthropic/claude-x", messages=HI)
    assert stage.last.path == "/openai/v1/chat/completions"
    assert stage.last.json()["model"] == "anthropic/claude-x"


@pytest.mark.parametrize(
    ("model", "path", "sent"),
    [
        ("openai/gpt-4o-mini", "/openai/v1/chat/completions", "gpt-4o-mini"),
        (f"anthropic/{CLAUDE}", "/anthropic/v1/chat/completions", CLAUDE),
        (f"google-ai-studio/{GEMINI}", "/google/v1beta/openai/chat/completions", GEMINI),
        ("second/gpt-4o-mini", "/openai/v1/chat/completions", "gpt-4o-mini"),
    ],
)
async def test_compat_takes_the_provider_from_the_model(
    stage: Stage, model: str, path: str, sent: str
) -> None:
    async with open_ai(stage, "compat") as client:
        whole = await client.chat.completions.create(model=model, messages=HI)
        stream = await client.chat.completions.create(model=model, messages=HI, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert whole.choices[0].message.content == "".join(texts) == SENTENCE
    assert (stage.last.path, stage.last.json()["model"]) == (path, sent)
    key = stored_key(provider_of(stage.last)).encode()
    assert stage.last.values(b"authorization") == [b"Bearer " + key]


async def test_compat_stream_that_is_cut_raises(stage: Stage) -> None:
    async with open_ai(stage, "compat", **{"x-demo": "cut_at=500"}) as client:
        for model in (f"openai/{MODEL}", f"anthropic/{CLAUDE}"):
            with pytest.raises(openai.APIError):
                async for _ in await client.chat.completions.create(
                    model=model, messages=HI, stream=True
                ):
                    pass


async def test_anthropic_answers_whole_streamed_and_counts(stage: Stage) -> None:
    async with claude(stage) as client:
        whole = await client.messages.create(model=CLAUDE, max_tokens=9, messages=CLAUDE_HI)
        async with client.messages.stream(model=CLAUDE, max_tokens=9, messages=CLAUDE_HI) as stream:
            assert "".join([text async for text in stream.text_stream]) == SENTENCE
        assert (await client.messages.count_tokens(model=CLAUDE, messages=CLAUDE_HI)).input_tokens
    assert text_of(whole) == SENTENCE
    assert stage.last.path == "/anthropic/v1/messages/count_tokens"


@pytest.mark.parametrize("slug", ["google-ai-studio", "google"])
@pytest.mark.parametrize("version", [None, "v1beta"])
async def test_gemini_answers_whole_and_streamed(
    stage: Stage, slug: str, version: str | None
) -> None:
    with google(stage, slug, version) as client:
        async with client.aio as asking:
            whole = await asking.models.generate_content(model=GEMINI, contents="hi")
            stream = await asking.models.generate_content_stream(model=GEMINI, contents="hi")
            texts = [chunk.text or "" async for chunk in stream]
    assert whole.text == "".join(texts) == SENTENCE
    assert stage.last.path == f"/google/v1beta/models/{GEMINI}:streamGenerateContent"


async def test_sync_clients_do_the_same(stage: Stage) -> None:
    await asyncio.to_thread(_in_turn, stage)
    assert {provider_of(one) for one in stage.upstream.received} == {"openai", "anthropic"}


def _in_turn(stage: Stage) -> None:
    given: dict[str, Any] = {"api_key": PLACEHOLDER, "default_headers": signed(stage)}
    with openai.OpenAI(base_url=base(stage, "compat"), **given) as client:
        said = client.chat.completions.create(model=f"openai/{MODEL}", messages=HI)
        assert said.choices[0].message.content == SENTENCE
    with anthropic.Anthropic(base_url=base(stage, "anthropic"), **given) as other:
        told = other.messages.create(model=CLAUDE, max_tokens=9, messages=CLAUDE_HI)
        assert text_of(told) == SENTENCE


async def test_key_may_stand_where_the_sdk_puts_it(stage: Stage) -> None:
    async with openai.AsyncOpenAI(base_url=base(stage, "openai"), api_key=stage.key) as client:
        said = await client.chat.completions.create(model=MODEL, messages=HI)
    assert said.choices[0].message.content == SENTENCE


async def test_alias_is_chosen_by_cloudflares_header(capfd: Captured) -> None:
    def fill(world: World, upstream: Upstream) -> None:
        world.scopes[SCOPE] = Scope(SCOPE, "gateway", "global")
        put(world, upstream, "openai", secret="sk-not-this-one-0123456789")
        put(world, upstream, "openai", alias="second")

    async with staged(capfd, fill, scope=SCOPE) as stage:
        async with open_ai(stage, "openai", **{"cf-aig-byok-alias": "second"}) as client:
            said = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
        assert credentials(stage.last) == [stored_key("openai")]
    assert said.headers["wardgate-config"] == "second"


async def test_gateway_of_somebody_else_is_not_found(capfd: Captured) -> None:
    def fill(world: World, upstream: Upstream) -> None:
        put_gateway(world, upstream)
        other = f"gateway:{ACCOUNT}/other"
        world.scopes[other] = Scope(other, "gateway", "global")

    told = set()
    async with staged(capfd, fill, scope=SCOPE) as stage:
        for gateway in ("other", "absent"):
            client = openai.AsyncOpenAI(
                base_url=base(stage, "openai", gateway), api_key=stage.key, max_retries=0
            )
            async with client:
                with pytest.raises(openai.NotFoundError) as caught:
                    await client.chat.completions.create(model=MODEL, messages=HI)
            told.add(caught.value.message.replace(gateway, "…"))
        assert stage.upstream.received == []
    assert len(told) == 1


async def test_refusals_come_in_the_dialect_of_the_path(stage: Stage) -> None:
    given: dict[str, Any] = {"api_key": PLACEHOLDER, "max_retries": 0}
    async with openai.AsyncOpenAI(base_url=base(stage, "compat"), **given) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model=f"openai/{MODEL}", messages=HI)
    assert refused.value.code == "missing_api_key"
    async with anthropic.AsyncAnthropic(base_url=base(stage, "anthropic"), **given) as other:
        with pytest.raises(anthropic.AuthenticationError, match="authentication_error"):
            await other.messages.create(model=CLAUDE, max_tokens=9, messages=CLAUDE_HI)
    options = types.HttpOptions(base_url=base(stage, "google-ai-studio"))
    with genai.Client(api_key=PLACEHOLDER, http_options=options) as third:
        async with third.aio as asking:
            with pytest.raises(errors.ClientError) as caught:
                await asking.models.generate_content(model=GEMINI, contents="hi")
    assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")
    assert stage.upstream.received == []


async def test_limit_of_the_gateway_is_a_rate_limit_error(capfd: Captured, limits_url: str) -> None:
    def fill(world: World, upstream: Upstream) -> None:
        put_gateway(world, upstream)
        world.gateways[SCOPE] = RateLimit(1, 60)

    async with staged(
        capfd, fill, clock=lambda: 1_000.0, settings={"redis_url": limits_url}
    ) as stage:
        async with open_ai(stage, "compat") as client:
            await client.chat.completions.create(model=f"openai/{MODEL}", messages=HI)
        async with claude(stage) as other:
            with pytest.raises(anthropic.RateLimitError) as caught:
                await other.messages.create(model=CLAUDE, max_tokens=9, messages=CLAUDE_HI)
        assert len(stage.upstream.received) == 1
    assert caught.value.response.headers["ratelimit-policy"].startswith('"gateway";q=1;w=60')


async def test_cache_is_said_to_be_bypassed(stage: Stage) -> None:
    async with open_ai(stage, "openai", **{"cf-aig-cache-ttl": "60"}) as client:
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
    assert raw.headers["cf-aig-cache-status"] == "BYPASS"
    assert stage.upstream.received[0].header(b"cf-aig-cache-ttl") is None
