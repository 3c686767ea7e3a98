"""A model that is switched off is reached by no spelling of its name, nor of a path."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from admin.demo.upstream import Script, Upstream
from gateway.shapes import GLOBAL, Scope
from tests import world
from tests.serve import RawClient, request_bytes

CHAT = "/v1/chat/completions"
NATIVE = "/v1/acme/main"
CLAUDE = "anthropic.claude-sonnet-4-6"
REACHED = [
    *((CHAT, name) for name in ("gpt-4o", "GPT-4o", " gpt-4o ", "gpt-4o\x00", "gpt-4o\u200b")),
    *((CHAT, name) for name in ("openai/GPT-4O", "default/gpt-4o", "smart", "azure/PROD")),
    *((CHAT, name) for name in ("google/models/gemini-2.5-pro", "google/Models/Gemini-2.5-pro")),
    (f"{NATIVE}/openai/chat/completions", "gpt-4o"),
    (f"{NATIVE}/openai/chat/%63ompletions", "gpt-4o"),
    (f"{NATIVE}/openai/chat/completions/", "gpt-4o"),
    (f"{NATIVE}/anthropic/v1/m%65ssages", "claude-sonnet-4-5"),
    (f"{NATIVE}/google-ai-studio/v1beta/models/gemini-2.5-pro:gener%61teContent", ""),
    ("/v1/batches", ""),
    ("/v1beta/models/gemini%2D2.5-pro:generateContent", ""),
    ("/v1beta/models/models/gemini-2.5-pro:generateContent", ""),
    ("/v1beta/models/GEMINI-2.5-pro:generateContent", ""),
    (f"/model/{CLAUDE}/converse", ""),
    (f"/model/us.{CLAUDE}/converse", ""),
    (f"/model/{CLAUDE.upper()}/invoke", ""),
    (f"/model/arn:aws:bedrock:us-east-1::foundation-model%2F{CLAUDE}/converse", ""),
    (f"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Feu.{CLAUDE}/converse", ""),
    (f"{NATIVE}/aws-bedrock/bedrock-runtime/us-east-1/model/apac.{CLAUDE}/converse", ""),
    (f"{NATIVE}/aws-bedrock/model/{CLAUDE}/c%6Fnverse", ""),
    ("/openai/deployments/PROD/chat/completions?api-version=1", ""),
    ("/openai/deployments/GPT-4o/chat/completions?api-version=1", ""),
]


@pytest.fixture
async def off() -> AsyncIterator[tuple[Upstream, int, str]]:
    """A gateway with one model of every provider switched off."""
    async with Upstream(Script(body=b"{}")) as upstream:
        made = world.World()
        made.scopes["gateway:acme/main"] = Scope("gateway:acme/main", "gateway", GLOBAL)
        openai = made.config("openai", upstream.url)
        made.config("anthropic", upstream.url, dialect="anthropic")
        made.config("google", upstream.url, dialect="gemini")
        region = {"region": "us-east-1"}
        made.config("amazon-bedrock", upstream.url, dialect="bedrock", settings=region)
        deployed = {"deployments": {"gpt-4o": "prod"}}
        made.config("azure", upstream.url, dialect="azure", settings=deployed)
        made.route("smart", (openai, "gpt-4o"), (openai, "GPT-4O"))
        pairs = [("openai", "gpt-4o"), ("azure", "gpt-4o"), ("google", "gemini-2.5-pro")]
        pairs += [("anthropic", "claude-sonnet-4-5"), ("amazon-bedrock", CLAUDE)]
        made.disabled[GLOBAL] = frozenset(pairs)
        key = made.key()
        async with world.served(made) as house:
            yield upstream, house.port, key


async def _asked(port: int, key: str, path: str, model: str) -> int:
    own = [(b"authorization", b"Bearer " + key.encode()), (b"content-type", b"application/json")]
    body = json.dumps({"model": model} if model else {}).encode()
    async with RawClient(port) as client:
        await client.send(request_bytes("POST", path, own, body))
        return (await client.answer("POST")).status


async def test_a_model_that_is_off_is_reached_by_no_spelling_or_path(
    off: tuple[Upstream, int, str],
) -> None:
    upstream, port, key = off
    for path, model in REACHED:
        assert await _asked(port, key, path, model) in (400, 404), (path, model)
        assert upstream.received == [], (path, model)
    assert await _asked(port, key, CHAT, "gpt-4o-mini") == 200
    assert await _asked(port, key, "/model/us.amazon.nova-pro-v1:0/converse", "") == 200
