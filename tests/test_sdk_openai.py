"""PyPI `openai`, unmodified, through the gateway: what answers, and what fails as which type."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import partial

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from admin.demo.ask import SENTENCE
from admin.demo.openai_media import SPEECH, vector_of
from admin.demo.upstream import Upstream
from gateway.shapes import RateLimit
from tests.stage import Stage, put, staged, stored_key
from tests.world import World

MODEL = "gpt-4o-mini"
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": dict(SCHEMA)}}
]
RECORDING = ("speech.wav", b"RIFF" + bytes(96))
Captured = pytest.CaptureFixture[str]


@pytest.fixture
async def stage(capfd: Captured) -> AsyncIterator[Stage]:
    async with staged(capfd) as running:
        yield running


def client_of(stage: Stage, key: str = "") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{stage.url}/v1", api_key=key or stage.key, max_retries=0, timeout=5
    )


def sync_client_of(stage: Stage, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{stage.url}/v1", api_key=key or stage.key, max_retries=0, timeout=5
    )


async def test_chat_answers_whole_and_streamed(stage: Stage) -> None:
    async with client_of(stage) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=HI)
        assert whole.choices[0].message.content == SENTENCE
        assert whole.usage
        assert whole._request_id
        stream = await client.chat.completions.create(
            model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(texts) == SENTENCE
    assert len(texts) > 5
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert stage.last.path == "/openai/v1/chat/completions"
    assert stage.last.header(b"authorization") == b"Bearer " + stored_key("openai").encode()


async def test_stream_has_no_usage_when_nobody_asked(stage: Stage) -> None:
    async with client_of(stage) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        assert [chunk.usage async for chunk in stream if chunk.usage] == []


async def test_prefix_of_the_model_is_cut_off(stage: Stage) -> None:
    async with client_of(stage) as client:
        said = await client.chat.completions.create(model=f"openai/{MODEL}", messages=HI)
    assert said.model == stage.last.json()["model"] == MODEL


async def test_tools_are_called_in_a_stream(stage: Stage) -> None:
    async with (
        client_of(stage) as client,
        client.chat.completions.stream(model=MODEL, messages=HI, tools=TOOLS) as stream,
    ):
        done = await stream.get_final_completion()
    calls = done.choices[0].message.tool_calls
    assert calls
    assert (calls[0].function.name, calls[0].function.arguments) == (
        "get_weather",
        '{"city":"Paris"}',
    )
    assert done.choices[0].finish_reason == "tool_calls"


async def test_legacy_completion_answers_whole_and_streamed(stage: Stage) -> None:
    async with client_of(stage) as client:
        whole = await client.completions.create(model=MODEL, prompt="hi")
        stream = await client.completions.create(model=MODEL, prompt="hi", stream=True)
        text = "".join([piece.choices[0].text async for piece in stream])
    assert whole.choices[0].text == text == SENTENCE


async def test_responses_answer_whole_streamed_and_stored(stage: Stage) -> None:
    async with client_of(stage) as client:
        made = await client.responses.create(model="gpt-5.1", input="hi")
        assert made.output_text == SENTENCE
        async with client.responses.stream(model="gpt-5.1", input="hi") as stream:
            kinds = [event.type async for event in stream]
            done = await stream.get_final_response()
        assert done.output_text == SENTENCE
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        assert (await client.responses.retrieve("resp_1")).id == "resp_1"
        assert (await client.responses.cancel("resp_1")).id == "resp_1"
        assert (await client.responses.input_items.list("resp_1")).data[0].id == "msg_demo"
        await client.responses.delete("resp_1")


async def test_embeddings_are_alike_in_both_encodings(stage: Stage) -> None:
    async with client_of(stage) as client:
        packed = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        assert stage.last.json()["encoding_format"] == "base64"
        plain = await client.embeddings.create(
            model="text-embedding-3-small", input=["a", "b"], encoding_format="float"
        )
    assert [one.embedding for one in packed.data] == [vector_of(8)] * 2
    assert packed.data == plain.data


async def test_recording_is_uploaded_and_speech_downloaded(stage: Stage) -> None:
    async with client_of(stage) as client:
        heard = await client.audio.transcriptions.create(model="whisper-1", file=RECORDING)
        assert heard.text == "100 bytes of sound."
        assert RECORDING[1] in stage.last.body
        async with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input="hi"
        ) as spoken:
            pieces = [piece async for piece in spoken.iter_bytes(1024)]
        assert b"".join(pieces) == SPEECH
        whole = await client.audio.speech.create(model="tts-1", voice="alloy", input="hi")
        assert whole.content == SPEECH


async def test_files_go_up_and_down_and_away(stage: Stage) -> None:
    content = hashlib.shake_128(b"file").digest(300_000)
    async with client_of(stage) as client:
        made = await client.files.create(file=("a.jsonl", content), purpose="batch")
        assert (made.filename, made.bytes, made.purpose) == ("a.jsonl", len(content), "batch")
        assert content in stage.last.body
        assert len([one async for one in client.files.list()]) == 2
        assert (await client.files.retrieve(made.id)).id == made.id
        assert (await client.files.content(made.id)).read() == SPEECH
        assert (await client.files.delete(made.id)).deleted
        batch = await client.batches.create(
            completion_window="24h", endpoint="/v1/chat/completions", input_file_id=made.id
        )
        assert (await client.batches.cancel(batch.id)).status == "cancelling"


async def test_moderations_and_images_need_no_model(stage: Stage) -> None:
    async with client_of(stage) as client:
        assert not (await client.moderations.create(input="hi")).results[0].flagged
        drawn = await client.images.generate(prompt="a dot")
        edited = await client.images.edit(prompt="b", model="gpt-image-1", image=("a.png", b"PNG"))
    assert drawn.data
    assert edited.data
    assert edited.data[0].b64_json == drawn.data[0].b64_json


async def test_models_are_listed_and_retrieved(stage: Stage) -> None:
    async with client_of(stage) as client:
        names = [model.id async for model in client.models.list()]
        assert {MODEL, "claude-sonnet-4-5"} <= set(names)
        assert (await client.models.retrieve(MODEL)).owned_by == "openai"
    assert stage.upstream.received == []


async def test_sync_client_does_the_same(stage: Stage) -> None:
    await asyncio.to_thread(_in_turn, stage)
    assert len(stage.upstream.received) == 10


def _in_turn(stage: Stage) -> None:
    with sync_client_of(stage) as client:
        said = client.chat.completions.create(model=MODEL, messages=HI)
        assert said.choices[0].message.content == SENTENCE
        with client.chat.completions.create(model=MODEL, messages=HI, stream=True) as chunks:
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == SENTENCE
        with client.chat.completions.stream(model=MODEL, messages=HI, tools=TOOLS) as stream:
            calls = stream.get_final_completion().choices[0].message.tool_calls
        assert calls
        assert calls[0].function.arguments == '{"city":"Paris"}'
        assert client.responses.create(model="gpt-5.1", input="hi").output_text == SENTENCE
        with client.responses.stream(model="gpt-5.1", input="hi") as events:
            assert [event.type for event in events][-1] == "response.completed"
        made = client.embeddings.create(model="text-embedding-3-small", input="a")
        assert made.data[0].embedding == vector_of(8)
        assert MODEL in [model.id for model in client.models.list()]
        heard = client.audio.transcriptions.create(model="whisper-1", file=RECORDING)
        assert heard.text == "100 bytes of sound."
        with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input="hi"
        ) as spoken:
            assert b"".join(spoken.iter_bytes()) == SPEECH
        made_file = client.files.create(file=("a.jsonl", b"{}\n" * 10), purpose="batch")
        assert made_file.bytes == 30
        assert client.files.delete(made_file.id).deleted


async def test_cookies_of_the_provider_do_not_reach_the_client(stage: Stage) -> None:
    async with client_of(stage) as client:
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
    assert "set-cookie" not in raw.headers
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["wardgate-provider"] == "openai"
    assert raw.headers["wardgate-config"] == "default"
    assert stage.last.script
    own = dict(stage.last.script.headers)[b"x-request-id"].decode()
    assert raw.headers["x-request-id"] == own != raw.headers["wardgate-request-id"]


@pytest.mark.parametrize(
    ("key", "code"), [("sk-not-ours", "missing_api_key"), ("wg_no_one", "invalid_api_key")]
)
async def test_key_that_is_not_ours_is_an_authentication_error(
    stage: Stage, key: str, code: str
) -> None:
    async with client_of(stage, key) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model=MODEL, messages=HI)
    assert caught.value.code == code
    assert caught.value.request_id
    assert stage.upstream.received == []


async def test_sync_client_gets_typed_errors_too(stage: Stage) -> None:
    await asyncio.to_thread(_refused_in_turn, stage)


def _refused_in_turn(stage: Stage) -> None:
    stranger = sync_client_of(stage, "sk-not-ours")
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model=MODEL, messages=HI)
    with sync_client_of(stage) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="missing-model", messages=HI)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model="limited-model", messages=HI, stream=True)
        assert limited.value.response.headers["retry-after"] == "7"


REFUSED = "sk-refuse-canary-0123456789abcdef"


async def test_refusal_by_the_provider_is_an_authentication_error_without_the_key(
    capfd: Captured,
) -> None:
    def fill(world: World, upstream: Upstream) -> None:
        put(world, upstream, "openai", secret=REFUSED)

    async with staged(capfd, fill, stored=lambda _: REFUSED) as stage, client_of(stage) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model=MODEL, messages=HI)
    assert "Incorrect API key provided" in caught.value.message
    assert REFUSED not in caught.value.response.text


async def test_model_nobody_serves_is_not_found(capfd: Captured) -> None:
    async with staged(capfd, lambda world, up: put(world, up, "anthropic")) as stage:
        async with client_of(stage) as client:
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(model="no-such-model", messages=HI)
        assert stage.upstream.received == []
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "no-such-model" in caught.value.message


@pytest.mark.parametrize("model", ["missing-model", "limited-model"])
async def test_errors_of_the_provider_pass_as_they_are(stage: Stage, model: str) -> None:
    kind = openai.NotFoundError if model == "missing-model" else openai.RateLimitError
    async with client_of(stage) as client:
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(model=model, messages=HI, stream=True)
    assert stage.last.script
    assert caught.value.response.content == stage.last.script.payload


async def test_limit_is_a_rate_limit_error_that_says_when_to_come_back(
    capfd: Captured, limits_url: str
) -> None:
    limit, settings = RateLimit(1, 60), {"redis_url": limits_url}
    async with staged(capfd, clock=lambda: 1_000.0, settings=settings, limit=limit) as stage:
        async with client_of(stage) as client:
            await client.chat.completions.create(model=MODEL, messages=HI)
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model=MODEL, messages=HI)
        assert len(stage.upstream.received) == 1
    headers = caught.value.response.headers
    assert caught.value.code == "rate_limit_exceeded"
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("20", "20000")
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"


async def test_client_comes_back_when_it_was_told_to(capfd: Captured, limits_url: str) -> None:
    # A tenth of a second before the window ends; the clock stands still until then.
    seconds = iter([*[1019.9] * 4, *[1020.0] * 100])
    limit, settings = RateLimit(1, 60), {"redis_url": limits_url}
    clock = partial(next, seconds)
    async with staged(capfd, clock=clock, settings=settings, limit=limit) as stage:
        async with client_of(stage).with_options(max_retries=1) as client:
            for _ in range(2):
                said = await client.chat.completions.create(model=MODEL, messages=HI)
                assert said.choices[0].message.content == SENTENCE
        assert len(stage.upstream.received) == 2


async def test_provider_that_breaks_off_is_a_typed_server_error(stage: Stage) -> None:
    async with client_of(stage) as client:
        for order in ("cut_at=0", "cut_wire_at=0", "cut_wire_at=9; cut=rst"):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(
                    model=MODEL, messages=HI, stream=True, extra_headers={"x-demo": order}
                )
            assert caught.value.status_code == 502


async def test_answer_that_is_cut_is_never_taken_for_whole(stage: Stage) -> None:
    async with client_of(stage) as client:
        for at in (1, 100, 300):
            with pytest.raises(openai.APIError):
                await client.chat.completions.create(
                    model=MODEL, messages=HI, extra_headers={"x-demo": f"cut_at={at}"}
                )
