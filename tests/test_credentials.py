"""Exactly one credential goes upstream, the stored one; none of the client's, no cookie, no hop."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from admin.demo.upstream import Received, Script, Upstream
from gateway import credential
from gateway.shapes import Agent
from tests.serve import Answer, Pair, RawClient, request_bytes
from tests.world import PROVIDER_KEY, World, served

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-4o"}'
STORED = (b"authorization", b"Bearer " + PROVIDER_KEY.encode())


async def ask(
    port: int, headers: list[Pair], path: str = CHAT, body: bytes | None = BODY
) -> Answer:
    async with RawClient(port) as client:
        await client.send(request_bytes("POST", path, headers, body))
        return await client.answer("POST")


def bearer(key: str) -> Pair:
    return b"authorization", b"Bearer " + key.encode()


HOSTILE_NAMES = b"""
cookie cookie2 set-cookie proxy-authorization x-authorization x-auth-token auth
x-api-token x-access-token x-amz-security-token x-goog-iam-authorization-token
x-openai-api-key openai-api-key anthropic-api-key x-secret client-secret x-password
x-credential x-session-cookie ocp-apim-subscription-key-secret x-jwt jwt token
x-forwarded-for x-forwarded-host x-forwarded-proto forwarded via x-real-ip
true-client-ip cf-connecting-ip cf-aig-metadata wardgate-scope sec-fetch-site
keep-alive te trailer upgrade proxy-connection http2-settings x-listed
"""
HOSTILE: list[Pair] = [(name, b"secret-" + name) for name in HOSTILE_NAMES.split()]


async def test_no_credential_cookie_or_hop_goes_upstream() -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        harmless = [(b"x-stainless-lang", b"python"), (b"openai-beta", b"x"), (b"x-app", b"cli")]
        sent = [bearer(key), (b"connection", b"keep-alive, x-listed"), *HOSTILE, *harmless]
        async with served(world) as house:
            assert (await ask(house.port, sent)).status == 200
        received = await upstream.wait_received()
    names = {name.lower() for name, _ in received.headers}
    assert names.isdisjoint({name for name, _ in HOSTILE})
    assert set(harmless) <= {(name.lower(), value) for name, value in received.headers}
    assert _credentials(received) == [STORED]


def _credentials(received: Received) -> list[Pair]:
    known = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie")
    return [(n.lower(), v) for n, v in received.headers if n.lower() in known]


@pytest.mark.parametrize(
    "name", ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cf-aig-authorization"]
)
async def test_key_is_taken_from_any_of_its_headers(name: str) -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        value = f"Bearer {key}" if "authorization" in name else key
        headers = [(name.encode(), value.encode())]
        if name != "authorization":  # what an SDK that insists on a key sends beside it
            headers.append((b"authorization", b"Bearer sk-placeholder"))
        async with served(world) as house:
            assert (await ask(house.port, headers)).status == 200
            same = [*headers, (b"x-api-key", key.encode())]
            assert (await ask(house.port, same)).status == 200
        assert [_credentials(got) for got in upstream.received] == [[STORED], [STORED]]


async def test_key_is_taken_from_the_query_and_does_not_go_on_in_it() -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world) as house:
            answer = await ask(house.port, [], f"{CHAT}?a=1&key={key}&b=2")
        received = await upstream.wait_received()
    assert answer.status == 200
    assert (received.path, received.query) == (CHAT, "a=1&b=2")


async def test_our_key_in_any_other_parameter_does_not_go_on() -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        spelled = key.replace("_", "%5F")
        query = f"a=1&token={key}&x=1;key={key}&%6Bey=x&note=a{spelled}&authorization=sk-x&b=2"
        async with served(world) as house:
            assert (await ask(house.port, [bearer(key)], f"{CHAT}?{query}")).status == 200
        received = await upstream.wait_received()
    assert received.query == "a=1&b=2"


@pytest.mark.parametrize("spelled", ["{}", "x-{}", "%77{}"])
async def test_our_key_in_the_path_goes_nowhere(spelled: str) -> None:
    async with Upstream() as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        path = "/v1/files/" + spelled.format(key[spelled.startswith("%") :]) + "/content"
        async with served(world) as house, RawClient(house.port) as client:
            answer = await client.request("GET", path, [bearer(key)])
        assert upstream.received == []
    assert answer.status == 400
    assert key.encode() not in answer.body


async def test_trailers_are_no_headers() -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        chunks = b"%x\r\n%s\r\n0\r\nx-note: late\r\nhost: other\r\n\r\n" % (len(BODY), BODY)
        async with served(world) as house:
            headers = [bearer(key), (b"transfer-encoding", b"chunked")]
            assert (await ask(house.port, headers, body=chunks)).status == 200
        received = await upstream.wait_received()
    assert (received.header(b"x-note"), received.trailers) == (None, [])


async def test_our_key_in_any_other_header_stays_here() -> None:
    async with Upstream(Script(body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world) as house:
            headers = [bearer(key), (b"x-note", b"my key is " + key.encode())]
            assert (await ask(house.port, headers)).status == 200
        received = await upstream.wait_received()
    assert received.header(b"x-note") is None


async def refused(world: World, headers: list[Pair]) -> tuple[int, str, str]:
    async with Upstream() as upstream:
        world.config("openai", upstream.url)
        async with served(world, clock=lambda: 1_000.0) as house:
            answer = await ask(house.port, headers)
        assert upstream.received == []
    error = json.loads(answer.body)["error"]
    return answer.status, error["code"], error["message"]


async def test_no_key_is_401_that_says_how_to_send_one() -> None:
    status, code, message = await refused(World(), [(b"authorization", b"Bearer sk-other")])
    assert (status, code) == (401, "missing_api_key")
    assert "Authorization: Bearer" in message


async def test_two_keys_of_ours_are_400() -> None:
    world = World()
    headers = [bearer(world.key()), (b"x-api-key", world.key().encode())]
    assert (await refused(world, headers))[:2] == (400, "conflicting_credentials")


async def test_unknown_key_is_401() -> None:
    stranger = World().key()
    assert (await refused(World(), [bearer(stranger)]))[:2] == (401, "invalid_api_key")


async def test_mistyped_key_is_401() -> None:
    world = World()
    key = world.key()
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert (await refused(world, [bearer(wrong)]))[:2] == (401, "invalid_api_key")


async def test_admin_token_is_no_client_key() -> None:
    world = World()
    token = credential.mint("wga").text
    assert (await refused(world, [bearer(token)]))[:2] == (401, "invalid_api_key")


async def test_expired_key_is_401() -> None:
    world = World()
    key = world.key(expires_at=999.0)
    assert (await refused(world, [bearer(key)]))[:2] == (401, "expired_api_key")


async def test_key_of_a_disabled_agent_is_403() -> None:
    world = World()
    world.agents["a1"] = Agent(id="a1", scope="global", name="bot", enabled=False)
    key = world.key(agent="a1")
    assert (await refused(world, [bearer(key)]))[:2] == (403, "agent_disabled")


async def test_cookies_and_hops_of_the_upstream_do_not_come_back() -> None:
    back = [
        (b"set-cookie", b"a=1"),
        (b"set-cookie2", b"b=2"),
        (b"alt-svc", b'h3=":443"'),
        (b"keep-alive", b"timeout=5"),
        (b"www-authenticate", b"Bearer realm=x"),
        (b"x-api-key", b"echo"),
        (b"wardgate-config", b"forged"),
        (b"proxy-authenticate", b"Basic"),
        (b"x-odd", b"a\x01b"),
    ]
    kept = [(b"openai-processing-ms", b"12"), (b"x-ratelimit-remaining-tokens", b"9")]
    async with Upstream(Script(headers=[*back, *kept], body=b"{}")) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world) as house:
            answer = await ask(house.port, [bearer(key)])
    assert answer.status == 200
    assert set(kept) <= set(answer.headers)
    assert set(answer.headers).isdisjoint(back)
    assert answer.values(b"wardgate-config") == [b"default"]


async def test_key_in_an_upstream_error_is_masked() -> None:
    told = b'{"error":{"message":"Incorrect API key provided: %s"}}' % PROVIDER_KEY.encode()
    script = Script(status=401, headers=((b"content-type", b"application/json"),), body=told)
    async with Upstream(script) as upstream:
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world) as house:
            answer = await ask(house.port, [bearer(key)])
    assert answer.status == 401
    assert PROVIDER_KEY.encode() not in answer.body
    assert json.loads(answer.body)["error"]["message"].startswith("Incorrect API key provided: sk-")


async def test_redirect_is_not_followed() -> None:
    async with Upstream(Script(body=b"{}")) as evil, Upstream() as upstream:
        target = evil.url.encode()
        upstream.respond = lambda _: Script(status=307, headers=((b"location", target),))
        world = World()
        world.config("openai", upstream.url)
        key = world.key()
        async with served(world) as house:
            answer = await ask(house.port, [bearer(key)])
        assert evil.connections == 0
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (502, "upstream_redirect")


async def test_key_sealed_for_another_row_is_not_sent() -> None:
    async with Upstream() as upstream:
        world = World()
        config = world.config("openai", upstream.url)
        world.configs[0] = replace(config, origin="https://elsewhere.example")
        key = world.key()
        async with served(world) as house:
            answer = await ask(house.port, [bearer(key)])
        assert upstream.connections == 0
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "secret_unavailable")


async def test_what_is_no_reference_is_neither_used_nor_shown() -> None:
    async with Upstream() as upstream:
        world = World()
        config = world.config("openai", upstream.url, secret=None)
        world.configs[0] = replace(config, reference="sk-canary-pasted-into-the-database")
        key = world.key()
        async with served(world) as house:
            answer = await ask(house.port, [bearer(key)])
        assert upstream.connections == 0
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "secret_unavailable")
    assert b"canary" not in answer.body


async def test_private_address_is_not_connected_to_unless_allowed() -> None:
    async with Upstream() as upstream:
        world = World()
        world.config("openai", upstream.url)
        world.config("groq", upstream.url.replace("127.0.0.1", "localhost"))
        headers = [bearer(world.key())]
        async with served(world, allowed_upstream_cidrs=()) as house:
            for model in (b"openai/gpt-4o", b"groq/x"):
                answer = await ask(house.port, headers, body=b'{"model":"%s"}' % model)
                assert answer.status == 502
                assert json.loads(answer.body)["error"]["code"] == "upstream_denied"
        assert upstream.connections == 0
