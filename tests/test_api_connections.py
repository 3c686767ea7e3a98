"""Surface 2, connections: shapes, lists, look-ups, scopes, permissions and statuses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from admin.configure import configs
from admin.configure.configs import ConfigChange
from admin.configure.identity import as_prov
from admin.permit import LOCAL
from tests.admin_serve import CANARY, KEY, Admin
from tests.backends import Backend
from tests.connecting import (
    ANOTHER,
    GROUP,
    LIST,
    NOWHERE,
    config,
    connection,
    made,
    problem,
    route,
)
from tests.desks import key_of

ITEM = {
    *("id", "alias", "name", "providerId", "isActive", "dateCreated", "dateModified"),
    *("scope", "managedBy"),
}
MISSING = "Connection not found"
in_module = pytest.mark.asyncio(loop_scope="module")


async def rows(app: Admin, query: str = "", **more: Any) -> list[str]:
    """The aliases of a list, in its order."""
    answer = await app.call("GET", f"{LIST}{query}", **more)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert set(shown) == {"items", "total"}
    assert all(set(row) == ITEM for row in shown["items"])
    return [row["alias"] for row in shown["items"]]


async def test_create_answers_the_whole_object_and_where_it_is(app: Admin) -> None:
    answer = await app.call("POST", LIST, connection(isActive=False))
    shown = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"{LIST}/{shown['id']}")
    assert set(shown) == {*ITEM, "settings"}
    assert datetime.fromisoformat(shown["dateCreated"]) == datetime.fromisoformat(
        shown["dateModified"]
    )
    assert {name: shown[name] for name in ITEM - {"id", "dateCreated", "dateModified"}} == {
        "alias": "openai-prod",
        "name": "OpenAI Production",
        "providerId": "openai",
        "isActive": False,
        "scope": "global",
        "managedBy": None,
    }
    assert shown["settings"] == {"apiKey": "sk-***", "organization": None, "endpoint": None}
    again = await app.call("GET", f"{LIST}/{shown['id']}")
    assert (again.json(), again.headers["etag"]) == (shown, answer.headers["etag"])


async def test_is_active_is_true_and_settings_are_empty_unless_said(app: Admin) -> None:
    body = connection()
    del body["settings"]
    for alias, more in (("a", {}), ("b", {"settings": None}), ("c", {"settings": {}})):
        answer = await app.call("POST", LIST, {**body, "alias": alias, **more})
        assert answer.status_code == 201, answer.text
        shown = answer.json()
        assert (shown["isActive"], shown["settings"]["apiKey"]) == (True, None)


@pytest.mark.parametrize(
    ("change", "detail", "error"),
    [
        ({"alias": None}, "alias: Input should be a valid string", "/alias"),
        ({"alias": "no spaces"}, "Invalid alias", "/alias"),
        ({"alias": "capabilities"}, "Invalid alias", "/alias"),
        ({"alias": "anthropic"}, "Invalid alias", "/alias"),
        ({"alias": NOWHERE}, "Invalid alias", "/alias"),
        ({"name": " "}, "Invalid name", "/name"),
        ({"name": "a\nb"}, "name: no control characters", "/name"),
        ({"name": 5}, "name: Input should be a valid string", "/name"),
        ({"providerId": "no-such-provider"}, "Provider not found", "/providerId"),
        ({"providerId": "google-vertex"}, "Provider not found", "/providerId"),
        ({"isActive": "yes"}, "isActive: Input should be a valid boolean", "/isActive"),
        ({"settings": []}, "Invalid settings", "/settings"),
        ({"settings": {"temperature": 1}}, "Invalid settings", "/settings/temperature"),
        ({"scope": "planet:earth"}, "Invalid scope", "/scope"),
        ({"surprise": 1}, "surprise: Unknown field", "/surprise"),
    ],
)
@in_module
async def test_create_names_the_field_when_it_is_wrong(
    shared: Admin, change: dict[str, Any], detail: str, error: str
) -> None:
    answer = await shared.call("POST", LIST, connection(**change))
    [said] = problem(answer, 400, "Bad Request", detail)
    assert said["pointer"] == error


@pytest.mark.parametrize("field", ["alias", "name", "providerId"])
@in_module
async def test_create_names_the_field_when_it_is_missing(shared: Admin, field: str) -> None:
    body = connection()
    del body[field]
    errors = problem(
        await shared.call("POST", LIST, body), 400, "Bad Request", f"{field}: Required"
    )
    assert errors == [{"pointer": f"/{field}", "detail": "Required"}]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"alias": "\xff"}'])
@in_module
async def test_a_body_that_is_no_object_is_refused(shared: Admin, body: bytes) -> None:
    for method, path in (("POST", LIST), ("PUT", f"{LIST}/{await _one(shared)}")):
        answer = await shared.call(method, path, content=body)
        assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request")


@in_module
async def test_a_body_that_is_too_large_is_refused(shared: Admin) -> None:
    answer = await shared.call("POST", LIST, content=b'"' + b"x" * (1 << 20) + b'"')
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


async def _one(app: Admin) -> str:
    """A connection of the module's app; made the first time it is asked for."""
    found = (await app.call("GET", f"{LIST}?filter=kept")).json()["items"]
    return str(found[0]["id"] if found else (await made(app, "kept"))["id"])


