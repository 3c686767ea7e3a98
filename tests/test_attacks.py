"""Attacks on the management side and on Bedrock, each of which worked once or must never work.

Keys read back out of what providers say, keys moved to other origins, foreign things told from
absent ones, rights kept after they are gone, models reached under another spelling.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from admin.api.operations import Operation
from admin.configure import agents, configs, models, tokens
from admin.configure.agents import NewAgent
from admin.configure.identity import as_prov
from admin.configure.tokens import TokenChange
from admin.demo.upstream import Received, Script, Upstream
from admin.echo import Echo
from admin.permit import LOCAL, Grant
from admin.registry import SURFACES, served
from gateway.errors import SealBroken
from gateway.masking import mask
from gateway.shapes import GLOBAL, Scope
from gateway.store.compile import compile_snapshot
from gateway.vault import config_binding, is_reference
from tests import world
from tests.admin_serve import CANARY, KEY, Admin, admin, store_bytes
from tests.serve import RawClient, request_bytes

GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
ABSENT = "01900000-0000-7000-8000-000000000001"
LOOPBACK = (ip_network("127.0.0.0/8"),)
AWS_KEY = "AKIAIOSFODNN7CANARYX"
AWS_SECRET = f"{CANARY}/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION = f"IQoJb3JpZ2luX2VjEJr//////////wEaCX{CANARY}VzLWVhc3QtMSJHMEUCIQ"


# --- what providers say ---------------------------------------------------------------------------

DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in pieces": lambda key: " ".join(re.findall(".{1,5}", key)),
    "dotted": ".".join,
    "upper case": str.upper,
    "backwards": lambda key: key[::-1],
    "percent signs": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "percent signs twice": lambda key: quote(quote(key.replace("-", "%2D"), safe="%"), safe=""),
    "entities": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "hex": lambda key: key.encode().hex(),
    "base64": lambda key: b64encode(key.encode()).decode(),
    "base64 with its scheme": lambda key: b64encode(f"Bearer {key}".encode()).decode(),
    "base64 in a word": lambda key: b64encode(f"ab{key}z".encode()).decode(),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_a_key_is_heard_in_any_disguise(name: str) -> None:
    echo = Echo([KEY])
    assert echo.heard_in(f"Incorrect key: {DISGUISES[name](KEY)}, sorry")
    assert not echo.heard_in("Incorrect API key. See https://platform.example/account/api-keys.")


@pytest.mark.parametrize("name", DISGUISES)
async def test_no_surface_repeats_what_a_provider_says_of_the_key(
    name: str, tmp_path: Path
) -> None:
    said = DISGUISES[name](KEY)
    script = Script(status=401, body=json.dumps({"error": {"message": f"no: {said}"}}).encode())
    async with Upstream(script) as upstream, _house(tmp_path, openai=upstream.url) as app:
        made = await app.call("POST", "/connections", _connection("main"))
        await app.call("PATCH", f"/llm-config/?id={made.json()['id']}", {"model": "gpt-4.1"})
        key = {"api_key": KEY}
        texts = [
            (await app.call(method, path, body)).text
            for method, path, body in (
                ("PUT", "/api/v1/ai-providers/openai/configure", {"apiKey": KEY, "verify": True}),
                ("POST", "/connections/main/test", None),
                ("GET", "/connections/main/models", None),
                ("POST", "/manage/v1/providers", {"vendor": "openai", "name": "x", **key}),
                ("POST", "/llm-config/test-connection", None),
            )
        ]
        assert all("401" in text for text in texts)
        assert not any(said in text or json.dumps(said)[1:-1] in text for text in texts)
        assert CANARY.encode() not in store_bytes(tmp_path)


async def test_aws_credentials_do_not_come_back_as_words_or_models(tmp_path: Path) -> None:
    """Only the session token is ever sent; whoever got it may write it into its answers."""

    def echo(received: Received) -> Script:
        token = received.values(b"x-amz-security-token")[0].decode()
        names = ("amazon.nova-pro-v1:0", token, f"m-{token.upper()}", AWS_KEY, token[30:45])
        listed = {"modelSummaries": [{"modelId": name} for name in names]}
        return Script(body=json.dumps(listed).encode())

    parts = {"accessKeyId": AWS_KEY, "secretAccessKey": AWS_SECRET, "sessionToken": SESSION}
    settings = {**parts, "region": "us-east-1"}
    body = {**_connection("aws", "amazon-bedrock"), "settings": settings}
    async with (
        Upstream(echo) as upstream,
        _house(tmp_path, **{"amazon-bedrock": upstream.url}) as app,
    ):
        made = await app.call("POST", "/connections", body)
        listed = await app.call("GET", "/connections/aws/models")
        assert [item["id"] for item in listed.json()["items"]] == ["amazon.nova-pro-v1:0"]
        audit = await app.call("GET", "/api/v1/audit")
        text = made.text + listed.text + audit.text + str(made.headers)
        for secret in (AWS_SECRET, SESSION, CANARY, AWS_KEY):
            assert secret not in text
        assert CANARY.encode() not in store_bytes(tmp_path)


def test_a_session_token_is_masked_in_the_canonical_string_that_aws_answers_with() -> None:
    said = f"x-amz-date:20260101T000000Z\\nx-amz-security-token:{SESSION}\\n\\nhost;x-amz-date"
    assert CANARY.encode() not in mask(said.encode())
    assert mask(b"The security token included in the request is invalid.").endswith(b"is invalid.")
    assert mask(b"x ABSKQmVkcm9ja0FQSUtleS0xMjM0NTY3") == b"x ABSK...NTY3"


# --- where keys go --------------------------------------------------------------------------------

PLACES = (
    *("https://api.openai.com:444/v1", "http://api.openai.com/v1", "https://api.openai.com./v1"),
    *("https://u@api.openai.com/v1", "https://api.openai.com@evil.example/v1", "//evil.example"),
    *(
        "https://api.openai.com\\.evil.example",
        "https://evil.example\\@api.openai.com/",
        "https://[",
    ),
    *(
        "https://evil.example#@api.openai.com",
        "https://evil.example/v1",
        "https://xn--penai-3ce.com",
    ),
    *("https://[::1]/v1", "https://[fe80::1%25eth0]/", "https://0x7f.1", "https://2130706433/"),
    *("https://api.openai.com/v1/..", "https://api.openai.com/%2e%2e/", "https://api.openai.com:/"),
)


@pytest.mark.parametrize("url", PLACES)
async def test_a_stored_key_is_not_sent_elsewhere_whichever_surface_asks(
    url: str, tmp_path: Path
) -> None:
    async with _house(tmp_path) as app:
        config = (await app.call("POST", "/connections", _connection("main"))).json()["id"]
        before = await _opens(app, config)
        for method, path, body in (
            ("PUT", f"/connections/{config}", {"settings": {"endpoint": url, "apiKey": "sk-***"}}),
            ("PUT", "/api/v1/ai-providers/openai/configure", {"baseUrl": url, "verify": True}),
            ("PATCH", f"/manage/v1/providers/{config}", {"base_url": url, "api_key": "sk-...WXYZ"}),
            (
                "PUT",
                f"/accounts/wardgate/ai-gateway/gateways/global/provider_configs/{config}",
                {"base_url": url},
            ),
        ):
            answer = await app.call(method, path, body)
            assert answer.status_code in (400, 422), (path, answer.text)
        assert await _opens(app, config) == before


async def test_a_key_sent_again_after_the_catalog_moved_goes_to_the_new_place(app: Admin) -> None:
    config = (await app.call("POST", "/connections", _connection("main"))).json()["id"]
    openai = replace(app.desk.catalog.providers["openai"], base_url="https://new.example/v1")
    listed = {**app.desk.catalog.providers, "openai": openai}
    app.desk.catalog = replace(app.desk.catalog, providers=listed)
    with pytest.raises(SealBroken):
        await _opens(app, config)
    for method, path, body in (
        ("PUT", f"/connections/{config}", {"settings": {"apiKey": "sk-***"}, "name": "kept"}),
        ("PUT", f"/connections/{config}", {"settings": {"apiKey": KEY}}),
    ):
        assert (await app.call(method, path, body)).status_code == 200
    assert await _opens(app, config) == ("https://new.example:443", KEY)


@pytest.mark.parametrize(
    "name", ["Ocp-Apim-Subscription-Key", "x-functions-key", "x-access-key", "X-Api-Key", "Host"]
)
async def test_no_header_of_a_config_carries_a_key_or_moves_the_request(
    name: str, shared: Admin
) -> None:
    body = _connection("headers")
    body["settings"]["headers"] = {name: "0123456789abcdef"}
    answer = await shared.call("POST", "/connections", body)
    assert answer.status_code == 400
    assert "cannot be set" in answer.text


def test_no_reference_is_longer_than_its_column() -> None:
    path = "$file:/run/secrets/" + "/".join(["a" * 100] * 4)
    assert is_reference(path)
    assert not is_reference(f"{path}/{'a' * 100}")


# --- what is not one's own ------------------------------------------------------------------------


async def test_foreign_things_answer_like_absent_ones_on_every_row_with_an_id(app: Admin) -> None:
    config = await _in_scope(app, "/connections", {**_connection("main"), "scope": OTHER})
    foreign = {
        "idOrAlias": config,
        "id": config,
        "/ai-agents/{id}": await _in_scope(app, "/api/v1/ai-agents"),
        "/client-keys/{id}": await _in_scope(app, "/api/v1/client-keys"),
        "/routes/{id}": await _in_scope(
            app, "/api/v1/routes", {"targets": [{"configId": config, "model": "m"}]}
        ),
    }
    token = await app.token(("GroupAIProviders.Manage", GROUP), ("GroupAIModels.Manage", GROUP))
    seen = 0
    for row, path in _rows():
        name = next((n for n in foreign if n[0] == "/" and path.startswith(f"/api/v1{n}")), None)
        name = name or next((n for n in ("idOrAlias", "id") if f"{{{n}}}" in path), None)
        if name is None:
            continue
        spellings = [foreign[name]]
        if foreign[name] == config:
            spellings += [config.upper(), config.replace("-", ""), as_prov(config)]
        for told, absent in zip(spellings, _alike(spellings), strict=True):
            for header in ({}, {"wardgate-scope": OTHER}, {"if-match": '"x"'}):
                one = await _ask(app, row, path, told, token, header)
                assert one == await _ask(app, row, path, absent, token, header), (row.name, told)
                seen += 1
    assert seen > 100
    assert (await configs.get(app.desk, config)).scope == OTHER


async def test_an_answer_is_not_repeated_to_who_lost_the_right_to_it(tmp_path: Path) -> None:
    async with Upstream(Script(body=b'{"data":[]}')) as upstream:
        async with _house(tmp_path, openai=upstream.url) as app:
            grants = (Grant("GroupAIProviders.Manage", GROUP),)
            view, token = await tokens.create(app.desk, LOCAL, "t", grants)
            body = {"vendor": "openai", "name": "n", "api_key": KEY, "scope": GROUP}

            async def again(held: str) -> httpx2.Response:
                change = TokenChange(grants=(Grant("GroupAIProviders.Manage", held),))
                await tokens.change(app.desk, LOCAL, view.id, change)
                headers = {"idempotency-key": "k"}
                path = "/manage/v1/providers"
                return await app.call("POST", path, body, token=token, headers=headers)

            first = await again(GROUP)
            lost, back = await again(OTHER), await again(GROUP)
            assert (first.status_code, back.status_code) == (201, 201)
            assert back.content == first.content
            assert lost.status_code == 404
            assert first.json()["id"] not in lost.text
            stranger = await app.call(
                "POST", "/manage/v1/providers", body, headers={"idempotency-key": "k"}
            )
            assert stranger.status_code == 409
            assert first.json()["id"] not in stranger.text


async def test_removing_ones_own_key_switches_nothing_on_that_a_file_switched_off(
    app: Admin,
) -> None:
    for model, owner in (("gpt-4o", "policy"), ("gpt-4o-mini", None)):
        await models.set_enabled(app.desk, LOCAL, GROUP, "openai", model, False, owner=owner)
    await agents.create(app.desk, LOCAL, NewAgent(name="a", scope=GROUP, model="openai/gpt-4o"))
    token = await app.token(("GroupAIProviders.Manage", GROUP))
    path = f"/api/v1/ai-providers/openai/configure?scope={GROUP}"
    await app.call("PUT", path, {"apiKey": KEY}, token=token)
    gone = await app.call("DELETE", path, token=token)
    assert (len(gone.json()["disabledAgents"]), gone.json()["removedModels"]) == (1, 1)
    assert await models.states(app.desk, GROUP, "openai") == {"gpt-4o": False}


# --- at once --------------------------------------------------------------------------------------


async def test_one_of_many_at_once_wins_under_the_same_etag_and_one_default_is_left(
    app: Admin,
) -> None:
    made = [await app.call("POST", "/connections", _connection(f"c{n}")) for n in range(3)]
    first = made[0].json()["id"]
    tag, body = made[0].headers["etag"], {"settings": {"apiKey": KEY}}
    asked = [
        app.call("PUT", f"/connections/{first}", body, headers={"if-match": tag}) for _ in range(6)
    ]
    assert sorted(r.status_code for r in await asyncio.gather(*asked)) == [200, *[412] * 5]
    base = "/accounts/wardgate/ai-gateway/gateways/global/provider_configs"
    flips = [
        app.call("PUT", f"{base}/{one.json()['id']}", {"default_config": True}) for one in made * 3
    ]
    assert {r.status_code for r in await asyncio.gather(*flips)} == {200}
    assert sum(view.default for view in await configs.every(app.desk, {GLOBAL})) == 1


BODIES = {
    "deep": b"[" * 100_000,
    "deep objects": b'{"settings":' * 20_000 + b"1" + b"}" * 20_000,
    "twice": b'{"name":"a","name":"\\u0000","alias":"x","alias":"\\u0000"}',
    "half a character": b'{"name":"\\ud800","alias":"\\udfff","model":"\\ud800","api_key":"\\ud800"}',
    "not a number": b'{"rate_limit":NaN,"rateLimit":1e999,"rate_limiting_limit":-1}',
    "too long a number": b'{"rate_limit":' + b"9" * 5000 + b"}",
    "words for truth": b'{"enabled":"true","isActive":1,"default_config":"yes","inherit":"no"}',
    "lists in lists": b'{"settings":{"headers":{"a":[]}},"targets":[[[]]],"grants":[{"scope":{}}]}',
    "a key for a name": json.dumps({KEY: KEY, "apiKey": [KEY], "secret": {KEY: 1}}).encode(),
}


@pytest.mark.parametrize("name", BODIES)
async def test_no_body_breaks_any_row_or_comes_back(
    name: str, shared: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    for row, path in _rows():
        if row.body is not None:
            plain = re.sub(r"\{[^}]+\}", "openai", path)
            answer = await shared.call(row.method, plain, content=BODIES[name])
            assert 400 <= answer.status_code < 500, (row.name, answer.text)
    printed = capsys.readouterr()
    assert CANARY not in printed.out + printed.err


# --- the data plane -------------------------------------------------------------------------------

CHAT = "/v1/chat/completions"
NATIVE = "/v1/acme/main"
CLAUDE = "anthropic.claude-sonnet-4-6"
REACHED = [
    *((CHAT, name) for name in ("gpt-4o", "GPT-4o", " gpt-4o ", "gpt-4o\x00", "gpt-4o\u200b")),
    *((CHAT, name) for name in ("openai/GPT-4O", "default/gpt-4o", "smart", "azure/PROD")),
    *((CHAT, name) for name in ("google/models/gemini-2.5-pro", "google/Models/Gemini-2.5-pro")),
    (f"{NATIVE}/openai/chat/completions", "gpt-4o"),
    (f"{NATIVE}/openai/chat/%63ompletions", "gpt-4o"),
    (f"{NATIVE}/openai/chat/completions/", "gpt-4o"),
    (f"{NATIVE}/anthropic/v1/m%65ssages", "claude-sonnet-4-5"),
    (f"{NATIVE}/google-ai-studio/v1beta/models/gemini-2.5-pro:gener%61teContent", ""),
    ("/v1/batches", ""),
    ("/v1beta/models/gemini-2%2D5-pro:generateContent".replace("%2D5", "%2e5"), ""),
    ("/v1beta/models/models/gemini-2.5-pro:generateContent", ""),
    ("/v1beta/models/GEMINI-2.5-pro:generateContent", ""),
    (f"/model/{CLAUDE}/converse", ""),
    (f"/model/us.{CLAUDE}/converse", ""),
    (f"/model/{CLAUDE.upper()}/invoke", ""),
    (f"/model/arn:aws:bedrock:us-east-1::foundation-model%2F{CLAUDE}/converse", ""),
    (f"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Feu.{CLAUDE}/converse", ""),
    (f"{NATIVE}/aws-bedrock/bedrock-runtime/us-east-1/model/apac.{CLAUDE}/converse", ""),
    (f"{NATIVE}/aws-bedrock/model/{CLAUDE}/c%6Fnverse", ""),
    ("/openai/deployments/PROD/chat/completions?api-version=1", ""),
    ("/openai/deployments/GPT-4o/chat/completions?api-version=1", ""),
]


@pytest.fixture
async def off() -> AsyncIterator[tuple[Upstream, int, str]]:
    """A gateway with one model of every provider switched off."""
    async with Upstream(Script(body=b"{}")) as upstream:
        made = world.World()
        made.scopes["gateway:acme/main"] = Scope("gateway:acme/main", "gateway", GLOBAL)
        openai = made.config("openai", upstream.url)
        made.config("anthropic", upstream.url, dialect="anthropic")
        made.config("google", upstream.url, dialect="gemini")
        region = {"region": "us-east-1"}
        made.config("amazon-bedrock", upstream.url, dialect="bedrock", settings=region)
        deployed = {"deployments": {"gpt-4o": "prod"}}
        made.config("azure", upstream.url, dialect="azure", settings=deployed)
        made.route("smart", (openai, "gpt-4o"), (openai, "GPT-4O"))
        pairs = [("openai", "gpt-4o"), ("azure", "gpt-4o"), ("google", "gemini-2.5-pro")]
        pairs += [("anthropic", "claude-sonnet-4-5"), ("amazon-bedrock", CLAUDE)]
        made.disabled[GLOBAL] = frozenset(pairs)
        key = made.key()
        async with world.served(made) as house:
            yield upstream, house.port, key


async def test_a_model_that_is_off_is_reached_by_no_spelling_or_path(
    off: tuple[Upstream, int, str],
) -> None:
    upstream, port, key = off
    own = [(b"authorization", b"Bearer " + key.encode()), (b"content-type", b"application/json")]
    async with RawClient(port) as client:
        for path, model in REACHED:
            body = json.dumps({"model": model} if model else {}).encode()
            await client.send(request_bytes("POST", path, own, body))
            answer = await client.answer("POST")
            assert answer.status in (400, 404), (path, model)
            assert upstream.received == [], (path, model)
        await client.send(request_bytes("POST", CHAT, own, b'{"model":"gpt-4o-mini"}'))
        assert (await client.answer("POST")).status == 200


# --- helpers --------------------------------------------------------------------------------------


def _house(folder: Path, **places: str) -> Any:
    return admin(folder, provider_base_urls=places, allowed_upstream_cidrs=LOOPBACK)


def _connection(alias: str, provider: str = "openai") -> dict[str, Any]:
    return {"alias": alias, "name": alias, "providerId": provider, "settings": {"apiKey": KEY}}


async def _opens(app: Admin, config: str) -> tuple[str, str]:
    """Where a worker would send the key of this config, and the key."""
    desk = app.desk
    table = await compile_snapshot(desk.store, desk.ring, desk.catalog, desk.settings, desk.clock())
    found = table.config(config)
    assert found is not None
    assert found.sealed is not None
    opened = desk.ring.open(found.sealed, config_binding(found)).expose().decode()
    return found.origin, opened


def _rows() -> list[tuple[Operation, str]]:
    """Every row of the registry with the path that is documented."""
    return [(row, next(served(surface, row))) for surface, rows in SURFACES for row in rows]


async def _in_scope(app: Admin, path: str, more: dict[str, Any] | None = None) -> str:
    made = await app.call("POST", path, {"name": "n", "scope": OTHER, **(more or {})})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def _alike(spellings: list[str]) -> list[str]:
    """The same spellings of something that is not there."""
    if len(spellings) == 1:
        return [ABSENT if len(spellings[0]) == len(ABSENT) else "abcdefABCDEF"]
    return [ABSENT, ABSENT.upper(), ABSENT.replace("-", ""), as_prov(ABSENT)]


async def _ask(
    app: Admin, row: Operation, path: str, name: str, token: str, headers: dict[str, str]
) -> tuple[int, str, str | None]:
    values = {"account_id": "wardgate", "gateway_id": GROUP, "providerId": "openai"}
    filled = re.sub(r"\{(\w+)(?::path)?\}", lambda found: values.get(found[1], name), path)
    body = {} if row.body is not None else None
    answer = await app.call(row.method, filled, body, token=token, headers=headers)
    return answer.status_code, answer.text.replace(name, "…"), answer.headers.get("etag")


def test_entities_are_what_html_says() -> None:
    assert html.unescape(DISGUISES["entities"]("a-b")) == "a-b"
