"""/api/v1/ai-agents: made, bound, disabled and deleted, scope by scope."""

from __future__ import annotations

from typing import Any

import pytest

from admin.api.ai_agents import AgentBody
from admin.configure import agents
from admin.configure.agents import NewAgent
from admin.permit import LOCAL
from tests.admin_serve import Admin
from tests.desks import table

AGENTS = "/api/v1/ai-agents"
KEYS = "/api/v1/client-keys"
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"

in_module = pytest.mark.asyncio(loop_scope="module")


async def made(app: Admin, **fields: Any) -> dict[str, Any]:
    answer = await app.call("POST", AGENTS, {"name": "bot", **fields})
    assert answer.status_code == 201, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_create_answers_the_agent_and_its_tag(app: Admin) -> None:
    body = {"name": "bot", "scope": GROUP, "enabled": False, "modelId": "openai/gpt-4o"}
    answer = await app.call("POST", AGENTS, body)
    shown = answer.json()
    assert answer.status_code == 201
    assert {name: shown[name] for name in body} == body
    assert set(shown) == {*body, "id", "managedBy", "createdAt", "updatedAt"}
    assert shown["managedBy"] is None
    again = await app.call("GET", f"{AGENTS}/{shown['id']}")
    assert (again.json(), again.headers["etag"]) == (shown, answer.headers["etag"])
    plain = await made(app)
    assert (plain["scope"], plain["enabled"], plain["modelId"]) == ("global", True, None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "a\u0000b"}, "/name"),
        ({"name": "a", "scope": "planet:earth"}, "/scope"),
        ({"name": "a", "enabled": "yes"}, "/enabled"),
        ({"name": "a", "modelId": "gpt-4o"}, "/modelId"),
        ({"name": "a", "modelId": "nobody/gpt-4o"}, "/modelId"),
        ({"name": "a", "modelId": ""}, "/modelId"),
        ({"name": "a", "model_id": "openai/gpt-4o"}, "/model_id"),
    ],
)
@in_module
async def test_create_points_at_the_field_when_it_is_wrong(
    shared: Admin, body: dict[str, Any], pointer: str
) -> None:
    answer = await shared.call("POST", AGENTS, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_change_keeps_what_is_left_out_and_null_unbinds(app: Admin) -> None:
    shown = await made(app, modelId="openai/gpt-4o")
    path = f"{AGENTS}/{shown['id']}"
    after = (await app.call("PATCH", path, {"enabled": False})).json()
    assert (after["name"], after["enabled"], after["modelId"]) == ("bot", False, "openai/gpt-4o")
    after = (await app.call("PATCH", path, {"name": "new", "modelId": None})).json()
    assert (after["name"], after["enabled"], after["modelId"]) == ("new", False, None)
    agent = (await table(app.desk)).agents[shown["id"]]
    assert (agent.name, agent.enabled, agent.model) == ("new", False, None)
    for body in ({"name": None}, {"enabled": None}, {"scope": GROUP}):
        answer = await app.call("PATCH", path, body)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(body))}"


async def test_delete_refuses_while_it_owns_keys(app: Admin) -> None:
    shown = await made(app)
    key = (await app.call("POST", KEYS, {"name": "a", "agentId": shown["id"]})).json()
    answer = await app.call("DELETE", f"{AGENTS}/{shown['id']}")
    assert answer.status_code == 409
    assert key["id"] in answer.json()["detail"]
    await app.call("PATCH", f"{KEYS}/{key['id']}", {"agentId": None})
    assert (await app.call("DELETE", f"{AGENTS}/{shown['id']}")).status_code == 204
    assert (await app.call("GET", f"{AGENTS}/{shown['id']}")).status_code == 404


async def test_if_match_names_the_present_state(app: Admin) -> None:
    path = f"{AGENTS}/{(await made(app))['id']}"
    stale = {"if-match": (await app.call("GET", path)).headers["etag"]}
    changed = await app.call("PATCH", path, {"enabled": False}, headers=stale)
    assert changed.status_code == 200
    for method, body in (("PATCH", {"enabled": True}), ("DELETE", None)):
        assert (await app.call(method, path, body, headers=stale)).status_code == 412
    assert (await app.call("GET", path)).json() == changed.json()
    fresh = {"if-match": changed.headers["etag"]}
    assert (await app.call("DELETE", path, headers=fresh)).status_code == 204


