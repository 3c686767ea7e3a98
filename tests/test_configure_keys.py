"""Client keys at the desk: shown once, kept as a hash, changed, rotated, revoked for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from admin.configure import agents, audit, keys, tokens
from admin.configure.agents import NewAgent
from admin.configure.desk import Desk
from admin.configure.keys import KeyChange, KeyView, NewKey
from admin.configure.refusals import Refusal
from admin.permit import LOCAL, Grant
from gateway import credential
from gateway.shapes import GLOBAL, RateLimit
from gateway.store.compile import revision
from gateway.store.telemetry import record_used
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, later, refused

MANAGE = (Grant("GroupAIProviders.Manage", GROUP),)


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def test_key_is_shown_once_and_reaches_the_table_as_a_hash(desk: Desk) -> None:
    new = NewKey(name="app", allowed_models=("gpt-5",), rate_limit=5, expires_at=desk.clock() + 60)
    view, text = await keys.create(desk, LOCAL, new)
    client = (await desks.table(desk)).clients[view.id]
    assert client.digest == credential.digest(desk.hash_key.expose(), text)
    assert (client.scope, client.allowed_models) == (GLOBAL, ("gpt-5",))
    assert (client.limit, client.expires_at) == (RateLimit(5, 60), desk.clock() + 60)
    assert text.startswith(f"wg_{view.id}_")
    assert view.preview == f"wg_{view.id}_***"
    assert view == await keys.get(desk, view.id)


async def test_the_disk_never_shows_a_key_or_token(backend: Backend) -> None:
    async with desks.opened(backend) as desk:
        _, key = await keys.create(desk, LOCAL, NewKey(name="app"))
        _, token = await tokens.create(desk, LOCAL, "script", MANAGE)
        first = await tokens.ensure_bootstrap(desk)
        disk = backend.disk()
    assert first is None
    for text in (key, token):
        secret = text.rpartition("_")[2].encode()
        assert secret not in disk
        assert text.split("_")[1].encode() in disk


async def test_key_of_a_new_gateway_makes_it(desk: Desk) -> None:
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app", scope="gateway:acc/gw"))
    table = await desks.table(desk)
    assert table.chain(view.scope) == ("gateway:acc/gw", GLOBAL)
    assert table.gateways == {"gateway:acc/gw": None}


async def test_revoked_key_is_gone_everywhere(desk: Desk) -> None:
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app"))
    await keys.revoke(desk, LOCAL, view.id)
    assert (await desks.table(desk)).clients == {}
    assert await keys.page(desk, None, 0, 10) == ([], 0)
    for work in (keys.get(desk, view.id), keys.revoke(desk, LOCAL, view.id)):
        assert await refused(work) == ("not_found", None)


async def test_page_shows_when_keys_were_used(desk: Desk) -> None:
    made = []
    for scope in (GLOBAL, GROUP, GLOBAL):
        made.append((await keys.create(desk, LOCAL, NewKey(name="app", scope=scope)))[0])
        later(desk)
    await record_used(desk.store, {made[0].id: 5.5})
    views, total = await keys.page(desk, {GLOBAL}, 0, 10)
    assert [(view.id, view.last_used_at) for view in views] == [
        (made[0].id, 5.5),
        (made[2].id, None),
    ]
    assert total == 2
    assert (await keys.page(desk, None, 2, 1))[0] == [made[2]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": ""}, ("bad_name", "name")),
        ({"name": "x\x00"}, ("bad_name", "name")),
        ({"scope": "x"}, ("bad_scope", "scope")),
        ({"scope": "gateway:wardgate/x"}, ("reserved", "scope")),
        ({"rate_limit": 0}, ("bad_limit", "rate_limit")),
        ({"rate_limit_period": -1}, ("bad_limit", "rate_limit_period")),
        ({"expires_at": 1_750_000_000.0}, ("bad_time", "expires_at")),
        ({"allowed_models": ("gpt", "")}, ("bad_model", "allowed_models")),
        ({"agent": "nobody"}, ("unknown_agent", "agent")),
    ],
)
async def test_key_refuses(desk: Desk, given: dict[str, Any], expected: tuple[str, str]) -> None:
    before = await revision(desk.store)
    assert await refused(keys.create(desk, LOCAL, NewKey(**{"name": "app", **given}))) == expected
    assert await revision(desk.store) == before


async def test_a_key_belongs_to_an_agent_of_its_own_scope(desk: Desk) -> None:
    agent = await agents.create(desk, LOCAL, NewAgent(name="bot"))
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app", agent=agent.id))
    assert view.agent == agent.id
    elsewhere = NewKey(name="app", agent=agent.id, scope=GROUP)
    assert await refused(keys.create(desk, LOCAL, elsewhere)) == ("unknown_agent", "agent")
    theirs, _ = await keys.create(desk, LOCAL, NewKey(name="app", scope=GROUP))
    moved = keys.change(desk, LOCAL, theirs.id, KeyChange(agent=agent.id))
    assert await refused(moved) == ("unknown_agent", "agent")


FULL: dict[str, Any] = {
    "name": "new name",
    "allowed_models": ("gpt-5", "openai/gpt-4o"),
    "rate_limit": 7,
    "rate_limit_period": 10,
    "expires_at": 1_760_000_000.0,
}


@pytest.mark.parametrize("name", FULL)
async def test_change_touches_what_it_names(desk: Desk, name: str) -> None:
    before, text = await keys.create(desk, LOCAL, NewKey(name="app", rate_limit=3))
    after = await keys.change(desk, LOCAL, before.id, KeyChange(**{name: FULL[name]}))
    assert getattr(after, name) == FULL[name]
    rest = {field for field in FULL if field != name}
    assert all(getattr(after, field) == getattr(before, field) for field in rest)
    client = (await desks.table(desk)).clients[before.id]
    assert client.digest == credential.digest(desk.hash_key.expose(), text)


async def test_change_clears_what_may_be_absent(desk: Desk) -> None:
    agent = await agents.create(desk, LOCAL, NewAgent(name="bot"))
    new = NewKey(agent=agent.id, **FULL)
    view, _ = await keys.create(desk, LOCAL, new)
    cleared = KeyChange(agent=None, allowed_models=(), rate_limit=None, expires_at=None)
    after = await keys.change(desk, LOCAL, view.id, cleared)
    assert (after.agent, after.allowed_models, after.rate_limit) == (None, (), None)
    assert (after.expires_at, after.rate_limit_period) == (None, 10)
    client = (await desks.table(desk)).clients[view.id]
    assert (client.agent, client.limit, client.expires_at) == (None, None, None)


async def test_a_period_set_before_its_limit_is_kept(desk: Desk) -> None:
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app"))
    after = await keys.change(desk, LOCAL, view.id, KeyChange(rate_limit_period=10))
    assert after.rate_limit_period == 10
    await keys.change(desk, LOCAL, view.id, KeyChange(rate_limit=5))
    assert (await desks.table(desk)).clients[view.id].limit == RateLimit(5, 10)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": " "}, ("bad_name", "name")),
        ({"agent": "nobody"}, ("unknown_agent", "agent")),
        ({"rate_limit": 0}, ("bad_limit", "rate_limit")),
        ({"rate_limit_period": 0}, ("bad_limit", "rate_limit_period")),
        ({"expires_at": 1_750_000_000.0}, ("bad_time", "expires_at")),
        ({"allowed_models": ("",)}, ("bad_model", "allowed_models")),
    ],
)
async def test_change_refuses(desk: Desk, given: dict[str, Any], expected: tuple[str, str]) -> None:
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app"))
    before = await revision(desk.store)
    assert await refused(keys.change(desk, LOCAL, view.id, KeyChange(**given))) == expected
    assert await revision(desk.store) == before
    assert await keys.get(desk, view.id) == view


async def test_an_expired_key_may_be_renamed(desk: Desk) -> None:
    new = NewKey(name="app", expires_at=desk.clock() + 1)
    view, _ = await keys.create(desk, LOCAL, new)
    later(desk, 10)
    assert (await keys.change(desk, LOCAL, view.id, KeyChange(name="old"))).name == "old"


async def test_rotate_keeps_the_id_and_nothing_of_the_old_text(desk: Desk) -> None:
    view, old = await keys.create(desk, LOCAL, NewKey(name="app", rate_limit=3))
    same, text = await keys.rotate(desk, LOCAL, view.id)
    assert same.edition != view.edition
    assert replace(same, edition=view.edition) == view
    read = credential.read(text)
    assert read is not None
    assert (read.prefix, read.public_id) == ("wg", view.id)
    digest = (await desks.table(desk)).clients[view.id].digest
    assert digest == credential.digest(desk.hash_key.expose(), text)
    assert digest != credential.digest(desk.hash_key.expose(), old)
    assert text.split("_")[2][:43] != old.split("_")[2][:43]
    assert (await keys.rotate(desk, LOCAL, view.id))[1] != text


async def test_every_change_is_audited_without_its_key(desk: Desk) -> None:
    view, old = await keys.create(desk, LOCAL, NewKey(name="app"))
    await keys.change(desk, LOCAL, view.id, KeyChange(name="b", rate_limit=None))
    _, text = await keys.rotate(desk, LOCAL, view.id)
    await keys.revoke(desk, LOCAL, view.id)
    rows, valid = await audit.page(desk, 10)
    assert valid
    assert [row.action for row in rows] == ["key.revoke", "key.rotate", "key.change", "key.create"]
    assert rows[2].change == {"name": "b", "rate_limit": None}
    assert all(row.target == view.id for row in rows)
    assert not any(secret[16:] in repr(rows) for secret in (old, text))
    assert "digest" not in repr(rows)


async def test_nothing_is_changed_when_the_guard_refuses(desk: Desk) -> None:
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app"))
    seen: list[KeyView] = []

    def guard(present: KeyView) -> None:
        seen.append(present)
        raise Refusal("stale", "no")

    before = await revision(desk.store)
    for work in (
        keys.change(desk, LOCAL, view.id, KeyChange(name="b"), guard=guard),
        keys.rotate(desk, LOCAL, view.id, guard=guard),
        keys.revoke(desk, LOCAL, view.id, guard=guard),
    ):
        assert await refused(work) == ("stale", None)
    assert seen == [view] * 3
    assert await revision(desk.store) == before


async def test_a_revoked_key_is_changed_by_nothing(desk: Desk) -> None:
    view, _ = await keys.create(desk, LOCAL, NewKey(name="app"))
    await keys.revoke(desk, LOCAL, view.id)
    for work in (
        keys.change(desk, LOCAL, view.id, KeyChange(name="b")),
        keys.rotate(desk, LOCAL, view.id),
    ):
        assert await refused(work) == ("not_found", None)
