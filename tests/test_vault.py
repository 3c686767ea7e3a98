"""Sealing: opens only unchanged, for its own row, with its ring; and where keys come from."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import secrets
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SealBroken, StartRefused
from gateway.settings import Settings
from gateway.shapes import Secret
from gateway.vault import (
    PREFIXES,
    KeyRing,
    binding,
    is_reference,
    load_ring,
    looks_masked,
    preview,
    sealed_with,
)

RANDOM = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
OLD, NEW = ("old", RANDOM), ("new", RANDOM[::-1])
RING = KeyRing([OLD])
ROW = {
    "scope": "global",
    "config_id": "01a1fbbc-8a54-7bb2-8000-41e50ffa63a3",
    "provider": "openai",
    "auth_type": "api_key",
    "origins": "https://api.openai.com:443",
}
BOUND = binding(**ROW, version=1)
PLAIN = b"sk-canary-0123456789"


def test_open_gives_back_what_was_sealed() -> None:
    sealed = RING.seal(PLAIN, BOUND)
    assert RING.open(sealed, BOUND).expose() == PLAIN
    assert PLAIN not in sealed
    assert sealed_with(sealed) == "old"


def test_seal_never_gives_the_same_bytes() -> None:
    assert len({RING.seal(PLAIN, BOUND) for _ in range(50)}) == 50


def test_open_refuses_every_flipped_bit() -> None:
    ring = KeyRing([OLD, ("ole", RANDOM[::-1])])
    sealed = RING.seal(PLAIN, BOUND)
    for place in range(len(sealed) * 8):
        broken = bytearray(sealed)
        broken[place // 8] ^= 1 << place % 8
        with pytest.raises(SealBroken):
            ring.open(bytes(broken), BOUND)


def test_open_refuses_every_cut_and_any_tail() -> None:
    sealed = RING.seal(PLAIN, BOUND)
    for wrong in [sealed[:end] for end in range(len(sealed))] + [sealed + b"\0"]:
        with pytest.raises(SealBroken):
            RING.open(wrong, BOUND)


@given(st.binary(max_size=300))
def test_open_refuses_anything_else(data: bytes) -> None:
    with pytest.raises(SealBroken):
        RING.open(data, BOUND)


@pytest.mark.parametrize("field", [*ROW, "version"])
def test_open_refuses_another_row(field: str) -> None:
    sealed = RING.seal(PLAIN, BOUND)
    other = binding(**{**ROW, field: "other"}, version=1) if field in ROW else None
    with pytest.raises(SealBroken):
        RING.open(sealed, other or binding(**ROW, version=2))


@given(st.lists(st.text(max_size=5), min_size=5, max_size=5), st.integers(0, 99))
def test_binding_tells_rows_apart_wherever_fields_end(texts: list[str], version: int) -> None:
    row = dict(zip(ROW, texts, strict=True))
    shifted = dict(zip(ROW, [texts[0] + texts[1], "", *texts[2:]], strict=True))
    assert (binding(**row, version=version) == binding(**shifted, version=version)) is (
        row == shifted
    )


def test_open_reads_what_an_older_key_sealed() -> None:
    both = KeyRing([OLD, NEW])
    assert both.open(RING.seal(PLAIN, BOUND), BOUND).expose() == PLAIN
    assert sealed_with(both.seal(PLAIN, BOUND)) == "new"
    with pytest.raises(SealBroken, match="'new'"):
        RING.open(both.seal(PLAIN, BOUND), BOUND)


def test_open_refuses_another_key_under_the_same_id() -> None:
    with pytest.raises(SealBroken):
        KeyRing([("old", NEW[1])]).open(RING.seal(PLAIN, BOUND), BOUND)


def test_ring_shows_ids_only() -> None:
    assert repr(KeyRing([OLD, NEW])) == "KeyRing(old, new)"
    for copying in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            copying(RING)


@pytest.mark.parametrize(
    "keys", [[], [OLD, OLD], [("old", b"short")], [("", RANDOM)], [("a b", RANDOM)]]
)
def test_ring_refuses_what_is_no_ring(keys: list[tuple[str, bytes]]) -> None:
    with pytest.raises(ValueError, match="master key|key ring"):
        KeyRing(keys)


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk-ant-api03-abcdefghijkl-WXYZ", "sk-ant-...WXYZ"),
        ("sk-proj-abcdefghijklmnopWXYZ", "sk-proj-...WXYZ"),
        ("sk-abcdefghijklmnopqrstWXYZ", "sk-...WXYZ"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIA...MPLE"),
        ("abcdefghijklmnopqrstuvWXYZ", "...WXYZ"),
        ("sk-tooshort", "***"),
        ("", "***"),
    ],
)
def test_preview_shows_prefix_and_last_four(secret: str, shown: str) -> None:
    assert preview(secret) == shown


@given(
    st.sampled_from(["", *PREFIXES]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60),
)
def test_preview_is_always_known_as_a_mask(prefix: str, rest: str) -> None:
    assert looks_masked(preview(prefix + rest))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("sk-***", True),
        ("***", True),
        ("****", True),
        ("sk-proj-********", True),
        ("sk-...abcd", True),
        ("...abcd", True),
        ("sk-...", False),
        ("sk-new...", False),
        ("AKIA...::…::us-west-2", False),
        ("sk-...abcde", False),
        ("sk-***x", False),
        ("sk-abcd", False),
        ("", False),
    ],
)
def test_looks_masked_takes_previews_only(text: str, masked: bool) -> None:
    assert looks_masked(text) is masked


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("$env:UPSTREAM_OPENAI", True),
        ("$file:/run/secrets/openai", True),
        ("$file:/run/secrets/team/openai.key", True),
        ("$env:WARDGATE_KEKS", False),
        ("$env:PATH", False),
        ("$env:UPSTREAM_", False),
        ("$env:UPSTREAM_A\n", False),
        ("$file:/run/secrets/../kek", False),
        ("$file:/run/secrets/a/../../kek", False),
        ("$file:/run/secrets//x", False),
        ("$file:/etc/passwd", False),
        ("$file:run/secrets/x", False),
        ("UPSTREAM_OPENAI", False),
    ],
)
def test_is_reference_stays_in_prefix_and_folder(text: str, allowed: bool) -> None:
    assert is_reference(text) is allowed


def write_key(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def encoded(key: bytes = RANDOM) -> str:
    return base64.b64encode(key).decode()


def test_load_ring_generates_once_on_loopback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    ring = load_ring(settings)
    path = tmp_path / "data" / "kek"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["kek"]
    said = capsys.readouterr().err
    assert str(path) in said
    assert base64.b64encode(ring.expose()[0][1]).decode() not in said
    assert load_ring(settings).expose() == ring.expose()
    assert capsys.readouterr().err == ""
    assert ring.ids[0].startswith("generated-")


@pytest.mark.parametrize("changed", [{"env": "production"}, {"host": "0.0.0.0"}])
def test_load_ring_refuses_no_key_and_generated_key_in_earnest(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(StartRefused, match="WARDGATE_KEK_FILE"):
        load_ring(Settings(data_dir=tmp_path, **changed))
    assert not (tmp_path / "kek").exists()
    load_ring(Settings(data_dir=tmp_path))
    with pytest.raises(StartRefused, match="generated"):
        load_ring(Settings(data_dir=tmp_path, **changed))


@pytest.mark.parametrize(
    "key",
    [bytes(32), b"\xff" * 32, bytes(range(8)) * 4, b"wardgate-example-key-do-not-use!"],
)
def test_load_ring_refuses_example_keys_in_production(key: bytes) -> None:
    keks = Secret(f"mine:{encoded(key)}".encode())
    assert load_ring(Settings(keks=keks)).ids == ("mine",)
    with pytest.raises(StartRefused, match="example"):
        load_ring(Settings(keks=keks, env="production"))


def test_load_ring_takes_random_keys_in_production() -> None:
    for _ in range(200):
        keks = Secret(encoded(secrets.token_bytes(32)).encode())
        assert load_ring(Settings(keks=keks, env="production")).ids[0].startswith("key-")


def test_load_ring_seals_with_the_first_key() -> None:
    keks = Secret(f"new:{encoded(NEW[1])}, old:{encoded()}".encode())
    assert load_ring(Settings(keks=keks)).ids == ("old", "new")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o660, 0o640, 0o602, 0o601])
def test_load_ring_refuses_a_file_open_to_others(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "k", encoded(), mode)
    with pytest.raises(StartRefused, match="chmod 600"):
        load_ring(Settings(kek_file=path))


def test_load_ring_takes_a_group_readable_file_when_told(tmp_path: Path) -> None:
    path = write_key(tmp_path / "k", f"mounted:{encoded()}\n", 0o440)
    settings = Settings(kek_file=path, kek_file_group_readable=True, env="production")
    assert load_ring(settings).ids == ("mounted",)
    os.chmod(path, 0o660)
    with pytest.raises(StartRefused, match="chmod 600"):
        load_ring(settings)


def test_load_ring_reads_several_keys_from_a_file(tmp_path: Path) -> None:
    path = write_key(tmp_path / "k", f"new:{encoded(NEW[1])}\nold:{encoded()}\n")
    assert load_ring(Settings(kek_file=path)).ids == ("old", "new")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no master key"),
        ("not base64!", "not base64"),
        (encoded(b"short"), "32 bytes, this one has 5"),
        (encoded(RANDOM + b"x"), "has 33"),
        (f"bad id:{encoded()}", "a key's id"),
        (f"a:{encoded()}\na:{encoded(NEW[1])}", "twice"),
    ],
)
def test_load_ring_says_what_is_wrong_with_a_file(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(StartRefused, match=why) as caught:
        load_ring(Settings(kek_file=write_key(tmp_path / "k", text)))
    assert text == "" or text not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_ring_refuses_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StartRefused):
            load_ring(Settings(kek_file=str(path), data_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []
