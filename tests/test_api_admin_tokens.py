"""/api/v1/admin-tokens: shown once, listed without secrets, dead at once when revoked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway import credential
from tests.admin_serve import CONFIGS, Admin, store_bytes

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


async def test_a_token_is_shown_only_once(app: Admin, tmp_path: Path) -> None:
    shown = (await app.call("POST", TOKENS, {"name": "ci", "grants": READER})).json()
    listed = await app.call("GET", TOKENS)
    assert [row["name"] for row in listed.json()["data"]] == ["root", "ci"]
    assert listed.json()["data"][1]["keyPreview"].startswith("wga_")
    text = listed.text + (await app.call("GET", "/api/v1/audit")).text
    assert shown["key"] not in text
    assert shown["key"].encode() not in store_bytes(tmp_path)


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
