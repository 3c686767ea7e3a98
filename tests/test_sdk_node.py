"""npm `openai`, unmodified, through the gateway."""

from __future__ import annotations

import openai
import pytest

from admin.demo.ask import SENTENCE
from admin.demo.openai_media import vector_of
from admin.demo.upstream import Upstream
from gateway.shapes import RateLimit
from tests import node
from tests.stage import PLACEHOLDER, put, put_usual, staged
from tests.world import World

MODEL = "gpt-4o-mini"


def put_limited(world: World, upstream: Upstream) -> None:
    put_usual(world, upstream)
    put(world, upstream, "openai", alias="limited", limit=RateLimit(1, 60))


@pytest.mark.usefixtures("npm_clients")
async def test_npm_openai_reads_every_kind_of_answer_and_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with staged(capfd, put_limited, clock=lambda: 1_000.0) as stage:
        async with openai.AsyncOpenAI(base_url=f"{stage.url}/v1", api_key=stage.key) as client:
            await client.chat.completions.create(
                model=f"limited/{MODEL}", messages=[{"role": "user", "content": "hi"}]
            )
        seen = await node.drive_openai(
            f"{stage.url}/v1",
            stage.key,
            refusedKey=PLACEHOLDER,
            model=MODEL,
            limitedModel=f"limited/{MODEL}",
        )
    assert seen["chat"]["text"] == seen["streamed"]["text"] == SENTENCE
    assert seen["chat"]["requestId"]
    assert seen["streamed"]["pieces"] > 5
    assert seen["streamed"]["total"] > 0
    assert (seen["tools"]["arguments"], seen["tools"]["finish"]) == (
        {"city": "Paris"},
        "tool_calls",
    )
    assert seen["responses"]["text"] == seen["responses"]["streamed"] == SENTENCE
    assert seen["responses"]["events"][-1] == "response.completed"
    assert seen["embeddings"]["base64"] == seen["embeddings"]["float"] == [vector_of(8)] * 2
    assert {MODEL, "claude-opus-4-5"} <= set(seen["models"])
    _check_errors(seen)


def _check_errors(seen: dict[str, dict[str, object]]) -> None:
    told = {
        name: (seen[name]["type"], seen[name]["status"], seen[name]["code"])
        for name in ("unauthorized", "missing", "limited")
    }
    assert told == {
        "unauthorized": ("AuthenticationError", 401, "missing_api_key"),
        "missing": ("NotFoundError", 404, "model_not_found"),
        "limited": ("RateLimitError", 429, "rate_limit_exceeded"),
    }
    assert seen["limited"]["retryAfter"] == "20"
