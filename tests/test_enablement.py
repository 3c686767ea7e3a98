"""Models switched off for a scope, and configs that serve listed ones only."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.resolve import Ask, visible_models
from gateway.shapes import Agent, Choice
from tests.routing import (
    CATALOG,
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


def off(table: Table, request: Ask) -> bool:
    """Whether the request is refused because its model is off; anything else must work."""
    try:
        found(table, request)
    except GatewayError:
        error = refused(table, request)
        assert (error.status, error.code, error.param) == (404, "model_not_enabled", "model")
        return True
    return False


def listed(table: Table, scope: str = "global") -> set[str]:
    return {name for name, _ in visible_models(table.snapshot(), CATALOG, key(scope), 0.0)}


def test_a_model_that_is_off_is_refused_however_it_is_spelled_and_not_listed() -> None:
    table = Table()
    table.scope(GATEWAY)
    table.add("openai", "prod")
    assert "gpt-4o" in listed(table)
    table.disabled.add(("global", "openai", "gpt-4o"))
    for name in ("gpt-4o", "openai/gpt-4o", "prod/gpt-4o"):
        assert off(table, ask(CHAT, name))
    assert off(table, ask("POST /v1/acme/main/openai/chat/completions", "gpt-4o"))
    assert not off(table, ask(CHAT, "gpt-4o-mini"))
    assert listed(table) == {"gpt-4o-mini", "text-embedding-3-small"}


@pytest.mark.parametrize("scope", ["global", GROUP, INSTANCE])
def test_a_switch_thrown_anywhere_on_the_way_up_counts_and_nowhere_else(scope: str) -> None:
    table = Table()
    table.scope(GROUP)
    table.scope("group:gr_b")
    table.scope(INSTANCE, GROUP)
    table.add("openai")
    table.disabled.add((scope, "openai", "gpt-4o"))
    assert off(table, ask(CHAT, "gpt-4o", client=key(INSTANCE)))
    assert "gpt-4o" not in listed(table, INSTANCE)
    elsewhere = scope == "global"
    assert off(table, ask(CHAT, "gpt-4o", client=key("group:gr_b"))) is elsewhere
    assert ("gpt-4o" not in listed(table, "group:gr_b")) is elsewhere


def test_a_scope_that_does_not_inherit_has_its_own_switches() -> None:
    table = Table()
    table.scope(GROUP, inherits=False)
    table.add("openai", scope=GROUP)
    table.disabled.add(("global", "openai", "gpt-4o"))
    assert not off(table, ask(CHAT, "gpt-4o", client=key(GROUP)))
    table.disabled.add((GROUP, "openai", "gpt-4o"))
    assert off(table, ask(CHAT, "gpt-4o", client=key(GROUP)))


def test_the_gateway_in_the_url_has_a_say() -> None:
    table = Table()
    table.scope(GATEWAY)
    table.add("openai")
    table.disabled.add((GATEWAY, "openai", "gpt-4o"))
    url = "POST /v1/acme/main/compat/chat/completions"
    assert off(table, ask(url, "openai/gpt-4o"))
    assert not off(table, ask(CHAT, "gpt-4o"))


def test_a_model_that_is_off_goes_to_no_other_provider_in_silence() -> None:
    table = Table()
    table.add("openai")
    helicone = table.add("helicone")
    table.disabled.add(("global", "openai", "gpt-4o"))
    assert off(table, ask(CHAT, "gpt-4o"))
    assert found(table, ask(CHAT, "helicone/gpt-4o"))[0] == helicone
    assert "helicone/gpt-4o" in listed(table)
    assert "gpt-4o" not in listed(table)


def test_a_binding_or_a_choice_to_a_model_that_is_off_is_refused() -> None:
    table = Table()
    openai = table.add("openai")
    table.choices["global"] = Choice(openai, "gpt-4o")
    table.agents["a"] = Agent(
        id="a", scope="global", name="a", provider="openai", model="gpt-4o-mini"
    )
    table.disabled |= {("global", "openai", "gpt-4o"), ("global", "openai", "gpt-4o-mini")}
    assert off(table, ask(CHAT))
    assert off(table, ask(CHAT, client=key(agent="a")))


def test_a_choice_of_a_custom_provider_that_is_off_is_not_listed() -> None:
    table = Table()
    table.choices["global"] = Choice(table.add("custom:vllm"), "llama")
    assert listed(table) == {"custom:vllm/llama"}
    table.disabled.add(("global", "custom:vllm", "llama"))
    assert listed(table) == set()


def test_a_config_may_serve_listed_models_only() -> None:
    table = Table()
    openai = table.add("openai")
    table.add("anthropic")
    assert not off(table, ask(CHAT, "brand-new"))
    table.change(openai, allow_unlisted=False)
    for name in ("brand-new", "openai/brand-new"):
        assert off(table, ask(CHAT, name))
    assert not off(table, ask(CHAT, "gpt-4o"))
    assert not off(table, ask(MESSAGES, "brand-new"))
    assert not off(table, ask("GET /v1/files"))


def test_a_form_whose_model_was_not_read_is_not_passed_on_where_models_are_judged() -> None:
    table = Table()
    openai = table.add("openai")
    form = ask("POST /v1/audio/transcriptions")
    assert found(table, form)[1] is None
    table.disabled.add(("global", "openai", "whisper-1"))
    assert refused(table, form).code == "model_required"
    table.disabled = {("global", "groq", "whisper-large")}
    assert found(table, form)[1] is None
    table.change(openai, allow_unlisted=False)
    assert refused(table, form).code == "model_required"


DEPLOYED = {"deployments": {"gpt-4o": "prod-4o", "text-embedding-3-small": "embed"}}


def test_a_deployment_is_what_the_upstream_is_asked_for() -> None:
    table = Table()
    table.add("azure", settings=DEPLOYED)

    def sent(request: Ask) -> tuple[str | None, str | None]:
        candidate = first(table, request)
        return candidate.model, candidate.sent_as

    assert sent(ask(CHAT, "azure/gpt-4o")) == ("gpt-4o", "prod-4o")
    deployment = "POST /openai/deployments/{}/chat/completions"
    assert sent(ask(deployment.format("gpt-4o"))) == ("gpt-4o", "prod-4o")
    assert sent(ask(deployment.format("prod-4o"))) == ("prod-4o", "prod-4o")
    assert sent(ask(deployment.format("other"))) == ("other", "other")
    assert sent(ask("GET /openai/files")) == (None, None)


@pytest.mark.parametrize("name", ["gpt-4o", "prod-4o"])
def test_a_model_that_is_off_is_off_as_a_deployment_too(name: str) -> None:
    table = Table()
    table.add("azure", settings=DEPLOYED)
    table.disabled.add(("global", "azure", name))
    for asked in ("gpt-4o", "prod-4o"):
        assert off(table, ask(f"POST /openai/deployments/{asked}/chat/completions"))
        assert off(table, ask(CHAT, f"azure/{asked}"))
    assert not off(table, ask("POST /openai/deployments/embed/embeddings"))


def test_a_deployment_that_was_entered_counts_as_listed() -> None:
    table = Table()
    table.add("azure", settings={"deployments": {"my-model": "mine"}}, allow_unlisted=False)
    for name in ("my-model", "mine", "gpt-4o"):
        assert not off(table, ask(CHAT, f"azure/{name}"))
    assert off(table, ask(CHAT, "azure/brand-new"))
