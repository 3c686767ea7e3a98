"""Client keys and admin tokens at the desk: shown once, kept as a hash, revoked for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from admin.configure import keys, tokens
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from admin.permit import LOCAL, SUPERADMIN, Grant
from gateway import credential
from gateway.errors import StartRefused
from gateway.shapes import GLOBAL, RateLimit, Secret
from gateway.store import tables
from gateway.store.compile import revision
from gateway.store.telemetry import record_used
from tests import desks
from tests.desks import GROUP, GROUP_ADMIN, later, refused

OPERATOR = "an operator's own first token"
MANAGE = (Grant("GroupAIProviders.Manage", GROUP),)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desks.opened(tmp_path) as opened:
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


async def test_no_file_shows_a_key_or_token(tmp_path: Path) -> None:
    async with desks.opened(tmp_path) as desk:
        _, key = await keys.create(desk, LOCAL, NewKey(name="app"))
        _, token = await tokens.create(desk, LOCAL, "script", MANAGE)
        first = await tokens.ensure_bootstrap(desk)
        files = desks.files(tmp_path)
    assert first is None
    for text in (key, token):
        secret = text.rpartition("_")[2].encode()
        assert not any(secret in data for data in files.values())
        assert any(text.split("_")[1].encode() in data for data in files.values())


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
    views, total = await keys.page(desk, GLOBAL, 0, 10)
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
        ({"agent": "bot", "scope": GROUP}, ("unknown_agent", "agent")),
    ],
)
async def test_key_refuses(desk: Desk, given: dict[str, Any], expected: tuple[str, str]) -> None:
    agent = {"id": "bot", "scope_id": GLOBAL, "name": "b", "enabled": True}
    async with desk.store.write(GLOBAL) as conn:
        stamps = {"created_at": 1.0, "updated_at": 1.0}
        await conn.execute(insert(tables.agent).values(**agent, **stamps))
    before = await revision(desk.store)
    assert await refused(keys.create(desk, LOCAL, NewKey(**{"name": "app", **given}))) == expected
    assert await revision(desk.store) == before
    await keys.create(desk, LOCAL, NewKey(name="app", agent="bot"))


async def test_token_reads_back_as_its_actor(desk: Desk) -> None:
    view, text = await tokens.create(desk, LOCAL, "script", MANAGE)
    actor = await tokens.authenticate(desk, text)
    assert actor is not None
    assert (actor.id, actor.name, actor.grants) == (view.id, "script", MANAGE)
    await tokens.revoke(desk, LOCAL, view.id)
    assert await tokens.authenticate(desk, text) is None
    assert await tokens.page(desk, 0, 10) == ([], 0)
    assert await refused(tokens.revoke(desk, LOCAL, view.id)) == ("not_found", None)


async def test_authenticate_takes_nothing_else(desk: Desk) -> None:
    view, text = await tokens.create(desk, LOCAL, "script", MANAGE)
    _, client = await keys.create(desk, LOCAL, NewKey(name="app"))
    other = credential.mint("wga").text
    forged = text.replace(text.split("_")[2], other.split("_")[2])
    for wrong in ("", "x", "\ud800", client, other, forged, text[:-1], view.id, "bootstrap"):
        assert await tokens.authenticate(desk, wrong) is None


async def test_nobody_grants_more_than_he_holds(desk: Desk) -> None:
    more = (Grant(SUPERADMIN, GLOBAL),)
    work = tokens.create(desk, GROUP_ADMIN, "x", more)
    assert await refused(work) == ("forbidden", "grants")
    await tokens.create(desk, GROUP_ADMIN, "x", MANAGE)


@pytest.mark.parametrize(
    ("grant", "kind"),
    [
        (Grant("Nonsense", GLOBAL), "bad_permission"),
        (Grant(SUPERADMIN, GROUP), "bad_permission"),
        (Grant("GroupAIProviders.Read", GLOBAL), "bad_permission"),
        (Grant("GroupAIProviders.Read", "nowhere"), "bad_scope"),
    ],
)
async def test_token_refuses_grants_nobody_can_hold(desk: Desk, grant: Grant, kind: str) -> None:
    assert (await refused(tokens.create(desk, LOCAL, "x", (grant,))))[0] == kind


async def test_bootstrap_makes_one_token_once(desk: Desk) -> None:
    text = await tokens.ensure_bootstrap(desk)
    assert text is not None
    actor = await tokens.authenticate(desk, text)
    assert actor is not None
    assert actor.grants == (Grant(SUPERADMIN, GLOBAL),)
    await tokens.revoke(desk, LOCAL, actor.id)
    before = await revision(desk.store)
    assert await tokens.ensure_bootstrap(desk) is None
    assert await revision(desk.store) == before


@pytest.mark.parametrize("text", [OPERATOR, credential.mint("wga").text])
async def test_bootstrap_takes_the_operators_token(tmp_path: Path, text: str) -> None:
    async with desks.opened(tmp_path, bootstrap_admin_token=Secret(text.encode())) as desk:
        assert await tokens.ensure_bootstrap(desk) is None
        actor = await tokens.authenticate(desk, text)
        assert actor is not None
        assert actor.grants == (Grant(SUPERADMIN, GLOBAL),)
        assert await tokens.authenticate(desk, text + "x") is None
        views, _ = await tokens.page(desk, 0, 10)
        assert text[-10:] not in repr(views)
    assert not any(text.encode() in data for data in desks.files(tmp_path).values())


@pytest.mark.parametrize(
    "text",
    [
        "fifteen letters",
        "long enough, ends in one ",
        "w\u00e4chter-" * 4,
        "wga_mistyped_0123456789",
        credential.mint("wg").text,
    ],
)
async def test_bootstrap_refuses_what_is_no_secret(tmp_path: Path, text: str) -> None:
    async with desks.opened(tmp_path, bootstrap_admin_token=Secret(text.encode())) as desk:
        with pytest.raises(StartRefused, match="WARDGATE_BOOTSTRAP_ADMIN_TOKEN") as caught:
            await tokens.ensure_bootstrap(desk)
    assert text not in str(caught.value)
