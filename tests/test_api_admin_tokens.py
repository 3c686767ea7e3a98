"""/api/v1/admin-tokens: shown once, listed without secrets, dead at once when revoked."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import credential
from tests.admin_serve import CONFIGS, Admin
from tests.backends import Backend

TOKENS = "/api/v1/admin-tokens"
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
READER = [{"permission": "AIProviders.Read", "scope": "global"}]


in_module = pytest.mark.asyncio(loop_scope="module")


async def test_a_new_token_may_what_it_was_granted(app: Admin) -> None:
    answer = await app.call("POST", TOKENS, {"name": "ci", "grants": READER})
    assert answer.status_code == 201
    shown = answer.json()
    read = credential.read(shown["key"])
    assert read is not None
    assert (read.prefix, read.public_id) == ("wga", shown["id"])
    assert (shown["name"], shown["grants"]) == ("ci", READER)
    assert (await app.call("GET", CONFIGS, token=shown["key"])).status_code == 200
    assert (await app.call("POST", CONFIGS, {}, token=shown["key"])).status_code == 403


async def test_a_token_is_shown_only_once(app: Admin, backend: Backend) -> None:
    shown = (await app.call("POST", TOKENS, {"name": "ci", "grants": READER})).json()
    listed = await app.call("GET", TOKENS)
    assert [row["name"] for row in listed.json()["data"]] == ["root", "ci"]
    assert listed.json()["data"][1]["keyPreview"].startswith("wga_")
    text = listed.text + (await app.call("GET", "/api/v1/audit")).text
    assert shown["key"] not in text
    assert shown["key"].encode() not in backend.disk()


async def test_a_revoked_token_opens_nothing(app: Admin) -> None:
    shown = (await app.call("POST", TOKENS, {"name": "ci", "grants": READER})).json()
    assert (await app.call("DELETE", f"{TOKENS}/{shown['id']}")).status_code == 204
    assert (await app.call("GET", CONFIGS, token=shown["key"])).status_code == 401
    assert (await app.call("DELETE", f"{TOKENS}/nope")).status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"grants": READER}, "/name"),
        ({"name": "a", "grants": [{"scope": "global"}]}, "/grants/0/permission"),
        ({"name": "a", "grants": [{"permission": "Root"}]}, "/grants"),
        ({"name": "a", "grants": [{"permission": "superadmin", "scope": GROUP}]}, "/grants"),
        ({"name": "a", "grants": [{"permission": "GroupAIModels.Read"}]}, "/grants"),
        ({"name": "a", "admin": True}, "/admin"),
    ],
)
@in_module
async def test_create_points_at_the_field_when_it_is_wrong(
    shared: Admin, body: dict[str, Any], pointer: str
) -> None:
    answer = await shared.call("POST", TOKENS, body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == pointer


@in_module
async def test_forbidden_to_everybody_but_superadmin(shared: Admin) -> None:
    held = await shared.token(("AIProviders.Manage", "global"), ("AIModels.Manage", "global"))
    for method, path, body in (
        ("GET", TOKENS, None),
        ("POST", TOKENS, {"name": "a", "grants": READER}),
        ("DELETE", f"{TOKENS}/nope", None),
        ("GET", "/api/v1/audit", None),
    ):
        answer = await shared.call(method, path, body, token=held)
        assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")


async def test_change_keeps_what_is_left_out(app: Admin) -> None:
    shown = (await app.call("POST", TOKENS, {"name": "ci", "grants": READER})).json()
    path = f"{TOKENS}/{shown['id']}"
    after = await app.call("PATCH", path, {"name": "new"})
    assert after.json() == {**{k: v for k, v in shown.items() if k != "key"}, "name": "new"}
    assert (await app.call("GET", CONFIGS, token=shown["key"])).status_code == 200
    after = await app.call("PATCH", path, {"grants": []})
    assert (after.json()["name"], after.json()["grants"]) == ("new", [])
    assert (await app.call("GET", CONFIGS, token=shown["key"])).status_code == 403
    one = await app.call("GET", path)
    assert (one.json(), one.headers["etag"]) == (after.json(), after.headers["etag"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": " "}, "/name"),
        ({"grants": None}, "/grants"),
        ({"grants": [{"permission": "Root"}]}, "/grants"),
        ({"key": "wga_x"}, "/key"),
    ],
)
async def test_change_points_at_the_field_when_it_is_wrong(
    app: Admin, body: dict[str, Any], pointer: str
) -> None:
    shown = (await app.call("POST", TOKENS, {"name": "ci", "grants": READER})).json()
    answer = await app.call("PATCH", f"{TOKENS}/{shown['id']}", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_rotate_shows_a_new_token_this_once_and_ends_the_old_one(
    app: Admin, backend: Backend
) -> None:
    shown = (await app.call("POST", TOKENS, {"name": "ci", "grants": READER})).json()
    answer = await app.call("POST", f"{TOKENS}/{shown['id']}/rotate")
    rotated = answer.json()
    assert (answer.status_code, {**rotated, "key": shown["key"]}) == (200, shown)
    assert (await app.call("GET", CONFIGS, token=shown["key"])).status_code == 401
    assert (await app.call("GET", CONFIGS, token=rotated["key"])).status_code == 200
    for where in (TOKENS, f"{TOKENS}/{shown['id']}", "/api/v1/audit"):
        assert rotated["key"][17:] not in (await app.call("GET", where)).text
    assert rotated["key"][17:].encode() not in backend.disk()


async def test_a_token_may_rotate_itself(app: Admin) -> None:
    root = (await app.call("GET", TOKENS)).json()["data"][0]
    rotated = (await app.call("POST", f"{TOKENS}/{root['id']}/rotate")).json()
    assert (await app.call("GET", TOKENS)).status_code == 401
    assert (await app.call("GET", TOKENS, token=rotated["key"])).status_code == 200


async def test_the_last_superadmin_stays(app: Admin) -> None:
    root = (await app.call("GET", TOKENS)).json()["data"][0]
    path = f"{TOKENS}/{root['id']}"
    for method, body in (("DELETE", None), ("PATCH", {"grants": READER})):
        answer = await app.call(method, path, body)
        assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
        assert "wardgate tokens create" in answer.json()["detail"]
    second = [{"permission": "superadmin", "scope": "global"}]
    await app.call("POST", TOKENS, {"name": "second", "grants": second})
    assert (await app.call("DELETE", path)).status_code == 204
    assert (await app.call("GET", TOKENS)).status_code == 401


async def test_if_match_names_the_present_state(app: Admin) -> None:
    made = await app.call("POST", TOKENS, {"name": "ci", "grants": READER})
    path, stale = f"{TOKENS}/{made.json()['id']}", {"if-match": made.headers["etag"]}
    changed = await app.call("PATCH", path, {"name": "new"}, headers=stale)
    assert changed.status_code == 200
    for method, where, body in (
        ("PATCH", path, {"name": "newer"}),
        ("POST", f"{path}/rotate", None),
        ("DELETE", path, None),
    ):
        assert (await app.call(method, where, body, headers=stale)).status_code == 412
    fresh = {"if-match": changed.headers["etag"]}
    assert (await app.call("DELETE", path, headers=fresh)).status_code == 204


@in_module
async def test_not_found_when_there_is_no_such_token(shared: Admin) -> None:
    for method, rest, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "a"}),
        ("POST", "/rotate", None),
    ):
        for token in ("nope", "%00", "a" * 300):
            answer = await shared.call(method, f"{TOKENS}/{token}{rest}", body)
            assert answer.status_code == 404


@in_module
async def test_only_a_superadmin_changes_tokens(shared: Admin) -> None:
    held = await shared.token(("AIProviders.Manage", "global"))
    for method, rest, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "a"}),
        ("POST", "/rotate", None),
    ):
        answer = await shared.call(method, f"{TOKENS}/nope{rest}", body, token=held)
        assert answer.status_code == 403
