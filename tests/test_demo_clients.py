"""Real provider SDKs, unmodified, straight against the demo upstream: its answers are theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from admin.demo.ask import SENTENCE
from admin.demo.openai_media import SPEECH, vector_of
from admin.demo.upstream import Upstream
from tests import node

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
]
RECORDING = ("speech.wav", b"RIFF" + bytes(96))
CLAUDE_HI: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hi"}]


def open_ai(up: Upstream, key: str = "sk-demo") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=up.url, api_key=key, max_retries=0)


def claude(up: Upstream, key: str = "sk-ant-demo") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=up.origin, api_key=key, max_retries=0)


def gemini(up: Upstream, key: str = "AIza-demo") -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=up.origin))


async def test_openai_chat_reads_the_sentence_whole_and_streamed(upstream: Upstream) -> None:
    async with open_ai(upstream) as client:
        whole = await client.chat.completions.create(model="demo-chat", messages=HI)
        assert whole.choices[0].message.content == SENTENCE
        assert whole.usage
        assert whole._request_id
        stream = await client.chat.completions.create(
            model="demo-chat", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(texts) == SENTENCE
    assert len(texts) > 5
    assert [c.usage for c in chunks if c.usage] == [chunks[-1].usage]
    assert chunks[-1].usage == whole.usage.model_copy(update=_sizes(upstream))


def _sizes(up: Upstream) -> dict[str, int]:
    """The two requests differ in length, and so in prompt tokens; nothing else may differ."""
    spoken, sent = len(SENTENCE.split(" ")), len(up.received[-1].body) // 4
    return {"prompt_tokens": sent, "total_tokens": sent + spoken}


async def test_openai_stream_has_no_usage_when_nobody_asked(upstream: Upstream) -> None:
    async with open_ai(upstream) as client:
        stream = await client.chat.completions.create(model="x", messages=HI, stream=True)
        assert [chunk.usage async for chunk in stream if chunk.usage] == []


async def test_openai_chunks_carry_a_null_before_the_usage_that_was_asked_for(
    upstream: Upstream,
) -> None:
    async with (
        open_ai(upstream) as client,
        client.chat.completions.with_streaming_response.create(
            model="x", messages=HI, stream=True, stream_options={"include_usage": True}
        ) as answer,
    ):
        lines = [line async for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert '"choices":[],"usage":{' in lines[-2]
    assert all(line.endswith('"usage":null}') for line in lines[:-2])


async def test_openai_streams_a_tool_call_and_ends_when_it_is_answered(upstream: Upstream) -> None:
    async with open_ai(upstream) as client:
        async with client.chat.completions.stream(
            model="demo-chat", messages=HI, tools=TOOLS
        ) as stream:
            done = await stream.get_final_completion()
        calls = done.choices[0].message.tool_calls
        assert calls
        assert calls[0].function.name == "get_weather"
        assert calls[0].function.arguments == '{"city":"Paris"}'
        assert done.choices[0].finish_reason == "tool_calls"
        told: ChatCompletionMessageParam = {
            "role": "tool",
            "tool_call_id": calls[0].id,
            "content": "sunny",
        }
        last = await client.chat.completions.create(
            model="demo-chat", messages=[*HI, told], tools=TOOLS
        )
        assert last.choices[0].finish_reason == "stop"


def test_openai_sync_client_reads_the_legacy_completion() -> None:
    async def run() -> str:
        async with Upstream() as up:
            return await asyncio.to_thread(_complete, up.url)

    assert asyncio.run(run()) == SENTENCE * 2


def _complete(url: str) -> str:
    with openai.OpenAI(base_url=url, api_key="sk-demo", max_retries=0) as client:
        whole = client.completions.create(model="demo", prompt="hi").choices[0].text
        pieces = client.completions.create(model="demo", prompt="hi", stream=True)
        return whole + "".join(piece.choices[0].text for piece in pieces)


async def test_openai_responses_read_whole_streamed_and_stored(upstream: Upstream) -> None:
    async with open_ai(upstream) as client:
        made = await client.responses.create(model="demo-chat", input="hi")
        assert made.output_text == SENTENCE
        async with client.responses.stream(model="demo-chat", input="hi") as stream:
            kinds = [event.type async for event in stream]
            done = await stream.get_final_response()
        assert done.output_text == SENTENCE
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert (await client.responses.retrieve("resp_1")).id == "resp_1"
        assert (await client.responses.cancel("resp_1")).id == "resp_1"
        items = await client.responses.input_items.list("resp_1")
        assert items.data[0].id == "msg_demo"
        await client.responses.delete("resp_1")


async def test_openai_responses_call_the_function(upstream: Upstream) -> None:
    async with open_ai(upstream) as client:
        stream = await client.responses.create(
            model="demo-chat",
            input="hi",
            stream=True,
            tools=[
                {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
            ],
        )
        events = [event async for event in stream]
    said = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    assert said == '{"city":"Paris"}'


async def test_openai_embeddings_are_alike_in_both_encodings(upstream: Upstream) -> None:
    async with open_ai(upstream) as client:
        packed = await client.embeddings.create(model="e", input=["a", "b"], dimensions=20)
        plain = await client.embeddings.create(
            model="e", input=["a", "b"], dimensions=20, encoding_format="float"
        )
        assert upstream.received[0].json()["encoding_format"] == "base64"
    assert [e.embedding for e in packed.data] == [vector_of(20)] * 2
    assert packed.data == plain.data


async def test_openai_models_files_and_media_work(upstream: Upstream) -> None:
    async with open_ai(upstream) as client:
        names = [model.id async for model in client.models.list()]
        assert (await client.models.retrieve(names[0])).id == names[0]
        made = await client.files.create(file=("a.jsonl", b"{}\n" * 10), purpose="batch")
        assert (made.filename, made.bytes, made.purpose) == ("a.jsonl", 30, "batch")
        assert len([one async for one in client.files.list()]) == 2
        assert (await client.files.delete(made.id)).deleted
        assert (await client.files.content(made.id)).read() == SPEECH
        assert not (await client.moderations.create(input="hi")).results[0].flagged
        image = await client.images.generate(prompt="a dot", model="demo-image")
        assert image.data
        assert image.data[0].b64_json
        batch = await client.batches.create(
            completion_window="24h", endpoint="/v1/chat/completions", input_file_id=made.id
        )
        assert (await client.batches.cancel(batch.id)).status == "cancelling"


async def test_openai_audio_goes_both_ways(upstream: Upstream) -> None:
    async with open_ai(upstream) as client:
        heard = await client.audio.transcriptions.create(model="whisper-1", file=RECORDING)
        assert heard.text == "100 bytes of sound."
        async with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input="hi"
        ) as spoken:
            assert await spoken.read() == SPEECH


@pytest.mark.parametrize(
    ("key", "model", "kind", "code"),
    [
        ("sk-refuse-me", "demo", openai.AuthenticationError, "invalid_api_key"),
        ("sk-demo", "missing-model", openai.NotFoundError, "model_not_found"),
        ("sk-demo", "limited-model", openai.RateLimitError, "rate_limit_exceeded"),
    ],
)
async def test_openai_errors_are_typed(
    upstream: Upstream, key: str, model: str, kind: type[openai.APIStatusError], code: str
) -> None:
    async with open_ai(upstream, key) as client:
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(model=model, messages=HI)
    assert caught.value.code == code
    assert (caught.value.response.headers.get("retry-after") == "7") == (model == "limited-model")


async def test_anthropic_reads_the_sentence_whole_and_streamed(upstream: Upstream) -> None:
    async with claude(upstream) as client:
        whole = await client.messages.create(model="c", max_tokens=9, messages=CLAUDE_HI)
        assert isinstance(whole.content[0], anthropic.types.TextBlock)
        assert whole.content[0].text == SENTENCE
        async with client.messages.stream(model="c", max_tokens=9, messages=CLAUDE_HI) as stream:
            assert "".join([text async for text in stream.text_stream]) == SENTENCE
            last = await stream.get_final_message()
        assert last.stop_reason == whole.stop_reason == "end_turn"
        assert last.usage.output_tokens == whole.usage.output_tokens
        counted = await client.messages.count_tokens(model="c", messages=CLAUDE_HI)
        assert counted.input_tokens > 0
        assert "claude-demo" in [model.id async for model in client.models.list()]


async def test_anthropic_streams_a_tool_call(upstream: Upstream) -> None:
    tool: anthropic.types.ToolParam = {"name": "get_weather", "input_schema": SCHEMA}
    async with (
        claude(upstream) as client,
        client.messages.stream(model="c", max_tokens=9, messages=CLAUDE_HI, tools=[tool]) as stream,
    ):
        last = await stream.get_final_message()
    block = last.content[0]
    assert isinstance(block, anthropic.types.ToolUseBlock)
    assert (block.name, block.input) == ("get_weather", {"city": "Paris"})
    assert last.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("key", "model", "kind", "word"),
    [
        ("sk-refuse-me", "c", anthropic.AuthenticationError, "authentication_error"),
        ("sk-ant", "missing-model", anthropic.NotFoundError, "not_found_error"),
        ("sk-ant", "limited-model", anthropic.RateLimitError, "rate_limit_error"),
    ],
)
async def test_anthropic_errors_are_typed(
    upstream: Upstream, key: str, model: str, kind: type[anthropic.APIStatusError], word: str
) -> None:
    async with claude(upstream, key) as client:
        with pytest.raises(kind) as caught:
            await client.messages.create(model=model, max_tokens=9, messages=CLAUDE_HI)
    assert word in str(caught.value.body)
    assert caught.value.request_id


@pytest.fixture
def google(upstream: Upstream) -> Iterator[genai.Client]:
    with gemini(upstream) as client:
        yield client


async def test_gemini_reads_the_sentence_whole_and_streamed(google: genai.Client) -> None:
    async with google.aio as client:
        whole = await client.models.generate_content(model="gemini-demo", contents="hi")
        assert whole.text == SENTENCE
        stream = await client.models.generate_content_stream(model="gemini-demo", contents="hi")
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.text or "" for chunk in chunks) == SENTENCE
        assert len(chunks) > 5
        counted = await client.models.count_tokens(model="gemini-demo", contents="hi")
        assert counted.total_tokens
        embedded = await client.models.embed_content(model="gemini-embedding-001", contents="hi")
        assert embedded.embeddings
        assert embedded.embeddings[0].values == vector_of(8)
        names = [model.name async for model in await client.models.list()]
        assert "models/gemini-demo" in names


async def test_gemini_calls_the_function(google: genai.Client) -> None:
    function = types.FunctionDeclaration(
        name="get_weather",
        parameters=types.Schema(
            type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}
        ),
    )
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[function])])
    async with google.aio as client:
        said = await client.models.generate_content(
            model="gemini-demo", contents="hi", config=config
        )
    assert said.function_calls
    assert said.function_calls[0].args == {"city": "Paris"}


@pytest.mark.parametrize(
    ("key", "model", "code", "status"),
    [
        ("sk-refuse-me", "g", 401, "UNAUTHENTICATED"),
        ("AIza", "missing-model", 404, "NOT_FOUND"),
        ("AIza", "limited-model", 429, "RESOURCE_EXHAUSTED"),
    ],
)
async def test_gemini_errors_are_typed(
    upstream: Upstream, key: str, model: str, code: int, status: str
) -> None:
    with gemini(upstream, key) as client, pytest.raises(google_errors.ClientError) as caught:
        async with client.aio as asking:
            await asking.models.generate_content(model=model, contents="hi")
    assert (caught.value.code, caught.value.status) == (code, status)


@pytest.mark.usefixtures("npm_clients")
async def test_npm_openai_reads_every_kind_of_answer(upstream: Upstream) -> None:
    seen = await node.drive_openai(upstream.url, "sk-demo")
    assert seen["chat"]["text"] == seen["streamed"]["text"] == SENTENCE
    assert seen["chat"]["requestId"].startswith("req_")
    assert seen["streamed"]["pieces"] > 5
    assert seen["streamed"]["total"] > 0
    assert seen["tools"]["arguments"] == {"city": "Paris"}
    assert seen["tools"]["finish"] == "tool_calls"
    assert seen["responses"]["text"] == seen["responses"]["streamed"] == SENTENCE
    assert seen["responses"]["events"][-1] == "response.completed"
    assert seen["embeddings"]["base64"] == seen["embeddings"]["float"] == [vector_of(8)] * 2
    assert "demo-chat" in seen["models"]


@pytest.mark.usefixtures("npm_clients")
async def test_npm_openai_gets_typed_errors(upstream: Upstream) -> None:
    seen = await node.drive_openai(upstream.url, "sk-demo")
    named = {name: seen[name]["type"] for name in ("unauthorized", "missing", "limited")}
    assert named == {
        "unauthorized": "AuthenticationError",
        "missing": "NotFoundError",
        "limited": "RateLimitError",
    }
    assert seen["limited"]["retryAfter"] == "7"
