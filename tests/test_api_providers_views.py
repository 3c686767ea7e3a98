"""Surface 4, what it shows and to whom: lists, statuses, health, permissions, Idempotency-Key."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from admin.configure import configs
from admin.configure.configs import ConfigChange
from admin.configure.identity import as_prov
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway.shapes import Secret
from gateway.store.proofs import PROVEN, REFUSED
from tests import providing
from tests.admin_serve import CANARY, KEY, Admin
from tests.backends import Backend
from tests.providing import (
    ANOTHER,
    GROUP,
    MANAGE,
    OTHER,
    ask,
    config,
    counted,
    openai_house,
    seen,
)

in_module = pytest.mark.asyncio(loop_scope="module")
WINDOWS = ["1m", "5m", "1h", "24h"]
WINDOW = {
    *("window", "requests", "success_rate", "error_codes", "ttft_p50_ms"),
    *("p50_latency_ms", "p95_latency_ms", "p99_latency_ms"),
}


@pytest.fixture
async def house(backend: Backend) -> AsyncIterator[tuple[Admin, Upstream]]:
    async with openai_house(backend) as running:
        yield running


@pytest.fixture
def app(house: tuple[Admin, Upstream]) -> Admin:
    return house[0]


def new(**more: Any) -> dict[str, Any]:
    return {"vendor": "openai", "name": "Main", "api_key": KEY, **more}


async def page(app: Admin, query: str = "", **more: Any) -> dict[str, Any]:
    shown: dict[str, Any] = (await ask(app, 200, "GET", f"{MANAGE}{query}", **more)).json()
    assert set(shown) == {"data", "has_more", "next_cursor"}
    assert shown["has_more"] == (shown["next_cursor"] is not None)
    return shown


async def names(app: Admin, query: str = "", **more: Any) -> list[str]:
    return [row["name"] for row in (await page(app, query, **more))["data"]]


async def several(app: Admin) -> list[str]:
    """Five configs in three scopes; their names, oldest first."""
    for number, scope in enumerate(("global", GROUP, OTHER, GROUP, "global")):
        await config(app, f"a{number}", scope=scope, name=f"n{number}")
    return [f"n{number}" for number in range(5)]


async def test_the_list_spans_every_scope_oldest_first(app: Admin) -> None:
    assert await page(app) == {"data": [], "has_more": False, "next_cursor": None}
    every = await several(app)
    assert await names(app) == every
    assert {row["scope"] for row in (await page(app))["data"]} == {"global", GROUP, OTHER}
    assert await names(app, f"?scope={GROUP}") == ["n1", "n3"]
    assert await names(app, headers={"wardgate-scope": OTHER}) == ["n2"]
    assert await names(app, "?scope=instance:none") == []


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_cursors_lead_through_everything_once(app: Admin, limit: int) -> None:
    every, walked, query = await several(app), list[str](), f"?limit={limit}"
    while query:
        shown = await page(app, query)
        assert len(shown["data"]) <= limit
        walked += [row["name"] for row in shown["data"]]
        assert len(walked) <= len(every)
        cursor = shown["next_cursor"]
        query = f"?limit={limit}&cursor={cursor}" if cursor else ""
    assert walked == every


async def test_a_walk_goes_on_when_its_cursor_is_deleted(app: Admin) -> None:
    await several(app)
    cursor = (await page(app, "?limit=2"))["next_cursor"]
    await ask(app, 204, "DELETE", f"{MANAGE}/{cursor}")
    assert await names(app, f"?cursor={cursor}") == ["n2", "n3", "n4"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("scope=", "scope"),
        ("scope=nonsense", "scope"),
        ("window=2m", "window"),
    ],
)
@in_module
async def test_a_query_that_will_not_do_is_named(shared: Admin, query: str, param: str) -> None:
    path = f"{MANAGE}/{providing.NOWHERE}/health" if param == "window" else MANAGE
    shown = (await ask(shared, 400, "GET", f"{path}?{query}")).json()["error"]
    assert (shown["type"], shown["param"]) == ("invalid_request", param)


async def test_scopes_that_disagree_are_400(app: Admin) -> None:
    made = await config(app)
    headers = {"wardgate-scope": GROUP}
    one = f"{MANAGE}/{made.id}"
    for method, path, body in (
        ("GET", f"{MANAGE}?scope=global", None),
        ("POST", MANAGE, new(scope="global")),
        ("GET", one, None),
        ("GET", f"{one}/health", None),
        ("PATCH", one, {"name": "x"}),
        ("DELETE", one, None),
    ):
        answer = await ask(app, 400, method, path, body, headers=headers)
        assert answer.json()["error"]["param"] == "wardgate-scope"
    assert await names(app) == ["OpenAI main"]
    answer = await ask(app, 201, "POST", MANAGE, new(), headers=headers)
    assert answer.json()["scope"] == GROUP


async def status(app: Admin, config_id: str) -> str:
    return str((await ask(app, 200, "GET", f"{MANAGE}/{config_id}")).json()["status"])


async def test_disabled_goes_before_invalid_before_pending_before_active(app: Admin) -> None:
    made = await config(app)
    said = []
    for outcome in ("", "timeout", PROVEN, "unreachable", REFUSED, "timeout", PROVEN):
        if outcome:
            await seen(app, made.id, outcome)
        said.append(await status(app, made.id))
    assert said == ["pending", "pending", "active", "active", "invalid", "invalid", "active"]
    change = ConfigChange(secret=Secret(ANOTHER.encode()))
    await configs.change(app.desk, LOCAL, made.id, "global", change)
    assert await status(app, made.id) == "pending"
    await seen(app, made.id, REFUSED, version=2)
    await configs.change(app.desk, LOCAL, made.id, "global", ConfigChange(active=False))
    assert await status(app, made.id) == "disabled"


async def test_without_a_key_it_is_pending_unless_none_is_wanted(app: Admin) -> None:
    keyless = await config(app, secret=None)
    assert await status(app, keyless.id) == "pending"
    own = await config(
        app,
        provider="custom:x",
        dialect="openai",
        base_url="https://x.example/v1",
        auth_type="none",
        secret=None,
    )
    assert await status(app, own.id) == "active"


async def test_health_has_four_windows_with_what_was_counted(app: Admin) -> None:
    made = await config(app)
    await counted(app, made.id, 2, ok=9, failed=1)
    await counted(app, made.id, 200, ok=10)
    await counted(app, made.id, 2000, failed=20)
    await counted(app, made.id, 40_000, ok=60)
    shown = (await ask(app, 200, "GET", f"{MANAGE}/{as_prov(made.id)}/health")).json()
    assert set(shown) == {"state", "last_check_at", "windows"}
    assert shown["state"] == "degraded"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown["last_check_at"])
    assert [window["window"] for window in shown["windows"]] == WINDOWS
    assert all(set(window) == WINDOW for window in shown["windows"])
    assert [window["requests"] for window in shown["windows"]] == [10, 20, 40, 100]
    assert [window["success_rate"] for window in shown["windows"]] == [0.9, 0.95, 0.475, 0.79]
    assert [window["error_codes"] for window in shown["windows"]] == [
        {"http_500": 1},
        {"http_500": 1},
        {"http_500": 21},
        {"http_500": 21},
    ]
    for name in ("p50_latency_ms", "p95_latency_ms", "p99_latency_ms"):
        assert 285 <= shown["windows"][0][name] <= 315
    assert 19 <= shown["windows"][0]["ttft_p50_ms"] <= 21
    one = (await ask(app, 200, "GET", f"{MANAGE}/{made.id}")).json()["health"]
    assert (one["state"], one["last_check_at"]) == (shown["state"], shown["last_check_at"])
    assert one["p50_latency_ms"] == shown["windows"][0]["p50_latency_ms"]


@pytest.mark.parametrize("window", WINDOWS)
async def test_one_window_may_be_asked_for(app: Admin, window: str) -> None:
    made = await config(app)
    path = f"{MANAGE}/{made.id}/health?window={window}"
    shown = (await ask(app, 200, "GET", path)).json()
    empty: dict[str, Any] = {
        **dict.fromkeys(WINDOW),
        "window": window,
        "requests": 0,
        "error_codes": {},
    }
    assert shown == {"state": "unknown", "last_check_at": None, "windows": [empty]}


async def test_who_may_do_what_where(app: Admin) -> None:
    await several(app)
    ids = {row["name"]: row["id"] for row in (await page(app))["data"]}
    reader = await app.token(("GroupAIProviders.Read", GROUP))
    manager = await app.token(("GroupAIProviders.Manage", GROUP))
    everywhere = await app.token(("AIProviders.Read", "global"))
    for token, listed in ((reader, ["n1", "n3"]), (manager, ["n1", "n3"]), (everywhere, [*ids])):
        assert await names(app, token=token) == listed
        assert await names(app, f"?scope={OTHER}", token=token) == [n for n in listed if n == "n2"]
    for name, there in (("n1", True), ("n2", False), ("n0", False)):
        path, found = f"{MANAGE}/{ids[name]}", 200 if there else 404
        for token in (reader, manager):
            await ask(app, found, "GET", path, token=token)
            await ask(app, found, "GET", f"{path}/health", token=token)
        await ask(app, 403, "PATCH", path, {"name": "x"}, token=reader)
        await ask(app, 403, "DELETE", path, token=everywhere)
        await ask(app, found, "PATCH", path, {"name": name}, token=manager)
    for scope, code in ((GROUP, 201), (OTHER, 404), ("global", 404)):
        await ask(app, code, "POST", MANAGE, new(scope=scope), token=manager)
    await ask(app, 404, "DELETE", f"{MANAGE}/{ids['n2']}", token=manager)
    await ask(app, 204, "DELETE", f"{MANAGE}/{ids['n1']}", token=manager)
    assert await names(app) == ["n0", "n2", "n3", "n4", "Main"]


async def keyed(
    app: Admin, code: int, method: str, path: str, body: Any = None, key: str = "k-1", **more: Any
) -> httpx2.Response:
    return await ask(app, code, method, path, body, headers={"idempotency-key": key}, **more)


def same(first: httpx2.Response, again: httpx2.Response) -> None:
    """The kept answer, marked as such."""
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.headers.get("etag") == again.headers.get("etag")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_repeated_mutation_gets_the_same_answer_once_made(
    house: tuple[Admin, Upstream],
) -> None:
    app, upstream = house
    first = await keyed(app, 201, "POST", MANAGE, new())
    same(first, await keyed(app, 201, "POST", MANAGE, new()))
    assert (await names(app), len(upstream.received)) == (["Main"], 1)
    path = f"{MANAGE}/{first.json()['id']}"
    change = await keyed(app, 200, "PATCH", path, {"api_key": ANOTHER}, "k-2")
    same(change, await keyed(app, 200, "PATCH", path, {"api_key": ANOTHER}, "k-2"))
    [row] = await configs.every(app.desk, None)
    assert row.secret_version == 2
    gone = await keyed(app, 204, "DELETE", path, key="k-3")
    same(gone, await keyed(app, 204, "DELETE", path, key="k-3"))


async def test_another_request_under_the_same_key_is_409(app: Admin) -> None:
    made = await keyed(app, 201, "POST", MANAGE, new())
    path = f"{MANAGE}/{made.json()['id']}"
    for method, where, body in (
        ("POST", MANAGE, new(name="Other")),
        ("POST", MANAGE, new(api_key=ANOTHER)),
        ("PATCH", path, new()),
        ("DELETE", path, None),
    ):
        said = (await keyed(app, 409, method, where, body)).json()["error"]
        assert (said["type"], said["code"]) == ("conflict", "idempotency_key_reused")
    assert await names(app) == ["Main"]
    # Somebody else's key of the same name is another.
    other = await app.token(("AIProviders.Manage", "global"))
    headers = {"idempotency-key": "k-1"}
    await ask(app, 201, "POST", MANAGE, new(name="Other"), headers=headers, token=other)


async def test_of_many_at_once_one_is_made(app: Admin) -> None:
    asked = [app.call("POST", MANAGE, new(), headers={"idempotency-key": "k"}) for _ in range(8)]
    answers = await asyncio.gather(*asked)
    made = [answer for answer in answers if answer.status_code == 201]
    rest = [answer.json()["error"]["code"] for answer in answers if answer.status_code != 201]
    assert len({answer.content for answer in made}) == 1
    assert set(rest) <= {"request_in_progress"}
    assert await names(app) == ["Main"]


async def test_refusals_of_the_desk_are_kept_and_chance_is_not(
    house: tuple[Admin, Upstream], backend: Backend
) -> None:
    app, upstream = house
    refused = new(api_key=providing.REFUSED)
    same(
        await keyed(app, 422, "POST", MANAGE, refused),
        await keyed(app, 422, "POST", MANAGE, refused),
    )
    assert len(upstream.received) == 1
    made = (await ask(app, 201, "POST", MANAGE, new())).json()
    away = {"api_key": f"sk-away-{CANARY}-0123456789"}
    for _ in range(2):
        answer = await keyed(app, 422, "PATCH", f"{MANAGE}/{made['id']}", away, "k-2")
        assert "idempotent-replayed" not in answer.headers
    for _ in range(2):
        answer = await keyed(app, 404, "DELETE", f"{MANAGE}/{providing.NOWHERE}", key="k-3")
        assert "idempotent-replayed" not in answer.headers
    assert CANARY.encode() not in backend.disk()


@pytest.mark.parametrize("key", ["", "x" * 256])
@in_module
async def test_a_key_that_is_none_is_400(shared: Admin, key: str) -> None:
    shown = (await keyed(shared, 400, "POST", MANAGE, new(), key)).json()["error"]
    assert (shown["type"], shown["param"]) == ("invalid_request", "Idempotency-Key")
