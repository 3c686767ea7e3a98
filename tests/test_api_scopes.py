"""/api/v1/scopes: ids with slashes in the path, ETags, and only what one may read."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin_serve import Admin

SCOPES = "/api/v1/scopes"
KEYS = "/api/v1/client-keys"
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
GATEWAY = "gateway:acc/gw"

in_module = pytest.mark.asyncio(loop_scope="module")


async def made(app: Admin, scope: str = GROUP, **fields: Any) -> dict[str, Any]:
    answer = await app.call("POST", SCOPES, {"id": scope, **fields})
    assert answer.status_code == 201, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_create_answers_the_scope_and_its_tag(app: Admin) -> None:
    answer = await app.call("POST", SCOPES, {"id": GROUP, "inherit": False})
    shown = answer.json()
    assert (answer.status_code, shown.pop("createdAt")[-1]) == (201, "Z")
    assert shown == {"id": GROUP, "kind": "group", "parent": "global", "inherit": False}
    again = await app.call("GET", f"{SCOPES}/{GROUP}")
    assert again.headers["etag"] == answer.headers["etag"]
    top = (await app.call("GET", f"{SCOPES}/global")).json()
    assert (top["kind"], top["parent"], top["inherit"]) == ("global", None, True)


@pytest.mark.parametrize("spelled", [GATEWAY, "gateway%3Aacc%2Fgw"])
async def test_an_id_with_a_slash_stands_in_the_path(app: Admin, spelled: str) -> None:
    await made(app)
    await made(app, GATEWAY, parent=GROUP)
    answer = await app.call("GET", f"{SCOPES}/{spelled}")
    assert (answer.status_code, answer.json()["id"]) == (200, GATEWAY)
    answer = await app.call("PATCH", f"{SCOPES}/{spelled}", {"parent": "global"})
    assert (answer.status_code, answer.json()["parent"]) == (200, "global")
    # Its settings hang on it: it goes as a gateway.
    answer = await app.call("DELETE", f"{SCOPES}/{spelled}")
    assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
    assert "/accounts/acc/ai-gateway/gateways/gw" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/id"),
        ({"id": "planet:earth"}, "/id"),
        ({"id": "gateway:wardgate/gw"}, "/id"),
        ({"id": "instance:\u0000"}, "/id"),
        ({"id": GROUP, "parent": "instance:none"}, "/parent"),
        ({"id": GROUP, "parent": GROUP}, "/parent"),
        ({"id": GROUP, "parent": None}, "/parent"),
        ({"id": GROUP, "inherit": "no"}, "/inherit"),
        ({"id": GROUP, "kind": "group"}, "/kind"),
    ],
)
@in_module
async def test_create_points_at_the_field_when_it_is_wrong(
    shared: Admin, body: dict[str, Any], pointer: str
) -> None:
    answer = await shared.call("POST", SCOPES, body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("body", [{"parent": None}, {"inherit": None}, {"id": "global"}])
async def test_change_refuses_what_is_no_field(app: Admin, body: dict[str, Any]) -> None:
    await made(app)
    answer = await app.call("PATCH", f"{SCOPES}/{GROUP}", body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(body))}"


async def test_conflicts_are_409(app: Admin) -> None:
    await made(app)
    answer = await app.call("POST", SCOPES, {"id": GROUP})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (409, "/id")
    await app.call("POST", KEYS, {"name": "a", "scope": GROUP})
    answer = await app.call("DELETE", f"{SCOPES}/{GROUP}")
    assert (answer.status_code, answer.json()["detail"]) == (409, "in use: a client key")
    assert (await app.call("DELETE", f"{SCOPES}/global")).status_code == 409


@in_module
async def test_global_cannot_be_moved(shared: Admin) -> None:
    answer = await shared.call("PATCH", f"{SCOPES}/global", {"inherit": False})
    assert answer.status_code == 400


async def test_if_match_names_the_present_state(app: Admin) -> None:
    await made(app)
    path = f"{SCOPES}/{GROUP}"
    stale = (await app.call("GET", path)).headers["etag"]
    changed = await app.call("PATCH", path, {"inherit": False}, headers={"if-match": stale})
    assert changed.status_code == 200
    for method, body in (("PATCH", {"inherit": True}), ("DELETE", None)):
        answer = await app.call(method, path, body, headers={"if-match": stale})
        assert (answer.status_code, answer.json()["title"]) == (412, "Precondition Failed")
    assert (await app.call("GET", path)).json() == changed.json()
    fresh = {"if-match": changed.headers["etag"]}
    assert (await app.call("DELETE", path, headers=fresh)).status_code == 204


@pytest.mark.parametrize("scope", ["", "nope", "instance:none", "%00", "a" * 300, "a/b/c"])
@in_module
async def test_not_found_when_there_is_no_such_scope(shared: Admin, scope: str) -> None:
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        answer = await shared.call(method, f"{SCOPES}/{scope}", body)
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")


async def test_list_goes_on_from_a_cursor(app: Admin) -> None:
    ids = ["global", *[(await made(app, f"instance:{n}"))["id"] for n in range(4)]]
    seen: list[str] = []
    after = ""
    for more in (True, True, False):
        page = (await app.call("GET", f"{SCOPES}?limit=2{after}")).json()
        assert page["hasMore"] is more
        seen += [row["id"] for row in page["data"]]
        after = f"&after={page['next']}"
    assert (seen, page["next"]) == (ids, None)
    one = (await app.call("GET", f"{SCOPES}?scope=instance:2")).json()["data"]
    assert [row["id"] for row in one] == ["instance:2"]


async def test_a_group_reads_its_own_scope_and_changes_none(app: Admin) -> None:
    await made(app)
    await made(app, OTHER)
    held = await app.token(("GroupAIProviders.Manage", GROUP))
    listed = (await app.call("GET", SCOPES, token=held)).json()
    assert ([row["id"] for row in listed["data"]], listed["hasMore"]) == ([GROUP], False)
    assert (await app.call("GET", f"{SCOPES}/{GROUP}", token=held)).status_code == 200
    unknown = await app.call("GET", f"{SCOPES}/instance:none", token=held)
    for hidden in (OTHER, "global"):
        answer = await app.call("GET", f"{SCOPES}/{hidden}", token=held)
        assert (answer.status_code, answer.json()) == (404, unknown.json())
        answer = await app.call("GET", f"{SCOPES}?scope={hidden}", token=held)
        assert answer.json()["data"] == []
    for method, path, body in (
        ("POST", SCOPES, {"id": "instance:i"}),
        ("PATCH", f"{SCOPES}/{GROUP}", {"inherit": False}),
        ("DELETE", f"{SCOPES}/{GROUP}", None),
    ):
        assert (await app.call(method, path, body, token=held)).status_code == 403


async def test_a_global_grant_reads_or_manages_every_scope(app: Admin) -> None:
    reader = await app.token(("AIProviders.Read", "global"))
    manager = await app.token(("AIProviders.Manage", "global"))
    assert (await app.call("POST", SCOPES, {"id": GROUP}, token=reader)).status_code == 403
    assert (await app.call("POST", SCOPES, {"id": GROUP}, token=manager)).status_code == 201
    assert (await app.call("GET", f"{SCOPES}/{GROUP}", token=reader)).status_code == 200
    assert len((await app.call("GET", SCOPES, token=reader)).json()["data"]) == 2
    assert (await app.call("DELETE", f"{SCOPES}/{GROUP}", token=manager)).status_code == 204
    models = await app.token(("AIModels.Manage", "global"))
    assert (await app.call("GET", SCOPES, token=models)).status_code == 403


@in_module
async def test_the_scope_header_must_agree_with_the_path(shared: Admin) -> None:
    answer = await shared.call("GET", f"{SCOPES}/global", headers={"wardgate-scope": GROUP})
    assert answer.status_code == 400
