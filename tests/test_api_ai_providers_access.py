"""Surface 1: who may do what in which scope, and that nobody else learns what is there."""

from __future__ import annotations

from typing import Any

import pytest

from admin.configure import configs
from tests.admin_serve import KEY, Admin
from tests.providing import CONFIGURE, GROUP, LIST, OPENAI, OTHER, TYPE_ID, ask, config

in_module = pytest.mark.asyncio(loop_scope="module")

HOLDERS: dict[str, tuple[tuple[str, str], ...]] = {
    "read": (("AIProviders.Read", "global"),),
    "manage": (("AIProviders.Manage", "global"),),
    "group read": (("GroupAIProviders.Read", GROUP),),
    "group manage": (("GroupAIProviders.Manage", GROUP),),
    "models read": (("AIModels.Read", "global"),),
    "group models": (("GroupAIModels.Manage", GROUP),),
    "nothing": (),
}
CALLS: dict[str, tuple[str, str, Any]] = {
    "list": ("GET", LIST, None),
    "get": ("GET", OPENAI, None),
    "agents": ("GET", f"{OPENAI}/agents", None),
    "configure": ("PUT", CONFIGURE, {"apiKey": KEY}),
    "models": ("GET", f"{OPENAI}/models", None),
    "switch": ("PUT", f"{OPENAI}/models/gpt-4o", {"enabled": True}),
    "remove": ("DELETE", CONFIGURE, None),
}
# Status in global, in the group and in another group, per call that the holder may make anywhere.
MAY = {
    "read": {"list": (200, 200, 200), "get": (200, 200, 200)},
    "manage": {name: (200, 200, 200) for name in CALLS if name not in ("models", "switch")},
    "group read": {"list": (200, 200, 200), "get": (404, 200, 404)},
    "group manage": {
        **dict.fromkeys(("get", "agents", "configure", "remove"), (404, 200, 404)),
        "list": (200, 200, 200),
    },
    "models read": {"models": (200, 200, 200)},
    "group models": {"models": (404, 200, 404), "switch": (404, 200, 404)},
    "nothing": {},
}


@pytest.mark.parametrize("holder", HOLDERS)
async def test_who_may_do_what_where(app: Admin, holder: str) -> None:
    token = await app.token(*HOLDERS[holder])
    for name, (method, path, body) in CALLS.items():
        statuses = MAY[holder].get(name, (403, 403, 403))
        for scope, status in zip(("global", GROUP, OTHER), statuses, strict=True):
            answer = await ask(app, status, method, f"{path}?scope={scope}", body, token=token)
            if name == "list" and status == 200 and holder.startswith("group"):
                assert bool(answer.json()) == (scope == GROUP)


async def test_what_one_may_not_see_is_as_if_it_were_not_there(app: Admin) -> None:
    await config(app, scope=OTHER)
    token = await app.token(("GroupAIProviders.Manage", GROUP))
    for method, path, body in (CALLS["get"], CALLS["configure"], CALLS["remove"], CALLS["agents"]):
        there = await ask(app, 404, method, f"{path}?scope={OTHER}", body, token=token)
        unknown = f"{LIST}/nobody{path.removeprefix(OPENAI)}?scope={GROUP}"
        nowhere = await ask(app, 404, method, unknown, body, token=token)
        assert there.content == nowhere.content


async def test_a_group_may_not_point_its_key_elsewhere(app: Admin) -> None:
    token = await app.token(("GroupAIProviders.Manage", GROUP))
    path = f"{CONFIGURE}?scope={TYPE_ID}"
    elsewhere = {"apiKey": KEY, "baseUrl": "https://mine.example/v1"}
    await ask(app, 403, "PUT", path, elsewhere, token=token)
    await ask(app, 403, "PUT", path, {"apiKey": "$env:UPSTREAM_KEY"}, token=token)
    assert await configs.every(app.desk, None) == []
    await ask(app, 200, "PUT", path, {"apiKey": KEY}, token=token)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", LIST), ("PATCH", OPENAI), ("GET", CONFIGURE)]
)
@in_module
async def test_other_methods_are_405_in_the_surfaces_shape(
    shared: Admin, method: str, path: str
) -> None:
    answer = await ask(shared, 405, method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"]
