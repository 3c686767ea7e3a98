"""The azure dialect: two kinds of paths at one resource, and its own header for the key."""

from __future__ import annotations

import pytest

from gateway.dialects import azure, openai
from tests.dialect_cases import config, target

BASE = "https://res.openai.azure.com/openai/v1"
DEPLOYED = "/openai/deployments/dep/chat/completions"


@pytest.mark.parametrize("base", [BASE, "https://h/openai", "https://h", "https://h/openai/v1/"])
def test_deployments_stand_at_the_resources_root(base: str) -> None:
    sent = target(config("azure", base), DEPLOYED, "api-version=2025-01-01")
    assert sent == DEPLOYED + "?api-version=2025-01-01"


def test_a_proxy_in_front_keeps_its_prefix() -> None:
    sent = target(config("azure", "https://h/apim/openai/v1"), DEPLOYED, "api-version=1")
    assert sent == "/apim" + DEPLOYED + "?api-version=1"


@pytest.mark.parametrize(
    ("settings", "query", "expected"),
    [
        ({}, "", "api-version=2024-10-21"),
        ({}, "x=1", "x=1&api-version=2024-10-21"),
        ({"apiVersion": "2025-04-01-preview"}, "", "api-version=2025-04-01-preview"),
        ({"apiVersion": "2025-04-01-preview"}, "api-version=1", "api-version=1"),
        ({}, "key=wg_x&api-version=1", "api-version=1"),
        ({}, "xapi-version=1", "xapi-version=1&api-version=2024-10-21"),
    ],
)
def test_deployment_paths_always_have_a_version(
    settings: dict[str, str], query: str, expected: str
) -> None:
    assert target(config("azure", BASE, settings=settings), DEPLOYED, query) == (
        DEPLOYED + "?" + expected
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/openai/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/embeddings", "/openai/v1/embeddings"),
        ("/openai/responses", "/openai/responses?api-version=2024-10-21"),
        (
            "/v1/acc/gw/azure-openai/res/dep/embeddings",
            "/openai/deployments/dep/embeddings?api-version=2024-10-21",
        ),
        ("/v1/acc/gw/azure/openai/v1/vector_stores", "/openai/v1/vector_stores"),
    ],
)
def test_other_paths_go_below_the_base_url_or_the_resource(path: str, expected: str) -> None:
    assert target(config("azure", BASE), path) == expected


@pytest.mark.parametrize(
    ("auth_type", "expected"),
    [
        ("api_key", [(b"api-key", b"k")]),
        ("azure_ad", [(b"authorization", b"Bearer k")]),
        ("bearer", [(b"authorization", b"Bearer k")]),
        ("none", []),
    ],
)
def test_authorize_uses_azures_header_for_keys(
    auth_type: str, expected: list[tuple[bytes, bytes]]
) -> None:
    assert azure.authorize(config("azure", BASE, auth_type=auth_type), b"k") == expected
    assert azure.defaults(config("azure", BASE)) == []


def test_shapes_are_openais() -> None:
    for name in ("render", "error_event", "ends", "usage", "list_models", "one_model", "HEARTBEAT"):
        assert getattr(azure, name) is getattr(openai, name)


def test_azures_odd_first_chunk_ends_nothing_and_counts_nothing() -> None:
    chunk = b'{"choices":[],"id":"","model":"","prompt_filter_results":[{"prompt_index":0}]}'
    assert azure.usage(chunk, None) is None
