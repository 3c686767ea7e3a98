"""Inside a provider: which config, which dialect, and may the key use the model."""

from __future__ import annotations

import pytest

from gateway.errors import Forbidden
from gateway.resolve import Ask, visible_models
from gateway.shapes import Agent, Choice
from tests.routing import (
    CATALOG,
    CHAT,
    GATEWAY,
    GROUP,
    MESSAGES,
    Table,
    ask,
    first,
    found,
    key,
    refused,
)


def test_inside_a_provider_the_default_goes_first() -> None:
    table = Table()
    oldest = table.add("openai", "a")
    named = table.add("openai", "Default")
    default = table.add("openai", "c", default=True)
    request = ask(CHAT, "gpt-4o")
    assert found(table, request)[0] == default
    table.change(default, default=False)
    assert found(table, request)[0] == named
    table.change(named, alias="b")
    assert found(table, request)[0] == oldest
    table.change(oldest, active=False)
    assert found(table, request)[0] == named


def test_a_default_that_cannot_be_used_is_passed_over_inside_its_scope() -> None:
    table = Table()
    other = table.add("openai", "a")
    default = table.add("openai", "b", default=True, active=False)
    assert found(table, ask(CHAT, "gpt-4o"))[0] == other
    table.change(default, active=True, sealed=None)
    assert found(table, ask(CHAT, "gpt-4o"))[0] == other
    assert refused(table, ask(CHAT, "b/gpt-4o")).code == "config_inactive"
    assert refused(table, ask(CHAT, "gpt-4o", "b")).code == "config_inactive"


@pytest.mark.parametrize(
    "unusable", [{"active": False}, {"sealed": None}, {"sealed": None, "auth_type": "bearer"}]
)
def test_the_nearest_scope_decides_even_when_its_configs_are_unusable(
    unusable: dict[str, object],
) -> None:
    table = Table()
    table.scope(GROUP)
    table.add("openai")
    table.add("openai", "mine", GROUP, **unusable)
    for model in ("gpt-4o", "openai/gpt-4o", "brand-new"):
        error = refused(table, ask(CHAT, model, client=key(GROUP)))
        assert isinstance(error, Forbidden)
        assert error.code == "config_inactive"


def test_configs_that_need_no_key_or_hold_a_reference_are_usable() -> None:
    table = Table()
    local = table.add("custom:ollama", auth_type="none", sealed=None)
    assert found(table, ask(CHAT, "m"))[0] == local
    table = Table()
    referring = table.add("openai", sealed=None, reference="$env:KEY")
    assert found(table, ask(CHAT, "m"))[0] == referring


def test_global_sees_global_configs_only() -> None:
    table = Table()
    table.scope(GROUP)
    table.add("openai", scope=GROUP)
    assert refused(table, ask(CHAT, "gpt-4o")).code == "model_not_found"
    assert refused(table, ask(CHAT, "gpt-4o", client=key("group:gone"))).code == "model_not_found"


def sent(table: Table, request: Ask) -> tuple[str, str]:
    candidate = first(table, request)
    return candidate.config.dialect, candidate.config.base_url


def test_another_dialect_is_served_below_the_configs_own_base_url() -> None:
    table = Table()
    table.add("google", base_url="https://mirror.example/g")
    table.add("deepseek")
    assert sent(table, ask(CHAT, "gemini-2.5-pro")) == ("openai", "https://mirror.example/g/openai")
    assert sent(table, ask("POST /v1beta/models/gemini-2.5-pro:generateContent")) == (
        "gemini",
        "https://mirror.example/g",
    )
    below = ("anthropic", "https://deepseek.example/v1/anthropic/v1")
    assert sent(table, ask(MESSAGES, "deepseek-chat")) == below
    assert sent(table, ask("POST /v1/embeddings", "google/gemini-embedding-001"))[0] == "openai"


