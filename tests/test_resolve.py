"""Answers remembered, traces told, models listed."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from gateway.resolve import Ask, explain, resolve, visible_models
from gateway.shapes import Candidate, Choice, Client, RateLimit
from tests.routing import (
    CATALOG,
    CHAT,
    GATEWAY,
    GROUP,
    Table,
    ask,
    key,
    small_catalog,
)


def test_a_remembered_answer_is_for_the_very_same_question() -> None:
    table = Table()
    table.scope(GROUP)
    openai, own = table.add("openai"), table.add("openai", scope=GROUP)
    table.add("openai", "second")
    snapshot = table.snapshot()

    def config(request: Ask) -> str:
        return resolve(snapshot, CATALOG, request)[0].config.id

    first = resolve(snapshot, CATALOG, ask(CHAT, "gpt-4o", client=(client := key())))
    assert resolve(snapshot, CATALOG, ask(CHAT, "gpt-4o", client=client)) is first
    # The same id, and another scope: a key that was moved.
    assert config(ask(CHAT, "gpt-4o", client=key(GROUP))) == own
    assert config(ask(CHAT, "gpt-4o", client=client)) == openai
    assert config(ask(CHAT, "gpt-4o", "second", client)) != openai
    answer = resolve(snapshot, CATALOG, ask(CHAT, "openai/gpt-4o", client=client))[0]
    assert answer.model == "gpt-4o"
    other = resolve(snapshot, small_catalog({}), ask(CHAT, "gpt-4o", client=client))
    assert (first[0].rule, other[0].rule) == ("catalog", "family")


def test_what_is_remembered_is_bounded() -> None:
    table = Table()
    table.add("openai")
    snapshot, client = table.snapshot(), key()
    for number in range(10_000):
        resolve(snapshot, CATALOG, ask(CHAT, f"model-{number}", client=client))
    assert 0 < len(snapshot.memo["resolve"]) <= 4096
    before = len(snapshot.memo["resolve"])
    resolve(snapshot, CATALOG, ask(CHAT, "x" * 1_000_000, client=client))
    assert len(snapshot.memo["resolve"]) == before


def test_the_trace_tells_every_rule_and_no_secret() -> None:
    table = Table()
    table.scope(GATEWAY)
    limit = RateLimit(50, 60)
    table.gateways[GATEWAY] = RateLimit(9, 30, "sliding")
    openai = table.add(
        "openai",
        scope=GATEWAY,
        sealed=b"sealed-canary",
        base_url="https://user:url-canary@host.example:8443/v1",
        limit=limit,
    )
    client = replace(key(GATEWAY, limit=RateLimit(5, 1)), digest=b"digest-canary")
    trace = explain(table.snapshot(), CATALOG, ask(CHAT, "openai/gpt-4o", "default", client))
    assert trace.scopes == (GATEWAY, "global")
    assert [(step.rule, step.hit) for step in trace.steps] == [(1, False), (2, False), (3, True)]
    assert trace.refused is None
    assert trace.chosen is not None
    assert (trace.chosen.config, trace.chosen.model) == (openai, "gpt-4o")
    assert trace.chosen.base_url_host == "host.example:8443"
    assert (trace.chosen.input_price, trace.chosen.output_price) == (2_500_000, 10_000_000)
    assert [(one.policy, one.limit) for one in trace.limits] == [
        ("client", 5),
        ("gateway", 9),
        ("config", 50),
    ]
    encoded = msgspec.json.encode(trace)
    assert b"canary" not in encoded
    assert msgspec.json.decode(encoded)["chosen"]["alias"] == "default"


def test_the_trace_of_a_refusal_says_why() -> None:
    table = Table()
    table.scope(GROUP)
    table.add("openai", scope=GROUP, active=False)
    trace = explain(table.snapshot(), CATALOG, ask(CHAT, "gpt-4o", client=key(GROUP)))
    assert trace.chosen is None
    assert trace.refused is not None
    assert (trace.refused.status, trace.refused.code) == (403, "config_inactive")
    assert trace.steps[-1].hit
    foreign = ask("POST /v1/acme/main/openai/chat/completions", "m", client=key(GROUP))
    trace = explain(table.snapshot(), CATALOG, foreign)
    assert (trace.scopes, trace.steps) == ((), ())


def names(table: Table, client: Client | None = None) -> list[tuple[str, str]]:
    return visible_models(table.snapshot(), CATALOG, client or key(), 0.0)


def test_models_are_listed_bare_where_that_leads_to_their_provider() -> None:
    table = Table()
    table.add("openai")
    table.add("azure")
    assert names(table) == [
        ("azure/gpt-4o", "azure"),
        ("azure/text-embedding-3-small", "azure"),
        ("gpt-4o", "openai"),
        ("gpt-4o-mini", "openai"),
        ("text-embedding-3-small", "openai"),
    ]


def test_models_of_unusable_or_unreachable_providers_are_not_listed() -> None:
    table = Table()
    table.scope(GROUP)
    table.add("openai")
    table.add("openai", scope=GROUP, active=False)
    table.add("google-vertex")
    azure = [("azure/gpt-4o", "azure"), ("azure/text-embedding-3-small", "azure")]
    assert names(table, key(GROUP)) == []
    table.add("azure")
    # Bare names still lead to OpenAI, where they are refused.
    assert names(table, key(GROUP)) == azure


def test_a_custom_provider_lists_only_the_nearest_choice() -> None:
    table = Table()
    vllm = table.add("custom:vllm")
    assert names(table) == []
    table.choices["global"] = Choice(vllm, "llama-3")
    assert names(table) == [("custom:vllm/llama-3", "custom:vllm")]


def test_the_list_is_cut_down_to_what_the_key_may_use() -> None:
    table = Table()
    table.add("openai")
    table.add("azure")
    assert names(table, key(allowed_models=("gpt-4o",))) == [
        ("azure/gpt-4o", "azure"),
        ("gpt-4o", "openai"),
    ]
    assert names(table, key(allowed_models=("openai/gpt-4o",))) == [("gpt-4o", "openai")]


def test_a_candidate_says_everything_the_corridor_needs() -> None:
    table = Table()
    table.add("openai")
    candidates = resolve(table.snapshot(), CATALOG, ask(CHAT, "openai/gpt-4o"))
    assert candidates == (Candidate(table.configs[0], "gpt-4o", "prefix"),)
