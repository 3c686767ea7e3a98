"""Keys of ours: minted, read back, hashed; every typing error noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import credential
from gateway.credential import Prefix


@pytest.mark.parametrize("prefix", ["wg", "wga"])
def test_mint_reads_back(prefix: Prefix) -> None:
    minted = credential.mint(prefix)
    presented = credential.read(minted.text)
    assert presented is not None
    assert (presented.prefix, presented.public_id) == (prefix, minted.public_id)
    assert minted.text.startswith(f"{prefix}_{minted.public_id}_")


def test_mint_never_repeats() -> None:
    minted = [credential.mint("wg") for _ in range(500)]
    assert len({key.text for key in minted}) == len({key.public_id for key in minted}) == 500


def test_read_refuses_every_single_wrong_character() -> None:
    text = credential.mint("wg").text
    for place in range(len(text)):
        wrong = "x" if text[place] != "x" else "y"
        assert credential.read(text[:place] + wrong + text[place + 1 :]) is None


def test_read_refuses_neighbours_swapped_and_parts_missing() -> None:
    text = credential.mint("wga").text
    assert all(credential.read(text[:end]) is None for end in range(len(text)))
    assert credential.read(text + "\n") is None
    for place in range(len(text) - 1):
        swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
        assert swapped == text or credential.read(swapped) is None


@given(st.text(max_size=80))
def test_read_takes_nothing_by_chance(text: str) -> None:
    assert credential.read(text) is None
    assert credential.read(f"wg_{'a' * 12}_{text}") is None


@pytest.mark.parametrize(
    ("text", "ours"),
    [("wg_", True), ("wga_x", True), ("sk-wg_", False), ("wgx_1", False), ("", False)],
)
def test_looks_ours_goes_by_the_beginning(text: str, ours: bool) -> None:
    assert credential.looks_ours(text) is ours


def test_digest_depends_on_key_and_text() -> None:
    digests = {credential.digest(key, text) for key in (b"a", b"b") for text in ("x", "y\ud800")}
    assert len(digests) == 4
    assert {len(digest) for digest in digests} == {32}


def test_repr_hides_the_text() -> None:
    minted = credential.mint("wg")
    presented = credential.read(minted.text)
    assert minted.text[20:] not in repr(minted) + repr(presented)