@pytest.mark.parametrize(
    ("provider", "request_line", "model", "use"),
    [
        ("openai", MESSAGES, "gpt-4o", "/v1/chat/completions"),
        ("anthropic", "POST /v1/responses", "claude-sonnet-4-5", "/v1/messages"),
        ("google", MESSAGES, "gemini-2.5-pro", "/v1beta/models/{model}:generateContent"),
        ("anthropic", "POST /v1/embeddings", "anthropic/x", "/v1/messages"),
        ("azure", MESSAGES, "gpt-4o", "/openai/v1/chat/completions"),
        ("openai", "POST /v1beta/models/openai%2Fx:embedContent", None, "/v1/embeddings"),
        (
            "google",
            "POST /v1/messages/count_tokens",
            "gemini-2.5-pro",
            "/v1beta/models/{model}:countTokens",
        ),
    ],
)
def test_a_dialect_the_provider_lacks_is_refused_with_the_endpoint_to_use(
    provider: str, request_line: str, model: str | None, use: str
) -> None:
    table = Table()
    table.add(provider)
    error = refused(table, ask(request_line, model))
    assert (error.status, error.code) == (400, "dialect_not_supported")
    assert error.message.endswith(f"; use {use}")


def test_a_native_path_we_do_not_know_goes_to_the_provider_as_it_is() -> None:
    table = Table()
    table.scope(GATEWAY)
    custom = table.add("custom:claude", dialect="anthropic")
    request = ask("POST /v1/acme/main/custom:claude/some/thing")
    assert found(table, request) == (custom, None, "url")


def test_a_provider_that_cannot_be_reached_yet_is_refused() -> None:
    table = Table()
    table.add("google-vertex")
    error = refused(table, ask(CHAT, "gemini-vertex"))
    assert (error.status, error.code) == (400, "provider_not_supported")


@pytest.mark.parametrize("agents", [{}, {"a": Agent(id="a", scope="g", name="a", enabled=False)}])
def test_a_disabled_or_deleted_agents_key_is_refused(agents: dict[str, Agent]) -> None:
    table = Table(agents=agents)
    table.add("openai")
    client = key(agent="a")
    assert refused(table, ask(CHAT, "gpt-4o", client=client)).code == "agent_disabled"
    with pytest.raises(Forbidden):
        visible_models(table.snapshot(), CATALOG, client, 0.0)


@pytest.mark.parametrize(
    ("allowed", "asked", "admitted"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "openai/gpt-4o", True),
        ("gpt-4o", "prod/gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("openai/gpt-4o", "gpt-4o", True),
        ("openai/gpt-4o", "prod/gpt-4o", True),
        ("anthropic/gpt-4o", "gpt-4o", False),
        ("prod/gpt-4o", "prod/gpt-4o", True),
        ("prod/gpt-4o", "gpt-4o", False),
    ],
)
def test_a_keys_list_of_models_holds_what_was_asked_or_what_is_sent(
    allowed: str, asked: str, admitted: bool
) -> None:
    table = Table()
    table.add("openai", "prod")
    request = ask(CHAT, asked, client=key(allowed_models=(allowed, "something-else")))
    if admitted:
        assert found(table, request)[1] == "gpt-4o"
    else:
        assert refused(table, request).code == "model_not_allowed"


def test_a_keys_list_of_models_holds_for_its_default_too() -> None:
    table = Table()
    table.choices["global"] = Choice(table.add("openai"), "gpt-4o")
    assert found(table, ask(CHAT, client=key(allowed_models=("openai/gpt-4o",))))[1] == "gpt-4o"
    request = ask(CHAT, client=key(allowed_models=("gpt-4o-mini",)))
    assert refused(table, request).code == "model_not_allowed"


def test_a_key_with_a_list_of_models_cannot_name_one_unseen() -> None:
    table = Table()
    table.scope(GATEWAY)
    table.add("openai")
    client = key(allowed_models=("gpt-4o",))
    for line, code in (
        ("POST /v1/moderations", "model_required"),
        ("POST /v1/images/edits", "model_required"),
        ("POST /v1/batches", "model_not_allowed"),
        ("POST /v1/acme/main/openai/some/thing", "model_not_allowed"),
    ):
        assert refused(table, ask(line, client=client)).code == code
        assert found(table, ask(line))[1] is None
    assert found(table, ask("GET /v1/files", client=client))[1] is None
