"""Surface 2: which scope a request means, and what one who may not look there gets to see."""

from __future__ import annotations

import pytest

from tests.admin_serve import Admin
from tests.connecting import GROUP, LIST, NOWHERE, OTHER, connection, made
from tests.test_api_connections import ITEM, rows

in_module = pytest.mark.asyncio(loop_scope="module")


async def test_lists_span_the_scopes_one_may_read(app: Admin) -> None:
    for scope in ("global", GROUP, OTHER):
        await made(app, f"in-{scope[-2:]}", scope=scope)
    token = await app.token(("GroupAIProviders.Read", GROUP))
    assert await rows(app) == ["in-al", "in-33", "in-34"]
    assert await rows(app, token=token) == ["in-33"]
    for scope in ("global", OTHER, "instance:nobody"):
        assert await rows(app, f"?scope={scope}", token=token) == []
    assert await rows(app, f"?scope={OTHER}") == ["in-34"]
    assert await rows(app, headers={"wardgate-scope": OTHER}) == ["in-34"]


async def test_an_alias_is_looked_up_in_one_scope_an_id_in_all(app: Admin) -> None:
    here, there = await made(app), await made(app, scope=GROUP)
    for where, headers, wanted in (
        ("", {}, here),
        (f"?scope={GROUP}", {}, there),
        ("", {"wardgate-scope": GROUP}, there),
        (f"?scope={GROUP}", {"wardgate-scope": GROUP}, there),
    ):
        answer = await app.call("GET", f"{LIST}/openai-prod{where}", headers=headers)
        assert answer.json() == wanted
    assert (await app.call("GET", f"{LIST}/{there['id']}")).json() == there


async def test_a_request_that_names_two_scopes_is_refused(app: Admin) -> None:
    shown = await made(app)
    path = f"{LIST}/{shown['id']}"
    header = {"wardgate-scope": OTHER}
    for method, where, body, headers in (
        ("GET", f"{LIST}?scope={GROUP}", None, header),
        ("GET", f"{LIST}/capabilities?scope={GROUP}", None, header),
        ("GET", f"{LIST}/openai-prod?scope={GROUP}", None, header),
        ("POST", LIST, connection("b", scope=GROUP), header),
        ("POST", f"{LIST}?scope={OTHER}", connection("b", scope=GROUP), {}),
        ("GET", path, None, header),
        ("GET", f"{path}?scope={OTHER}", None, {}),
        ("PUT", f"{path}?scope={OTHER}", {"name": "x"}, {}),
        ("PUT", path, {"name": "x"}, header),
        ("DELETE", f"{path}?scope={OTHER}", None, {}),
        ("DELETE", path, None, header),
        ("POST", f"{path}/test", None, header),
    ):
        answer = await app.call(method, where, body, headers=headers)
        assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request"), where
        [error] = answer.json()["errors"]
        assert set(error) & {"header", "query"}
    assert (await app.call("GET", LIST)).json()["items"] == [{name: shown[name] for name in ITEM}]


async def test_a_group_admin_sees_and_makes_his_own_only(app: Admin) -> None:
    mine, theirs = GROUP, (await made(app, scope=OTHER))["id"]
    token = await app.token(("GroupAIProviders.Manage", mine))
    unknown = await app.call("GET", f"{LIST}/{NOWHERE}", token=token)
    for method, path, body in (
        ("GET", f"{LIST}/{theirs}", None),
        ("PUT", f"{LIST}/{theirs}", {"name": "x"}),
        ("DELETE", f"{LIST}/{theirs}", None),
        ("POST", f"{LIST}/{theirs}/test", None),
        ("GET", f"{LIST}/{theirs}/models", None),
        ("GET", f"{LIST}/openai-prod?scope={OTHER}", None),
        ("POST", LIST, connection()),
        ("POST", LIST, connection(scope=OTHER)),
    ):
        answer = await app.call(method, path, body, token=token)
        assert (answer.status_code, answer.json()) == (404, unknown.json()), path
    answer = await app.call("POST", LIST, connection(scope=mine), token=token)
    assert (answer.status_code, answer.json()["scope"]) == (201, mine)
    reader = await app.token(("GroupAIProviders.Read", mine))
    path = f"{LIST}/{answer.json()['id']}"
    assert (await app.call("GET", path, token=reader)).json() == answer.json()
    assert (await app.call("DELETE", path, token=token)).status_code == 200


@in_module
async def test_who_holds_the_action_nowhere_is_told_so(shared: Admin) -> None:
    reader = await shared.token(("AIProviders.Read", "global"))
    nobody = await shared.token(("AIModels.Read", "global"))
    for token, method, path, body in (
        (reader, "POST", LIST, connection()),
        (reader, "PUT", f"{LIST}/{NOWHERE}", {}),
        (reader, "DELETE", f"{LIST}/{NOWHERE}", None),
        (reader, "POST", f"{LIST}/{NOWHERE}/test", None),
        (nobody, "GET", LIST, None),
        (nobody, "GET", f"{LIST}/x", None),
        (nobody, "GET", f"{LIST}/x/models", None),
        (nobody, "GET", f"{LIST}/capabilities", None),
        (nobody, "GET", f"{LIST}/capabilities/chat", None),
    ):
        answer = await shared.call(method, path, body, token=token)
        assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden"), path
    for token in ("", "wga_nobody_0123456789"):
        answer = await shared.call("GET", LIST, token=token)
        assert (answer.status_code, answer.json()["title"]) == (401, "Unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
