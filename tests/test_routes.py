"""A route in resolution: whose it is, which of its targets a request may use, and in what order."""

from __future__ import annotations

import msgspec
import pytest

from gateway.resolve import Ask, explain, resolve, visible_models
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
    found,
    key,
    refused,
)

SMART = ask(CHAT, "smart")


def targets(table: Table, request: Ask) -> list[tuple[str, str | None]]:
    """Where the request may go, in order."""
    candidates = resolve(table.snapshot(), CATALOG, request)
    assert {candidate.rule for candidate in candidates} == {"route"}
    return [(candidate.config.id, candidate.model) for candidate in candidates]


def names(table: Table, scope: str = "global", **more: object) -> list[str]:
    listed = visible_models(table.snapshot(), CATALOG, key(scope, **more), 0.0)
    return [name for name, provider in listed if provider == "wardgate"]


def two_openais() -> tuple[Table, str, str]:
    table = Table()
    first, second = table.add("openai", "a"), table.add("openai", "b")
    table.route("smart", (second, "gpt-4o"), (first, "gpt-4o-mini"))
    return table, first, second


def test_a_route_leads_to_its_targets_in_their_order() -> None:
    table, first, second = two_openais()
    assert targets(table, SMART) == [(second, "gpt-4o"), (first, "gpt-4o-mini")]
    assert found(table, ask(CHAT, "smarter"))[2] == "family"
    assert found(table, ask(CHAT, "Smart"))[2] == "family"


@pytest.mark.parametrize(
    "line",
    ["POST /v1/responses", "POST /v1/embeddings", "POST /v1/moderations", "POST /v1/images/edits"],
)
def test_a_route_works_wherever_a_model_is_named(line: str) -> None:
    table, first, second = two_openais()
    assert targets(table, ask(line, "smart")) == [(second, "gpt-4o"), (first, "gpt-4o-mini")]


def test_a_route_works_where_the_path_names_the_model() -> None:
    table = Table()
    google, azure = table.add("google"), table.add("azure")
    table.route("smart", (google, "gemini-2.5-pro"), (azure, "gpt-4o"))
    gemini = ask("POST /v1beta/models/smart:generateContent")
    assert targets(table, gemini) == [(google, "gemini-2.5-pro")]
    deployed = ask("POST /openai/deployments/smart/chat/completions")
    assert targets(table, deployed) == [(azure, "gpt-4o")]


def test_a_route_comes_before_a_prefix_and_the_catalog() -> None:
    table = Table()
    openai, claude = table.add("openai"), table.add("anthropic")
    table.route("gpt-4o", (claude, "claude-sonnet-4-5"))
    table.route("openai/gpt-4o", (claude, "claude-haiku-4-5"))
    assert found(table, ask(CHAT, "gpt-4o")) == (claude, "claude-sonnet-4-5", "route")
    assert found(table, ask(CHAT, "openai/gpt-4o")) == (claude, "claude-haiku-4-5", "route")
    assert found(table, ask(CHAT, "gpt-4o-mini")) == (openai, "gpt-4o-mini", "catalog")


def test_no_route_is_looked_for_when_the_url_names_a_provider() -> None:
    table, first, second = two_openais()
    table.scope(GATEWAY)
    named = ask("POST /v1/acme/main/openai/chat/completions", "smart")
    assert found(table, named) == (first, "smart", "url")
    compat = ask("POST /v1/acme/main/compat/chat/completions", "smart")
    assert targets(table, compat) == [(second, "gpt-4o"), (first, "gpt-4o-mini")]


def test_neither_a_binding_nor_a_choice_names_a_route() -> None:
    table, first, _ = two_openais()
    table.choices["global"] = Choice(first, "smart")
    table.agents["a"] = Agent(id="a", scope="global", name="a", provider="openai", model="smart")
    assert found(table, ask(CHAT)) == (first, "smart", "default")
    assert found(table, ask(CHAT, client=key(agent="a"))) == (first, "smart", "default")


def test_the_nearest_scope_with_a_route_of_that_name_decides() -> None:
    table, first, second = two_openais()
    table.scope(GROUP)
    table.scope(INSTANCE, GROUP)
    own = table.add("groq", scope=GROUP)
    table.route("smart", (own, "llama-3.3-70b-versatile"), scope=GROUP)
    nearest = [(own, "llama-3.3-70b-versatile")]
    assert targets(table, ask(CHAT, "smart", client=key(INSTANCE))) == nearest
    assert targets(table, ask(CHAT, "smart", client=key(GROUP))) == nearest
    assert targets(table, SMART) == [(second, "gpt-4o"), (first, "gpt-4o-mini")]


def test_a_route_of_a_parent_is_used_even_beside_configs_of_ones_own() -> None:
    table, first, second = two_openais()
    table.scope(GROUP)
    table.add("openai", scope=GROUP)
    request = ask(CHAT, "smart", client=key(GROUP))
    assert targets(table, request) == [(second, "gpt-4o"), (first, "gpt-4o-mini")]


