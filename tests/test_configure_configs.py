"""Provider configs at the desk: every rule, every refusal, and where keys end up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from admin.configure import configs
from admin.configure.configs import ConfigChange, NewConfig
from admin.configure.desk import Desk
from admin.configure.identity import new_id, read_id
from admin.permit import LOCAL
from gateway.shapes import GLOBAL, Secret
from gateway.store import tables
from gateway.store.compile import revision
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, GROUP_ADMIN, KEY, add, key_of, later, refused, secret, stored

OTHER = "sk-proj-canary-zyxwvutsrqponmlkjihg"


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def change(desk: Desk, config_id: str, scope: str = GLOBAL, **changed: Any) -> Any:
    return await configs.change(desk, LOCAL, config_id, scope, ConfigChange(**changed))


async def test_create_shows_all_but_the_key(desk: Desk) -> None:
    view = await add(desk, rate_limit=5, settings={"project": "p"}, secret_id="label")
    assert KEY not in repr(view)
    assert view == await configs.get(desk, view.id, GLOBAL)
    assert (view.name, view.secret_preview, view.secret_id) == (
        "OpenAI main",
        "sk-proj-...ghij",
        "label",
    )
    assert (view.default, view.active, view.rate_limit, view.rate_limit_period) == (
        True,
        True,
        5,
        60,
    )
    assert await key_of(desk, view.id) == KEY


async def test_first_config_becomes_default_unless_told(desk: Desk) -> None:
    assert (await add(desk, "one")).default
    assert not (await add(desk, "two")).default
    assert not (await add(desk, "one", "anthropic", default=False)).default
    assert not (await add(desk, "two", "anthropic")).default


async def test_default_moves_and_deleting_it_promotes_nobody(desk: Desk) -> None:
    first, second = await add(desk, "one"), await add(desk, "two", default=True)
    assert not (await configs.get(desk, first.id, GLOBAL)).default
    assert (await change(desk, first.id, default=True)).default
    assert not (await configs.get(desk, second.id, GLOBAL)).default
    await configs.delete(desk, LOCAL, first.id, GLOBAL)
    assert not (await configs.get(desk, second.id, GLOBAL)).default


async def test_eight_writers_flip_defaults(desk: Desk) -> None:
    ids = [(await add(desk, f"c{number}")).id for number in range(8)]

    async def flip(seed: int) -> None:
        pick = random.Random(seed)
        for _ in range(25):
            await change(desk, pick.choice(ids), default=pick.random() < 0.9)
            views, _ = await configs.page(desk, GLOBAL, 0, 100)
            assert sum(view.default for view in views) <= 1

    before = await revision(desk.store)
    await asyncio.gather(*(flip(seed) for seed in range(8)))
    assert await revision(desk.store) == before + 200


async def test_ids_are_read_in_every_spelling(desk: Desk) -> None:
    view = await add(desk)
    crockford, number = "", int(view.id.replace("-", ""), 16)
    for _ in range(26):
        number, rest = divmod(number, 32)
        crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[rest] + crockford
    for spelling in (view.id.upper(), view.id.replace("-", ""), "prov_" + crockford):
        assert (await configs.get(desk, spelling, GLOBAL)).id == view.id
    for wrong in ("", "x", view.id[:-1], view.id + "0", "prov_8" + crockford[1:]):
        assert read_id(wrong) is None


def test_new_ids_sort_by_time_and_within_one_instant() -> None:
    ids = [new_id(1_750_000_000.0 + number // 100 * 0.0005) for number in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert {(one[14], one[19]) for one in ids} <= {("7", digit) for digit in "89ab"}


async def test_an_id_of_another_scope_is_not_found(desk: Desk) -> None:
    view = await add(desk)
    for work in (
        configs.get(desk, view.id, GROUP),
        change(desk, view.id, GROUP, name="x"),
        configs.delete(desk, LOCAL, view.id, GROUP),
        configs.get(desk, "nonsense", GLOBAL),
    ):
        assert await refused(work) == ("not_found", None)
    assert (await desks.table(desk)).scopes.keys() == {GLOBAL}


async def test_page_counts_and_keeps_order(desk: Desk) -> None:
    for number in range(5):
        await add(desk, f"c{number}")
        later(desk)
    await add(desk, "c", scope="gateway:acc/gw")
    views, total = await configs.page(desk, GLOBAL, 1, 2)
    assert ([view.alias for view in views], total) == (["c1", "c2"], 5)
    assert await configs.page(desk, GLOBAL, 9, 2) == ([], 5)
    assert (await configs.page(desk, None, 0, 50))[1] == 6
    assert await configs.page(desk, "group:none", 0, 50) == ([], 0)


async def test_alias_is_unique_within_provider_and_scope_only(desk: Desk) -> None:
    first = await add(desk, "Main")
    assert await refused(add(desk, "mAIN")) == ("alias_taken", "alias")
    await add(desk, "main", "anthropic")
    await add(desk, "main", scope=GROUP)
    second = await add(desk, "second")
    assert await refused(change(desk, second.id, alias="MAIN")) == ("alias_taken", "alias")
    assert (await change(desk, first.id, alias="main")).alias == "main"


@pytest.mark.parametrize(
    "alias",
    ["", "-a", ".a", "a b", "a/b", "ä", "a" * 65, "a\n", "openai", "Anthropic", "grok", "bedrock"]
    + ["capabilities", "wardgate", "01a1fbbc-8a54-7bb2-8000-41e50ffa63a3", "f" * 32]
    + ["prov_01hz1f0kw36f82k9s4nzpc4s33", "custom-x"],
)
async def test_create_refuses_an_alias_that_reads_as_something_else(desk: Desk, alias: str) -> None:
    assert await refused(add(desk, alias)) == ("bad_alias", "alias")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"provider": "no-such"}, ("unknown_provider", "provider")),
        ({"provider": "custom:"}, ("unknown_provider", "provider")),
        ({"provider": "google-vertex"}, ("provider_not_supported", "provider")),
        ({"provider": "google-vertex-ai"}, ("provider_not_supported", "provider")),
        ({"scope": "nowhere"}, ("bad_scope", "scope")),
        ({"scope": "group:x"}, ("bad_scope", "scope")),
        ({"scope": "gateway:acc/UPPER"}, ("bad_scope", "scope")),
        ({"scope": "gateway:acc/a/b"}, ("bad_scope", "scope")),
        ({"scope": "gateway:acc/"}, ("bad_scope", "scope")),
        ({"scope": "instance:"}, ("bad_scope", "scope")),
        ({"scope": "gateway:wardgate/gw"}, ("reserved", "scope")),
        ({"scope": "gateway:files/gw"}, ("reserved", "scope")),
        ({"secret": secret("sk-...abcd")}, ("masked_key", "secret")),
        ({"secret": secret("sk-***")}, ("masked_key", "secret")),
        ({"secret": secret("two words")}, ("bad_key", "secret")),
        ({"secret": secret(KEY + "\n")}, ("bad_key", "secret")),
        ({"secret": secret("k\u00e4y")}, ("bad_key", "secret")),
        ({"secret": secret("x" * 4097)}, ("bad_key", "secret")),
        ({"secret": Secret(b"\xff\x00")}, ("bad_key", "secret")),
        ({"secret": secret("$HOME")}, ("bad_key", "secret")),
        ({"secret": secret("$env:WARDGATE_KEKS")}, ("bad_key", "secret")),
        ({"secret": secret("$file:/etc/passwd")}, ("bad_key", "secret")),
        ({"alias": KEY}, ("bad_key", None)),
        ({"name": f"the key {KEY}"}, ("bad_key", None)),
        ({"secret_id": KEY}, ("bad_key", None)),
        ({"base_url": f"https://api.example/{KEY}"}, ("bad_key", None)),
        ({"settings": {"organization": KEY}}, ("bad_key", None)),
        ({"secret": None, "secret_id": "s"}, ("secret_label_alone", "secret")),
        ({"auth_type": "none"}, ("bad_key", "secret")),
        ({"auth_type": "aws_sigv4"}, ("bad_auth_type", "auth_type")),
        ({"auth_type": "nonsense"}, ("bad_auth_type", "auth_type")),
        ({"settings": {"apiKey": "x"}}, ("bad_settings", "settings")),
        ({"settings": {"region": "$env:UPSTREAM_REGION"}}, ("bad_settings", "settings")),
        ({"settings": {"region": "a b"}}, ("bad_settings", "settings")),
        ({"rate_limit": 0}, ("bad_limit", "rate_limit")),
        ({"rate_limit": True}, ("bad_limit", "rate_limit")),
        ({"rate_limit": 2**31}, ("bad_limit", "rate_limit")),
        ({"rate_limit_period": 0}, ("bad_limit", "rate_limit_period")),
        ({"name": "a\nb"}, ("bad_name", "name")),
        ({"name": "x" * 201}, ("bad_name", "name")),
        ({"dialect": "openai"}, ("bad_dialect", "dialect")),
        ({"provider": "custom:x", "base_url": "https://a.example"}, ("bad_dialect", "dialect")),
        ({"provider": "custom:x", "dialect": "openai"}, ("bad_base_url", "base_url")),
        ({"provider": "custom:x", "dialect": "cohere"}, ("bad_base_url", "base_url")),
        ({"provider": "azure"}, ("bad_settings", "settings")),
        ({"provider": "azure", "settings": {"resourceName": "a.b"}}, ("bad_settings", "settings")),
        ({"provider": "neon"}, ("bad_base_url", "base_url")),
        ({"base_url": "http://203.0.113.9/v1"}, ("bad_base_url", "base_url")),
        ({"base_url": "$env:UPSTREAM_URL"}, ("bad_base_url", "base_url")),
    ],
)
async def test_create_refuses(desk: Desk, given: dict[str, Any], expected: tuple[str, str]) -> None:
    before = await revision(desk.store)
    assert await refused(add(desk, **given)) == expected
    assert await revision(desk.store) == before
    assert (await configs.page(desk, None, 0, 9))[1] == 0


async def test_custom_provider_goes_where_it_says(desk: Desk) -> None:
    url = "http://127.0.0.1:9000/v1/"
    view = await add(desk, provider="custom:vllm", dialect="openai", base_url=url)
    found = await stored(desk, view.id)
    assert (found.base_url, found.dialect) == (url[:-1], "openai")
    assert found.origin == "http://127.0.0.1:9000"


async def test_template_is_filled_from_settings(desk: Desk) -> None:
    view = await add(desk, provider="azure-openai", settings={"resourceName": "contoso"})
    found = await stored(desk, view.id)
    assert (view.provider, view.base_url, found.dialect) == ("azure", None, "azure")
    assert found.origin == "https://contoso.openai.azure.com:443"


async def test_base_url_off_the_catalog_needs_global_rights(desk: Desk) -> None:
    def new(url: str | None) -> NewConfig:
        return NewConfig(scope=GROUP, provider="openai", alias=f"a{len(url or '')}", base_url=url)

    work = configs.create(desk, GROUP_ADMIN, new("https://evil.example/v1"))
    assert await refused(work) == ("forbidden", "base_url")
    await configs.create(desk, GROUP_ADMIN, new("https://api.openai.com/v2"))
    view = await configs.create(desk, GROUP_ADMIN, new(None))
    moved = ConfigChange(base_url="https://evil.example/v1")
    work = configs.change(desk, GROUP_ADMIN, view.id, GROUP, moved)
    assert await refused(work) == ("forbidden", "base_url")


async def test_references_are_for_superadmins_and_kept_as_written(desk: Desk) -> None:
    reference = "$env:UPSTREAM_OPENAI"
    view = await add(desk, secret=secret(reference))
    found = await stored(desk, view.id)
    assert (view.secret_preview, found.reference, found.sealed) == (reference, reference, None)
    new = NewConfig(scope=GROUP, provider="openai", alias="a", secret=secret(reference))
    assert await refused(configs.create(desk, GROUP_ADMIN, new)) == ("forbidden", "secret")


async def test_two_dollars_stand_for_one(desk: Desk) -> None:
    view = await add(desk, secret=secret("$$env:UPSTREAM_X-0123456789"))
    assert await key_of(desk, view.id) == "$env:UPSTREAM_X-0123456789"


@pytest.mark.parametrize("kept", ["", "sk-proj-...ghij", "sk-***"])
async def test_a_mask_or_nothing_keeps_the_key(desk: Desk, kept: str) -> None:
    view = await add(desk)
    after = await change(desk, view.id, secret=secret(kept), name="new")
    assert (after.name, after.secret_preview) == ("new", view.secret_preview)
    assert await key_of(desk, view.id) == KEY


async def test_a_mask_is_refused_where_there_is_no_key(desk: Desk) -> None:
    view = await add(desk, secret=None)
    assert view.secret_preview == ""
    work = change(desk, view.id, secret=secret("sk-***"))
    assert await refused(work) == ("masked_key", "secret")


async def test_rotation_retires_the_old_version(desk: Desk) -> None:
    view = await add(desk)
    later(desk)
    after = await change(desk, view.id, secret=secret(OTHER))
    assert (after.secret_preview, after.modified_at) == ("sk-proj-...jihg", desk.clock())
    assert await key_of(desk, view.id) == OTHER
    versions = select(tables.secret_version.c.version, tables.secret_version.c.retired_at)
    async with desk.store.read() as conn:
        rows = (await conn.execute(versions.order_by("version"))).all()
    assert [tuple(row) for row in rows] == [(1, desk.clock()), (2, None)]
    later(desk, 4000.0)
    await change(desk, view.id, secret=secret(KEY))
    async with desk.store.read() as conn:
        assert [row.version for row in await conn.execute(versions)] == [2, 3]


async def test_null_clears_the_key(desk: Desk) -> None:
    view = await add(desk)
    after = await change(desk, view.id, secret=None)
    found = await stored(desk, view.id)
    assert (after.secret_preview, found.sealed, found.usable) == ("", None, False)
    await change(desk, view.id, secret=secret(OTHER))
    assert await key_of(desk, view.id) == OTHER


@pytest.mark.parametrize(
    "moved",
    [
        {"base_url": "https://other.example/v1"},
        {"base_url": "https://api.openai.com:8443/v1"},
        {"auth_type": "bearer"},
        {"base_url": "https://other.example/v1", "secret": secret("sk-***")},
    ],
)
async def test_moving_the_key_needs_it_again(desk: Desk, moved: dict[str, Any]) -> None:
    view = await add(desk)
    assert await refused(change(desk, view.id, **moved)) == ("rebind", "secret")
    assert await key_of(desk, view.id) == KEY
    await change(desk, view.id, **{**moved, "secret": secret(OTHER)})
    assert await key_of(desk, view.id) == OTHER


async def test_settings_that_move_the_origin_need_the_key(desk: Desk) -> None:
    view = await add(desk, provider="azure", settings={"resourceName": "one"})
    work = change(desk, view.id, settings={"resourceName": "two"})
    assert await refused(work) == ("rebind", "secret")
    await change(desk, view.id, settings={"resourceName": "one", "apiVersion": "v1"})
    assert await key_of(desk, view.id) == KEY


async def test_same_origin_keeps_the_key(desk: Desk) -> None:
    view = await add(desk)
    await change(desk, view.id, base_url="https://API.openai.com:443/v2", alias="new", active=False)
    found = await stored(desk, view.id)
    assert (found.base_url, found.active) == ("https://api.openai.com/v2", False)
    assert await key_of(desk, view.id) == KEY


async def test_auth_type_none_drops_the_key(desk: Desk) -> None:
    view = await add(desk)
    after = await change(desk, view.id, auth_type="none")
    assert after.secret_preview == ""
    assert (await stored(desk, view.id)).usable
    work = change(desk, view.id, secret=secret(OTHER))
    assert await refused(work) == ("bad_key", "secret")


async def test_change_keeps_what_it_does_not_name(desk: Desk) -> None:
    view = await add(desk, rate_limit=7, rate_limit_period=9, settings={"project": "p"})
    kept = await change(desk, view.id)
    assert replace(kept, revision=view.revision) == view
    after = await change(desk, view.id, rate_limit=None)
    assert (after.rate_limit, after.rate_limit_period) == (None, 9)
    assert await refused(change(desk, view.id, secret_id="s")) == ("secret_label_alone", "secret")
