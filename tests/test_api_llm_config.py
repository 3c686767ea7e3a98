"""Surface 5, the LLM config: one choice a scope, its statuses, details and test-connection."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx2
import pytest

from admin.configure import configs
from admin.configure.configs import ConfigChange
from admin.configure.identity import as_prov
from admin.permit import LOCAL
from tests.admin_serve import CANARY, KEY, Admin
from tests.backends import Backend
from tests.connecting import ANOTHER, GROUP, NOWHERE, config, route
from tests.desks import key_of, table

PATH = "/llm-config/"
TENANT = {"x-instance-id": "tenant-1"}
FIELDS = {
    *("id", "provider", "model", "api_key_masked", "instance_id", "scope", "managed_by"),
    *("created_at", "updated_at"),
}
MISSING = {"detail": "No configuration found"}
in_module = pytest.mark.asyncio(loop_scope="module")


def chosen(**more: Any) -> dict[str, Any]:
    return {"provider": "openai", "model": "gpt-4.1", "api_key": KEY, **more}


async def made(app: Admin, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    answer = await app.call("POST", PATH, chosen(**more), headers=headers)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def wrong(answer: httpx2.Response, status: int = 422) -> list[tuple[str, ...]]:
    """Where the parts stand that will not do; no key is told."""
    assert CANARY not in answer.text
    assert (answer.status_code, set(answer.json())) == (status, {"detail"}), answer.text
    rows = answer.json()["detail"]
    assert all(set(row) == {"loc", "msg", "type"} for row in rows)
    return [tuple(row["loc"]) for row in rows]


async def test_create_answers_the_choice(app: Admin) -> None:
    answer = await app.call("POST", PATH, chosen())
    shown = answer.json()
    assert (answer.status_code, set(shown)) == (201, FIELDS)
    datetime.fromisoformat(shown["created_at"])
    assert {name: shown[name] for name in FIELDS - {"id", "created_at", "updated_at"}} == {
        "provider": "openai",
        "model": "gpt-4.1",
        "api_key_masked": "sk-...WXYZ",
        "instance_id": None,
        "scope": "global",
        "managed_by": None,
    }
    again = await app.call("GET", PATH)
    assert (again.status_code, again.json()) == (200, shown)
    assert again.headers["etag"] == answer.headers["etag"]
    served = (await table(app.desk)).choices["global"]
    assert (served.config_id, served.model) == (shown["id"], "gpt-4.1")


async def test_both_spellings_of_every_path_answer(app: Admin) -> None:
    bare = PATH.rstrip("/")
    for path in (PATH, bare):
        assert (await app.call("GET", path)).json() is None
        assert (await app.call("POST", path, chosen())).status_code == 201
        assert (await app.call("PATCH", path, {"model": "gpt-4o"})).status_code == 200
        assert (await app.call("DELETE", path)).status_code == 204
        answer = await app.call("POST", f"{bare}/test-connection{path.removeprefix(bare)}")
        assert answer.status_code == 404


async def test_nothing_stored_is_null_for_get_and_404_for_the_rest(app: Admin) -> None:
    await made(app)
    for headers in (TENANT, {"wardgate-scope": GROUP}):
        answer = await app.call("GET", PATH, headers=headers)
        assert (answer.status_code, answer.json()) == (200, None)
        for method, path, body, said in (
            ("PATCH", PATH, {"model": "gpt-4o"}, MISSING),
            ("DELETE", PATH, None, MISSING),
            ("POST", f"{PATH}test-connection", None, {"detail": "No configuration found to test"}),
        ):
            answer = await app.call(method, path, body, headers=headers)
            assert (answer.status_code, answer.json()) == (404, said)


async def test_each_instance_has_its_own(app: Admin) -> None:
    ours, theirs = await made(app), await made(app, TENANT, model="gpt-4o")
    assert (theirs["instance_id"], theirs["scope"]) == ("tenant-1", "instance:tenant-1")
    assert (await app.call("GET", PATH)).json() == ours
    for query, headers in (
        ("", TENANT),
        ("?scope=instance:tenant-1", {}),
        ("?scope=instance:tenant-1", {**TENANT, "wardgate-scope": "instance:tenant-1"}),
        ("", {"wardgate-scope": "instance:tenant-1"}),
    ):
        assert (await app.call("GET", f"{PATH}{query}", headers=headers)).json() == theirs
    await app.call("DELETE", PATH, headers=TENANT)
    assert (await app.call("GET", PATH)).json() == ours


@pytest.mark.parametrize("instance", ["", "a b", "a/b", "x" * 129, "tenant!", "töne"])
@in_module
async def test_an_instance_id_that_cannot_be_is_refused(shared: Admin, instance: str) -> None:
    token, said = f"Bearer {shared.root}".encode(), instance.encode("latin-1")
    headers = {b"authorization": token, b"x-instance-id": said}
    for method, body in (("GET", None), ("POST", chosen()), ("PATCH", {}), ("DELETE", None)):
        answer = await shared.http.request(method, PATH, json=body, headers=headers)
        assert wrong(answer, 400) == [("header", "x-instance-id")]


@in_module
async def test_scopes_that_disagree_are_refused(shared: Admin) -> None:
    for query, headers in (
        ("", {**TENANT, "wardgate-scope": "global"}),
        ("?scope=global", TENANT),
        ("?scope=global", {"wardgate-scope": GROUP}),
    ):
        for method, body in (("GET", None), ("POST", chosen()), ("DELETE", None)):
            answer = await shared.call(method, f"{PATH}{query}", body, headers=headers)
            [(where, _)] = wrong(answer, 400)
            assert where == "header"


async def test_a_second_choice_is_409(app: Admin) -> None:
    await made(app)
    answer = await app.call("POST", PATH, chosen(provider="anthropic"))
    said = {"detail": "Configuration already exists for this scope"}
    assert (answer.status_code, answer.json()) == (409, said)
    assert len(await configs.every(app.desk, None)) == 1


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"provider": "nobody"}, ("body", "provider")),
        ({"provider": "google-vertex"}, ("body", "provider")),
        ({"provider": "azure"}, ("body", "provider")),
        ({"provider": "custom:house"}, ("body", "provider")),
        ({"provider": ""}, ("body", "provider")),
        ({"provider": 5}, ("body", "provider")),
        ({"model": ""}, ("body", "model")),
        ({"model": "two words"}, ("body", "model")),
        ({"model": "x" * 301}, ("body", "model")),
        ({"model": None}, ("body", "model")),
        ({"model": f"gpt-{KEY}"}, ("body", "model")),
        ({"api_key": ""}, ("body", "api_key")),
        ({"api_key": None}, ("body", "api_key")),
        ({"api_key": "two words"}, ("body", "api_key")),
        ({"api_key": "sk-...WXYZ"}, ("body", "api_key")),
        ({"api_key": "sk-***"}, ("body", "api_key")),
        ({"provider": "bedrock", "api_key": "A::B"}, ("body", "api_key")),
        ({"temperature": 1}, ("body", "temperature")),
    ],
)
@in_module
async def test_create_names_the_field_when_it_is_wrong(
    shared: Admin, body: dict[str, Any], loc: tuple[str, ...]
) -> None:
    assert wrong(await shared.call("POST", PATH, chosen(**body))) == [loc]
    assert (await shared.call("GET", PATH)).json() is None


@pytest.mark.parametrize("field", ["provider", "model", "api_key"])
@in_module
async def test_create_needs_all_three(shared: Admin, field: str) -> None:
    body = chosen()
    del body[field]
    assert wrong(await shared.call("POST", PATH, body)) == [("body", field)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
@in_module
async def test_a_body_that_is_no_object_is_422(shared: Admin, content: bytes) -> None:
    for method in ("POST", "PATCH"):
        wrong(await shared.call(method, PATH, content=content))


@in_module
async def test_other_refusals_are_a_sentence(shared: Admin) -> None:
    large = b'"' + b"x" * (1 << 20) + b'"'
    for method, path, content, status in (
        ("POST", PATH, large, 413),
        ("PUT", PATH, b"{}", 405),
        ("GET", f"{PATH}nothing-here", None, 404),
    ):
        answer = await shared.call(method, path, content=content)
        assert answer.status_code == status
        assert isinstance(answer.json()["detail"], str)


async def test_patch_changes_what_it_names(app: Admin) -> None:
    before = await made(app)
    answer = await app.call("PATCH", PATH, {"model": "gpt-4o"})
    after = answer.json()
    assert answer.status_code == 200
    assert (after["model"], after["id"]) == ("gpt-4o", before["id"])
    assert answer.headers["etag"] == (await app.call("GET", PATH)).headers["etag"]
    after = (await app.call("PATCH", PATH, {"api_key": ANOTHER})).json()
    assert (after["model"], after["api_key_masked"]) == ("gpt-4o", "sk-...NEWK")
    assert await key_of(app.desk, before["id"]) == ANOTHER


async def test_patch_keeps_what_is_left_out_null_or_masked(app: Admin) -> None:
    before = await made(app)
    nulls = {"provider": None, "model": None, "api_key": None}
    for body in ({}, nulls, {"provider": "openai"}, {"api_key": before["api_key_masked"]}):
        answer = await app.call("PATCH", PATH, body)
        assert answer.status_code == 200, answer.text
        assert {**answer.json(), "updated_at": ""} == {**before, "updated_at": ""}
    assert await key_of(app.desk, before["id"]) == KEY


async def test_patch_of_the_provider_needs_its_key(app: Admin) -> None:
    before = await made(app)
    for body in ({"provider": "anthropic"}, {"provider": "anthropic", "api_key": "sk-***"}):
        assert wrong(await app.call("PATCH", PATH, body)) == [("body", "api_key")]
    assert (await app.call("GET", PATH)).json() == before
    body = {"provider": "anthropic", "model": "claude-opus-4-5", "api_key": ANOTHER}
    after = (await app.call("PATCH", PATH, body)).json()
    assert (after["provider"], after["model"]) == ("anthropic", "claude-opus-4-5")
    assert [view.id for view in await configs.every(app.desk, None)] == [after["id"]]


async def test_patch_of_the_provider_keeps_a_config_that_a_route_leads_to(app: Admin) -> None:
    before = await made(app)
    await route(app, before["id"])
    body = {"provider": "anthropic", "api_key": ANOTHER}
    after = (await app.call("PATCH", PATH, body)).json()
    kept = [view.id for view in await configs.every(app.desk, None)]
    assert kept == [before["id"], after["id"]]


async def test_any_config_of_the_scope_can_be_read_adopted_and_deleted(app: Admin) -> None:
    theirs = await config(app, "main")
    elsewhere = await config(app, "main", scope=GROUP)
    path = f"{PATH}?id={as_prov(theirs.id)}"
    assert (await app.call("GET", PATH)).json() is None
    shown = (await app.call("GET", path)).json()
    assert (shown["id"], shown["model"]) == (theirs.id, None)
    assert wrong(await app.call("PATCH", path, {})) == [("body", "model")]
    shown = (await app.call("PATCH", path, {"model": "gpt-4o"})).json()
    assert (shown["id"], shown["model"]) == (theirs.id, "gpt-4o")
    assert (await app.call("GET", PATH)).json() == shown
    for config_id in (elsewhere.id, NOWHERE, "nonsense"):
        at = f"{PATH}?id={config_id}"
        assert (await app.call("GET", at)).json() is None
        assert (await app.call("DELETE", at)).json() == MISSING
        assert (await app.call("PATCH", at, {"model": "m"})).json() == MISSING
    assert (await app.call("DELETE", path)).status_code == 204
    assert [view.id for view in await configs.every(app.desk, None)] == [elsewhere.id]


async def test_delete_leaves_a_config_that_was_not_made_here(app: Admin) -> None:
    theirs = await config(app, "main")
    await app.call("PATCH", f"{PATH}?id={theirs.id}", {"model": "gpt-4o"})
    answer = await app.call("DELETE", PATH)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await app.call("GET", PATH)).json() is None
    assert [view.id for view in await configs.every(app.desk, None)] == [theirs.id]


async def test_delete_takes_the_config_made_here_unless_it_is_needed(app: Admin) -> None:
    await made(app)
    await app.call("DELETE", PATH)
    assert await configs.every(app.desk, None) == []
    needed = await made(app)
    await route(app, needed["id"])
    assert (await app.call("DELETE", PATH)).status_code == 204
    assert [view.id for view in await configs.every(app.desk, None)] == [needed["id"]]


async def test_deleting_by_id_what_a_route_leads_to_is_409(app: Admin) -> None:
    shown = await made(app)
    await route(app, shown["id"], "fast")
    answer = await app.call("DELETE", f"{PATH}?id={shown['id']}")
    assert (answer.status_code, "route fast" in answer.json()["detail"]) == (409, True)
    assert (await app.call("GET", PATH)).json() == shown


async def test_what_a_file_keeps_is_shown_and_its_key_not_changed(app: Admin) -> None:
    shown = await made(app)
    kept = ConfigChange(managed_by="wardgate.yaml")
    await configs.change(app.desk, LOCAL, shown["id"], "global", kept)
    assert (await app.call("GET", PATH)).json()["managed_by"] == "wardgate.yaml"
    for method, path, body in (
        ("PATCH", PATH, {"api_key": ANOTHER}),
        ("DELETE", f"{PATH}?id={shown['id']}", None),
    ):
        answer = await app.call(method, path, body)
        assert (answer.status_code, "wardgate.yaml" in answer.json()["detail"]) == (409, True)
    assert (await app.call("PATCH", PATH, {"model": "gpt-4o"})).status_code == 200
    assert (await app.call("DELETE", PATH)).status_code == 204
    assert [view.id for view in await configs.every(app.desk, None)] == [shown["id"]]


async def test_if_match_names_the_present_state(app: Admin) -> None:
    await made(app)
    stale = {"if-match": (await app.call("GET", PATH)).headers["etag"]}
    changed = await app.call("PATCH", PATH, {"model": "gpt-4o"}, headers=stale)
    assert changed.status_code == 200
    for method, body in (("PATCH", {"model": "gpt-5"}), ("DELETE", None)):
        answer = await app.call(method, PATH, body, headers=stale)
        assert (answer.status_code, isinstance(answer.json()["detail"], str)) == (412, True)
    fresh = {"if-match": changed.headers["etag"]}
    assert (await app.call("DELETE", PATH, headers=fresh)).status_code == 204


async def test_bedrocks_key_names_its_region(app: Admin) -> None:
    key = f"AKIACANARY0123456789::aws/{CANARY}+0123456789::eu-west-1"
    shown = await made(app, provider="bedrock", model="amazon.nova-pro-v1:0", api_key=key)
    assert (shown["provider"], shown["api_key_masked"]) == ("amazon-bedrock", "AKIA...6789")
    view = await configs.get(app.desk, shown["id"])
    assert view.settings == {"region": "eu-west-1"}


@pytest.mark.parametrize(
    "permission", ["AIProviders.Manage", "AIModels.Manage", "AIProviders.Read"]
)
@in_module
async def test_only_a_superadmin_may(shared: Admin, permission: str) -> None:
    token = await shared.token((permission, "global"))
    for said, status in ((token, 403), ("", 401), ("wga_nobody", 401)):
        for method, path, body in (
            ("GET", PATH, None),
            ("POST", PATH, chosen()),
            ("PATCH", PATH, {"model": "m"}),
            ("DELETE", PATH, None),
            ("POST", f"{PATH}test-connection", None),
        ):
            answer = await shared.call(method, path, body, token=said)
            assert (answer.status_code, set(answer.json())) == (status, {"detail"})


async def test_no_answer_log_or_file_holds_a_key(
    app: Admin, backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = [
        await app.call("POST", PATH, chosen()),
        await app.call("PATCH", PATH, {"api_key": ANOTHER}),
        await app.call("PATCH", PATH, {"api_key": ANOTHER, "model": ANOTHER}),
        await app.call("PATCH", PATH, {"api_key": [ANOTHER]}),
        await app.call("PATCH", PATH, {"api_key": f"{ANOTHER} "}),
        await app.call("GET", PATH),
        await app.call("GET", "/api/v1/audit"),
        await app.call("DELETE", PATH),
    ]
    assert [one.status_code for one in answers] == [201, 200, 422, 422, 422, 200, 200, 204]
    assert not [answer.text for answer in answers if CANARY in answer.text]
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err
    assert CANARY.encode() not in backend.disk()
