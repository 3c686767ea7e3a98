"""Admin tokens at the desk: their grants, their rotation, the first one and the last one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from admin.configure import audit, keys, tokens
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from admin.configure.refusals import Refusal
from admin.configure.tokens import TokenChange, TokenView
from admin.permit import LOCAL, SUPERADMIN, Actor, Grant
from gateway import credential
from gateway.errors import StartRefused
from gateway.shapes import GLOBAL, Secret
from gateway.store import tokens as store
from gateway.store.compile import revision
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, GROUP_ADMIN, refused

OPERATOR = "an operator's own first token"
MANAGE = (Grant("GroupAIProviders.Manage", GROUP),)
ROOT = (Grant(SUPERADMIN, GLOBAL),)


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def actor_of(desk: Desk, text: str) -> Actor:
    actor = await tokens.authenticate(desk, text)
    assert actor is not None
    return actor


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


@pytest.mark.parametrize("text", [OPERATOR, credential.mint("wga").text], ids=["chosen", "ours"])
async def test_bootstrap_takes_the_operators_token(backend: Backend, text: str) -> None:
    async with desks.opened(backend, bootstrap_admin_token=Secret(text.encode())) as desk:
        assert await tokens.ensure_bootstrap(desk) is None
        actor = await tokens.authenticate(desk, text)
        assert actor is not None
        assert actor.grants == (Grant(SUPERADMIN, GLOBAL),)
        assert await tokens.authenticate(desk, text + "x") is None
        views, _ = await tokens.page(desk, 0, 10)
        assert text[-10:] not in repr(views)
    assert text.encode() not in backend.disk()


@pytest.mark.parametrize(
    "text",
    [
        "fifteen letters",
        "long enough, ends in one ",
        "w\u00e4chter-" * 4,
        "wga_mistyped_0123456789",
        pytest.param(credential.mint("wg").text, id="a client key"),
    ],
)
async def test_bootstrap_refuses_what_is_no_secret(backend: Backend, text: str) -> None:
    async with desks.opened(backend, bootstrap_admin_token=Secret(text.encode())) as desk:
        with pytest.raises(StartRefused, match="WARDGATE_BOOTSTRAP_ADMIN_TOKEN") as caught:
            await tokens.ensure_bootstrap(desk)
    assert text not in str(caught.value)


async def test_change_touches_what_it_names(desk: Desk) -> None:
    view, text = await tokens.create(desk, LOCAL, "script", MANAGE)
    renamed = await tokens.change(desk, LOCAL, view.id, TokenChange(name=" ci "))
    assert (renamed.name, renamed.grants) == ("ci", MANAGE)
    other = (Grant("AIModels.Read", GLOBAL), Grant("AIProviders.Read", GLOBAL))
    after = await tokens.change(desk, LOCAL, view.id, TokenChange(grants=other))
    assert (after.name, after.grants) == ("ci", other)
    assert (await actor_of(desk, text)).grants == other
    await tokens.change(desk, LOCAL, view.id, TokenChange(grants=()))
    assert (await actor_of(desk, text)).grants == ()


async def test_rotate_keeps_the_id_and_the_old_text_opens_nothing(desk: Desk) -> None:
    view, old = await tokens.create(desk, LOCAL, "script", MANAGE)
    same, text = await tokens.rotate(desk, LOCAL, view.id)
    assert same.edition != view.edition
    assert replace(same, edition=view.edition) == view
    assert await tokens.authenticate(desk, old) is None
    assert (await actor_of(desk, text)).id == view.id


async def test_every_change_is_audited_without_its_token(desk: Desk) -> None:
    view, old = await tokens.create(desk, LOCAL, "script", MANAGE)
    await tokens.change(desk, LOCAL, view.id, TokenChange(name="ci", grants=()))
    _, text = await tokens.rotate(desk, LOCAL, view.id)
    rows, valid = await audit.page(desk, 10)
    assert valid
    assert [row.action for row in rows] == ["token.rotate", "token.change", "token.create"]
    assert rows[1].change == {"name": "ci", "grants": []}
    assert not any(secret[17:] in repr(rows) for secret in (old, text))


async def test_nobody_touches_a_token_that_holds_more_than_he_does(desk: Desk) -> None:
    root, _ = await tokens.create(desk, LOCAL, "root", ROOT)
    mine, _ = await tokens.create(desk, LOCAL, "mine", MANAGE)
    for work in (
        tokens.change(desk, GROUP_ADMIN, root.id, TokenChange(name="x")),
        tokens.change(desk, GROUP_ADMIN, root.id, TokenChange(grants=())),
        tokens.rotate(desk, GROUP_ADMIN, root.id),
        tokens.revoke(desk, GROUP_ADMIN, root.id),
    ):
        assert await refused(work) == ("forbidden", None)
    await tokens.rotate(desk, GROUP_ADMIN, mine.id)
    more = tokens.change(desk, GROUP_ADMIN, mine.id, TokenChange(grants=ROOT))
    assert await refused(more) == ("forbidden", "grants")
    await tokens.revoke(desk, GROUP_ADMIN, mine.id)


async def test_a_grant_that_cannot_exist_keeps_nobody_from_revoking(desk: Desk) -> None:
    view, _ = await tokens.create(desk, LOCAL, "script", MANAGE)
    async with desk.store.write(None) as conn:
        await store.alter(conn, view.id, {}, [(SUPERADMIN, GROUP), ("Nonsense", GLOBAL)])
    await tokens.revoke(desk, GROUP_ADMIN, view.id)


async def test_the_last_superadmin_stays(desk: Desk) -> None:
    view, text = await tokens.create(desk, LOCAL, "root", ROOT)
    root = await actor_of(desk, text)
    dead, _ = await tokens.create(desk, LOCAL, "dead", ROOT)
    await tokens.revoke(desk, root, dead.id)
    for work in (
        tokens.revoke(desk, root, view.id),
        tokens.change(desk, root, view.id, TokenChange(grants=())),
        tokens.change(desk, root, view.id, TokenChange(grants=MANAGE)),
    ):
        assert await refused(work) == ("in_use", None)
    assert (await tokens.get(desk, view.id)).grants == ROOT
    # What leaves it a superadmin is no loss.
    await tokens.change(desk, root, view.id, TokenChange(name="still", grants=(*ROOT, *MANAGE)))
    _, text = await tokens.rotate(desk, root, view.id)
    await tokens.create(desk, LOCAL, "second", ROOT)
    await tokens.revoke(desk, await actor_of(desk, text), view.id)


async def test_the_command_line_may_revoke_even_the_last(desk: Desk) -> None:
    view, _ = await tokens.create(desk, LOCAL, "root", ROOT)
    await tokens.revoke(desk, LOCAL, view.id)
    await tokens.create(desk, LOCAL, "another", ROOT)


async def test_the_operators_own_token_is_replaced_not_rotated(backend: Backend) -> None:
    async with desks.opened(backend, bootstrap_admin_token=Secret(OPERATOR.encode())) as desk:
        await tokens.ensure_bootstrap(desk)
        assert await refused(tokens.rotate(desk, LOCAL, tokens.BOOTSTRAP)) == ("managed", None)
        assert await tokens.authenticate(desk, OPERATOR) is not None


async def test_nothing_is_changed_when_the_guard_refuses(desk: Desk) -> None:
    view, _ = await tokens.create(desk, LOCAL, "script", MANAGE)
    seen: list[TokenView] = []

    def guard(present: TokenView) -> None:
        seen.append(present)
        raise Refusal("stale", "no")

    before = await revision(desk.store)
    for work in (
        tokens.change(desk, LOCAL, view.id, TokenChange(name="b"), guard=guard),
        tokens.rotate(desk, LOCAL, view.id, guard=guard),
        tokens.revoke(desk, LOCAL, view.id, guard=guard),
    ):
        assert await refused(work) == ("stale", None)
    assert seen == [view] * 3
    assert await revision(desk.store) == before


async def test_a_revoked_token_is_changed_by_nothing(desk: Desk) -> None:
    view, _ = await tokens.create(desk, LOCAL, "script", MANAGE)
    await tokens.revoke(desk, LOCAL, view.id)
    for work in (
        tokens.get(desk, view.id),
        tokens.change(desk, LOCAL, view.id, TokenChange(name="b")),
        tokens.rotate(desk, LOCAL, view.id),
    ):
        assert await refused(work) == ("not_found", None)