async def test_an_alias_of_the_scope_is_refused_under_any_provider(app: Admin) -> None:
    await made(app)
    for more in ({}, {"providerId": "anthropic"}, {"alias": "OPENAI-PROD"}):
        answer = await app.call("POST", LIST, connection(**more))
        [error] = problem(answer, 400, "Bad Request", "Connection alias already exists")
        assert error["pointer"] == "/alias"
    assert (await made(app, scope=GROUP))["scope"] == GROUP
    assert await rows(app) == ["openai-prod", "openai-prod"]


async def test_names_may_repeat(app: Admin) -> None:
    first, second = await made(app, "one"), await made(app, "two")
    assert first["name"] == second["name"]
    assert await rows(app, "?filter=production") == ["one", "two"]


async def test_list_pages_filters_and_counts_what_fits(app: Admin) -> None:
    for alias in ("a-one", "b-two", "c-three"):
        await made(app, alias, name=f"Name of {alias[0]}")
    await made(app, "other", providerId="anthropic", name="Claude")
    assert await rows(app) == ["a-one", "b-two", "c-three", "other"]
    assert await rows(app, "?skip=1&take=2") == ["b-two", "c-three"]
    assert await rows(app, "?skip=9") == []
    assert await rows(app, "?take=0") == []
    assert await rows(app, "?filter=NAME%20OF%20b") == ["b-two"]
    assert await rows(app, "?filter=-T") == ["b-two", "c-three"]
    assert await rows(app, "?providerId=anthropic") == ["other"]
    assert await rows(app, "?providerId=nobody") == []
    answer = (await app.call("GET", f"{LIST}?filter=-t&take=1&skip=1")).json()
    assert (len(answer["items"]), answer["total"]) == (1, 2)


async def test_a_provider_goes_by_any_of_its_names(app: Admin) -> None:
    shown = await made(app, providerId="google-ai-studio")
    assert shown["providerId"] == "google"
    assert await rows(app, "?providerId=google-ai-studio") == ["openai-prod"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("skip=-1", "skip"),
        ("skip=x", "skip"),
        ("take=1001", "take"),
        ("capability=Telepathy", "capability"),
        ("scope=", "scope"),
        (f"filter={'x' * 201}", "filter"),
    ],
)
@in_module
async def test_a_query_that_will_not_do_is_named(shared: Admin, query: str, name: str) -> None:
    answer = await shared.call("GET", f"{LIST}?{query}")
    assert answer.json()["errors"][0]["query"] == name
    assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request")


