"""A file of config as code: what is understood, and every flaw with the line it stands on."""

from __future__ import annotations

import contextlib
import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.manifest.document import (
    AgentEntry,
    ManifestRefused,
    ModelEntry,
    ProviderEntry,
    RouteEntry,
    ScopeEntry,
    TargetEntry,
)
from admin.manifest.reading import MOST_BYTES, read

HEAD = "version: 1\nname: fleet\n"
WHOLE = (
    HEAD
    + """scopes:
  - id: instance:tenant-1
    inherit: false
providers:
  - provider: openai
    alias: main
    key: $env:UPSTREAM_OPENAI
    settings:
      organization: org-1
      headers: {x-team: blue}
    default: true
    rate_limit: 10
    choice: gpt-4.1
models:
  - {provider: openai, model: gpt-4.1-nano, enabled: false}
agents:
  - name: helper
    model: openai/gpt-4.1
routes:
  - name: fast
    targets:
      - {provider: openai, alias: main, model: gpt-4.1}
"""
)


def flaws(text: str) -> list[tuple[int, str]]:
    """Line and message of everything that is wrong with a file."""
    with pytest.raises(ManifestRefused) as caught:
        read(text, "f.yaml")
    assert str(caught.value).startswith("f.yaml:")
    return [(flaw.line, flaw.message) for flaw in caught.value.flaws]


def test_a_whole_file() -> None:
    document = read(WHOLE, "f.yaml")
    assert document.name == "fleet"
    [scope] = document.scopes
    assert (scope.id, scope.parent, scope.inherit, scope.line) == (
        "instance:tenant-1",
        "global",
        False,
        4,
    )
    [provider] = document.providers
    assert (provider.key, provider.choice, provider.line) == (
        "$env:UPSTREAM_OPENAI",
        "gpt-4.1",
        7,
    )
    assert provider.settings == {"organization": "org-1", "headers": {"x-team": "blue"}}
    assert (provider.rate_limit, provider.default, provider.active) == (10, True, True)
    assert [model.enabled for model in document.models] == [False]
    assert [agent.model for agent in document.agents] == ["openai/gpt-4.1"]
    [route] = document.routes
    assert [(target.alias, target.model, target.line) for target in route.targets] == [
        ("main", "gpt-4.1", 24)
    ]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("- 1\n", 1, "must be a mapping"),
        ("name: fleet\n", 1, "version must be 1"),
        ("version: 2\nname: fleet\n", 1, "version must be 1"),
        ('version: "1"\nname: fleet\n', 1, "whole number"),
        ("version: 1\nname: Fleet!\n", 2, "name must be"),
        (HEAD + "provider: []\n", 3, "unknown 'provider'"),
        (HEAD + "name: other\n", 3, "twice"),
        (HEAD + "providers: {}\n", 3, "must be a list"),
        (HEAD + "providers:\n  - alias: a\n", 4, "provider is missing"),
        (HEAD + "providers:\n  - provider: openai\n    keys: a\n", 5, "unknown 'keys'"),
        (HEAD + "providers:\n  - provider: openai\n    key: sk-1\n", 5, "a key stands here only"),
        (HEAD + "providers:\n  - provider: openai\n    active: 1\n", 5, "true or false"),
        (HEAD + "providers:\n  - provider: openai\n    name: 12\n", 5, "must be text"),
        (HEAD + "providers:\n  - provider: openai\n    rate_limit: 0x10\n", 5, "whole number"),
        (HEAD + "providers:\n  - provider: openai\n    auth_type: magic\n", 5, "one of api_key"),
        (HEAD + "providers:\n  - provider: openai\n    settings: [a]\n", 5, "must be a mapping"),
        (HEAD + "providers:\n  - provider: openai\n    settings: {a: 1}\n", 5, "must be text"),
        (HEAD + "routes:\n  - name: r\n", 4, "targets is missing"),
        (HEAD + "routes:\n  - name: r\n    targets:\n      - provider: x\n", 6, "model is missing"),
        (HEAD + "x: &a 1\ny: *a\n", 4, "aliases"),
        (HEAD + "providers: [\n", 4, "expected"),
        (HEAD + "\tproviders: []\n", 3, "cannot start any token"),
        ("x: !!python/object:os.system {}\n", 1, "unknown 'x'"),
        ("a" * (MOST_BYTES + 1), 1, "larger than"),
    ],
)
def test_what_is_not_understood_is_refused_by_line(text: str, line: int, said: str) -> None:
    found = flaws(text)
    assert any(at == line and said in message for at, message in found), found


def test_every_flaw_is_told_at_once_and_no_key_is_repeated() -> None:
    text = WHOLE.replace("$env:UPSTREAM_OPENAI", "sk-canary-0123456789").replace("10", "ten")
    found = flaws(text)
    assert [line for line, _ in found] == [9, 14]
    assert "canary" not in str(found)


def test_depth_is_no_way_in() -> None:
    assert flaws("[" * 5000) == [(1, "nested too deep")]


@given(st.text(max_size=200))
def test_no_text_does_anything_but_be_read_or_refused(text: str) -> None:
    with contextlib.suppress(ManifestRefused):
        assert not read(text, "f.yaml").providers


def test_the_docs_show_this_very_file_and_every_field() -> None:
    text = (Path(__file__).parent.parent / "docs" / "config-as-code.md").read_text()
    shown = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert shown
    assert read(shown[1], "f.yaml") == read(WHOLE, "f.yaml")
    for kind in (ScopeEntry, ProviderEntry, ModelEntry, AgentEntry, RouteEntry, TargetEntry):
        for item in fields(kind):
            assert item.name == "line" or f"`{item.name}`" in text, (kind, item.name)
