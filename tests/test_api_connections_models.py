"""Surface 2 asks the provider: test, models, and what the models are for."""

from __future__ import annotations

from typing import Any

import pytest

from admin.api import capabilities
from admin.configure.configs import proofs
from admin.demo.upstream import Script, Upstream
from gateway import catalog
from tests.admin_serve import KEY, Admin, admin
from tests.backends import Backend
from tests.connecting import AWS, GROUP, LIST, OTHER, config, made, problem, reaching
from tests.ports import dead_port
from tests.probing import in_json, models
from tests.world import LOOPBACK

LISTED = models("gpt-4o", "text-embedding-3-small", "whisper-1", "omni-moderation-latest", "sora-2")
REFUSED = in_json({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401)


async def verdict(app: Admin, what: str = "openai-prod") -> tuple[bool, str | None]:
    answer = await app.call("POST", f"{LIST}/{what}/test")
    shown = answer.json()
    assert (answer.status_code, set(shown)) == (200, {"success", "errorMessage"})
    assert KEY not in answer.text
    return shown["success"], shown["errorMessage"]


async def items(app: Admin, query: str = "") -> tuple[list[dict[str, Any]], str]:
    answer = await app.call("GET", f"{LIST}/openai-prod/models{query}")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert set(shown) == {"items", "source"}
    return shown["items"], shown["source"]


async def test_a_key_that_works_passes(backend: Backend) -> None:
    async with Upstream(LISTED) as upstream, reaching(backend, upstream) as app:
        shown = await made(app)
        assert await verdict(app) == (True, None)
        assert await verdict(app, shown["id"]) == (True, None)
        assert upstream.received[0].values(b"authorization") == [f"Bearer {KEY}".encode()]
        assert (await proofs(app.desk))[shown["id"]].outcome == "ok"


async def test_a_key_that_is_refused_fails_in_words_without_it(backend: Backend) -> None:
    async with Upstream(REFUSED) as upstream, reaching(backend, upstream) as app:
        await made(app)
        passed, message = await verdict(app)
        assert (passed, message) == (False, "openai refused the key (status 401)")


async def test_a_provider_that_is_away_fails_the_test_and_is_502_for_models(
    backend: Backend,
) -> None:
    away = {"openai": f"http://127.0.0.1:{dead_port()}/v1"}
    given: dict[str, Any] = {"provider_base_urls": away, "allowed_upstream_cidrs": LOOPBACK}
    async with admin(backend, **given) as app:
        await made(app)
        passed, message = await verdict(app)
        assert not passed
        assert message
        answer = await app.call("GET", f"{LIST}/openai-prod/models")
        assert problem(answer, 502, "Bad Gateway", message) == []


@pytest.mark.parametrize("answer", [Script(status=500), Script(body=b"<html>"), REFUSED])
async def test_models_are_502_without_a_list_to_show(backend: Backend, answer: Script) -> None:
    async with Upstream(answer) as upstream, reaching(backend, upstream) as app:
        await made(app)
        shown = await app.call("GET", f"{LIST}/openai-prod/models")
        problem(shown, 502, "Bad Gateway", shown.json()["detail"])
        assert "openai" in shown.json()["detail"]
        assert KEY not in shown.text


async def test_without_a_key_nobody_is_asked(backend: Backend) -> None:
    async with Upstream(LISTED) as upstream, reaching(backend, upstream) as app:
        await made(app, settings={})
        assert await verdict(app) == (False, "this config of openai has no key")
        assert (await app.call("GET", f"{LIST}/openai-prod/models")).status_code == 502
        assert upstream.received == []


async def test_models_are_what_the_provider_lists_now(backend: Backend) -> None:
    async with Upstream(LISTED) as upstream, reaching(backend, upstream) as app:
        await made(app)
        found, source = await items(app)
        assert source == "provider"
        assert found[0] == {"id": "gpt-4o", "name": "GPT-4o", "capabilities": ["Chat"]}
        assert [(one["id"], *one["capabilities"]) for one in found[1:]] == [
            ("text-embedding-3-small", "Embedding"),
            ("whisper-1", "SpeechToText"),
            ("omni-moderation-latest", "Moderation"),
            ("sora-2", "Media"),
        ]
        found, _ = await items(app, "?capability=EMBEDDING")
        assert [one["id"] for one in found] == ["text-embedding-3-small"]
        answer = await app.call("GET", f"{LIST}/openai-prod/models?capability=flying")
        assert (answer.status_code, answer.json()["errors"][0]["query"]) == (400, "capability")


async def test_googles_models_are_named_as_requests_name_them(backend: Backend) -> None:
    listed = in_json({"models": [{"name": "models/gemini-2.5-pro"}]})
    async with Upstream(listed) as upstream, reaching(backend, upstream) as app:
        await made(app, providerId="google")
        found, _ = await items(app)
        assert found == [
            {"id": "gemini-2.5-pro", "name": "Gemini 2.5 Pro", "capabilities": ["Chat"]}
        ]


async def test_a_provider_without_a_list_has_the_catalogs_models(backend: Backend) -> None:
    async with Upstream(Script(status=500)) as upstream, reaching(backend, upstream) as app:
        await made(app, providerId="perplexity")
        assert await verdict(app) == (True, None)
        found, source = await items(app)
        known = catalog.load().providers["perplexity"].models
        assert source == "catalog"
        assert [(one["id"], one["name"]) for one in found] == [
            (model.id, model.name) for model in known.values()
        ]
        assert upstream.received == []


async def test_a_list_that_anybody_gets_is_the_providers_own(backend: Backend) -> None:
    async with (
        Upstream(models("llama")) as upstream,
        admin(backend, allowed_upstream_cidrs=LOOPBACK) as app,
    ):
        given = {"endpoint": upstream.url, "dialect": "openai", "apiKey": KEY}
        await made(app, providerId="custom:house", settings=given)
        assert await verdict(app) == (True, None)
        found, source = await items(app)
        assert ([one["id"] for one in found], source) == (["llama"], "provider")


async def test_a_connection_without_authentication_is_tested_too(backend: Backend) -> None:
    async with (
        Upstream(models("llama")) as upstream,
        admin(backend, allowed_upstream_cidrs=LOOPBACK) as app,
    ):
        given = {"endpoint": upstream.url, "dialect": "openai", "authType": "none"}
        await made(app, providerId="custom:house", settings=given)
        assert await verdict(app) == (True, None)
        assert (await items(app))[1] == "provider"
        assert upstream.received[0].values(b"authorization") == []


async def test_a_bedrock_connection_is_tested_with_a_signature(
    backend: Backend, upstream: Upstream
) -> None:
    async with admin(backend, allowed_upstream_cidrs=LOOPBACK) as app:
        await made(app, providerId="bedrock", settings={**AWS, "endpoint": upstream.origin})
        passed, message = await verdict(app)
        assert passed, message
        [sent] = upstream.received[0].values(b"authorization")
        assert sent.startswith(b"AWS4-HMAC-SHA256 Credential=" + AWS["accessKeyId"].encode())


async def test_capabilities_are_those_of_the_connections_one_may_read(app: Admin) -> None:
    async def said(query: str = "", **more: Any) -> list[str]:
        answer = await app.call("GET", f"{LIST}/capabilities{query}", **more)
        assert (answer.status_code, set(answer.json())) == (200, {"items"})
        found: list[str] = answer.json()["items"]
        return found

    assert await said() == []
    await made(app, "claude", providerId="anthropic")
    assert await said() == ["Chat"]
    await made(app, "gpt", scope=GROUP)
    assert await said() == ["Chat", "Embedding", "Media"]
    assert await said("?scope=global") == ["Chat"]
    assert await said(headers={"wardgate-scope": GROUP}) == ["Chat", "Embedding", "Media"]
    token = await app.token(("GroupAIProviders.Read", OTHER))
    assert await said(token=token) == []
    assert await said("?scope=global", token=token) == []


async def test_connections_by_capability_in_any_case(app: Admin) -> None:
    claude, gpt = await made(app, "claude", providerId="anthropic"), await made(app, "gpt")
    for word, wanted in (
        ("Chat", [claude, gpt]),
        ("chat", [claude, gpt]),
        ("EMBEDDING", [gpt]),
        ("speechtotext", []),
    ):
        shown = (await app.call("GET", f"{LIST}/capabilities/{word}")).json()
        assert [row["id"] for row in shown["items"]] == [one["id"] for one in wanted]
        assert shown["total"] == len(wanted)
        assert all("settings" not in row for row in shown["items"])
    listed = (await app.call("GET", f"{LIST}?capability=embedding")).json()
    assert [row["alias"] for row in listed["items"]] == ["gpt"]


async def test_an_unknown_capability_is_named(app: Admin) -> None:
    answer = await app.call("GET", f"{LIST}/capabilities/telepathy")
    known = "one of Chat, Embedding, Media, Moderation, SpeechToText"
    errors = problem(answer, 400, "Bad Request", f"capability: {known}")
    assert errors == [{"path": "capability", "detail": known}]


async def test_models_of_another_scope_are_looked_up_there(backend: Backend) -> None:
    async with Upstream(LISTED) as upstream, reaching(backend, upstream) as app:
        await config(app, "openai-prod", scope=GROUP)
        assert (await app.call("GET", f"{LIST}/openai-prod/models")).status_code == 404
        assert (await items(app, f"?scope={GROUP}"))[1] == "provider"


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("gpt-4o", ("Chat",)),
        ("text-embedding-3-small", ("Embedding",)),
        ("amazon/titan-embed-text-v2", ("Embedding",)),
        ("BAAI/bge-m3", ("Embedding",)),
        ("bge-reranker-v2-m3", ()),
        ("cohere/rerank-v3.5", ()),
        ("omni-moderation-latest", ("Moderation",)),
        ("meta-llama/llama-guard-4-12b", ("Moderation",)),
        ("whisper-large-v3", ("SpeechToText",)),
        ("gpt-4o-transcribe", ("SpeechToText",)),
        ("tts-1", ("Media",)),
        ("gemini-2.5-flash-preview-tts", ("Media",)),
        ("grok-imagine-video", ("Media",)),
        ("gemini-2.5-flash-image", ("Media",)),
        ("llama-3.2-90b-vision-instruct", ("Chat",)),
    ],
)
def test_what_a_model_is_for_is_told_by_its_name(model: str, found: tuple[str, ...]) -> None:
    assert capabilities.of_model(model) == found
