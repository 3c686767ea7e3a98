"""Where each provider is asked for its models, and how its answers are read. Nothing is sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway import catalog, listing
from gateway.listing import BY_PROVIDER, KEYED, NO_LIST, Listing, read_page, serves, verdict
from gateway.providers import dialect_of
from gateway.shapes import ProviderConfig


def config(provider: str, base_url: str = "", **settings: Any) -> ProviderConfig:
    """A config of a catalog provider; without a URL the catalog's."""
    entry = catalog.load().providers[provider]
    dialect, url = dialect_of(provider), base_url or entry.url(settings)
    assert dialect
    assert url
    return ProviderConfig(
        id="1",
        scope="global",
        alias="a",
        provider=provider,
        dialect=dialect,
        base_url=url,
        settings=settings,
    )


def asked(row: ProviderConfig) -> str:
    """The whole URL of the first request."""
    way = listing.listing_of(row)
    assert way
    origin, path = listing.place(row, way.path, way.instead_of)
    query = listing.first_query(row, way)
    return f"{origin}{path.decode()}" + (f"?{query}" if query else "")


@pytest.mark.parametrize(
    ("row", "url"),
    [
        (config("openai"), "https://api.openai.com/v1/models"),
        (config("deepseek"), "https://api.deepseek.com/models"),
        (config("fireworks-ai"), "https://api.fireworks.ai/inference/v1/models"),
        (config("openrouter"), "https://openrouter.ai/api/v1/models"),
        (config("anthropic"), "https://api.anthropic.com/v1/models?limit=1000"),
        (
            config("google"),
            "https://generativelanguage.googleapis.com/v1beta/models?pageSize=1000",
        ),
        (config("cohere"), "https://api.cohere.ai/v1/models?page_size=1000"),
        (config("cohere", "https://proxy.example.com/v1"), "https://proxy.example.com/v1/models"),
        (
            config("cloudflare-workers-ai", accountId="0" * 32),
            f"https://api.cloudflare.com/client/v4/accounts/{'0' * 32}/ai/models/search",
        ),
        (config("azure", resourceName="r"), "https://r.openai.azure.com/openai/v1/models"),
        (
            config("azure", "https://r.openai.azure.com"),
            "https://r.openai.azure.com/openai/models?api-version=2024-10-21",
        ),
        (
            config("azure", "https://r.openai.azure.com/openai", apiVersion="2025-01-01&x"),
            "https://r.openai.azure.com/openai/models?api-version=2025-01-01%26x",
        ),
        (
            config("amazon-bedrock", region="eu-west-1"),
            "https://bedrock.eu-west-1.amazonaws.com/foundation-models",
        ),
        (
            config("amazon-bedrock", "https://aws.example.com:8443/b"),
            "https://aws.example.com:8443/b/foundation-models",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_provider_is_asked_at_its_own_place(row: ProviderConfig, url: str) -> None:
    assert asked(row) == url


@pytest.mark.parametrize(
    ("runtime", "control"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock.us-east-1.amazonaws.com"),
        ("bedrock-runtime-fips.us-east-1.amazonaws.com", "bedrock-fips.us-east-1.amazonaws.com"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock.cn-north-1.amazonaws.com.cn"),
        ("bedrock-runtime.us-east-1.amazonaws.com:443", "bedrock.us-east-1.amazonaws.com"),
    ],
)
def test_bedrock_lists_on_the_other_host_of_the_same_region(runtime: str, control: str) -> None:
    assert listing.control_plane(f"https://{runtime}") == f"https://{control}"


@pytest.mark.parametrize(
    "origin",
    [
        "http://bedrock-runtime.us-east-1.amazonaws.com",
        "https://bedrock-runtime.us-east-1.amazonaws.com:8443",
        "https://bedrock-runtime.us-east-1.amazonaws.com.evil.example",
        "https://bedrock-runtime.evil.example/x.amazonaws.com",
        "https://evil-bedrock-runtime.us-east-1.amazonaws.com",
        "https://bedrock-runtime.a.b.amazonaws.com",
        "https://vpce-1-bedrock-runtime.us-east-1.vpce.amazonaws.com",
        "http://127.0.0.1:9",
    ],
)
def test_no_other_origin_is_left(origin: str) -> None:
    assert listing.control_plane(origin) == origin


def test_every_provider_named_is_one_of_the_catalog() -> None:
    assert {*BY_PROVIDER, *NO_LIST, *KEYED} <= set(catalog.load().providers)
    assert not NO_LIST & KEYED


def page(value: Any, way: Listing | None = None) -> tuple[tuple[str, ...], str]:
    found = read_page(msgspec.json.encode(value), way or Listing())
    return found.ids, found.next


@pytest.mark.parametrize(
    "value",
    [
        {"data": [{"id": "a", "object": "model"}, {"id": "b"}]},
        [{"id": "a"}, {"id": "b"}],
        {"models": [{"name": "a"}, {"id": "b"}]},
        {"modelSummaries": [{"modelId": "a", "modelName": "A"}, {"modelId": "b"}]},
        {"result": [{"id": "u-1", "name": "a"}, {"name": "b"}], "success": True},
        {"data": [{"id": "a"}, {"id": 7}, {"id": None}, {}, {"id": "x\ny"}, {"id": "b"}]},
    ],
)
def test_ids_are_found_in_every_shape(value: Any) -> None:
    assert page(value) == (("a", "b"), "")


def test_server_without_models_has_an_empty_list() -> None:
    assert page({"object": "list", "data": None}) == ((), "")


@pytest.mark.parametrize("value", [{}, {"data": "a"}, {"data": ["a"]}, "a", 7, None, ["a"]])
def test_what_is_no_list_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a list"):
        page(value)


ANTHROPIC = listing.BY_DIALECT["anthropic"]
COHERE = BY_PROVIDER["cohere"]


@pytest.mark.parametrize(
    ("way", "more", "query"),
    [
        (ANTHROPIC, {"has_more": True, "last_id": "x y"}, "limit=1000&after_id=x%20y"),
        (ANTHROPIC, {"has_more": False, "last_id": "x"}, ""),
        (ANTHROPIC, {"has_more": True, "last_id": None}, ""),
        (ANTHROPIC, {"has_more": True, "last_id": "x" * 501}, ""),
        (COHERE, {"next_page_token": "t&u=/"}, "page_size=1000&page_token=t%26u%3D%2F"),
        (COHERE, {"next_page_token": ""}, ""),
        (Listing(), {"has_more": True, "last_id": "x", "nextPageToken": "y"}, ""),
    ],
)
def test_next_page_is_asked_for_by_its_token(
    way: Listing, more: dict[str, Any], query: str
) -> None:
    assert page({"data": [], **more}, way) == ((), query)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"", "listed"),
        (401, b"", "refused"),
        (403, b"<html>", "refused"),
        (403, b'{"message": "User: x is not authorized to perform: bedrock:List"}', "barred"),
        (401, b"Missing scopes: api.model.read", "barred"),
        (400, b'{"reason": "API_KEY_INVALID"}', "refused"),
        (400, b'{"error": "Incorrect%20API%20key%20provided"}', "refused"),
        (400, b"no such region", "odd"),
        (429, b"", "rate_limited"),
        (404, b"", "absent"),
        (405, b"", "absent"),
        (307, b"", "odd"),
        (500, b"", "odd"),
        (529, b"\xff", "odd"),
    ],
)
def test_answers_say_what_they_say_of_the_key(status: int, body: bytes, says: str) -> None:
    assert verdict(status, body) == says


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"error": {"message": "no"}}, "no"),
        ({"error": "no"}, "no"),
        ({"message": "no"}, "no"),
        ({"Message": "no"}, "no"),
        ({"detail": "no"}, "no"),
        ({"success": False, "errors": [{"code": 1, "message": "no"}]}, "no"),
        ([{"error": {"message": "no"}}], "no"),
        ({"error": {"message": ["no"]}}, ""),
        ({"errors": []}, ""),
        ([], ""),
        ("no", ""),
    ],
)
def test_providers_sentence_is_found(value: Any, words: str) -> None:
    assert listing.said(msgspec.json.encode(value)) == words


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b'{"error": "\xff"}'])
def test_no_sentence_is_found_in_what_is_no_json(body: bytes) -> None:
    assert listing.said(body) == ""


