"""Sealing: opens only unchanged, for its own row, with its ring."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SealBroken
from gateway.vault import (
    PREFIXES,
    KeyRing,
    binding,
    is_reference,
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
