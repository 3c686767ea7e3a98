"""Our table beside the catalog: nothing in it is stray, foreign names are unambiguous."""

from __future__ import annotations

import pytest

from gateway import catalog, providers
from gateway.providers import CLOUDFLARE, MODELUX, TEMPLATES

CATALOG = catalog.load()
TABLES = {
    "dialects": providers.DIALECTS,
    "base urls": providers.BASE_URLS,
    "templates": providers.TEMPLATES,
    "unsupported": providers.UNSUPPORTED,
    "compatible": providers.COMPATIBLE,
    "auth headers": providers.AUTH_HEADERS,
    "no stream options": dict.fromkeys(providers.NO_STREAM_OPTIONS),
}


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_of_a_catalog_provider(table: str) -> None:
    assert set(TABLES[table]) <= set(CATALOG.providers)
    assert TABLES[table]


def test_foreign_slugs_are_injective_and_no_catalog_ids() -> None:
    foreign = [*CLOUDFLARE, *MODELUX]
    assert len(set(foreign)) == len(foreign)
    assert not set(foreign) & set(CATALOG.providers)
    assert len(set(CLOUDFLARE.values())) == len(CLOUDFLARE)
    assert len(set(MODELUX.values())) == len(MODELUX)
    assert set(CLOUDFLARE.values()) | set(MODELUX.values()) <= set(CATALOG.providers)
    assert not any(name.startswith(("custom:", "custom-")) for name in CATALOG.providers)


def test_dialects_agree_with_the_package_the_catalog_names() -> None:
    spoken = {
        "@ai-sdk/anthropic": "anthropic",
        "@ai-sdk/google": "gemini",
        "@ai-sdk/azure": "azure",
        "@ai-sdk/amazon-bedrock": "bedrock",
    }
    for provider in CATALOG.providers.values():
        if provider.dialect is not None:
            assert provider.dialect == spoken.get(provider.npm or "", "openai"), provider.id


def test_base_urls_of_ours_stand_in_only_where_the_catalog_has_none() -> None:
    doubled = {name for name in providers.BASE_URLS if CATALOG.providers[name].api}
    assert doubled == {"bailing"}  # the catalog has its chat endpoint in place of its root
    assert not set(providers.BASE_URLS) & set(TEMPLATES)


def test_compatible_paths_stay_below_the_base_url() -> None:
    for name, others in providers.COMPATIBLE.items():
        assert CATALOG.providers[name].unsupported is None
        for dialect, suffix in others.items():
            assert dialect != CATALOG.providers[name].dialect
            assert suffix == "" or (suffix.startswith("/") and not suffix.endswith("/"))


@pytest.mark.parametrize(
    ("provider", "setting", "url"),
    [
        ("amazon-bedrock", "eu-west-1", "https://bedrock-runtime.eu-west-1.amazonaws.com"),
        ("amazon-bedrock", "us-gov-west-1", "https://bedrock-runtime.us-gov-west-1.amazonaws.com"),
        ("azure", "my-res", "https://my-res.openai.azure.com/openai/v1"),
        ("azure-cognitive-services", "r", "https://r.cognitiveservices.azure.com/openai/v1"),
        (
            "cloudflare-workers-ai",
            "0" * 32,
            f"https://api.cloudflare.com/client/v4/accounts/{'0' * 32}/ai/v1",
        ),
        (
            "cloudflare-ai-gateway",
            "f" * 32 + "/gw",
            f"https://gateway.ai.cloudflare.com/v1/{'f' * 32}/gw/compat",
        ),
        (
            "databricks",
            "dbc-1.cloud.databricks.com",
            "https://dbc-1.cloud.databricks.com/ai-gateway/mlflow/v1",
        ),
        (
            "databricks",
            "adb-1.7.azuredatabricks.net",
            "https://adb-1.7.azuredatabricks.net/ai-gateway/mlflow/v1",
        ),
        ("snowflake-cortex", "org-acc", "https://org-acc.snowflakecomputing.com/api/v2/cortex/v1"),
    ],
)
def test_templates_are_filled_from_settings(provider: str, setting: str, url: str) -> None:
    template = TEMPLATES[provider]
    assert template.fill({template.setting: setting}) == url
    assert CATALOG.providers[provider].url({template.setting: setting}) == url
    assert CATALOG.providers[provider].url({}) is None


@pytest.mark.parametrize("provider", TEMPLATES)
@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "evil.example/",
        "evil.example#",
        "a@evil.example",
        "a/../b",
        "evil.example:443",
        "a b",
        "a\n",
    ]
    + [
        "x.evil.example",
        "é",
        "-a",
        "a-",
        "." * 3,
        "{resourceName}",
        "cloud.databricks.com.evil.example",
    ],
)
def test_templates_refuse_what_moves_the_host(provider: str, hostile: str) -> None:
    filled = TEMPLATES[provider].fill({TEMPLATES[provider].setting: hostile})
    # Snowflake's accounts hold dots, and stay on its own domain whatever they are.
    assert filled is None or filled.startswith("https://x.evil.example.snowflakecomputing.com/")


@pytest.mark.parametrize(
    ("provider", "dialect"),
    [("openai", "openai"), ("google", "gemini"), ("groq", "openai"), ("custom:x", None)]
    + [("amazon-bedrock", "bedrock")],
)
def test_dialect_of_a_provider(provider: str, dialect: str | None) -> None:
    assert providers.dialect_of(provider) == dialect
