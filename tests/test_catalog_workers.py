"""A synced catalog on its way to workers: past damage, and right again at the next start."""

from __future__ import annotations

import lzma
import os
import stat
from pathlib import Path

import httpx2
import msgspec

from admin.configure import keys
from admin.configure.keys import NewKey
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway import catalog
from gateway.process.shelf import Shelf
from tests.backends import Backend
from tests.catalogs import Source, entry, url_of, written
from tests.desks import of_house
from tests.houses import house, until


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


async def test_house_syncs_by_itself_and_serves_on_past_a_damaged_copy(backend: Backend) -> None:
    data = backend.folder
    whole = msgspec.json.decode(catalog.unpack(catalog.packaged()), type=dict[str, msgspec.Raw])
    source = Source()
    source.body = msgspec.json.encode({**whole, "acme": entry("acme")})
    async with Upstream(source) as fetched:
        env = {"WARDGATE_CATALOG_SYNC_INTERVAL": "10", "WARDGATE_CATALOG_URL": url_of(fetched)}
        env |= backend.env
        async with house(data, **env) as running:
            file = data / "catalog.json.xz"
            await until(file.exists, "the catalog's copy")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert catalog.unpack(file.read_bytes()) == source.body
            put(file, b"damaged by somebody, and long enough to be told so", 1.0)
            async with of_house(backend) as desk:
                await keys.create(desk, LOCAL, NewKey(name="app"))
            await until(lambda: "catalog not taken" in said(running.log), "the worker to say so")
            async with httpx2.AsyncClient(base_url=running.gateway) as client:
                assert (await client.get("/readyz")).status_code == 200
        # The next start puts the copy right.
        async with house(data, **backend.env):
            assert catalog.unpack(file.read_bytes()) == source.body


def said(log: Path) -> str:
    return log.read_text()
