"""`GET /v1/models` for three families of clients: exactly what the key may use, in their shapes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from admin.demo.ask import SENTENCE
from admin.demo.upstream import Upstream
from gateway import catalog
from gateway.shapes import Agent, Choice, Scope
from tests.stage import Fill, Stage, provider_of, put, put_usual, staged
from tests.test_sdk_anthropic import MODEL as CLAUDE
from tests.test_sdk_gemini import MODEL as GEMINI
from tests.test_sdk_openai import HI, MODEL, Captured
from tests.test_sdk_openai import client_of as open_ai
from tests.world import World


@pytest.fixture
async def stage(capfd: Captured) -> AsyncIterator[Stage]:
    async with staged(capfd) as running:
        yield running
        assert running.upstream.received == []


def listed(*providers: str) -> set[str]:
    """The catalog's models of some providers."""
    rows = catalog.load().providers
    return {model for provider in providers for model in rows[provider].models}


async def owners(stage: Stage) -> dict[str, str]:
    """What OpenAI's client sees: model -> owner."""
    async with open_ai(stage) as client:
        found = [(model.id, model.owned_by) async for model in client.models.list()]
    assert len(found) == len(dict(found))
    return dict(found)


async def of_anthropic(stage: Stage) -> list[str]:
    async with anthropic.AsyncAnthropic(base_url=stage.url, api_key=stage.key) as client:
        return [model.id async for model in client.models.list()]


async def of_google(stage: Stage, version: str | None = None) -> list[str]:
    options = types.HttpOptions(base_url=stage.url, api_version=version)
    with genai.Client(api_key=stage.key, http_options=options) as client:
        async with client.aio as asking:
            pages = await asking.models.list()
            return [(model.name or "").removeprefix("models/") async for model in pages]


async def test_list_is_what_the_catalog_has_for_the_visible_providers(stage: Stage) -> None:
    found = await owners(stage)
    assert {name.removeprefix(f"{owner}/") for name, owner in found.items()} == listed(
        "openai", "anthropic", "google"
    )
    assert set(found.values()) == {"openai", "anthropic", "google"}
    assert (found[MODEL], found[CLAUDE], found[GEMINI]) == ("openai", "anthropic", "google")


async def test_list_is_the_same_for_every_kind_of_client(stage: Stage) -> None:
    names = set(await owners(stage))
    assert names == set(await of_anthropic(stage))
    assert names == set(await of_google(stage)) == set(await of_google(stage, "v1beta"))


async def test_anthropics_list_has_its_fields(stage: Stage) -> None:
    async with anthropic.AsyncAnthropic(base_url=stage.url, api_key=stage.key) as client:
        page = await client.models.list()
        one = await client.models.retrieve(CLAUDE)
    assert not page.has_more
    assert (page.first_id, page.last_id) == (page.data[0].id, page.data[-1].id)
    assert one in page.data
    assert (one.type, one.created_at.year) == ("model", 2025)


async def test_googles_list_has_what_its_client_sorts_by(stage: Stage) -> None:
    options = types.HttpOptions(base_url=stage.url)
    with genai.Client(api_key=stage.key, http_options=options) as client:
        async with client.aio as asking:
            found = [model async for model in await asking.models.list()]
    assert all("generateContent" in (model.supported_actions or []) for model in found)


FEW = (MODEL, f"anthropic/{CLAUDE}")


async def test_list_is_cut_to_what_the_key_allows(capfd: Captured) -> None:
    async with staged(capfd, allowed_models=FEW) as stage:
        assert await owners(stage) == {MODEL: "openai", CLAUDE: "anthropic"}
        assert sorted(await of_anthropic(stage)) == sorted(await of_google(stage))
        async with open_ai(stage) as client:
            with pytest.raises(openai.NotFoundError) as caught:
                await client.models.retrieve("gpt-4o")
        assert caught.value.code == "model_not_found"


async def test_every_listed_name_can_be_used_as_it_stands(capfd: Captured) -> None:
    wanted = {"openai": "gpt-4o", "groq": "openai/gpt-oss-20b", "openrouter": "openai/gpt-4o"}

    def fill(world: World, upstream: Upstream) -> None:
        for provider in wanted:
            put(world, upstream, provider)

    allowed = tuple(f"{provider}/{model}" for provider, model in wanted.items())
    async with staged(capfd, fill, allowed_models=allowed) as stage:
        found = await owners(stage)
        assert set(found.values()) == set(wanted)
        async with open_ai(stage) as client:
            for name, owner in found.items():
                said = await client.chat.completions.create(model=name, messages=HI)
                assert said.choices[0].message.content == SENTENCE
                assert provider_of(stage.last) == owner
                assert stage.last.json()["model"] == wanted[owner]


