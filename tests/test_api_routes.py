"""/api/v1/routes: made, read, changed and deleted; targets only where one may look."""

from __future__ import annotations

from typing import Any

import pytest

from admin.configure import configs
from admin.configure.configs import NewConfig
from admin.configure.identity import as_prov
from admin.permit import LOCAL
from gateway.shapes import Secret
from tests.admin_serve import KEY, Admin
from tests.desks import table

ROUTES = "/api/v1/routes"
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
NOWHERE = "01977c2a-0000-7000-8000-000000000000"

in_module = pytest.mark.asyncio(loop_scope="module")


async def config(app: Admin, scope: str = "global", alias: str = "main") -> str:
    new = NewConfig(scope=scope, provider="openai", alias=alias, secret=Secret(KEY.encode()))
    return (await configs.create(app.desk, LOCAL, new)).id


def to(*configs: str) -> list[dict[str, str]]:
    return [{"configId": one, "model": "gpt-4o"} for one in configs]


async def made(app: Admin, target: str, name: str = "fast", **fields: Any) -> dict[str, Any]:
    answer = await app.call("POST", ROUTES, {"name": name, "targets": to(target), **fields})
    assert answer.status_code == 201, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_create_answers_the_route_and_its_tag(app: Admin) -> None:
    first, second = await config(app), await config(app, GROUP)
    body = {"name": "team/fast", "scope": GROUP, "targets": to(second, first)}
    answer = await app.call("POST", ROUTES, body)
    shown = answer.json()
    assert answer.status_code == 201
    assert {name: shown[name] for name in body} == body
    assert set(shown) == {*body, "id", "managedBy", "createdAt", "updatedAt"}
    assert shown["managedBy"] is None
    again = await app.call("GET", f"{ROUTES}/{shown['id']}")
    assert (again.json(), again.headers["etag"]) == (shown, answer.headers["etag"])
    assert [t.config_id for t in (await table(app.desk)).routes[GROUP]["team/fast"].targets] == [
        second,
        first,
    ]


