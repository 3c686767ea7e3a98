"""/api/v1/audit: every change is there, newest first, without key material, in a chain."""

from __future__ import annotations

import pytest

from tests.admin_serve import CANARY, CONFIGS, KEY, Admin, admin, new
from tests.backends import Backend

in_module = pytest.mark.asyncio(loop_scope="module")


async def test_every_change_is_audited_newest_first(backend: Backend) -> None:
    async with admin(backend) as app:
        made = (await app.call("POST", CONFIGS, new())).json()["result"]
        await app.call("PUT", f"{CONFIGS}/{made['id']}", {"secret": KEY, "alias": "other"})
        await app.call("DELETE", f"{CONFIGS}/{made['id']}")
        answer = await app.call("GET", "/api/v1/audit")
    trail = answer.json()
    assert trail["chainValid"] is True
    ids = [row["id"] for row in trail["data"]]
    assert ids == sorted(ids, reverse=True)
    told = [row for row in trail["data"] if made["id"] in row["target"]]
    assert len(told) == 3
    assert {row["actor"]["name"] for row in told} == {"root"}
    assert CANARY not in answer.text


async def test_reads_and_refusals_leave_no_row(backend: Backend) -> None:
    async with admin(backend) as app:
        before = (await app.call("GET", "/api/v1/audit")).json()["data"]
        await app.call("GET", CONFIGS)
        await app.call("POST", CONFIGS, new(provider_slug="no-such-provider"))
        await app.call("POST", CONFIGS, new(), token="")
        assert (await app.call("GET", "/api/v1/audit")).json()["data"] == before


async def test_pages_go_on_before_the_last_row(backend: Backend) -> None:
    async with admin(backend) as app:
        for number in range(4):
            await app.call("POST", "/api/v1/client-keys", {"name": f"app {number}"})
        whole = (await app.call("GET", "/api/v1/audit")).json()["data"]
        seen, path = [], "/api/v1/audit?limit=2"
        while True:
            page = (await app.call("GET", path)).json()
            assert page["chainValid"] is True
            seen += page["data"]
            if not page["hasMore"]:
                break
            path = f"/api/v1/audit?limit=2&before={page['next']}"
    assert seen == whole
    assert len(seen) >= 5


@pytest.mark.parametrize("asked", ["limit=0", "limit=201", "before=x", "before=0"])
@in_module
async def test_refused_when_the_window_is_nonsense(shared: Admin, asked: str) -> None:
    assert (await shared.call("GET", f"/api/v1/audit?{asked}")).status_code == 400