GROUP = "group:gr_1"


def _hidden(world: World, upstream: Upstream) -> None:
    """Neither an inactive provider, nor one without a key, nor one of another scope is listed."""
    world.scopes[GROUP] = Scope(GROUP, "group", "global")
    put(world, upstream, "openai", active=False)
    put(world, upstream, "google", secret=None)
    put(world, upstream, "anthropic", scope=GROUP)


def _nearest(world: World, upstream: Upstream) -> None:
    """The nearest scope decides, also when its config is inactive."""
    world.scopes[GROUP] = Scope(GROUP, "group", "global")
    put(world, upstream, "openai")
    put(world, upstream, "anthropic")
    put(world, upstream, "openai", scope=GROUP, active=False)


@pytest.mark.parametrize(
    ("fill", "scope", "wanted"),
    [
        (_hidden, "global", set()),
        (_hidden, GROUP, {"anthropic"}),
        (_nearest, "global", {"openai", "anthropic"}),
        (_nearest, GROUP, {"anthropic"}),
    ],
)
async def test_only_usable_configs_of_the_keys_scopes_count(
    capfd: Captured, fill: Fill, scope: str, wanted: set[str]
) -> None:
    async with staged(capfd, fill, scope=scope) as stage:
        found = await owners(stage)
        assert set(found.values()) == wanted
        assert set(found) == listed(*wanted)


async def test_choice_of_a_custom_provider_is_listed(capfd: Captured) -> None:
    def fill(world: World, upstream: Upstream) -> None:
        config = world.config("custom:house", upstream.url)
        world.choices["global"] = Choice(config.id, "llama-of-the-house")

    async with staged(capfd, fill) as stage:
        assert list((await owners(stage)).values()) == ["custom:house"]


async def test_routes_are_listed_for_every_kind_of_client_and_models_that_are_off_are_not(
    capfd: Captured,
) -> None:
    def fill(world: World, upstream: Upstream) -> None:
        put_usual(world, upstream)
        world.route("house-model", (world.configs[0], MODEL))
        world.disabled["global"] = frozenset({("anthropic", CLAUDE)})

    async with staged(capfd, fill) as stage:
        found = await owners(stage)
        assert found["house-model"] == "wardgate"
        assert CLAUDE not in found
        assert set(found) == set(await of_anthropic(stage)) == set(await of_google(stage))
        async with open_ai(stage) as client:
            assert (await client.models.retrieve("house-model")).owned_by == "wardgate"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve(CLAUDE)


async def test_a_model_that_is_off_is_a_typed_error_for_its_client(capfd: Captured) -> None:
    def fill(world: World, upstream: Upstream) -> None:
        put_usual(world, upstream)
        world.disabled["global"] = frozenset({("anthropic", CLAUDE)})

    async with (
        staged(capfd, fill) as stage,
        anthropic.AsyncAnthropic(base_url=stage.url, api_key=stage.key) as client,
    ):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await client.messages.create(
                model=CLAUDE, max_tokens=8, messages=[{"role": "user", "content": "hi"}]
            )
        assert "not enabled" in str(caught.value)
        assert stage.upstream.received == []


async def test_empty_list_is_a_list(capfd: Captured) -> None:
    async with staged(capfd, lambda world, up: None) as stage:
        assert await owners(stage) == {}
        assert await of_anthropic(stage) == await of_google(stage) == []


async def test_unlisted_model_is_a_typed_error_for_each_client(stage: Stage) -> None:
    async with open_ai(stage) as client:
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("no-such-model")
    async with anthropic.AsyncAnthropic(base_url=stage.url, api_key=stage.key) as other:
        with pytest.raises(anthropic.NotFoundError):
            await other.models.retrieve("no-such-model")
    options = types.HttpOptions(base_url=stage.url)
    with genai.Client(api_key=stage.key, http_options=options) as third:
        async with third.aio as asking:
            with pytest.raises(errors.ClientError) as caught:
                await asking.models.get(model="no-such-model")
    assert caught.value.code == 404


async def test_list_needs_a_key(stage: Stage) -> None:
    async with open_ai(stage, "sk-not-ours") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_key_of_a_disabled_agent_gets_no_list(capfd: Captured) -> None:
    def fill(world: World, upstream: Upstream) -> None:
        put_usual(world, upstream)
        world.agents["a1"] = Agent(id="a1", scope="global", name="bot", enabled=False)

    given: dict[str, Any] = {"agent": "a1"}
    async with staged(capfd, fill, **given) as stage, open_ai(stage) as client:
        with pytest.raises(openai.PermissionDeniedError):
            await client.models.list()