async def test_a_targets_config_goes_by_any_spelling(app: Admin) -> None:
    target = await config(app)
    assert (await made(app, as_prov(target)))["targets"] == to(target)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"targets": to(NOWHERE)}, "/name"),
        ({"name": "a"}, "/targets"),
        ({"name": "a", "targets": []}, "/targets"),
        ({"name": "a", "targets": to(*[NOWHERE] * 21)}, "/targets"),
        ({"name": "a", "targets": [{"model": "m"}]}, "/targets/0/configId"),
        ({"name": "a", "targets": [{"configId": NOWHERE}]}, "/targets/0/model"),
        ({"name": "a", "targets": to(NOWHERE)}, "/targets/0/configId"),
        ({"name": "a", "targets": [{"configId": NOWHERE, "model": "a b"}]}, "/targets/0/model"),
        ({"name": "openai/fast", "targets": to(NOWHERE)}, "/name"),
        ({"name": "/fast", "targets": to(NOWHERE)}, "/name"),
        ({"name": "a", "targets": to(NOWHERE), "scope": "planet:earth"}, "/scope"),
        ({"name": "a", "targets": to(NOWHERE), "weight": 1}, "/weight"),
    ],
)
@in_module
async def test_create_points_at_the_field_when_it_is_wrong(
    shared: Admin, body: dict[str, Any], pointer: str
) -> None:
    answer = await shared.call("POST", ROUTES, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_the_same_target_twice_is_pointed_at(app: Admin) -> None:
    target = await config(app)
    body = {"name": "a", "targets": to(target, as_prov(target))}
    answer = await app.call("POST", ROUTES, body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/targets/1")


async def test_a_name_that_is_taken_is_409(app: Admin) -> None:
    target = await config(app)
    await made(app, target)
    other = await made(app, target, "slow")
    for method, path, body in (
        ("POST", ROUTES, {"name": "fast", "targets": to(target)}),
        ("PATCH", f"{ROUTES}/{other['id']}", {"name": "fast"}),
    ):
        answer = await app.call(method, path, body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (409, "/name")
    await made(app, target, scope=GROUP)


async def test_change_keeps_what_is_left_out(app: Admin) -> None:
    first, second = await config(app), await config(app, alias="second")
    path = f"{ROUTES}/{(await made(app, first))['id']}"
    after = (await app.call("PATCH", path, {"name": "faster"})).json()
    assert (after["name"], after["targets"]) == ("faster", to(first))
    after = (await app.call("PATCH", path, {"targets": to(second, first)})).json()
    assert (after["name"], after["targets"]) == ("faster", to(second, first))
    wrong: list[dict[str, Any]] = [{"name": None}, {"targets": None}, {"targets": []}]
    for body in (*wrong, {"scope": GROUP}):
        answer = await app.call("PATCH", path, body)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(body))}"


async def test_delete_leaves_the_config_to_be_deleted(app: Admin) -> None:
    target = await config(app)
    path = f"{ROUTES}/{(await made(app, target))['id']}"
    where = f"/accounts/wardgate/ai-gateway/gateways/global/provider_configs/{target}"
    assert (await app.call("DELETE", where)).status_code == 400
    assert (await app.call("DELETE", path)).status_code == 204
    assert (await app.call("GET", path)).status_code == 404
    assert (await app.call("DELETE", where)).status_code == 200


async def test_if_match_names_the_present_state(app: Admin) -> None:
    path = f"{ROUTES}/{(await made(app, await config(app)))['id']}"
    stale = {"if-match": (await app.call("GET", path)).headers["etag"]}
    changed = await app.call("PATCH", path, {"name": "faster"}, headers=stale)
    assert changed.status_code == 200
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        assert (await app.call(method, path, body, headers=stale)).status_code == 412
    fresh = {"if-match": changed.headers["etag"]}
    assert (await app.call("DELETE", path, headers=fresh)).status_code == 204


@pytest.mark.parametrize("route", ["nope", "%00", "a" * 300])
@in_module
async def test_not_found_when_there_is_no_such_route(shared: Admin, route: str) -> None:
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        answer = await shared.call(method, f"{ROUTES}/{route}", body)
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")


async def test_list_goes_on_from_a_cursor(app: Admin) -> None:
    target = await config(app)
    ids = [(await made(app, target, f"r{n}"))["id"] for n in range(5)]
    seen: list[str] = []
    after = ""
    for more in (True, True, False):
        page = (await app.call("GET", f"{ROUTES}?limit=2{after}")).json()
        assert page["hasMore"] is more
        seen += [row["id"] for row in page["data"]]
        after = f"&after={page['next']}"
    assert (seen, page["next"]) == (ids, None)


async def test_a_group_token_manages_the_routes_of_its_scopes_only(app: Admin) -> None:
    above, own, beside = await config(app), await config(app, GROUP), await config(app, OTHER)
    theirs = await made(app, above)
    held = await app.token(("GroupAIProviders.Manage", GROUP))
    body = {"name": "mine", "scope": GROUP, "targets": to(own)}
    answer = await app.call("POST", ROUTES, body, token=held)
    assert answer.status_code == 201
    mine = answer.json()["id"]
    listed = (await app.call("GET", ROUTES, token=held)).json()["data"]
    assert [row["id"] for row in listed] == [mine]
    assert (await app.call("GET", f"{ROUTES}?scope=global", token=held)).json()["data"] == []
    unknown = (await app.call("GET", f"{ROUTES}/nope", token=held)).json()
    for method, path, sent in (
        ("POST", ROUTES, {"name": "a", "targets": to(above)}),
        ("GET", f"{ROUTES}/{theirs['id']}", None),
        ("PATCH", f"{ROUTES}/{theirs['id']}", {"name": "a"}),
        ("DELETE", f"{ROUTES}/{theirs['id']}", None),
    ):
        answer = await app.call(method, path, sent, token=held)
        assert (answer.status_code, answer.json()) == (404, unknown)
    # A config one may not read answers as one that is not there, word by word.
    said = []
    for target in (above, beside, NOWHERE):
        asked = {"targets": to(own, target)}
        answer = await app.call("PATCH", f"{ROUTES}/{mine}", asked, token=held)
        assert answer.json()["errors"][0]["pointer"] == "/targets/1/configId"
        said.append((answer.status_code, answer.text))
    assert said == [said[0]] * 3
    assert said[0][0] == 400


async def test_reading_is_not_managing(app: Admin) -> None:
    target = await config(app, GROUP)
    shown = await made(app, target, scope=GROUP)
    for grant in (("AIProviders.Read", "global"), ("GroupAIProviders.Read", GROUP)):
        reader = await app.token(grant)
        path = f"{ROUTES}/{shown['id']}"
        assert (await app.call("GET", path, token=reader)).status_code == 200
        for method, where, body in (
            ("POST", ROUTES, {"name": "a", "scope": GROUP, "targets": to(target)}),
            ("PATCH", path, {"name": "b"}),
            ("DELETE", path, None),
        ):
            assert (await app.call(method, where, body, token=reader)).status_code == 403
    models = await app.token(("AIModels.Manage", "global"))
    assert (await app.call("GET", ROUTES, token=models)).status_code == 403


async def test_the_scope_header_names_the_scope_and_must_agree(app: Admin) -> None:
    target, said = await config(app), {"wardgate-scope": GROUP}
    body = {"name": "a", "targets": to(target)}
    shown = (await app.call("POST", ROUTES, body, headers=said)).json()
    assert shown["scope"] == GROUP
    clash = await app.call("POST", ROUTES, {**body, "scope": "global"}, headers=said)
    assert clash.status_code == 400
    other = {"wardgate-scope": OTHER}
    answer = await app.call("GET", f"{ROUTES}/{shown['id']}", headers=other)
    assert answer.status_code == 400
