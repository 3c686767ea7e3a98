"""Gateways at the desk: settings, limits, and what goes when one goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from admin.configure import configs, gateways, keys
from admin.configure.desk import Desk
from admin.configure.gateways import GatewayView
from admin.configure.keys import NewKey
from admin.permit import LOCAL
from gateway.shapes import GLOBAL, RateLimit, Scope
from gateway.store import scopes
from tests import desks
from tests.backends import Backend
from tests.desks import add, later, refused

SCOPE = "gateway:acc/gw"


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def make(desk: Desk, gateway: str = "gw", **fields: Any) -> GatewayView:
    return await gateways.create(desk, LOCAL, "acc", gateway, fields)


async def test_create_shows_settings_and_keeps_foreign_ones(desk: Desk) -> None:
    view = await make(desk, collect_logs=False, cache_ttl=0, logpush=True)
    assert view == await gateways.get(desk, "acc", "gw")
    assert (view.collect_logs, view.cache_ttl, view.authentication) == (False, 0, True)
    assert view.extra == {"logpush": True}
    assert view.created_at == view.modified_at == desk.clock()


async def test_limit_reaches_the_table(desk: Desk) -> None:
    await make(desk, rate_limiting_limit=10, rate_limiting_interval=60)
    assert (await desks.table(desk)).gateways == {SCOPE: RateLimit(10, 60)}
    changed = {"rate_limiting_technique": "sliding"}
    await gateways.change(desk, LOCAL, "acc", "gw", changed)
    assert (await desks.table(desk)).gateways == {SCOPE: RateLimit(10, 60, "sliding")}
    off = {"rate_limiting_limit": 0, "rate_limiting_interval": 0, "rate_limiting_technique": None}
    await gateways.change(desk, LOCAL, "acc", "gw", off)
    assert (await desks.table(desk)).gateways == {SCOPE: None}


async def test_change_keeps_what_it_does_not_name(desk: Desk) -> None:
    before = await make(desk, collect_logs=False, logpush=True)
    later(desk)
    after = await gateways.change(desk, LOCAL, "acc", "gw", {"cache_ttl": 5, "zdr": True})
    assert (after.collect_logs, after.cache_ttl) == (False, 5)
    assert after.extra == {"logpush": True, "zdr": True}
    assert (after.created_at, after.modified_at) == (before.created_at, desk.clock())


async def test_a_config_makes_its_gateway(desk: Desk) -> None:
    await add(desk, scope=SCOPE)
    assert (await gateways.get(desk, "acc", "gw")).account == "acc"
    assert await refused(make(desk)) == ("gateway_exists", "id")


async def test_reading_makes_nothing(desk: Desk) -> None:
    assert await refused(gateways.get(desk, "acc", "gw")) == ("not_found", None)
    assert await refused(gateways.change(desk, LOCAL, "acc", "gw", {})) == ("not_found", None)
    assert await refused(gateways.delete(desk, LOCAL, "acc", "gw")) == ("not_found", None)
    assert (await desks.table(desk)).scopes.keys() == {GLOBAL}


async def test_page_is_of_one_account_and_searches(desk: Desk) -> None:
    for name in ("one", "two", "three"):
        await make(desk, name)
        later(desk)
    await gateways.create(desk, LOCAL, "other", "one", {})
    views, total = await gateways.page(desk, "acc", 1, 1)
    assert ([view.id for view in views], total) == (["two"], 3)
    views, total = await gateways.page(desk, "acc", 0, 10, "t")
    assert ([view.id for view in views], total) == (["two", "three"], 2)
    assert await gateways.page(desk, "acc", 0, 10, "%") == ([], 0)


async def test_delete_takes_configs_and_keys_along(desk: Desk) -> None:
    await add(desk, scope=SCOPE)
    kept = await add(desk)
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app", scope=SCOPE))
    await gateways.delete(desk, LOCAL, "acc", "gw")
    table = await desks.table(desk)
    assert (set(table.scopes), set(table.clients), set(table.gateways)) == ({GLOBAL}, set(), set())
    assert [row.id for row in (await configs.page(desk, None, 0, 9))[0]] == [kept.id]
    assert await refused(keys.get(desk, view.id)) == ("not_found", None)


async def test_delete_refuses_while_others_inherit(desk: Desk) -> None:
    await make(desk)
    async with desk.store.write(GLOBAL) as conn:
        await scopes.add(conn, Scope("instance:i", "instance", SCOPE), 1.0)
    assert await refused(gateways.delete(desk, LOCAL, "acc", "gw")) == ("in_use", None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rate_limiting_limit": -1}, ("bad_limit", "rate_limiting_limit")),
        ({"rate_limiting_limit": True}, ("bad_limit", "rate_limiting_limit")),
        ({"rate_limiting_limit": 2**31}, ("bad_limit", "rate_limiting_limit")),
        ({"rate_limiting_limit": 5}, ("bad_limit", "rate_limiting_interval")),
        ({"rate_limiting_technique": "odd"}, ("bad_settings", "rate_limiting_technique")),
        ({"collect_logs": None}, ("bad_settings", "collect_logs")),
        ({"cache_ttl": "5"}, ("bad_limit", "cache_ttl")),
    ],
)
async def test_settings_refuse(
    desk: Desk, fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert await refused(make(desk, **fields)) == expected
    assert (await desks.table(desk)).scopes.keys() == {GLOBAL}


@pytest.mark.parametrize(
    ("account", "gateway", "kind"),
    [
        ("wardgate", "gw", "reserved"),
        ("files", "gw", "reserved"),
        ("cachedContents", "gw", "reserved"),
        ("tunedmodels", "gw", "reserved"),
        ("acc", "", "bad_scope"),
        ("acc", "a" * 65, "bad_scope"),
        ("acc", "a--b", "bad_scope"),
        ("acc/x", "gw", "bad_scope"),
        ("", "gw", "bad_scope"),
    ],
)
async def test_create_refuses_names(desk: Desk, account: str, gateway: str, kind: str) -> None:
    assert await refused(gateways.create(desk, LOCAL, account, gateway, {})) == (kind, "scope")
