"""The rules one by one: which provider a request names, and by what."""

from __future__ import annotations

import pytest

from gateway.errors import Malformed, NotFound
from gateway.shapes import Agent, Choice
from tests.routing import (
    CHAT,
    GATEWAY,
    GROUP,
    INSTANCE,
    MESSAGES,
    Table,
    ask,
    first,
    found,
    key,
    refused,
)


def test_the_url_names_the_provider_and_leaves_the_model_alone() -> None:
    table = Table()
    table.scope(GATEWAY)
    table.add("openai")
    other = table.add("openrouter")
    request = ask("POST /v1/acme/main/openrouter/chat/completions", "openai/gpt-4o")
    assert found(table, request) == (other, "openai/gpt-4o", "url")


def test_the_url_may_use_cloudflares_names() -> None:
    table = Table()
    table.scope(GATEWAY)
    google = table.add("google")
    path = "/v1/acme/main/google-ai-studio/v1beta/models/gemini-2.5-pro:generateContent"
    assert found(table, ask(f"POST {path}")) == (google, "gemini-2.5-pro", "url")
    custom = table.add("custom:vllm")
    request = ask("POST /v1/acme/main/custom-vllm/chat/completions", "m")
    assert found(table, request) == (custom, "m", "url")


def test_no_other_rule_is_tried_when_the_url_names_a_provider_without_configs() -> None:
    table = Table()
    table.scope(GATEWAY)
    table.add("openai")
    error = refused(table, ask("POST /v1/acme/main/groq/chat/completions", "gpt-4o"))
    assert (error.status, error.code) == (404, "model_not_found")
    assert "the URL names groq, of which no config is visible" in error.message


@pytest.mark.parametrize("scope", [GROUP, INSTANCE, "gateway:acme/other"])
def test_a_gateway_in_the_url_that_is_not_the_keys_is_as_if_absent(scope: str) -> None:
    table = Table()
    table.scope(scope)
    table.scope(GATEWAY)
    table.add("openai", scope=GATEWAY)
    table.add("openai", scope=scope)
    foreign = refused(
        table,
        ask("POST /v1/acme/main/openai/chat/completions", "gpt-4o", client=key(scope)),
    )
    table.scopes.pop(GATEWAY)
    absent = refused(
        table,
        ask("POST /v1/acme/main/openai/chat/completions", "gpt-4o", client=key(scope)),
    )
    assert isinstance(foreign, NotFound)
    assert (foreign.code, foreign.message) == (absent.code, absent.message)
    assert foreign.code == "not_found"


def test_resolution_starts_at_the_gateway_in_the_url() -> None:
    table = Table()
    table.scope(GROUP)
    table.scope(GATEWAY, GROUP)
    below = table.add("openai", scope=GATEWAY)
    own = table.add("openai", scope=GROUP)
    request = ask("POST /v1/acme/main/compat/chat/completions", "openai/gpt-4o", client=key(GROUP))
    assert found(table, request) == (below, "gpt-4o", "prefix")
    assert found(table, ask(CHAT, "gpt-4o", client=key(GROUP))) == (own, "gpt-4o", "catalog")


def test_the_compat_endpoint_takes_cloudflares_slugs() -> None:
    table = Table()
    table.scope(GATEWAY)
    google = table.add("google")
    request = ask("POST /v1/acme/main/compat/chat/completions", "google-ai-studio/gemini-2.5-pro")
    assert found(table, request) == (google, "gemini-2.5-pro", "prefix")


def test_a_prefix_is_cut_off_when_a_visible_config_has_it() -> None:
    table = Table()
    openai = table.add("openai")
    team = table.add("openai", "Team-A")
    assert found(table, ask(CHAT, "openai/gpt-4o")) == (openai, "gpt-4o", "prefix")
    assert found(table, ask(CHAT, "team-a/gpt-4o")) == (team, "gpt-4o", "prefix")
    assert found(table, ask(CHAT, "openai/brand-new")) == (openai, "brand-new", "prefix")
    # Nobody's prefix: the whole name is a model, which the endpoint's family may know.
    assert found(table, ask(CHAT, "nobody/gpt-4o")) == (openai, "nobody/gpt-4o", "family")


def test_an_alias_of_two_providers_means_the_one_that_lists_the_model() -> None:
    table = Table()
    table.scope(GROUP)
    openai = table.add("openai", "prod")
    claude = table.add("anthropic", "prod", GROUP)
    client = key(GROUP)
    assert found(table, ask(CHAT, "prod/gpt-4o", client=client)) == (openai, "gpt-4o", "prefix")
    request = ask(MESSAGES, "prod/claude-haiku-4-5", client=client)
    assert found(table, request) == (claude, "claude-haiku-4-5", "prefix")
    assert found(table, ask(MESSAGES, "prod/new", client=client)) == (claude, "new", "prefix")


