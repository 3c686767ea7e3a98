"""Surface 1, what it changes: configure, verify, detach, If-Match."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from admin.configure import configs, keys, models
from admin.configure.keys import NewKey
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway.store.proofs import PROVEN
from tests.admin_serve import CANARY, KEY, PREVIEW, Admin
from tests.backends import Backend
from tests.desks import key_of, stored, table
from tests.providing import (
    ANOTHER,
    AWS,
    CONFIGURE,
    GROUP,
    LIST,
    OPENAI,
    REFUSED,
    TYPE_ID,
    agent,
    ask,
    config,
    openai_house,
    put,
    route,
    view,
)
from tests.test_five_tongues import both

in_module = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
async def house(
    backend: Backend, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[tuple[Admin, Upstream]]:
    caplog.set_level("DEBUG")
    async with openai_house(backend) as running:
        yield running
    assert caplog.text
    assert CANARY not in caplog.text + "".join(capsys.readouterr())


@pytest.fixture
def app(house: tuple[Admin, Upstream]) -> Admin:
    return house[0]


async def rows(app: Admin, scope: str = "global") -> list[configs.ConfigView]:
    return await configs.every(app.desk, {scope})


async def refused(app: Admin, status: int, body: Any, path: str = CONFIGURE, **more: Any) -> Any:
    """The problem a PUT is refused with; nothing is stored by it."""
    before = await configs.every(app.desk, None)
    shown = (await ask(app, status, "PUT", path, body, **more)).json()
    assert await configs.every(app.desk, None) == before
    return shown


async def test_configure_makes_the_scopes_config_and_answers_the_view(app: Admin) -> None:
    shown = await put(app, scope=TYPE_ID)
    assert shown == await view(app, f"?scope={TYPE_ID}")
    assert (shown["source"], shown["alias"], shown["scope"]) == ("scope", "default", TYPE_ID)
    assert (shown["configured"], shown["enabled"], shown["hasApiKey"]) == (True, True, True)
    assert (shown["apiKeyPreview"], shown["authType"]) == (PREVIEW, "api_key")
    assert (shown["baseUrl"], shown["managedBy"]) == (None, None)
    assert shown["createdAt"] == shown["updatedAt"]
    [row] = await rows(app, GROUP)
    assert (row.name, row.default) == ("OpenAI default", True)
    assert await key_of(app.desk, row.id) == KEY


async def test_configure_changes_only_what_was_sent(app: Admin) -> None:
    settings = {"project": "p", "headers": {"X-Team": "a"}}
    await put(app, authType="bearer", authConfig=settings, allowUnlisted=False, enabled=False)
    [before] = await rows(app)
    after = await put(app, keep=True)
    assert (after["authType"], after["enabled"]) == ("bearer", False)
    [kept] = await rows(app)
    assert (kept.secret_version, kept.settings) == (1, {"project": "p", "headers": {"x-team": "a"}})
    await put(app, keep=True, authConfig={"project": None}, enabled=True, allowUnlisted=True)
    [now] = await rows(app)
    assert (now.settings, now.active) == ({"headers": {"x-team": "a"}}, True)
    assert (before.allow_unlisted, now.allow_unlisted) == (False, True)
    await put(app, keep=True, authConfig={"headers": None})
    assert (await rows(app))[0].settings == {}


@pytest.mark.parametrize("mask", [PREVIEW, "sk-***"])
async def test_a_mask_sent_back_keeps_the_key_and_makes_none(app: Admin, mask: str) -> None:
    assert (await refused(app, 400, {"apiKey": mask}))["errors"][0]["pointer"] == "/apiKey"
    await put(app)
    await put(app, apiKey=mask)
    [row] = await rows(app)
    assert (row.secret_version, await key_of(app.desk, row.id)) == (1, KEY)


async def test_a_key_is_rotated_and_null_clears_it(app: Admin) -> None:
    await put(app)
    assert (await put(app, apiKey=ANOTHER))["apiKeyPreview"] == "sk-...NEWK"
    [row] = await rows(app)
    assert (row.secret_version, await key_of(app.desk, row.id)) == (2, ANOTHER)
    cleared = await put(app, apiKey=None)
    assert (cleared["hasApiKey"], cleared["apiKeyPreview"]) == (False, None)
    assert (await stored(app.desk, row.id)).sealed is None
    assert (await put(app, authType="none", apiKey=None))["authType"] == "none"


async def test_configure_changes_the_pick_and_an_alias_names_another(app: Admin) -> None:
    for alias in ("old", "default", "flagged"):
        await config(app, alias, default=False)
    assert (await put(app, apiKey=ANOTHER))["alias"] == "default"
    await configs.change(
        app.desk, LOCAL, (await rows(app))[2].id, "global", configs.ConfigChange(default=True)
    )
    assert (await put(app, enabled=False))["alias"] == "flagged"
    assert (await put(app, "?alias=OLD"))["alias"] == "old"
    assert (await put(app, alias="new"))["alias"] == "new"
    assert [row.alias for row in await rows(app)] == ["old", "default", "flagged", "new"]
    assert (await view(app, "?alias=new"))["alias"] == "new"
    problem = await refused(app, 400, {"alias": "a"}, f"{CONFIGURE}?alias=b")
    assert problem["errors"][0]["query"] == "alias"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"apiKey": ""}, "/apiKey"),
        ({"apiKey": "with space"}, "/apiKey"),
        ({"apiKey": "$env:HOME"}, "/apiKey"),
        ({"apiKey": 5}, "/apiKey"),
        ({"apiKey": KEY, "authType": "telepathy"}, "/authType"),
        ({"apiKey": KEY, "authType": "azure_ad"}, "/authType"),
        ({"apiKey": KEY, "authType": "aws_sigv4"}, "/authType"),
        ({"apiKey": KEY, "authType": "none"}, "/apiKey"),
        ({"apiKey": KEY, "baseUrl": "ftp://x"}, "/baseUrl"),
        ({"apiKey": KEY, "baseUrl": "http://169.254.169.254/"}, "/baseUrl"),
        ({"apiKey": KEY, "authConfig": {"region": "a b"}}, "/authConfig"),
        ({"apiKey": KEY, "authConfig": {"headers": {"Authorization": "x"}}}, "/authConfig"),
        ({"apiKey": KEY, "authConfig": {"colour": "red"}}, "/authConfig/colour"),
        ({"apiKey": KEY, "alias": "a b"}, "/alias"),
        ({"apiKey": KEY, "alias": "*"}, "/alias"),
        ({"apiKey": KEY, "dialect": "openai"}, "/dialect"),
        ({"apiKey": KEY, "enabled": "yes"}, "/enabled"),
        ({"apiKey": KEY, "verify": 1}, "/verify"),
        ({"apiKey": KEY, "colour": "red"}, "/colour"),
        ({"apiKey": KEY, "authConfig": {"project": KEY}}, ""),
    ],
)
@in_module
async def test_what_will_not_do_is_pointed_at(shared: Admin, body: Any, pointer: str) -> None:
    problem = await refused(shared, 400, body)
    assert problem["errors"][0]["pointer"] == pointer
    assert problem["title"] == "Bad Request"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"apiKey": "\\ud800"}'])
@in_module
async def test_a_body_that_is_none_is_400(shared: Admin, content: bytes) -> None:
    await refused(shared, 400, None, content=content)


async def test_providers_that_need_more_say_what(app: Admin) -> None:
    path = f"{LIST}/google-vertex/configure"
    problem = await refused(app, 400, {"apiKey": KEY}, path)
    assert "access tokens" in problem["detail"]
    assert problem["errors"][0]["path"] == "providerId"
    azure = f"{LIST}/azure/configure"
    problem = await refused(app, 400, {"apiKey": KEY}, azure)
    assert problem["errors"][0]["pointer"] == "/authConfig"
    made = {"apiKey": KEY, "authConfig": {"resourceName": "team"}}
    await ask(app, 200, "PUT", azure, made)
    custom = f"{LIST}/custom:vllm/configure"
    place = {"apiKey": KEY, "baseUrl": "https://vllm.example/v1"}
    assert (await refused(app, 400, place, custom))["errors"][0]["pointer"] == "/dialect"
    await ask(app, 200, "PUT", custom, {**place, "dialect": "openai"})
    bedrock = f"{LIST}/amazon-bedrock/configure"
    shown = (await ask(app, 200, "PUT", bedrock, {"apiKey": AWS})).json()
    assert (shown["authType"], shown["apiKeyPreview"]) == ("aws_sigv4", "AKIA...6789")


@pytest.mark.parametrize(
    ("provider", "first", "change"),
    [
        ("openai", {}, {"baseUrl": "https://else.example/v1"}),
        ("openai", {}, {"authType": "bearer"}),
        ("azure", {"resourceName": "one"}, {"authConfig": {"resourceName": "two"}}),
        ("amazon-bedrock", {"region": "us-east-1"}, {"authConfig": {"region": "us-west-2"}}),
        ("openai", {}, {"authConfig": {"location": "europe-west1"}}),
    ],
)
async def test_moving_a_key_needs_the_key_again(
    app: Admin, provider: str, first: Any, change: Any
) -> None:
    path = f"{LIST}/{provider}/configure"
    await ask(app, 200, "PUT", path, {"apiKey": KEY, "authConfig": first})
    problem = await refused(app, 400, change, path)
    assert problem["errors"][0]["pointer"] == "/apiKey"
    assert "send it again" in problem["detail"]
    await ask(app, 200, "PUT", path, {"apiKey": KEY, **change})


async def test_verify_asks_the_provider_and_stores_no_refused_key(
    house: tuple[Admin, Upstream],
) -> None:
    app, upstream = house
    await put(app)
    assert upstream.received == []
    problem = await refused(app, 422, {"apiKey": REFUSED, "verify": True})
    assert problem["errors"][0]["pointer"] == "/apiKey"
    assert "openai refused the key (status 401)" in problem["detail"]
    await refused(app, 422, {"apiKey": f"sk-away-{CANARY}", "verify": True})
    other = f"{CONFIGURE}?scope={TYPE_ID}"
    await refused(app, 422, {"apiKey": REFUSED, "verify": True}, other)
    [row] = await rows(app)
    assert (row.secret_version, await key_of(app.desk, row.id)) == (1, KEY)
    assert (await put(app, apiKey=ANOTHER, verify=True))["health"]["state"] == "healthy"
    assert (await configs.proofs(app.desk))[row.id].outcome == PROVEN
    assert (await put(app, keep=True, verify=True))["apiKeyPreview"] == "sk-...NEWK"


async def test_a_key_without_verify_is_stored_unseen(app: Admin) -> None:
    assert (await put(app, apiKey=REFUSED))["health"]["state"] == "unknown"
    problem = await refused(app, 422, {"enabled": True, "verify": True})
    assert problem["errors"][0]["pointer"] == "/apiKey"


async def test_removing_several_needs_a_word_which(app: Admin) -> None:
    for alias in ("one", "two", "three"):
        await config(app, alias)
    await agent(app, "a", "openai/gpt-4o")
    problem = (await ask(app, 409, "DELETE", CONFIGURE)).json()
    assert problem["references"] == ["one", "two", "three"]
    assert "one, two, three" in problem["detail"]
    assert problem["errors"][0]["query"] == "alias"
    gone = (await ask(app, 200, "DELETE", f"{CONFIGURE}?alias=Two")).json()
    assert gone == {"disabledAgents": [], "removedModels": 0}
    assert [row.alias for row in await rows(app)] == ["one", "three"]
    gone = (await ask(app, 200, "DELETE", f"{CONFIGURE}?alias=*")).json()
    assert len(gone["disabledAgents"]) == 1
    assert await rows(app) == []


async def test_nothing_to_remove_disables_nobody(app: Admin) -> None:
    made = await agent(app, "a", "openai/gpt-4o")
    await models.set_enabled(app.desk, LOCAL, "global", "openai", "gpt-4o", False)
    for query in ("", "?alias=*", "?alias=default"):
        await ask(app, 404, "DELETE", f"{CONFIGURE}{query}")
    assert (await table(app.desk)).agents[made.id].enabled
    assert await models.states(app.desk, "global", "openai") == {"gpt-4o": False}


async def test_the_last_one_takes_models_and_agents_of_its_scope_with_it(
    backend: Backend, upstream: Upstream
) -> None:
    async with both(backend, upstream) as world:
        app = world.admin
        await config(app, scope="global")
        await config(app, scope=GROUP)
        bound = await agent(app, "bound", "openai/gpt-4.1", GROUP)
        for name, model, scope in (("else", "anthropic/x", GROUP), ("up", "openai/x", "global")):
            await agent(app, name, model, scope)
        await models.set_enabled(app.desk, LOCAL, GROUP, "openai", "gpt-4o", False)
        await models.set_enabled(app.desk, LOCAL, "global", "openai", "o3", False)
        new = NewKey(name="k", scope=GROUP, agent=bound.id)
        _, key = await keys.create(app.desk, LOCAL, new)
        assert await world.ask(key) == (200, KEY)
        gone = await ask(app, 200, "DELETE", f"{CONFIGURE}?scope={TYPE_ID}")
        assert gone.json() == {"disabledAgents": [bound.id], "removedModels": 1}
        served = await table(app.desk)
        assert [a.id for a in served.agents.values() if not a.enabled] == [bound.id]
        assert served.disabled == {"global": frozenset({("openai", "o3")})}
        await world.serve()
        headers = {"authorization": f"Bearer {key}"}
        refusal = await world.http.post("/v1/chat/completions", json={}, headers=headers)
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "agent_disabled")
        # Never enabled again by itself.
        await put(app, scope=TYPE_ID)
        assert await world.ask(key) == (403, "")


async def test_a_config_a_route_leads_to_stays(app: Admin) -> None:
    kept = await config(app, "one")
    await config(app, "two")
    await route(app, kept.id)
    for query in ("?alias=one", "?alias=*"):
        problem = (await ask(app, 409, "DELETE", f"{CONFIGURE}{query}")).json()
        assert (problem["title"], problem["references"]) == ("Conflict", ["fast"])
    assert len(await rows(app)) == 2


async def test_what_a_file_keeps_is_shown_and_409(app: Admin) -> None:
    await config(app, managed_by="fleet")
    assert (await view(app))["managedBy"] == "fleet"
    assert "fleet" in (await refused(app, 409, {"enabled": False}))["detail"]
    await ask(app, 409, "DELETE", CONFIGURE)


async def etag(app: Admin, query: str = "") -> str:
    return (await ask(app, 200, "GET", f"{OPENAI}{query}")).headers["etag"]


async def test_if_match_guards_changes_and_removals(app: Admin) -> None:
    fresh = await etag(app)
    answer = await ask(app, 200, "PUT", CONFIGURE, {"apiKey": KEY}, headers={"if-match": fresh})
    tag = answer.headers["etag"]
    assert tag == await etag(app)
    for method, body in (("PUT", {"enabled": False}), ("DELETE", None)):
        await ask(app, 412, method, CONFIGURE, body, headers={"if-match": fresh})
    await put(app, enabled=False)
    for method, body in (("PUT", {"enabled": True}), ("DELETE", None)):
        await ask(app, 412, method, CONFIGURE, body, headers={"if-match": tag})
    now = {"if-match": f'"x", {await etag(app)}'}
    await ask(app, 200, "DELETE", CONFIGURE, headers=now)
    assert await etag(app) == fresh


@pytest.mark.parametrize("verify", [False, True])
async def test_if_match_makes_nothing_anew_that_was_removed(app: Admin, verify: bool) -> None:
    await put(app)
    tag = await etag(app)
    await ask(app, 200, "DELETE", CONFIGURE)
    for match in (tag, "*"):
        body = {"apiKey": KEY, "verify": verify}
        assert (await refused(app, 412, body, headers={"if-match": match}))["status"] == 412
    # What is inherited is no state of this scope.
    await put(app)
    stale = {"if-match": await etag(app)}
    path = f"{CONFIGURE}?scope={TYPE_ID}"
    await refused(app, 412, {"apiKey": KEY, "verify": verify}, path, headers=stale)
    fresh = {"if-match": await etag(app, f"?scope={TYPE_ID}")}
    await ask(app, 200, "PUT", path, {"apiKey": KEY, "verify": verify}, headers=fresh)
