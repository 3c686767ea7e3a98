"""The routing table: look-ups, and its way through a sealed file."""

from __future__ import annotations

import random

import msgspec
import pytest

from gateway.errors import SealBroken
from gateway.shapes import (
    GLOBAL,
    Agent,
    Choice,
    Client,
    ProviderConfig,
    RateLimit,
    Scope,
    Secret,
)
from gateway.snapshot import Snapshot, by_scope, empty, pack, unpack
from gateway.vault import KeyRing

RING = KeyRing([("test", b"k" * 32)])
GATEWAY = "gateway:acc/gw"


def config(number: int, scope: str = GLOBAL) -> ProviderConfig:
    return ProviderConfig(
        id=f"config-{number}",
        scope=scope,
        provider="openai",
        alias=f"a{number}",
        dialect="openai",
        base_url="https://api.openai.com/v1",
        settings={"project": "p"},
        limit=RateLimit(5, 60),
        sealed=bytes([number]) * 40,
        origin="https://api.openai.com:443",
        secret_version=number,
    )


def full() -> Snapshot:
    return Snapshot(
        revision=7,
        compiled_at=12.5,
        hash_key=Secret(b"h" * 32),
        scopes={
            GLOBAL: Scope(GLOBAL, "global", None),
            GATEWAY: Scope(GATEWAY, "gateway", GLOBAL),
        },
        configs=by_scope([config(2, GATEWAY), config(1), config(3)]),
        clients={
            "k": Client(id="k", digest=b"d" * 32, scope=GLOBAL, name="app", allowed_models=("m",))
        },
        agents={"g": Agent(id="g", scope=GLOBAL, name="bot", provider="openai", model="openai/m")},
        gateways={GATEWAY: RateLimit(10, 60, "sliding"), "gateway:acc/other": None},
        choices={GLOBAL: Choice("config-1", "m")},
    )


def test_unpack_gives_back_the_whole_table() -> None:
    before = full()
    before.chain(GATEWAY)
    after = unpack(pack(before, RING), RING)
    assert after.hash_key.expose() == before.hash_key.expose()
    assert after == Snapshot(**{**vars(before), "hash_key": after.hash_key, "memo": {}})
    assert after.memo == {}
    assert [c.alias for c in after.configs[GLOBAL]] == ["a1", "a3"]


def test_unpack_refuses_flipped_bits_and_other_rings() -> None:
    packed = pack(full(), RING)
    places = random.Random(1).sample(range(len(packed) * 8), 400)
    for place in places:
        broken = bytearray(packed)
        broken[place // 8] ^= 1 << place % 8
        with pytest.raises(SealBroken):
            unpack(bytes(broken), RING)
    with pytest.raises(SealBroken):
        unpack(packed, KeyRing([("test", b"x" * 32)]))


def test_unpack_refuses_what_another_version_wrote() -> None:
    others: list[object] = [[1], ["x"] * 9, {}]
    for wrong in others:
        sealed = RING.seal(msgspec.msgpack.encode(wrong), b"wardgate snapshot 1")
        with pytest.raises(SealBroken, match="another version"):
            unpack(sealed, RING)


def test_pack_hides_the_hash_key_and_every_name() -> None:
    packed = pack(full(), RING)
    assert not any(text in packed for text in (b"h" * 32, b"openai", b"app", b"d" * 32))


def test_chain_is_nearest_first_and_empty_for_unknown_scopes() -> None:
    snapshot = full()
    assert snapshot.chain(GATEWAY) == (GATEWAY, GLOBAL)
    assert snapshot.chain(GATEWAY) is snapshot.chain(GATEWAY)
    assert snapshot.chain(GLOBAL) == (GLOBAL,)
    assert snapshot.chain("gateway:acc/none") == ()


def test_chain_ends_even_in_a_circle() -> None:
    scopes = {"a": Scope("a", "group", "b"), "b": Scope("b", "group", "a")}
    assert Snapshot(**{**vars(full()), "scopes": scopes, "memo": {}}).chain("a") == ("a", "b")


def test_config_finds_by_id_in_every_scope() -> None:
    snapshot = full()
    assert snapshot.config("config-2") == config(2, GATEWAY)
    assert snapshot.config("config-3") == config(3)
    assert snapshot.config("config-9") is None


def test_empty_lets_nobody_in() -> None:
    snapshot = empty(3.0)
    assert (snapshot.revision, snapshot.compiled_at) == (0, 3.0)
    assert (snapshot.clients, snapshot.configs) == ({}, {})
    assert snapshot.chain(GLOBAL) == (GLOBAL,)