def test_ids_with_a_slash_are_read_whole_where_only_that_makes_sense() -> None:
    table = Table()
    router = table.add("openrouter")
    assert found(table, ask(CHAT, "openai/gpt-4o")) == (router, "openai/gpt-4o", "catalog")
    openai = table.add("openai")
    # Now OpenAI lists the rest of the one and not of the other.
    assert found(table, ask(CHAT, "openai/gpt-4o")) == (openai, "gpt-4o", "prefix")
    whole = found(table, ask(CHAT, "openai/gpt-oss-120b"))
    assert whole == (router, "openai/gpt-oss-120b", "catalog")
    assert found(table, ask(CHAT, "openrouter/auto")) == (router, "openrouter/auto", "catalog")
    request = ask(CHAT, "openrouter/openai/gpt-4o")
    assert found(table, request) == (router, "openai/gpt-4o", "prefix")


def test_a_bare_model_goes_to_the_nearest_scope_first() -> None:
    table = Table()
    table.scope(GROUP)
    table.add("openai")
    near = table.add("helicone", scope=GROUP)
    assert found(table, ask(CHAT, "gpt-4o", client=key(GROUP)))[0] == near


def test_a_bare_model_goes_to_its_maker_then_to_the_oldest() -> None:
    table = Table()
    helicone = table.add("helicone")
    table.add("azure")
    assert found(table, ask(CHAT, "gpt-4o"))[0] == helicone
    openai = table.add("openai")
    assert found(table, ask(CHAT, "gpt-4o")) == (openai, "gpt-4o", "catalog")


def test_a_bare_model_goes_to_a_provider_that_serves_the_endpoint_if_any_does() -> None:
    table = Table()
    table.scope(GROUP)
    claude = table.add("anthropic")
    near = table.add("helicone", scope=GROUP)  # lists Claude too, and speaks OpenAI's protocol only
    client, model = key(GROUP), "claude-sonnet-4-5"
    assert found(table, ask(MESSAGES, model, client=client)) == (claude, model, "catalog")
    assert found(table, ask(CHAT, model, client=client)) == (near, model, "catalog")
    # Where none serves it the nearest one says which endpoint to use.
    error = refused(table, ask("POST /v1/messages/count_tokens", "gpt-4o", client=client))
    assert error.code == "dialect_not_supported"
    assert "helicone" in error.message


@pytest.mark.parametrize(
    ("request_line", "provider"),
    [
        (CHAT, "openai"),
        ("POST /v1/audio/speech", "openai"),
        (MESSAGES, "anthropic"),
        ("POST /v1beta/models/brand-new:generateContent", "google"),
        ("POST /openai/deployments/brand-new/chat/completions", "azure"),
    ],
)
def test_the_endpoints_family_carries_models_nobody_lists(request_line: str, provider: str) -> None:
    table = Table()
    ids = {name: table.add(name) for name in ("openai", "anthropic", "google", "azure")}
    model = None if "brand-new" in request_line else "brand-new"
    assert found(table, ask(request_line, model)) == (ids[provider], "brand-new", "family")


@pytest.mark.parametrize(
    "request_line",
    ["GET /v1/files", "POST /v1/batches", "GET /v1/responses/resp_1", "POST /v1/moderations"],
)
def test_the_endpoints_family_carries_calls_without_a_model(request_line: str) -> None:
    table = Table()
    table.choices["global"] = Choice(table.add("anthropic"), "claude-sonnet-4-5")
    openai = table.add("openai")
    assert found(table, ask(request_line)) == (openai, None, "family")


def test_a_deployments_name_is_not_looked_up_in_the_catalog() -> None:
    table = Table()
    table.add("openai")
    azure = table.add("azure")
    request = ask("POST /openai/deployments/gpt-4o/chat/completions")
    assert found(table, request) == (azure, "gpt-4o", "family")


def test_the_only_config_of_a_dialect_takes_what_is_left() -> None:
    table = Table()
    vllm = table.add("custom:vllm")
    table.add("anthropic")
    assert found(table, ask(CHAT, "llama")) == (vllm, "llama", "only")
    table.add("custom:ollama")
    error = refused(table, ask(CHAT, "llama"))
    assert error.code == "model_not_found"
    assert "2 visible configs speak openai, not exactly one" in error.message


def test_azure_alone_speaks_openais_protocol() -> None:
    table = Table()
    azure = table.add("azure")
    candidate = first(table, ask(CHAT, "my-deployment"))
    assert (candidate.config.id, candidate.rule) == (azure, "only")
    assert candidate.config.dialect == "azure"
    assert candidate.config.base_url == "https://azure.example/v1"


