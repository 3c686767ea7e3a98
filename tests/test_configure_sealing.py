"""What the desk sealed: opens for its own row only, and stands in no file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select, update

from admin.configure import configs
from admin.configure.configs import ConfigChange
from admin.configure.desk import Desk, open_desk
from admin.permit import LOCAL
from gateway.errors import SealBroken, StartRefused
from gateway.shapes import GLOBAL
from gateway.store import tables
from gateway.vault import KeyRing, config_binding
from tests import desks
from tests.backends import Backend
from tests.desks import KEY, add, key_of, refused, secret, stored

OTHER = "sk-proj-canary-zyxwvutsrqponmlkjihg"


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def test_an_override_moves_the_url_and_not_the_seal(backend: Backend) -> None:
    async with desks.opened(backend) as desk:
        view = await add(desk)
    override = {"openai": "http://127.0.0.1:9/v1"}
    async with desks.opened(backend, provider_base_urls=override) as desk:
        assert (await stored(desk, view.id)).base_url == override["openai"]
        assert await key_of(desk, view.id) == KEY


EDITS: list[dict[str, Any]] = [
    {"scope_id": "gateway:acc/gw"},
    {"provider_id": "groq"},
    {"auth_type": "bearer"},
    {"base_url": "https://evil.example/v1"},
    {"base_url": "https://evil.example/v1", "origin": "https://evil.example:443"},
]


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edited_row_does_not_open(desk: Desk, edit: dict[str, Any]) -> None:
    view = await add(desk)
    await add(desk, scope="gateway:acc/gw", provider="anthropic")
    column = tables.provider_config.c
    async with desk.store.write(GLOBAL) as conn:
        row = update(tables.provider_config).where(column.id == view.id)
        await conn.execute(row.values(**edit))
    with pytest.raises(SealBroken):
        await key_of(desk, view.id)


async def test_swapped_secrets_do_not_open(desk: Desk) -> None:
    one, two = await add(desk, "one"), await add(desk, "two", secret=secret(OTHER))
    column = tables.secret_version.c
    async with desk.store.write(GLOBAL) as conn:
        blob = await conn.scalar(select(column.sealed).where(column.config_id == one.id))
        row = update(tables.secret_version).where(column.config_id == two.id)
        await conn.execute(row.values(sealed=blob))
    assert await key_of(desk, one.id) == KEY
    with pytest.raises(SealBroken):
        await key_of(desk, two.id)


async def test_a_moved_reference_is_not_used(desk: Desk) -> None:
    view = await add(desk, secret=secret("$env:UPSTREAM_OPENAI"))
    async with desk.store.write(GLOBAL) as conn:
        row = update(tables.provider_config)
        await conn.execute(row.values(base_url="https://evil.example/v1"))
    found = await stored(desk, view.id)
    assert (found.reference, found.usable) == (None, False)


async def test_a_provider_that_left_the_catalog_stays_as_inactive(desk: Desk) -> None:
    view = await add(desk)
    async with desk.store.write(GLOBAL) as conn:
        await conn.execute(update(tables.provider_config).values(provider_id="gone"))
    found = await stored(desk, view.id)
    assert (found.provider, found.active) == ("gone", False)


async def test_the_disk_never_shows_a_key(backend: Backend) -> None:
    async with desks.opened(backend) as desk:
        view = await add(desk)
        changed = ConfigChange(secret=secret(OTHER))
        await configs.change(desk, LOCAL, view.id, GLOBAL, changed)
        await refused(add(desk, secret=secret(KEY + " ")))
        disk = backend.disk()
    assert KEY.encode() not in disk
    assert OTHER.encode() not in disk
    assert b"sk-proj-...jihg" in disk


async def test_the_wrong_ring_does_not_open_the_desk(backend: Backend) -> None:
    async with desks.opened(backend) as desk:
        await add(desk)
        settings, catalog = desk.settings, desk.catalog
    wrong = KeyRing([("test", b"another key of thirty-two bytes!")])
    with pytest.raises(StartRefused, match="docs/security.md"):
        await open_desk(settings, wrong, catalog)
    async with desks.opened(backend) as desk:
        found = (await desks.table(desk)).configs[GLOBAL][0]
        assert found.sealed is not None
        assert desk.ring.open(found.sealed, config_binding(found)).expose() == KEY.encode()
