"""The packaged catalog: everything in it can be used, or says why not."""

from __future__ import annotations

import re
import time
from importlib.resources import files
from urllib.parse import urlsplit

import pytest

from gateway import catalog
from gateway.catalog import Provider

CATALOG = catalog.load()


def test_the_snapshot_is_whole() -> None:
    assert len(CATALOG.providers) == 147
    assert sum(len(p.models) for p in CATALOG.providers.values()) == 5276
    assert catalog.load() is CATALOG


@pytest.mark.parametrize("provider", CATALOG.providers.values(), ids=lambda p: p.id)
def test_every_provider_is_usable_or_says_why_not(provider: Provider) -> None:
    assert provider.name
    assert provider.models
    assert provider.env
    if provider.unsupported is not None:
        assert len(provider.unsupported) > 20
        assert (provider.dialect, provider.base_url, provider.template) == (None, None, None)
        return
    assert provider.dialect in ("openai", "azure", "anthropic", "gemini", "bedrock")
    assert (provider.base_url is None) == (provider.template is not None)
    if provider.base_url is not None:
        assert is_root(provider.base_url)
        assert provider.url({}) == provider.base_url


def is_root(url: str) -> bool:
    """An API root: https or loopback, no query, no trailing slash, not an endpoint."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost")
    odd = any((parts.query, parts.fragment, parts.username, url.endswith("/")))
    return not odd and (parts.scheme == "https" or loopback) and "completions" not in parts.path


def test_few_providers_are_unsupported() -> None:
    assert {p.id for p in CATALOG.providers.values() if p.unsupported} == {
        "github-copilot",
        "gitlab",
        "google-vertex",
        "google-vertex-anthropic",
        "sap-ai-core",
    }


def test_every_address_with_a_hole_has_a_template() -> None:
    holed = {p.id for p in CATALOG.providers.values() if "${" in (p.api or "")}
    assert holed == {"cloudflare-workers-ai", "databricks", "neon", "snowflake-cortex"}
    assert all(CATALOG.providers[name].template for name in holed)


def test_prices_are_whole_micro_dollars() -> None:
    model = CATALOG.providers["openai"].models["gpt-4o"]
    assert (model.input_price, model.output_price) == (2_500_000, 10_000_000)
    assert (model.cache_read_price, model.cache_write_price) == (1_250_000, None)
    assert (model.context, model.name) == (128_000, "GPT-4o")
    prices = [m.input_price for p in CATALOG.providers.values() for m in p.models.values()]
    assert {type(price) for price in prices} == {int, type(None)}
    assert all(price is None or price >= 0 for price in prices)
    assert any(price is None for price in prices)


def test_listing_names_every_provider_of_a_model() -> None:
    listing = CATALOG.listing("gpt-4o")
    assert {"openai", "azure"} <= set(listing)
    assert list(listing) == sorted(listing)
    assert all(CATALOG.lists(name, "gpt-4o") for name in listing)
    assert CATALOG.listing("no-such-model") == ()
    assert not CATALOG.lists("no-such-provider", "gpt-4o")
    assert not CATALOG.lists("anthropic", "gpt-4o")


@pytest.mark.parametrize(
    "maker",
    ["openai", "anthropic", "google", "mistral", "xai", "deepseek", "perplexity", "moonshotai"]
    + ["zai", "alibaba", "minimax", "xiaomi", "stepfun", "upstage", "inception"],
)
def test_makers_make_what_they_list(maker: str) -> None:
    assert {CATALOG.maker(model) for model in CATALOG.providers[maker].models} == {maker}


@pytest.mark.parametrize(
    ("model", "maker"),
    [
        ("anthropic/claude-sonnet-4", "anthropic"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic"),
        ("openai/gpt-oss-120b", "openai"),
        ("o3", "openai"),
        ("o3-mini", "openai"),
        ("text-embedding-3-small", "openai"),
        ("whisper-1", "openai"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama"),
        ("Qwen/Qwen3-32B", "alibaba"),
        ("olmo-2", None),
        ("", None),
        ("/", None),
        ("gpt", None),
    ],
)
def test_maker_goes_by_the_models_name(model: str, maker: str | None) -> None:
    assert CATALOG.maker(model) == maker


@pytest.mark.parametrize(
    ("slug", "provider"),
    [
        ("openai", "openai"),
        ("google-ai-studio", "google"),
        ("aws-bedrock", "amazon-bedrock"),
        ("together", "togetherai"),
        ("custom:lab", "custom:lab"),
        ("custom-lab", "custom:lab"),
        ("custom:", None),
        ("custom:Bad Name", None),
        ("custom:a/b", None),
        ("nobody", None),
        ("", None),
    ],
)
def test_canonical_takes_any_spelling(slug: str, provider: str | None) -> None:
    assert CATALOG.canonical(slug) == provider


def test_foreign_names_go_there_and_back() -> None:
    for provider in CATALOG.providers:
        assert CATALOG.canonical(CATALOG.cloudflare_slug(provider)) == provider
        assert CATALOG.canonical(CATALOG.modelux_slug(provider)) == provider
    assert CATALOG.cloudflare_slug("xai") == "grok"
    assert CATALOG.modelux_slug("togetherai") == "together"
    assert CATALOG.cloudflare_slug("custom:lab") == "custom:lab"


def test_the_notice_and_the_code_name_the_same_date() -> None:
    notice = files("gateway").joinpath("data/catalog.NOTICE.txt").read_text()
    assert "MIT License" in notice
    assert re.findall(r"dated (\S+)\.", notice) == [catalog.AS_OF]
    assert time.strftime("%Y-%m-%d", time.gmtime(CATALOG.age_date)) == catalog.AS_OF


def test_loading_is_quick() -> None:
    start = time.process_time()
    catalog.load.__wrapped__()
    assert time.process_time() - start < 0.25