def test_without_a_model_the_agents_bound_one_is_taken_then_the_choice() -> None:
    table = Table()
    openai, claude = table.add("openai"), table.add("anthropic")
    table.choices["global"] = Choice(openai, "gpt-4o")
    table.agents["bound"] = Agent(
        id="bound", scope="global", name="b", provider="anthropic", model="claude-haiku-4-5"
    )
    table.agents["free"] = Agent(id="free", scope="global", name="f")
    bound, free = key(agent="bound"), key(agent="free")
    assert found(table, ask(MESSAGES, client=bound)) == (claude, "claude-haiku-4-5", "default")
    assert found(table, ask(CHAT, client=free)) == (openai, "gpt-4o", "default")
    assert found(table, ask(CHAT)) == (openai, "gpt-4o", "default")
    assert found(table, ask(CHAT, "", client=free)) == (openai, "gpt-4o", "default")
    # A binding is for requests that name nothing.
    assert found(table, ask(CHAT, "gpt-4o-mini", client=bound))[0] == openai


def test_a_binding_may_be_spelled_with_its_provider() -> None:
    table = Table()
    router = table.add("openrouter")
    for provider, model, sent in (
        ("openrouter", "openrouter/openai/gpt-4o", "openai/gpt-4o"),
        ("openrouter", "openai/gpt-4o", "openai/gpt-4o"),
        ("openrouter", "openrouter/auto", "openrouter/auto"),
        (None, "openrouter/openai/gpt-4o", "openai/gpt-4o"),
    ):
        table.agents["a"] = Agent(id="a", scope="global", name="a", provider=provider, model=model)
        assert found(table, ask(CHAT, client=key(agent="a"))) == (router, sent, "default")


def test_the_nearest_choice_is_taken() -> None:
    table = Table()
    table.scope(GROUP)
    table.scope(INSTANCE, GROUP)
    far, near = table.add("openai"), table.add("openai", "b", GROUP)
    table.choices["global"] = Choice(far, "gpt-4o")
    assert found(table, ask(CHAT)) == (far, "gpt-4o", "default")
    table.choices[GROUP] = Choice(near, "gpt-4o-mini")
    answer = found(table, ask(CHAT, client=key(INSTANCE)))
    assert answer == (near, "gpt-4o-mini", "default")


def test_a_choice_of_the_parent_does_not_bring_the_parents_key() -> None:
    table = Table()
    table.scope(GROUP)
    table.choices["global"] = Choice(table.add("openai"), "gpt-4o")
    own = table.add("openai", scope=GROUP)
    assert found(table, ask(CHAT, client=key(GROUP))) == (own, "gpt-4o", "default")
    table.change(own, active=False)
    assert refused(table, ask(CHAT, client=key(GROUP))).code == "config_inactive"


def test_a_model_nobody_names_is_asked_for() -> None:
    table = Table()
    table.add("openai")
    for request in (ask(CHAT), ask(MESSAGES), ask("POST /v1/responses"), ask(CHAT, "")):
        error = refused(table, request)
        assert isinstance(error, Malformed)
        assert (error.code, error.param) == ("model_required", "model")


def test_a_model_that_nobody_serves_is_not_found_and_says_what_was_tried() -> None:
    error = refused(Table(), ask(CHAT, "nobody/" + "x" * 10_000))
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert len(error.message) < 1500
    for tried in ("url:", "prefix:", "catalog:", "family:", "only:", "default:"):
        assert tried in error.message


def test_the_header_narrows_whatever_names_the_provider() -> None:
    table = Table()
    table.scope(GATEWAY)
    openai, second = table.add("openai"), table.add("openai", "second")
    helicone = table.add("helicone", "second")
    url = "POST /v1/acme/main/openai/chat/completions"
    assert found(table, ask(CHAT, "gpt-4o"))[0] == openai
    for header in ("second", "SECOND", "openai/second"):
        assert found(table, ask(CHAT, "gpt-4o", header))[0] == second
        assert found(table, ask(CHAT, "openai/gpt-4o", header))[0] == second
        assert found(table, ask(CHAT, "brand-new", header))[0] == second
        assert found(table, ask(url, "gpt-4o", header))[0] == second
    assert found(table, ask(CHAT, "gpt-4o", "helicone/second"))[0] == helicone
    assert found(table, ask(CHAT, "claude-sonnet-4-5", "second"))[0] == helicone


@pytest.mark.parametrize("header", ["nobody", "groq/default", "openai/", "/", "a/b/c", "x" * 9999])
def test_a_header_that_names_no_visible_config_is_not_found(header: str) -> None:
    table = Table()
    table.add("openai")
    error = refused(table, ask(CHAT, "gpt-4o", header))
    assert (error.status, error.code) == (404, "model_not_found")
    assert len(error.message) < 300


def test_a_config_the_header_points_at_is_refused_by_name() -> None:
    table = Table()
    table.add("openai")
    table.add("anthropic", "only-claude")
    error = refused(table, ask("POST /v1/responses", "brand-new", "only-claude"))
    assert error.code == "dialect_not_supported"
