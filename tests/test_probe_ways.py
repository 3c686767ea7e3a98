"""What a probe sends to each provider, where to, and which models it finds: on real sockets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from admin.configure.desk import Desk
from admin.demo.upstream import Received, Script, Upstream
from admin.probe import MOST_PAGES, Prober
from gateway.shapes import Secret
from tests import desks, probing
from tests.backends import Backend
from tests.desks import KEY, add
from tests.ports import dead_port
from tests.probing import in_json, models, probe

AWS = "AKIACANARY0123456789::canary/secret+0123456789abcdef::us-east-1"


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with probing.desk(backend) as opened:
        yield opened


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    made = Prober()
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("provider", "root", "header"),
    [
        ("anthropic", "/v1", b"x-api-key"),
        ("google", "/v1beta", b"x-goog-api-key"),
        ("azure", "/openai/v1", b"api-key"),
        ("custom:mine", "/v1", b"authorization"),
    ],
)
async def test_every_dialect_lists_with_its_own_header(
    desk: Desk, prober: Prober, upstream: Upstream, provider: str, root: str, header: bytes
) -> None:
    more = {"dialect": "openai"} if provider.startswith("custom:") else {}
    view = await add(desk, provider=provider, base_url=upstream.origin + root, **more)
    probed = await prober.stored(desk, view.id)
    assert probed.ok, probed
    assert probed.models
    first = upstream.received[0]
    assert first.path == f"{root}/models"
    assert KEY.encode() in (first.header(header) or b"")


async def test_anthropic_is_told_a_version(desk: Desk, prober: Prober) -> None:
    _, [received] = await probe(desk, prober, models(), provider="anthropic")
    assert received.header(b"anthropic-version") == b"2023-06-01"


async def test_headers_of_the_config_are_sent_but_never_in_place_of_the_key(
    desk: Desk, prober: Prober
) -> None:
    table = {"headers": {"x-team": "a", "user-agent": "ours"}}
    _, [received] = await probe(desk, prober, models(), settings=table)
    assert received.values(b"x-team") == [b"a"]
    assert received.values(b"user-agent") == [b"ours"]
    assert received.values(b"authorization") == [f"Bearer {KEY}".encode()]


async def test_pages_are_followed_to_their_end(desk: Desk, prober: Prober) -> None:
    def respond(received: Received) -> Script:
        if "after_id=b%26c" in received.query:
            return models("d", has_more=False, last_id="d")
        return models("a", "b&c", has_more=True, last_id="b&c")

    probed, received = await probe(desk, prober, respond, provider="anthropic")
    assert probed.models == ("a", "b&c", "d")
    assert [r.query for r in received] == ["limit=1000", "limit=1000&after_id=b%26c"]


async def test_google_pages_by_token(desk: Desk, prober: Prober) -> None:
    def respond(received: Received) -> Script:
        if received.query.endswith("&pageToken=t2"):
            return in_json({"models": [{"name": "models/two"}]})
        return in_json({"models": [{"name": "models/one"}], "nextPageToken": "t2"})

    probed, _ = await probe(desk, prober, respond, provider="google")
    assert probed.models == ("models/one", "models/two")


async def test_pages_without_end_are_left(desk: Desk, prober: Prober) -> None:
    more = models("same", has_more=True, last_id="same")
    probed, received = await probe(desk, prober, more, provider="anthropic")
    assert probed.ok
    assert probed.models == ("same",)
    assert len(received) == MOST_PAGES


async def test_page_that_fails_later_is_told(desk: Desk, prober: Prober) -> None:
    def respond(received: Received) -> Script:
        if "after_id" in received.query:
            return Script(status=429)
        return models("a", has_more=True, last_id="a")

    probed, _ = await probe(desk, prober, respond, provider="anthropic")
    assert probed.outcome == "rate_limited"


async def test_list_anybody_gets_proves_no_key(desk: Desk, prober: Prober) -> None:
    probed, received = await probe(desk, prober, models("a"), provider="huggingface")
    assert (probed.outcome, probed.models, probed.source) == ("unlisted", ("a",), "provider")
    assert [r.header(b"authorization") is None for r in received] == [False, True]


async def test_openrouter_key_is_asked_for_where_it_counts(desk: Desk, prober: Prober) -> None:
    def respond(received: Received) -> Script:
        if received.path == "/v1/key":
            return in_json({"error": {"message": "No auth", "code": 401}}, 401)
        return models("a")

    probed, received = await probe(desk, prober, respond, provider="openrouter")
    assert probed.outcome == "key_refused"
    assert [r.path for r in received] == ["/v1/key"]
    good, received = await probe(
        desk, prober, lambda r: models("a"), provider="openrouter", alias="b"
    )
    assert (good.outcome, good.models) == ("ok", ("a",))
    assert [r.path for r in received] == ["/v1/key", "/v1/models"]


async def test_provider_without_a_list_is_not_asked(desk: Desk, prober: Prober) -> None:
    probed, received = await probe(desk, prober, models("a"), provider="perplexity")
    assert (probed.outcome, probed.source) == ("unlisted", "catalog")
    assert "sonar" in probed.models
    assert received == []


async def test_server_without_a_list_is_told_from_a_wrong_url(desk: Desk, prober: Prober) -> None:
    mine = {"provider": "custom:mine", "dialect": "openai"}
    probed, _ = await probe(desk, prober, Script(status=404), **mine)
    assert (probed.outcome, probed.models) == ("unlisted", ())


async def test_config_that_needs_no_key_sends_none(desk: Desk, prober: Prober) -> None:
    more: dict[str, Any] = {"provider": "custom:mine", "dialect": "openai", "secret": None}
    probed, [received] = await probe(desk, prober, models("a"), auth_type="none", **more)
    assert probed.ok
    assert received.header(b"authorization") is None


async def test_reference_is_read_when_it_is_used(desk: Desk, prober: Prober) -> None:
    reference = Secret(b"$env:UPSTREAM_TESTED")
    async with Upstream(models("a")) as upstream:
        view = await add(desk, base_url=upstream.url, secret=reference)
        missing = await prober.stored(desk, view.id)
        assert missing.outcome == "unsent"
        assert missing.message == "$env:UPSTREAM_TESTED leads to no key"
        assert upstream.received == []
        os.environ["UPSTREAM_TESTED"] = KEY
        assert (await prober.stored(desk, view.id)).ok
        assert upstream.received[0].values(b"authorization") == [f"Bearer {KEY}".encode()]


async def test_operators_override_decides_where_the_probe_goes(
    backend: Backend, prober: Prober
) -> None:
    async with Upstream(models("a")) as upstream:
        given: dict[str, Any] = {
            "provider_base_urls": {"openai": upstream.url},
            "allowed_upstream_cidrs": (),
        }
        async with desks.opened(backend, **given) as desk:
            view = await add(desk)
            assert (await prober.stored(desk, view.id)).ok
        assert len(upstream.received) == 1


async def test_model_is_looked_for_in_the_list(desk: Desk, prober: Prober) -> None:
    async with Upstream(models("gpt-a")) as upstream:
        view = await add(desk, base_url=upstream.url)
        assert (await prober.listed(desk, view.id, "gpt-a"))[1]
        probed, there = await prober.listed(desk, view.id, "gpt-b")
        assert (probed.ok, there) == (True, False)


async def test_no_model_is_listed_when_the_probe_failed(desk: Desk, prober: Prober) -> None:
    view = await add(desk, base_url=f"http://127.0.0.1:{dead_port()}/v1")
    probed, there = await prober.listed(desk, view.id, "gpt-a")
    assert (probed.outcome, there) == ("unreachable", False)


async def test_catalog_stands_in_where_there_is_no_list(desk: Desk, prober: Prober) -> None:
    view = await add(desk, provider="perplexity")
    assert (await prober.listed(desk, view.id, "sonar"))[1]
    assert not (await prober.listed(desk, view.id, "gpt-4o"))[1]


async def test_model_of_a_server_that_lists_none_is_taken_on_trust(
    desk: Desk, prober: Prober
) -> None:
    async with Upstream(Script(status=404)) as upstream:
        place = {"base_url": upstream.url, "dialect": "openai"}
        view = await add(desk, provider="custom:mine", **place)
        assert (await prober.listed(desk, view.id, "anything"))[1]


async def test_bedrock_lists_signed_at_the_place_of_the_config(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    key = Secret(AWS.encode())
    view = await add(desk, provider="amazon-bedrock", base_url=upstream.origin, secret=key)
    probed = await prober.stored(desk, view.id)
    assert probed.ok, probed
    received = upstream.received[0]
    assert received.path == "/foundation-models"
    signature = (received.header(b"authorization") or b"").decode()
    assert signature.startswith("AWS4-HMAC-SHA256 Credential=AKIACANARY0123456789/")
    assert "/us-east-1/bedrock/aws4_request" in signature
    assert b"canary/secret" not in b"".join(map(bytes, upstream.wire))
    assert (await prober.listed(desk, view.id, f"us.{probed.models[0]}"))[1]
    assert not (await prober.listed(desk, view.id, "us.acme.unknown-v1"))[1]


async def test_bedrock_api_key_is_a_bearer_token(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    more: dict[str, Any] = {"settings": {"region": "us-east-1"}}
    view = await add(desk, provider="amazon-bedrock", base_url=upstream.origin, **more)
    assert (await prober.stored(desk, view.id)).ok
    assert upstream.received[0].values(b"authorization") == [f"Bearer {KEY}".encode()]