@pytest.mark.parametrize("agent", ["nope", "%00", "a" * 300])
@in_module
async def test_not_found_when_there_is_no_such_agent(shared: Admin, agent: str) -> None:
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        answer = await shared.call(method, f"{AGENTS}/{agent}", body)
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")


async def test_list_goes_on_from_a_cursor(app: Admin) -> None:
    ids = [(await made(app))["id"] for _ in range(5)]
    seen: list[str] = []
    after = ""
    for more in (True, True, False):
        page = (await app.call("GET", f"{AGENTS}?limit=2{after}")).json()
        assert page["hasMore"] is more
        seen += [row["id"] for row in page["data"]]
        after = f"&after={page['next']}"
    assert (seen, page["next"]) == (ids, None)


async def test_a_group_token_manages_the_agents_of_its_scopes_only(app: Admin) -> None:
    theirs = await made(app)
    held = await app.token(("GroupAIProviders.Manage", GROUP), ("GroupAIProviders.Manage", OTHER))
    mine = []
    for scope in (GROUP, OTHER):
        body = {"name": "a", "scope": scope}
        answer = await app.call("POST", AGENTS, body, token=held)
        assert answer.status_code == 201
        mine.append(answer.json()["id"])
    listed = (await app.call("GET", AGENTS, token=held)).json()["data"]
    assert [row["id"] for row in listed] == mine
    one = (await app.call("GET", AGENTS, token=held, headers={"wardgate-scope": OTHER})).json()
    assert [row["id"] for row in one["data"]] == mine[1:]
    assert (await app.call("GET", f"{AGENTS}?scope=global", token=held)).json()["data"] == []
    unknown = (await app.call("GET", f"{AGENTS}/nope", token=held)).json()
    for method, path, sent in (
        ("POST", AGENTS, {"name": "a"}),
        ("GET", f"{AGENTS}/{theirs['id']}", None),
        ("PATCH", f"{AGENTS}/{theirs['id']}", {"enabled": False}),
        ("DELETE", f"{AGENTS}/{theirs['id']}", None),
    ):
        answer = await app.call(method, path, sent, token=held)
        assert (answer.status_code, answer.json()) == (404, unknown)
    path = f"{AGENTS}/{mine[0]}"
    assert (await app.call("PATCH", path, {"enabled": False}, token=held)).status_code == 200
    assert (await app.call("DELETE", path, token=held)).status_code == 204


async def test_reading_is_not_managing(app: Admin) -> None:
    shown = await made(app, scope=GROUP)
    for grant in (("AIProviders.Read", "global"), ("GroupAIProviders.Read", GROUP)):
        reader = await app.token(grant)
        path = f"{AGENTS}/{shown['id']}"
        assert (await app.call("GET", path, token=reader)).status_code == 200
        for method, where, body in (
            ("POST", AGENTS, {"name": "a", "scope": GROUP}),
            ("PATCH", path, {"enabled": False}),
            ("DELETE", path, None),
        ):
            assert (await app.call(method, where, body, token=reader)).status_code == 403
    models = await app.token(("AIModels.Manage", "global"))
    assert (await app.call("GET", AGENTS, token=models)).status_code == 403


async def test_the_scope_header_names_the_scope_and_must_agree(app: Admin) -> None:
    said = {"wardgate-scope": GROUP}
    shown = (await app.call("POST", AGENTS, {"name": "a"}, headers=said)).json()
    assert shown["scope"] == GROUP
    clash = await app.call("POST", AGENTS, {"name": "a", "scope": "global"}, headers=said)
    assert clash.status_code == 400
    other = {"wardgate-scope": OTHER}
    answer = await app.call("GET", f"{AGENTS}/{shown['id']}", headers=other)
    assert answer.status_code == 400


def test_no_field_of_a_change_has_a_default_that_a_client_might_send() -> None:
    fields = AgentBody.model_json_schema()["properties"]
    assert fields
    assert not [name for name, field in fields.items() if "default" in field]


async def test_what_a_file_keeps_is_marked_and_refused(app: Admin) -> None:
    kept = await agents.create(app.desk, LOCAL, NewAgent(name="bot"), owner="fleet.yaml")
    path = f"{AGENTS}/{kept.id}"
    assert (await app.call("GET", path)).json()["managedBy"] == "fleet.yaml"
    for method, body in (("PATCH", {"name": "new"}), ("DELETE", None)):
        assert (await app.call(method, path, body)).status_code == 409
