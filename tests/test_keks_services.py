"""Master keys wrapped by a service: what holds for Vault and AWS KMS alike, sound or gone wrong.

Both answer on real sockets as their documentation says (tests/keyservices.py).
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from admin.demo.upstream import Script, Upstream
from gateway.errors import StartRefused
from gateway.keks.load import load_ring
from gateway.keks.wire import policy
from gateway.keks.wrapped import add, keys_to_wrap
from gateway.settings import Settings
from gateway.vault import sealed_with
from tests.certificate import certificate, server_side
from tests.keyservices import CANARIES, KEY_ARN, Kms, Standin, Vault, answer, encoded, running
from tests.ports import dead_port

RANDOM = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
BACKWARDS = RANDOM[::-1]
MIB = 1024 * 1024


@pytest.fixture(params=[Vault, Kms], ids=["vault", "aws"])
def service(request: pytest.FixtureRequest) -> Standin:
    made = request.param()
    assert isinstance(made, Standin)
    return made


def kept(folder: Path) -> str:
    return (folder / "kek.wrapped").read_text()


async def refusal(settings: Settings) -> str:
    """Why the keys cannot be had: one line, in which nothing secret stands."""
    with pytest.raises(StartRefused) as caught:
        await load_ring(settings)
    said = str(caught.value)
    assert "\n" not in said
    assert not [canary for canary in CANARIES if canary in said]
    return said


async def wrapped(service: Standin, folder: Path, **more: Any) -> Settings:
    """Settings whose file holds one key, `k1`."""
    settings = service.settings(folder, **more)
    await add(settings, [("k1", RANDOM)])
    return settings


async def test_new_key_is_wrapped_and_found_again(service: Standin, tmp_path: Path) -> None:
    async with running(service):
        settings = service.settings(tmp_path, env="production")
        [(name, key)] = keys_to_wrap(settings, None)
        await add(settings, [(name, key)])
        assert (await load_ring(settings)).expose() == ((name, key),)
    assert (tmp_path / "kek.wrapped").stat().st_mode & 0o777 == 0o600
    assert encoded(key) not in kept(tmp_path)
    assert os.listdir(tmp_path) == ["kek.wrapped"]
    assert [word.lower() for word in service.asked] == ["encrypt", "decrypt", "decrypt"]


async def test_new_keys_are_never_the_same(service: Standin, tmp_path: Path) -> None:
    service.place = "https://127.0.0.1"
    made = [keys_to_wrap(service.settings(tmp_path), None)[0] for _ in range(50)]
    assert len({key for _, key in made}) == len({name for name, _ in made}) == 50


async def test_first_key_seals_and_all_open(service: Standin, tmp_path: Path) -> None:
    async with running(service):
        settings = await wrapped(service, tmp_path)
        before = (await load_ring(settings)).seal(b"kept", b"bound")
        await add(settings, [("k2", os.urandom(32))], last=True)
        assert (await load_ring(settings)).ids == ("k2", "k1")
        await add(settings, [("k3", os.urandom(32))])
        ring = await load_ring(settings)
    assert ring.ids == ("k2", "k1", "k3")
    assert ring.open(before, b"bound").expose() == b"kept"
    assert sealed_with(ring.seal(b"new", b"bound")) == "k3"


async def test_keys_of_a_key_file_keep_their_ids(service: Standin, tmp_path: Path) -> None:
    file = tmp_path / "plain"
    file.write_text(f"b:{encoded(RANDOM)}\na:{encoded(BACKWARDS)}\n")
    file.chmod(0o644)
    async with running(service):
        settings = service.settings(tmp_path)
        with pytest.raises(StartRefused, match="chmod 600"):
            keys_to_wrap(settings, file)
        file.chmod(0o600)
        await add(settings, keys_to_wrap(settings, file))
        assert (await load_ring(settings)).expose() == (("a", BACKWARDS), ("b", RANDOM))


async def test_weak_keys_are_refused_in_production(service: Standin, tmp_path: Path) -> None:
    file = tmp_path / "plain"
    file.write_text(f"mine:{encoded(bytes(32))}")
    file.chmod(0o600)
    async with running(service):
        earnest = service.settings(tmp_path, env="production")
        with pytest.raises(StartRefused, match="example"):
            keys_to_wrap(earnest, file)
        await add(earnest, keys_to_wrap(service.settings(tmp_path), file))
        assert "example" in await refusal(earnest)


async def test_id_that_is_there_is_refused_before_anything_is_asked(
    service: Standin, tmp_path: Path
) -> None:
    async with running(service) as upstream:
        settings = await wrapped(service, tmp_path)
        before, asked = kept(tmp_path), len(upstream.received)
        with pytest.raises(StartRefused, match="twice"):
            await add(settings, [("k1", BACKWARDS)])
        assert (kept(tmp_path), len(upstream.received)) == (before, asked)


HOSTILE = {
    "not json": (answer(200, "x"), "something else than was asked for"),
    "nothing in it": (answer(200, {"data": {}}), "something else|no vault|32"),
    "null": (answer(200, {"data": None, "Plaintext": None}), "something else"),
    "a number": (answer(200, {"data": {"plaintext": 7}, "Plaintext": 7}), "something else"),
    "deep": (Script(body=b'{"x":' + b"[" * 60_000), "something else"),
    "deep, refused": (Script(status=400, body=b'{"x":' + b"[" * 60_000), "cannot unwrap|answered"),
    "no base64": (answer(200, {"data": {"plaintext": "*"}, "Plaintext": "*"}), "to no base64"),
    "no http": (Script(raw=b"\x16\x03\x01 canary\r\n\r\n"), "cannot be reached"),
    "huge": (Script(chunks=[b" " * MIB] * 64, framing="chunked"), "more than 64 KiB"),
    "huge, told so": (Script(body=b" " * MIB), "more than 64 KiB"),
    "cut": (Script(body=b"{" * 100, cut_at=50), "broke its answer off"),
    "reset": (Script(body=b"{" * 100, cut_at=0, cut="rst"), "broke its answer off|reached"),
    "packed": (Script(headers=[(b"content-encoding", b"gzip")], body=b"\x1f\x8b"), "else"),
    "403": (answer(403, {"errors": ["canary"], "message": "canary"}), "refuses|answered 403"),
    "429": (answer(429, {}), "answered 429"),
    "500": (answer(500, {"__type": "canary<script>"}), "answered 500"),
    "503": (answer(503, {"errors": ["Vault is sealed"]}), "is sealed|answered 503"),
    "204": (Script(status=204, framing="none"), "answered 204"),
    "silent": (Script(head_delay=60), "did not answer in 0.05 s"),
    "slow": (Script(chunks=[b" "] * 600, delay=0.02), "did not answer in 0.05 s"),
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_service_that_goes_wrong_is_one_line(
    service: Standin, how: str, tmp_path: Path
) -> None:
    script, why = HOSTILE[how]
    async with running(service):
        await wrapped(service, tmp_path)
        before, begun = kept(tmp_path), time.monotonic()
        service.instead = script
        settings = service.settings(tmp_path, kek_timeout=0.05 if "0.05 s" in why else 10.0)
        assert re.search(why, await refusal(settings))
        with pytest.raises(StartRefused) as caught:
            await add(settings, [("k2", BACKWARDS)])
        assert time.monotonic() - begun < 5
        assert not [canary for canary in CANARIES if canary in str(caught.value)]
    assert kept(tmp_path) == before


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
async def test_key_of_another_length_is_refused(
    service: Standin, length: int, tmp_path: Path
) -> None:
    async with running(service):
        settings = await wrapped(service, tmp_path)
        service.plaintext = os.urandom(length)
        assert f"'k1' unwraps to {length} bytes, not to 32" in await refusal(settings)


async def test_key_that_unwraps_to_another_is_never_written(
    service: Standin, tmp_path: Path
) -> None:
    async with running(service):
        settings = await wrapped(service, tmp_path)
        before = kept(tmp_path)
        service.plaintext = BACKWARDS
        with pytest.raises(StartRefused, match="another key"):
            await add(settings, [("k2", RANDOM)])
    assert kept(tmp_path) == before


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_is_not_followed(service: Standin, status: int, tmp_path: Path) -> None:
    async with running(service), Upstream(answer(200, {})) as elsewhere:
        settings = await wrapped(service, tmp_path)
        there = [(b"location", elsewhere.url.encode())]
        service.instead = Script(status=status, headers=there)
        assert f"answered {status}; redirects are not followed" in await refusal(settings)
        assert elsewhere.connections == 0


async def test_edited_key_does_not_unwrap(service: Standin, tmp_path: Path) -> None:
    async with running(service):
        settings = await wrapped(service, tmp_path)
        whole, file = kept(tmp_path).strip(), tmp_path / "kek.wrapped"
        file.write_text(whole[:-8] + ("AAAA" if whole[-8:-4] != "AAAA" else "BBBB") + whole[-4:])
        assert "cannot unwrap 'k1'" in await refusal(settings)
        file.write_text("k1:" + whole[-12:])
        assert "did not wrap master key 'k1'" in await refusal(settings)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "make one with `wardgate kek wrap`"),
        ("\n \n", "make one with `wardgate kek wrap`"),
        ("just text", "a key's id is"),
        (f"a b:{encoded(RANDOM)}", "a key's id is"),
        (f"k:{encoded(RANDOM)}", "did not wrap master key 'k'"),
        ("k:vault:v1:*", "did not wrap"),
        ("k:aws-kms:*", "did not wrap"),
        ("k:\nk:", "twice"),
        ("\udcff", "a key's id is"),
    ],
)
async def test_file_that_is_none_is_refused_unasked(
    service: Standin, text: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "kek.wrapped").write_text(text, errors="surrogateescape")
    async with running(service) as upstream:
        said = await refusal(service.settings(tmp_path))
        assert (why in said, upstream.connections) == (True, 0)


async def test_file_that_is_missing_or_a_folder_is_refused(
    service: Standin, tmp_path: Path
) -> None:
    service.place = f"http://127.0.0.1:{dead_port()}"
    missing = service.settings(tmp_path, kek_wrapped_file=str(tmp_path / "none"))
    assert f"there is no wrapped master key in {tmp_path}/none" in await refusal(missing)
    assert "cannot be read" in await refusal(
        service.settings(tmp_path, kek_wrapped_file=str(tmp_path))
    )


async def test_service_that_is_not_there_is_one_line(service: Standin, tmp_path: Path) -> None:
    async with running(service):
        await wrapped(service, tmp_path)
    said = await refusal(service.settings(tmp_path))
    assert said.endswith(f"{service.place.removeprefix('http://')} cannot be reached")


async def test_ring_stays_when_the_service_goes(service: Standin, tmp_path: Path) -> None:
    async with running(service) as upstream:
        ring = await load_ring(await wrapped(service, tmp_path))
        await upstream.wait_disconnected()
    assert ring.open(ring.seal(b"x", b"y"), b"y").expose() == b"x"


async def test_tls_is_verified_against_the_named_authority_only(
    service: Standin, tmp_path: Path
) -> None:
    file, other = certificate(tmp_path, "127.0.0.1"), certificate(tmp_path, "localhost")
    async with running(service, server_side(file)):
        settings = await wrapped(service, tmp_path, kek_ca_file=str(file))
        assert (await load_ring(settings)).ids == ("k1",)
        for wrong in ("", str(other)):
            settings = service.settings(tmp_path, kek_ca_file=wrong)
            assert "no TLS connection to be trusted" in await refusal(settings)
        for wrong, why in ((str(tmp_path / "none"), "No such file"), (__file__, "no certificates")):
            assert why in await refusal(service.settings(tmp_path, kek_ca_file=wrong))


async def test_certificate_of_another_name_is_refused(service: Standin, tmp_path: Path) -> None:
    file = certificate(tmp_path, "vault.example")
    async with running(service, server_side(file)):
        (tmp_path / "kek.wrapped").write_text(f"k:{service.scheme}AAAA")
        settings = service.settings(tmp_path, kek_ca_file=str(file))
        assert "no TLS connection to be trusted" in await refusal(settings)


async def test_plain_http_stays_near(service: Standin, tmp_path: Path) -> None:
    service.place = "http://192.0.2.1:8200"
    (tmp_path / "kek.wrapped").write_text(f"k:{service.scheme}AAAA")
    assert "plain http may not go" in await refusal(service.settings(tmp_path))


def test_plain_http_goes_to_loopback_and_allowed_ranges_and_tls_anywhere() -> None:
    closed = Settings()
    opened = Settings.from_env({"WARDGATE_ALLOWED_UPSTREAM_CIDRS": "10.0.0.0/8"})
    for address in ("127.0.0.1", "::1"):
        assert policy("http://x", closed).permits(address, 8200, encrypted=False)
    for address in ("10.0.0.1", "8.8.8.8", "169.254.169.254"):
        assert not policy("http://x", closed).permits(address, 8200, encrypted=False)
        assert policy("https://x", closed).permits(address, 8200, encrypted=True)
    assert policy("http://x", opened).permits("10.0.0.1", 8200, encrypted=False)
    assert not policy("http://x", opened).permits("8.8.8.8", 8200, encrypted=False)


async def test_key_of_the_other_service_is_named(tmp_path: Path) -> None:
    vault, kms = Vault(), Kms()
    async with running(vault), running(kms) as upstream:
        await wrapped(vault, tmp_path)
        assert "AWS KMS did not wrap master key 'k1'" in await refusal(kms.settings(tmp_path))
        assert upstream.connections == 0
        await add(kms.settings(tmp_path / "other"), [("k1", RANDOM)])
        assert kept(tmp_path / "other").startswith("k1:aws-kms:")
        again = vault.settings(tmp_path / "other")
        assert "Vault did not wrap master key 'k1'" in await refusal(again)
    assert KEY_ARN not in kept(tmp_path / "other")