async def test_one_is_found_by_every_spelling(app: Admin) -> None:
    shown = await made(app)
    for text in (
        shown["id"],
        shown["id"].upper(),
        shown["id"].replace("-", ""),
        as_prov(shown["id"]),
        "openai-prod",
        "OpenAI-Prod",
        "openai:openai-prod",
    ):
        assert (await app.call("GET", f"{LIST}/{text}")).json() == shown


async def test_an_alias_of_two_providers_is_ambiguous_until_one_is_named(app: Admin) -> None:
    ids = {name: (await config(app, "default", name)).id for name in ("openai", "anthropic")}
    for method, path in (("GET", ""), ("POST", "/test"), ("GET", "/models")):
        answer = await app.call(method, f"{LIST}/default{path}")
        problem(answer, 409, "Conflict", "Several connections have this alias")
        assert answer.json()["references"] == ["openai:default", "anthropic:default"]
    for name, config_id in ids.items():
        assert (await app.call("GET", f"{LIST}/{name}:default")).json()["id"] == config_id
    assert (await app.call("GET", f"{LIST}/groq:default")).status_code == 404


@pytest.mark.parametrize("text", ["nope", NOWHERE, "openai:nope", "x" * 300, "%00", "%F0%9F%91%BB"])
@in_module
async def test_what_is_not_there_is_not_found(shared: Admin, text: str) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", {}),
        ("DELETE", "", None),
        ("POST", "/test", None),
        ("GET", "/models", None),
    ):
        answer = await shared.call(method, f"{LIST}/{text}{path}", body)
        assert problem(answer, 404, "Not Found", MISSING) == []


