"""Headers a config adds to what it sends: every dialect, never in the place of a key or a frame."""

from __future__ import annotations

import json
from typing import Any

import pytest

from admin.demo.upstream import Received, Upstream
from gateway.client.hygiene import settable
from gateway.shapes import DialectName
from tests import aws
from tests.serve import RawClient
from tests.stage import stored_key
from tests.world import World, served

ASKS: dict[DialectName, tuple[str, str, str]] = {
    "openai": ("openai", "/v1/chat/completions", "/v1"),
    "azure": ("azure", "/openai/v1/chat/completions", "/openai/v1"),
    "anthropic": ("anthropic", "/v1/messages", "/v1"),
    "gemini": ("google", "/v1beta/models/m:generateContent", "/v1beta"),
    "bedrock": ("amazon-bedrock", "/model/m/converse", ""),
}
_NEVER = """
accept-encoding api-key authorization cf-aig-authorization connection content-encoding
content-length content-type cookie expect forwarded host keep-alive proxy-authorization
proxy-connection set-cookie te trailer transfer-encoding upgrade via wardgate-config x-api-key
x-amz-content-sha256 x-amz-date x-amz-security-token x-forwarded-for x-goog-api-key x-my-secret
"""
NEVER = _NEVER.split()


async def sent(dialect: DialectName, headers: dict[str, str], **more: Any) -> Received:
    """What reaches the upstream of a request whose config adds these headers."""
    provider, path, root = ASKS[dialect]
    async with Upstream() as upstream:
        world = World()
        settings = {"headers": headers, "region": aws.REGION}
        given = {"secret": stored_key(provider), "settings": settings, **more}
        world.config(provider, upstream.origin + root, dialect=dialect, **given)
        client_headers = {
            "authorization": f"Bearer {world.key()}",
            "content-type": "application/json",
            "x-team": "client",
        }
        body = json.dumps({"model": f"{provider}/m", "messages": [], "max_tokens": 1}).encode()
        async with served(world) as house, RawClient(house.port) as client:
            assert (await client.request("POST", path, client_headers, body)).status == 200
        return upstream.received[0]


@pytest.mark.parametrize("dialect", ASKS)
async def test_a_configs_headers_are_added_and_win(dialect: DialectName) -> None:
    received = await sent(dialect, {"X-Team": "sales", "x-more": "é 1"})
    assert received.values(b"x-team") == [b"sales"]
    assert received.values(b"x-more") == ["é 1".encode()]


async def test_a_configs_headers_are_there_when_it_is_signed() -> None:
    more = {"auth_type": "aws_sigv4", "secret": aws.sealed()}
    received = await sent("bedrock", {"x-amzn-trace": "on", "x-team": "sales"}, **more)
    assert received.values(b"x-team") == [b"sales"]
    assert "x-amzn-trace" in aws.signed_headers(received)


@pytest.mark.parametrize("dialect", ASKS)
async def test_no_header_of_a_config_takes_the_place_of_what_is_ours(dialect: DialectName) -> None:
    plain = await sent(dialect, {})
    received = await sent(dialect, dict.fromkeys([*NEVER, "x-fine"], "forged"))
    kept = [(name, value) for name, value in received.headers if name.lower() != b"x-fine"]
    assert [name for name, _ in kept] == [name for name, _ in plain.headers]
    assert b"forged" not in [value for _, value in kept]
    assert received.values(b"x-fine") == [b"forged"]


@pytest.mark.parametrize("name", NEVER)
def test_names_that_are_never_set(name: str) -> None:
    assert not settable(name.encode())


@pytest.mark.parametrize("name", ["", "X-Upper", "a b", "x:y", "x-\n"])
def test_names_that_are_no_header_in_lower_case_are_not_settable(name: str) -> None:
    assert not settable(name.encode())


@pytest.mark.parametrize("name", ["x-team", "openai-beta", "anthropic-beta", "http-referer", "x"])
def test_other_names_may_be_set(name: str) -> None:
    assert settable(name.encode())
