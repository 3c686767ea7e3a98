"""A synced catalog on its way to workers: within a second, past damage, through a cold start."""

from __future__ import annotations

import asyncio
import contextlib
import lzma
import os
import stat
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import httpx2
import msgspec

from admin.configure import configs, keys
from admin.configure.configs import NewConfig
from admin.configure.desk import Desk, open_desk
from admin.configure.keys import NewKey
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway import catalog
from gateway.process.shelf import Shelf
from gateway.settings import Settings
from gateway.shapes import GLOBAL
from gateway.vault import load_ring
from tests.catalogs import TEN, Source, entry, synced, url_of, written
from tests.desks import secret
from tests.houses import house, until

LOOPBACK = {"WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8"}
KEY = "sk-acme-canary-0123456789abcdef"


def packed(*names: str) -> bytes:
    return lzma.compress(written(entry("acme", names)))


def put(file: Path, data: bytes, at: float) -> None:
    """Replace the file as the publisher does."""
    draft = file.with_suffix(".draft")
    draft.write_bytes(data)
    draft.rename(file)
    os.utime(file, (at, at))


def test_shelf_takes_the_file_and_after_it_every_newer_one(tmp_path: Path) -> None:
    file = tmp_path / "catalog.json.xz"
    put(file, packed("a"), 1_750_000_000)
    shelf = Shelf(file)
    assert list(shelf.catalog.providers["acme"].models) == ["a"]
    assert shelf.catalog.age_date == 1_750_000_000
    assert not shelf.stale()
    put(file, packed("a", "b"), 1_750_000_060)
    assert shelf.stale()
    found = shelf.read()
    assert found is not None
    assert found is shelf.catalog
    assert list(found.providers["acme"].models) == ["a", "b"]
    # Confirmed by its source: the same catalog is younger now.
    os.utime(file, (1_750_000_120, 1_750_000_120))
    confirmed = shelf.read()
    assert confirmed is not None
    assert confirmed.age_date == 1_750_000_120
    assert shelf.read() is not None
    assert Shelf(file).stale() is False


def test_shelf_keeps_the_last_good_catalog(tmp_path: Path) -> None:
    file = tmp_path / "catalog.json.xz"
    put(file, packed("a"), 1_750_000_000)
    shelf = Shelf(file)
    good = shelf.catalog
    for bad in (
        b"",
        b"no xz at all, however long it may be",
        packed("a")[:-4],
        lzma.compress(b"[]"),
    ):
        put(file, bad, 1_750_000_060)
        assert shelf.stale()
        assert shelf.read() is None
        assert shelf.catalog is good
        assert shelf.flaw
        assert not shelf.stale()  # said once
    file.unlink()
    assert not shelf.stale()
    assert shelf.read() is None
    assert (shelf.catalog, shelf.flaw) == (good, "")


def test_shelf_without_a_good_file_has_the_packaged_catalog(tmp_path: Path) -> None:
    assert Shelf(None).catalog is catalog.load()
    assert not Shelf(None).stale()
    assert Shelf(tmp_path / "none").catalog is catalog.load()
    (tmp_path / "bad").write_bytes(b"bad")
    shelf = Shelf(tmp_path / "bad")
    assert shelf.catalog is catalog.load()
    assert shelf.flaw


async def statuses(url: str, key: str, model: str) -> set[int]:
    """What the workers answer a request for `model`; a connection each, so that all take turns."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}", "connection": "close"}
    async with httpx2.AsyncClient(base_url=url, headers=headers) as client:
        answers = [await client.post("/v1/chat/completions", json=body) for _ in range(8)]
    return {answer.status_code for answer in answers}


@contextlib.asynccontextmanager
async def desk_of(data: Path) -> AsyncIterator[Desk]:
    """The desk of a running house, as a command opens it."""
    settings = Settings(data_dir=data, allowed_upstream_cidrs=(ip_network("127.0.0.0/8"),))
    desk = await open_desk(settings, load_ring(settings), catalog.load())
    try:
        yield desk
    finally:
        await desk.aclose()


async def prepared(desk: Desk, source: Upstream) -> str:
    """Sync, and configs and a key for what was synced; gives the key."""
    await synced(desk, source, force=True)
    # Of two, so that a name no catalog lists leads nowhere.
    for name in ("acme", "spare"):
        await configs.create(
            desk, LOCAL, NewConfig(scope=GLOBAL, provider=name, alias="main", secret=secret(KEY))
        )
    _, key = await keys.create(desk, LOCAL, NewKey(name="app"))
    return key


async def test_new_model_is_served_within_a_second_and_from_the_copy_when_the_store_is_away(
    tmp_path: Path, upstream: Upstream
) -> None:
    data = tmp_path / "data"
    spare = entry("spare", ("other",), api=upstream.url)
    source = Source(entry("acme", TEN, api=upstream.url), spare)
    async with Upstream(source) as fetched:
        async with house(data, "--workers", "2", **LOOPBACK) as running:
            async with desk_of(data) as desk:
                key = await prepared(desk, fetched)
                async with asyncio.timeout(10):
                    while await statuses(running.gateway, key, "model-0") != {200}:
                        pass
                assert await statuses(running.gateway, key, "brand-new") == {404}
                source.put(entry("acme", (*TEN, "brand-new"), api=upstream.url), spare)
                done = await synced(desk, fetched)
                assert done.difference is not None
                assert done.difference.added == ["acme/brand-new"]
                async with asyncio.timeout(1):
                    while await statuses(running.gateway, key, "brand-new") != {200}:
                        pass
            assert await running.stop() == 0
        (data / "wardgate.db").write_bytes(b"not a database at all, whatever one asks of it" * 99)
        async with house(data, "--workers", "2", **LOOPBACK) as running:
            assert "The store is away" in running.said
            assert await statuses(running.gateway, key, "brand-new") == {200}
    assert upstream.received[-1].header(b"authorization") == f"Bearer {KEY}".encode()


async def test_house_syncs_by_itself_and_serves_on_past_a_damaged_copy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    whole = msgspec.json.decode(catalog.unpack(catalog.packaged()), type=dict[str, msgspec.Raw])
    source = Source()
    source.body = msgspec.json.encode({**whole, "acme": entry("acme")})
    async with Upstream(source) as fetched:
        env = {"WARDGATE_CATALOG_SYNC_INTERVAL": "10", "WARDGATE_CATALOG_URL": url_of(fetched)}
        async with house(data, **env) as running:
            file = data / "catalog.json.xz"
            await until(file.exists, "the catalog's copy")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert catalog.unpack(file.read_bytes()) == source.body
            put(file, b"damaged by somebody, and long enough to be told so", 1.0)
            async with desk_of(data) as desk:
                await keys.create(desk, LOCAL, NewKey(name="app"))
            await until(lambda: "catalog not taken" in said(running.log), "the worker to say so")
            async with httpx2.AsyncClient(base_url=running.gateway) as client:
                assert (await client.get("/readyz")).status_code == 200
        # The next start puts the copy right.
        async with house(data):
            assert catalog.unpack(file.read_bytes()) == source.body


def said(log: Path) -> str:
    return log.read_text()