@pytest.mark.parametrize(
    ("row", "ids", "model", "there"),
    [
        (config("openai"), ["gpt-a"], "gpt-a", True),
        (config("openai"), ["gpt-a"], "gpt-a-2025-01-01", False),
        (config("openai"), ["gpt-a-2025-01-01"], "gpt-a", True),
        (config("openai"), ["gpt-a-mini-2025-01-01"], "gpt-a", False),
        (config("openai"), [], "gpt-a", False),
        (config("google"), ["models/gemini-a"], "gemini-a", True),
        (config("google"), ["models/gemini-a"], "models/gemini-a", True),
        (config("google"), ["gemini-a"], "models/gemini-a", True),
        (config("google"), ["models/gemini-a"], "gemini", False),
        (config("azure", resourceName="r"), ["gpt-a"], "my-deployment", True),
        (config("amazon-bedrock", region="us-east-1"), ["anthropic.c-1"], "us.anthropic.c-1", True),
        (config("amazon-bedrock", region="us-east-1"), ["anthropic.c-1"], "xx.anthropic", False),
        (config("amazon-bedrock", region="us-east-1"), ["a.b"], "arn:aws:bedrock:::x/y", True),
        (config("amazon-bedrock", region="us-east-1"), ["a.b"], "a.c", False),
    ],
)
def test_model_is_compared_as_it_is_written(
    row: ProviderConfig, ids: list[str], model: str, there: bool
) -> None:
    assert serves(row, ids, model) is there