def test_a_route_of_a_scope_below_or_beside_is_not_visible() -> None:
    table = Table()
    table.scope(GROUP)
    table.scope(INSTANCE)
    table.route("smart", (table.add("openai", scope=GROUP), "gpt-4o"), scope=GROUP)
    assert refused(table, SMART).code == "model_not_found"
    assert refused(table, ask(CHAT, "smart", client=key(INSTANCE))).code == "model_not_found"
    assert names(table) == names(table, INSTANCE) == []
    assert names(table, GROUP) == ["smart"]


def test_a_scope_that_does_not_inherit_sees_no_route_and_no_config_above_it() -> None:
    table, _, _ = two_openais()
    table.scope(GROUP, inherits=False)
    table.scope(INSTANCE, GROUP)
    for scope in (GROUP, INSTANCE):
        assert refused(table, ask(CHAT, "smart", client=key(scope))).code == "model_not_found"
        assert refused(table, ask(CHAT, "gpt-4o", client=key(scope))).code == "model_not_found"
        assert names(table, scope) == []
    own = table.add("openai", scope=GROUP)
    assert found(table, ask(CHAT, "gpt-4o", client=key(INSTANCE)))[0] == own


def test_a_gateway_that_does_not_inherit_is_still_its_parents() -> None:
    table = Table()
    table.scope(GATEWAY, inherits=False)
    table.add("openai")
    url = "POST /v1/acme/main/openai/chat/completions"
    assert refused(table, ask(url, "gpt-4o")).code == "model_not_found"
    own = table.add("openai", scope=GATEWAY)
    assert found(table, ask(url, "gpt-4o"))[0] == own


@pytest.mark.parametrize("place", [GROUP, INSTANCE, "group:gr_b"])
def test_a_target_outside_the_routes_own_chain_is_never_used(place: str) -> None:
    """Whatever the table says: the desk checks it too, but no key hangs on that alone."""
    table = Table()
    table.scope(GROUP)
    table.scope("group:gr_b")
    table.scope(INSTANCE, GROUP)
    foreign = table.add("openai", scope=place)
    table.route("smart", (foreign, "gpt-4o"))
    table.route("mixed", (foreign, "gpt-4o"), (table.add("groq"), "llama-3.3-70b-versatile"))
    for scope in ("global", place):
        error = refused(table, ask(CHAT, "smart", client=key(scope)))
        assert (error.status, error.code) == (403, "config_inactive")
        assert len(targets(table, ask(CHAT, "mixed", client=key(scope)))) == 1


@pytest.mark.parametrize("change", [{"active": False}, {"sealed": None}])
def test_targets_that_cannot_be_used_are_passed_over(change: dict[str, object]) -> None:
    table, first, second = two_openais()
    table.change(second, **change)
    assert targets(table, SMART) == [(first, "gpt-4o-mini")]
    table.change(first, **change)
    error = refused(table, SMART)
    assert (error.status, error.code) == (403, "config_inactive")
    assert names(table) == []


def test_a_target_whose_config_is_gone_is_passed_over() -> None:
    table, first, second = two_openais()
    table.configs = [config for config in table.configs if config.id != second]
    assert targets(table, SMART) == [(first, "gpt-4o-mini")]
    table.configs = []
    assert refused(table, SMART).code == "config_inactive"


def test_a_route_without_targets_is_refused() -> None:
    table = Table()
    table.route("smart")
    assert refused(table, SMART).code == "config_inactive"
    assert names(table) == []


def test_a_target_stands_in_a_route_once_however_often_it_is_written() -> None:
    table = Table()
    one = table.add("openai")
    table.route("smart", (one, "gpt-4o"), (one, "gpt-4o-mini"), (one, "gpt-4o"))
    assert targets(table, SMART) == [(one, "gpt-4o"), (one, "gpt-4o-mini")]


def test_targets_that_do_not_speak_the_endpoints_protocol_are_passed_over() -> None:
    table = Table()
    openai, claude = table.add("openai"), table.add("anthropic")
    table.route("smart", (openai, "gpt-4o"), (claude, "claude-sonnet-4-5"))
    assert targets(table, ask(MESSAGES, "smart")) == [(claude, "claude-sonnet-4-5")]
    both = [(openai, "gpt-4o"), (claude, "claude-sonnet-4-5")]
    assert targets(table, SMART) == both  # Anthropic's has a compatible path for chat
    assert targets(table, ask("POST /v1/responses", "smart")) == both[:1]
    error = refused(table, ask("POST /v1beta/models/smart:generateContent"))
    assert (error.status, error.code) == (400, "dialect_not_supported")


def test_what_stopped_the_last_target_is_what_the_refusal_says() -> None:
    table = Table()
    off, openai = table.add("groq", active=False), table.add("openai")
    table.route("smart", (off, "llama-3.3-70b-versatile"), (openai, "gpt-4o"))
    table.disabled.add(("global", "openai", "gpt-4o"))
    assert refused(table, SMART).code == "model_not_enabled"
    assert refused(table, ask(MESSAGES, "smart")).code == "model_not_enabled"
    table.disabled.clear()
    assert refused(table, ask(MESSAGES, "smart")).code == "dialect_not_supported"


