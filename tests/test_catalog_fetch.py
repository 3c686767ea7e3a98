"""What a catalog's source may send instead of a catalog: it is said, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from admin.catalog import Wish, sync
from admin.catalog_source import fetch
from admin.configure import audit
from admin.demo.script import Script
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway import catalog
from gateway.catalog import LARGEST, parse
from gateway.errors import CatalogBroken, WardgateError
from gateway.settings import Settings
from tests.backends import Backend
from tests.catalogs import Source, entry, kept, model, synced, url_of, written
from tests.desks import opened

GOOD = written(entry("acme"))


def of(**more: Any) -> bytes:
    """A catalog with one entry that is wrong in some way."""
    return written(entry("acme", **more))


UNFIT: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "this is no catalog"),
    "garbage": (b"\x00\xff<html>", "this is no catalog"),
    "not UTF-8": (GOOD.replace(b"Acme", b"\xff\xfe\xff\xfe"), "this is no catalog"),
    "cut JSON": (GOOD[:-20], "this is no catalog"),
    "a list": (b"[]", "this is no catalog"),
    "nobody": (b"{}", "0 providers"),
    "deep": (b'{"acme":' + b"[" * 100_000, "this is no catalog"),
    "deep inside": (GOOD.replace(b'{"input":0.5,', b'{"x":' + b"[" * 90_000, 1), "no catalog"),
    "filed wrongly": (GOOD.replace(b'"id":"acme"', b'"id":"other"'), "has another id"),
    "provider's id": (GOOD.replace(b'"acme"', b'"ac me"'), "this is no catalog"),
    "line after id": (GOOD.replace(b'"acme"', b'"acme\\n"'), "this is no catalog"),
    "custom": (GOOD.replace(b'"acme"', b'"custom:a"'), "this is no catalog"),
    "model's id": (of(models={"a b": model("a b")}), "this is no catalog"),
    "endless id": (of(models={"a" * 301: model("a")}), "this is no catalog"),
    "number for a name": (of(name=5), "this is no catalog"),
    "variable": (of(env=["A=B"]), "this is no catalog"),
    "script for a page": (of(doc="javascript:alert(1)"), "this is no catalog"),
    "negative price": (of(models={"a": model("a", cost={"input": -1})}), "this is no catalog"),
    "price as text": (of(models={"a": model("a", cost={"input": "1"})}), "this is no catalog"),
    "no models": (b'{"acme":{"id":"acme","name":"A","env":[]}}', "missing required"),
    "modalities": (of(models={"a": model("a", modalities="text")}), "this is no catalog"),
    "flag": (of(models={"a": model("a", tool_call="yes")}), "this is no catalog"),
    "too many": (
        of(models={str(n): {"id": "m", "name": "m"} for n in range(50_001)}),
        "50001 models",
    ),
}

WRONG: dict[str, tuple[Script, str]] = {
    "moved": (
        Script(status=302, headers=[(b"location", b"/elsewhere")], body=GOOD),
        "answered 302; redirects are not followed",
    ),
    "unasked 304": (Script(status=304, framing="none"), "answered 304"),
    "absent": (Script(status=404, body=GOOD), "answered 404"),
    "broken": (Script(status=500, body=GOOD), "answered 500"),
    "part": (Script(status=206, body=GOOD), "answered 206"),
    "packed": (Script(headers=[(b"content-encoding", b"gzip")], body=GOOD), "packed"),
    "cut": (Script(body=GOOD, cut_at=100), "broke its answer off"),
    "reset": (Script(body=GOOD, cut_at=100, cut="rst"), "broke its answer off"),
    "cut chunks": (Script(body=GOOD, framing="chunked", cut_at=100), "broke its answer off"),
    "stalled": (Script(body=GOOD, cut_at=100, cut="stall"), "did not answer in 0.1 s"),
    "silent": (Script(before_head=None, head_delay=30.0), "did not answer in 0.1 s"),
    "dripping": (Script(chunks=[b" "] * 500, delay=0.02), "did not answer in 0.1 s"),
    "announced too large": (
        Script(headers=[(b"content-length", b"%d" % (LARGEST + 1))], body=GOOD),
        "sends more than 32 MiB",
    ),
    "garbage for HTTP": (Script(raw=b"SSH-2.0\r\n\r\n"), "could not be reached"),
}


async def changes_nothing(backend: Backend, script: Script, why: str) -> None:
    """A sync from there fails saying `why`; what was kept is what it was, to the byte."""
    async with opened(backend) as desk, Upstream(Source(entry("acme"))) as up:
        await synced(desk, up, force=True)
        before, catalog_before, rows = await kept(desk), desk.catalog, await audit.page(desk, 10)
        async with Upstream(script) as bad:
            with pytest.raises(WardgateError) as failed:
                await sync(desk, LOCAL, Wish(url_of(bad), force=True, patience=0.1))
            assert len(bad.received) == 1
        assert why in str(failed.value)
        assert await kept(desk) == before
        assert desk.catalog is catalog_before
        assert await audit.page(desk, 10) == rows


@pytest.mark.parametrize("name", UNFIT)
async def test_unfit_catalog_changes_nothing_even_by_force(backend: Backend, name: str) -> None:
    body, why = UNFIT[name]
    async with opened(backend) as desk, Upstream(Script(body=body)) as bad:
        with pytest.raises(CatalogBroken, match=why):
            await sync(desk, LOCAL, Wish(url_of(bad), force=True))
        assert await kept(desk) is None
        assert desk.catalog is catalog.load()


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_answer_changes_nothing(backend: Backend, name: str) -> None:
    await changes_nothing(backend, *WRONG[name])


async def test_endless_answer_is_left_off_at_the_limit(backend: Backend) -> None:
    piece = b" " * (1 << 20)
    script = Script(chunks=[piece] * 40, framing="chunked")
    async with Upstream(script) as up:
        sizes: list[int] = []
        with pytest.raises(WardgateError, match="more than 32 MiB"):
            await fetch(url_of(up), None, Settings(), 10.0, lambda got, _: sizes.append(got))
        assert 31 << 20 < max(sizes) <= LARGEST


async def test_progress_tells_how_much_is_here_and_to_come() -> None:
    async with Upstream(Script(body=GOOD)) as up:
        told: list[tuple[int, int | None]] = []
        fetched = await fetch(
            url_of(up), None, Settings(), 10.0, lambda got, total: told.append((got, total))
        )
    assert fetched is not None
    assert (fetched.data, fetched.etag) == (GOOD, None)
    assert told[0] == (0, len(GOOD))
    assert told[-1] == (len(GOOD), len(GOOD))


@pytest.mark.parametrize(
    ("told", "kept_as"),
    [
        (b'"abc"', '"abc"'),
        (b'W/"abc"', 'W/"abc"'),
        (b"abc", None),
        (b'"a"b"', None),
        (b'"' + b"a" * 300 + b'"', None),
        (b'"caf\xc3\xa9"', None),
    ],
)
async def test_etag_is_kept_when_it_can_be_sent_back(told: bytes, kept_as: str | None) -> None:
    async with Upstream(Script(headers=[(b"etag", told)], body=GOOD)) as up:
        fetched = await fetch(url_of(up), None, Settings(), 10.0, lambda *_: None)
    assert fetched is not None
    assert fetched.etag == kept_as


@pytest.mark.parametrize("host", ["127.0.0.1.", "127.1", "2130706433", "0x7f.1"])
async def test_private_address_spelled_oddly_is_not_reached(host: str) -> None:
    # Nobody who means an address writes it like this, and resolvers read it as one.
    async with Upstream() as up:
        url = f"http://{host}:{up.port}/api.json"
        with pytest.raises(WardgateError, match=r"may not connect to|could not be reached"):
            await fetch(url, None, Settings(), 10.0, lambda *_: None)
        assert up.received == []


BASES: dict[str, str | None] = {
    "https://api.acme.example/v1/": "https://api.acme.example/v1",
    "http://127.0.0.1:1337/v1": "http://127.0.0.1:1337/v1",
    "https://api.acme.example:8443": "https://api.acme.example:8443",
    "https://${HOST}/v1": None,
    "https://user:pass@api.acme.example/v1": None,
    "https://api.acme.example/v1?key=1": None,
    "https://api.acme.example/v1#x": None,
    "https://api.acme.example:99999/v1": None,
    "https://api.acme.example:0/v1": None,
    "https://[::1/v1": None,
    "https://127.1/v1": None,
    "https://2130706433/v1": None,
    "https://999.0.0.1/v1": None,
    "https://0x7f.1/v1": None,
    "https://localhost/v1": "https://localhost/v1",
    "ftp://api.acme.example/v1": None,
    "https://api.acme.example/a//b": None,
    "https://API.acme.example\\@evil/v1": None,
    "//api.acme.example/v1": None,
}


@pytest.mark.parametrize("api", BASES)
def test_base_url_is_a_plain_one_or_none(api: str) -> None:
    assert parse(of(api=api), 0.0).providers["acme"].base_url == BASES[api]


def test_names_lose_what_steers_terminals() -> None:
    odd = model("m", name="A\x1b[31m\u202eB\t", family="f\x07", status="be\x00ta")
    found = parse(of(name="Ac\x9bme", models={"m": odd}), 0.0).providers["acme"]
    assert found.name == "Acme"
    told = found.models["m"]
    assert (told.name, told.family, told.status) == ("A[31mB", "f", "beta")


def check_broken(work: Callable[[], object], why: str) -> None:
    with pytest.raises(CatalogBroken, match=why):
        work()


def test_packed_catalog_that_is_none_is_told_so() -> None:
    packed = catalog.packaged()
    check_broken(lambda: catalog.unpack(b""), "cut")
    check_broken(lambda: catalog.unpack(b"PK\x03\x04" * 20), "damaged")
    check_broken(lambda: catalog.unpack(packed[:-100]), "cut")
    flipped = bytes([*packed[:5000], packed[5000] ^ 1, *packed[5001:]])
    check_broken(lambda: catalog.unpack(flipped), "damaged")
    check_broken(lambda: parse(b" " * (LARGEST + 1), 0.0), "larger than 32 MiB")
