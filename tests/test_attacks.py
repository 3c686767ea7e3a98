"""Attacks on the management side, each of which worked once or must never work.

Keys moved to other origins, foreign things told from absent ones, rights kept after they are gone,
many at once, hostile bodies. What providers say of keys: test_echo.py; models that are off:
test_attacks_models.py.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest

from admin.api.operations import Operation
from admin.configure import agents, configs, models, tokens
from admin.configure.agents import NewAgent
from admin.configure.identity import as_prov
from admin.configure.tokens import TokenChange
from admin.demo.upstream import Script, Upstream
from admin.permit import LOCAL, Grant
from admin.registry import SURFACES, served
from gateway.errors import SealBroken
from gateway.shapes import GLOBAL
from gateway.store.compile import compile_snapshot
from gateway.vault import config_binding, is_reference
from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend

in_module = pytest.mark.asyncio(loop_scope="module")
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
HEADERS = ({"wardgate-scope": OTHER}, {"wardgate-scope": GROUP}, {"if-match": '"x"'})
ABSENT = "01900000-0000-7000-8000-000000000001"
LOOPBACK = (ip_network("127.0.0.0/8"),)


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
    url: str, backend: Backend
) -> None:
    async with _house(backend) as app:
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


@in_module
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
            for header in ({}, *HEADERS):
                one = await _ask(app, row, path, told, token, header)
                assert one == await _ask(app, row, path, absent, token, header), (row.name, told)
                seen += 1
    assert seen > 100
    assert (await configs.get(app.desk, config)).scope == OTHER


async def test_an_answer_is_not_repeated_to_who_lost_the_right_to_it(backend: Backend) -> None:
    async with (
        Upstream(Script(body=b'{"data":[]}')) as upstream,
        _house(backend, openai=upstream.url) as app,
    ):
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
    "half a character": b'{"name":"\\ud800","alias":"\\udfff","api_key":"\\ud800"}',
    "not a number": b'{"rate_limit":NaN,"rateLimit":1e999,"rate_limiting_limit":-1}',
    "too long a number": b'{"rate_limit":' + b"9" * 5000 + b"}",
    "words for truth": b'{"enabled":"true","isActive":1,"default_config":"yes","inherit":"no"}',
    "lists in lists": b'{"settings":{"headers":{"a":[]}},"targets":[[[]]],"grants":[{"scope":{}}]}',
    "a key for a name": json.dumps({KEY: KEY, "apiKey": [KEY], "secret": {KEY: 1}}).encode(),
}


@in_module
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


# --- helpers --------------------------------------------------------------------------------------


def _house(backend: Backend, **places: str) -> AbstractAsyncContextManager[Admin]:
    return admin(backend, provider_base_urls=places, allowed_upstream_cidrs=LOOPBACK)


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
    body: dict[str, Any] | None = {} if row.body is not None else None
    answer = await app.call(row.method, filled, body, token=token, headers=headers)
    return answer.status_code, answer.text.replace(name, "…"), answer.headers.get("etag")