def test_a_model_that_is_switched_off_is_passed_over_in_a_route() -> None:
    table, first, second = two_openais()
    table.scope(GROUP)
    table.disabled.add((GROUP, "openai", "gpt-4o"))
    assert targets(table, ask(CHAT, "smart", client=key(GROUP))) == [(first, "gpt-4o-mini")]
    assert targets(table, SMART) == [(second, "gpt-4o"), (first, "gpt-4o-mini")]
    table.disabled.add(("global", "openai", "gpt-4o-mini"))
    assert names(table, GROUP) == []
    assert names(table) == ["smart"]


def test_the_header_narrows_the_targets() -> None:
    table, first, second = two_openais()
    for header in ("a", "A", "openai/a"):
        assert targets(table, ask(CHAT, "smart", header)) == [(first, "gpt-4o-mini")]
    table.add("groq", "other")
    error = refused(table, ask(CHAT, "smart", "other"))
    assert (error.status, error.code) == (404, "model_not_found")
    table.change(second, active=False)
    assert refused(table, ask(CHAT, "smart", "b")).code == "config_inactive"


def test_the_header_names_a_target_that_only_the_route_leads_to() -> None:
    """A parent's config behind one's own: the route names it, so the header may."""
    table, first, _ = two_openais()
    table.scope(GROUP)
    table.add("openai", scope=GROUP)
    request = ask(CHAT, "smart", "a", key(GROUP))
    assert targets(table, request) == [(first, "gpt-4o-mini")]


@pytest.mark.parametrize(
    ("allowed", "left"),
    [
        ((), 2),
        (("smart",), 2),
        (("openai/gpt-4o",), 1),
        (("gpt-4o",), 1),
        (("gpt-4o", "gpt-4o-mini"), 2),
        (("openai/smart",), 0),
        (("claude-sonnet-4-5",), 0),
    ],
)
def test_a_keys_list_of_models_holds_the_routes_name_or_its_targets(
    allowed: tuple[str, ...], left: int
) -> None:
    table, _, _ = two_openais()
    request = ask(CHAT, "smart", client=key(allowed_models=allowed))
    assert names(table, allowed_models=allowed) == ["smart"] * bool(left)
    if left:
        assert len(targets(table, request)) == left
    else:
        assert refused(table, request).code == "model_not_allowed"


def test_a_key_with_only_a_routes_name_may_not_use_its_targets_by_themselves() -> None:
    table, _, _ = two_openais()
    client = key(allowed_models=("smart",))
    assert refused(table, ask(CHAT, "gpt-4o", client=client)).code == "model_not_allowed"
    assert visible_models(table.snapshot(), CATALOG, client, 0.0) == [("smart", "wardgate")]


def test_what_a_route_is_called_is_listed_once_and_means_the_route() -> None:
    table = Table()
    openai = table.add("openai")
    table.route("gpt-4o", (openai, "gpt-4o-mini"))
    table.route("zz", (openai, "gpt-4o-mini"))
    listed = visible_models(table.snapshot(), CATALOG, key(), 0.0)
    assert listed[:2] == [("gpt-4o", "wardgate"), ("zz", "wardgate")]
    assert ("openai/gpt-4o", "openai") in listed
    assert ("gpt-4o", "openai") not in listed


def test_the_trace_shows_every_target_and_which_would_be_taken() -> None:
    table, first, second = two_openais()
    table.change(second, active=False)
    table.route("other", (first, "gpt-4o"))
    trace = explain(table.snapshot(), CATALOG, SMART)
    assert [(step.rule, step.hit) for step in trace.steps] == [(1, False), (2, True)]
    assert trace.route is not None
    assert (trace.route.name, trace.route.scope) == ("smart", "global")
    assert [(aim.config, aim.model, aim.usable) for aim in trace.route.targets] == [
        (second, "gpt-4o", False),
        (first, "gpt-4o-mini", True),
    ]
    assert "inactive" in trace.route.targets[0].why
    assert trace.chosen is not None
    assert (trace.chosen.config, trace.chosen.model) == (first, "gpt-4o-mini")
    assert b"sealed" not in msgspec.json.encode(trace)
    assert explain(table.snapshot(), CATALOG, ask(CHAT, "gpt-4o")).route is None


def test_the_trace_of_a_refused_route_shows_its_targets_too() -> None:
    table, first, second = two_openais()
    for config in (first, second):
        table.change(config, active=False)
    trace = explain(table.snapshot(), CATALOG, SMART)
    assert trace.chosen is None
    assert trace.refused is not None
    assert trace.refused.code == "config_inactive"
    assert trace.route is not None
    assert [aim.usable for aim in trace.route.targets] == [False, False]