@in_module
async def test_paths_and_methods_of_nobody_are_refused_in_this_shape(shared: Admin) -> None:
    problem(await shared.call("GET", f"{LIST}/a/b/c"), 404, "Not Found", MISSING)
    answer = await shared.call("PATCH", LIST, {})
    problem(answer, 405, "Method Not Allowed", "Method Not Allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_put_keeps_what_is_left_out_or_null(app: Admin) -> None:
    settings = {"apiKey": KEY, "organization": "org-1"}
    before = await made(app, settings=settings, isActive=False)
    path = f"{LIST}/{before['id']}"
    nulls = {"name": None, "isActive": None, "settings": None}
    bodies: list[dict[str, Any]] = [{}, nulls, {"settings": {}}]
    for body in (*bodies, {"settings": {"apiKey": "sk-***"}}):
        answer = await app.call("PUT", path, body)
        after = answer.json()
        assert answer.status_code == 200, answer.text
        assert {**after, "dateModified": None} == {**before, "dateModified": None}
        assert answer.headers["etag"] == (await app.call("GET", path)).headers["etag"]
    assert await key_of(app.desk, before["id"]) == KEY


async def test_put_changes_what_it_names(app: Admin) -> None:
    before = await made(app)
    body = {"name": "Renamed", "isActive": False, "settings": {"organization": "org-2"}}
    after = (await app.call("PUT", f"{LIST}/{before['id']}", body)).json()
    assert (after["name"], after["isActive"]) == ("Renamed", False)
    assert after["settings"] == {**before["settings"], "organization": "org-2"}
    cleared = {"settings": {"organization": None}}
    after = (await app.call("PUT", f"{LIST}/{before['id']}", cleared)).json()
    assert after["settings"] == before["settings"]


async def test_put_takes_an_id_and_keeps_alias_and_provider(app: Admin) -> None:
    path = f"{LIST}/{(await made(app))['id']}"
    same = {"alias": "openai-PROD", "providerId": "openai"}
    assert (await app.call("PUT", path, same)).json()["alias"] == "openai-prod"
    for field, value in (("alias", "moved"), ("providerId", "anthropic")):
        answer = await app.call("PUT", path, {field: value})
        assert answer.json()["errors"][0]["pointer"] == f"/{field}"
        assert answer.status_code == 400
    for method, body in (("PUT", {}), ("DELETE", None)):
        answer = await app.call(method, f"{LIST}/openai-prod", body)
        problem(answer, 404, "Not Found", MISSING)


async def test_delete_answers_nothing_once(app: Admin) -> None:
    path = f"{LIST}/{(await made(app))['id']}"
    answer = await app.call("DELETE", path)
    assert (answer.status_code, answer.content) == (200, b"")
    problem(await app.call("DELETE", path), 404, "Not Found", MISSING)


async def test_what_a_route_leads_to_is_not_deleted(app: Admin) -> None:
    shown = await made(app)
    await route(app, shown["id"], "fast")
    await route(app, shown["id"], "cheap")
    answer = await app.call("DELETE", f"{LIST}/{shown['id']}")
    problem(answer, 400, "Bad Request", "Connection in use")
    assert sorted(answer.json()["references"]) == ["cheap", "fast"]
    assert await rows(app) == ["openai-prod"]


async def test_what_a_file_keeps_is_shown_and_not_changed(app: Admin) -> None:
    view = await config(app, "main", managed_by="wardgate.yaml")
    path = f"{LIST}/{view.id}"
    assert (await app.call("GET", path)).json()["managedBy"] == "wardgate.yaml"
    for method, body in (("PUT", {"name": "Mine"}), ("DELETE", None)):
        answer = await app.call(method, path, body)
        problem(answer, 400, "Bad Request", "Connection is kept by a file")
    assert (await app.call("GET", LIST)).json()["items"][0]["managedBy"] == "wardgate.yaml"


async def test_if_match_names_the_present_state(app: Admin) -> None:
    path = f"{LIST}/{(await made(app))['id']}"
    stale = {"if-match": (await app.call("GET", path)).headers["etag"]}
    changed = await app.call("PUT", path, {"name": "Changed"}, headers=stale)
    assert changed.status_code == 200
    for method, body in (("PUT", {"name": "Again"}), ("DELETE", None)):
        answer = await app.call(method, path, body, headers=stale)
        problem(answer, 412, "Precondition Failed", "Connection has changed")
    fresh = {"if-match": changed.headers["etag"]}
    assert (await app.call("DELETE", path, headers=fresh)).status_code == 200


async def test_no_answer_log_or_file_holds_a_key(
    app: Admin, backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = await made(app)
    path = f"{LIST}/{shown['id']}"
    answers = [
        await app.call("PUT", path, {"settings": {"apiKey": ANOTHER}}),
        await app.call("PUT", path, {"name": ANOTHER, "settings": {"apiKey": ANOTHER}}),
        await app.call("PUT", path, {"name": "x", "settings": {"apiKey": [ANOTHER]}}),
        await app.call("PUT", path, {"settings": {"endpoint": f"https://{ANOTHER}@a.example"}}),
        await app.call("POST", LIST, connection("b", settings={"apiKey": f"{KEY}\n"})),
        await app.call("POST", LIST, connection(KEY)),
        await app.call("GET", path),
        await app.call("GET", LIST),
        await app.call("GET", "/api/v1/audit"),
        await app.call("DELETE", path),
    ]
    assert [answer.status_code for answer in answers] == [200, *[400] * 5, 200, 200, 200, 200]
    assert not [answer.text for answer in answers if CANARY in answer.text]
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err
    assert CANARY.encode() not in backend.disk()


async def test_what_the_desk_changes_is_shown_at_once(app: Admin) -> None:
    shown = await made(app)
    await configs.change(app.desk, LOCAL, shown["id"], "global", ConfigChange(alias="renamed"))
    assert (await app.call("GET", f"{LIST}/renamed")).json()["id"] == shown["id"]
    assert (await app.call("GET", f"{LIST}/openai-prod")).status_code == 404
