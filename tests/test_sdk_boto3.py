"""boto3, unmodified, through the gateway: HTTPS on both sides, AWS's signature checked by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError  # type: ignore[import-untyped] # no types

from admin.demo.ask import SENTENCE
from admin.demo.orders import obey
from admin.demo.upstream import Received, Script
from tests.aws import ACCESS_KEY, ARN, MODEL, TOKEN, Aws, between_https, signed_headers

HI: list[dict[str, Any]] = [{"role": "user", "content": [{"text": "hi"}]}]
CLAUDE = json.dumps(
    {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    }
)


@pytest.fixture
async def aws(tmp_path: Path) -> AsyncIterator[Aws]:
    async with between_https(tmp_path) as both:
        yield both


async def told(call: Callable[..., Any], **named: Any) -> Any:
    """What boto3, which blocks, answers."""
    return await asyncio.to_thread(call, **named)


def texts(stream: Any) -> str:
    deltas = [
        event["contentBlockDelta"]["delta"] for event in stream if "contentBlockDelta" in event
    ]
    return "".join(delta["text"] for delta in deltas)


async def test_converse_is_signed_with_the_stored_credential(aws: Aws) -> None:
    answer = await told(aws.client().converse, modelId=MODEL, messages=HI)
    assert answer["output"]["message"]["content"] == [{"text": SENTENCE}]
    assert answer["usage"]["outputTokens"] == len(SENTENCE.split(" "))
    [received] = aws.upstream.received
    assert signed_headers(received) == {"content-type", "host", "x-amz-date"}
    assert received.path == f"/model/{MODEL.replace(':', '%3A')}/converse"
    assert not [name for name, _ in received.headers if name.lower().startswith(b"amz-sdk")]


async def test_converse_stream_arrives_whole(aws: Aws) -> None:
    answer = await told(aws.client().converse_stream, modelId=MODEL, messages=HI)
    events = await asyncio.to_thread(list, answer["stream"])
    assert texts(events) == SENTENCE
    assert "metadata" in events[-1]


async def test_invoke_model_and_its_stream(aws: Aws) -> None:
    client = aws.client()
    answer = await told(client.invoke_model, modelId=MODEL, body=CLAUDE)
    assert json.loads(answer["body"].read())["content"][0]["text"] == SENTENCE
    assert answer["contentType"] == "application/json"
    streamed = await told(client.invoke_model_with_response_stream, modelId=MODEL, body=CLAUDE)
    events = await asyncio.to_thread(list, streamed["body"])
    pieces = [json.loads(event["chunk"]["bytes"]) for event in events]
    said = "".join(p["delta"]["text"] for p in pieces if p["type"] == "content_block_delta")
    assert said == SENTENCE
    assert pieces[-1]["type"] == "message_stop"
    for received in aws.upstream.received:
        assert received.body == CLAUDE.encode()


async def test_arn_keeps_its_encoded_slash(aws: Aws) -> None:
    await told(aws.client().converse, modelId=ARN, messages=HI)
    assert "%2F" in aws.upstream.received[0].path
    assert aws.upstream.received[0].path.count("/") == 3


async def test_prefix_of_the_provider_is_taken_off(aws: Aws) -> None:
    for model in (MODEL, ARN):
        await told(aws.client().converse, modelId=f"amazon-bedrock/{model}", messages=HI)
        assert "amazon-bedrock" not in aws.upstream.received[-1].path
        assert aws.upstream.received[-1].path.count("/") == 3


async def test_tokens_are_counted_and_tools_pass(aws: Aws) -> None:
    client = aws.client()
    counted = await told(client.count_tokens, modelId=MODEL, input={"converse": {"messages": HI}})
    assert counted["inputTokens"] > 0
    schema = {"json": {"type": "object", "properties": {"city": {"type": "string"}}}}
    tools = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": schema}}]}
    answer = await told(client.converse, modelId=MODEL, messages=HI, toolConfig=tools)
    assert answer["stopReason"] == "tool_use"
    assert answer["output"]["message"]["content"][0]["toolUse"]["input"] == {"city": "Paris"}


async def test_session_token_is_sent_and_signed(tmp_path: Path) -> None:
    async with between_https(tmp_path, token=TOKEN) as aws:
        await told(aws.client().converse, modelId=MODEL, messages=HI)
        [received] = aws.upstream.received
        assert received.values(b"x-amz-security-token") == [TOKEN.encode()]
        assert "x-amz-security-token" in signed_headers(received)


@pytest.mark.parametrize(
    ("model", "code", "status"),
    [
        ("missing-model", "ResourceNotFoundException", 404),
        ("limited-model", "ThrottlingException", 429),
    ],
)
async def test_errors_of_aws_keep_their_type(aws: Aws, model: str, code: str, status: int) -> None:
    with pytest.raises(ClientError) as caught:
        await told(aws.client().converse, modelId=model, messages=HI)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_a_key_nobody_knows_is_an_access_denied_exception(aws: Aws) -> None:
    client = aws.client(key="wg_" + aws.key[3:15] + "_" + "0" * 51)
    with pytest.raises(client.exceptions.AccessDeniedException, match="unknown or revoked"):
        await told(client.converse, modelId=MODEL, messages=HI)
    assert aws.upstream.received == []


@pytest.mark.parametrize("ours", [True, False])
async def test_a_signature_is_refused_with_words_that_help(aws: Aws, ours: bool) -> None:
    client = aws.signing_client(access_key=aws.key if ours else ACCESS_KEY)
    with pytest.raises(client.exceptions.AccessDeniedException, match="AWS_BEARER_TOKEN_BEDROCK"):
        await told(client.converse, modelId=MODEL, messages=HI)
    assert aws.upstream.received == []


def after_three_frames(received: Received) -> Script:
    script = obey(received)
    return replace(script, cut_at=sum(len(piece) for piece in script.pieces[:3]))


async def test_cut_stream_raises_in_the_middle(aws: Aws) -> None:
    aws.upstream.respond = after_three_frames
    answer = await told(aws.client().converse_stream, modelId=MODEL, messages=HI)
    with pytest.raises(EventStreamError, match="modelStreamErrorException"):
        await asyncio.to_thread(list, answer["stream"])
    answer["stream"].close()
