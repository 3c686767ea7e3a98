"""Counts on their way into the store and out again: slots, several parents, no store at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select

from gateway.health import LONGEST, PROVEN, REFUSED, Counts, Place, Report, bucket_of, unpack
from gateway.metrics import Asked, exposition
from gateway.process.ledger import MOST_PROOFS, PROOF_EVERY, Due, Ledger, Seen
from gateway.process.scrape import ask_store
from gateway.store import tables
from gateway.store.compile import revision
from gateway.store.engine import Store, open_store
from gateway.store.health import judged, keep, sweep
from gateway.store.proofs import Proof
from tests.backends import Backend
from tests.desks import RING
from tests.ports import dead_port
from tests.test_store import CONFIG, SECRET

NOW = 1_750_000_000.0  # the beginning of a slot of every width but the longest


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    """A store with the configs `a` and `b`."""
    await backend.lay(RING)
    opened = await open_store(backend.place)
    other = {**CONFIG, "id": "b", "alias": "b", "alias_key": "b", "is_default": False}
    async with opened.write("global") as conn:
        await conn.execute(insert(tables.provider_config), [CONFIG, other])
        await conn.execute(insert(tables.secret_version), [SECRET])
    yield opened
    await opened.aclose()


def report(at: float, ok: int = 1, failed: int = 0, config_id: str = "a") -> Report:
    """`ok` answers in 300 ms, `failed` ones, and what that says of key 1."""
    errors = {"http_500": failed} if failed else {}
    counts = Counts(ok + failed, at, errors, {bucket_of(0.3): ok} if ok else {}, {})
    return Report(at, {config_id: counts}, {config_id: (1, PROVEN)} if ok else {})


async def flush(ledger: Ledger, store: Store, now: float) -> None:
    due = ledger.take(now)
    looks = {one: Proof(seen.version, seen.outcome, seen.at) for one, seen in due.looks.items()}
    await keep(store, ledger.source, due.counts, looks)


async def requests(store: Store, now: float, config_id: str = "a") -> list[int]:
    """How many each window saw."""
    found = await judged(store, now)
    return [window.requests for window in found[config_id].health.windows]


async def rows(store: Store) -> int:
    async with store.read() as conn:
        return int(await conn.scalar(select(func.count()).select_from(tables.health)) or 0)


async def test_windows_add_up_over_slots_and_parents(store: Store) -> None:
    one, other = Ledger(), Ledger()
    for age, number in ((80_000.0, 16), (3000.0, 8), (200.0, 4), (30.0, 2), (0.0, 1)):
        for ledger in (one, other):
            ledger.add(report(NOW - age, number), NOW - age)
            await flush(ledger, store, NOW - age)
    assert await requests(store, NOW) == [2 * 3, 2 * 7, 2 * 15, 2 * 31]
    assert await requests(store, NOW, "b") == [0, 0, 0, 0]
    assert await requests(store, NOW + 71) == [0, 2 * 7, 2 * 15, 2 * 31]
    assert await requests(store, NOW + 90_001) == [0, 0, 0, 0]


async def test_open_slot_is_written_again_whole(store: Store) -> None:
    ledger = Ledger()
    for second in range(9):
        ledger.add(report(NOW + second), NOW + second)
        await flush(ledger, store, NOW + second)
    assert await requests(store, NOW + 9) == [9, 9, 9, 9]
    assert await rows(store) == len(LONGEST)


async def test_store_that_was_away_gets_everything_a_window_looks_at(store: Store) -> None:
    ledger, due = Ledger(), Due()
    for second in range(0, 7200, 5):  # two hours without a store
        ledger.add(report(NOW + second), NOW + second)
        due = ledger.take(NOW + second)
        ledger.put_back(due)
    end = NOW + 7195
    await flush(ledger, store, end)
    minute, five, hour, day = await requests(store, end)
    assert day == 1440
    # The windows, and at most one slot more.
    assert 12 <= minute <= 14
    assert 60 <= five <= 62
    assert 720 <= hour <= 780
    assert len(due.counts) <= 32 + 14 + 26
    assert not ledger.take(end)


async def test_flush_that_fails_is_repeated_and_counts_nothing_twice(store: Store) -> None:
    ledger = Ledger()
    ledger.add(report(NOW), NOW)
    due = ledger.take(NOW)
    await keep(store, ledger.source, due.counts, {})
    ledger.put_back(due)  # it was kept, but nobody told us
    ledger.add(report(NOW + 1), NOW + 1)
    await flush(ledger, store, NOW + 1)
    assert await requests(store, NOW + 1) == [2, 2, 2, 2]


async def test_config_deleted_meanwhile_is_left_out(store: Store) -> None:
    ledger = Ledger()
    for config_id in ("a", "b", "never was"):
        ledger.add(report(NOW, config_id=config_id), NOW)
    async with store.write("global") as conn:
        c = tables.provider_config.c
        await conn.execute(delete(tables.provider_config).where(c.id == "b"))
    await flush(ledger, store, NOW)
    assert list(await judged(store, NOW)) == ["a"]
    assert await requests(store, NOW) == [1, 1, 1, 1]
    async with store.write("global") as conn:
        await conn.execute(delete(tables.provider_config))
    assert (await rows(store), await judged(store, NOW)) == (0, {})


async def test_sweep_forgets_what_no_window_looks_at(store: Store) -> None:
    ledger = Ledger()
    ledger.add(report(NOW), NOW)
    await flush(ledger, store, NOW)
    for age, left in ((60.0, 3), (311.0, 2), (3901.0, 1), (86_400.0, 1), (90_001.0, 0)):
        before = await requests(store, NOW + age)
        await sweep(store, NOW + age)
        assert await rows(store) == left
        assert await requests(store, NOW + age) == before


async def test_proof_speaks_of_the_present_key_only(store: Store) -> None:
    refused = Proof(1, REFUSED, NOW)
    await keep(store, "s", {}, {"a": refused, "gone": refused})
    assert (await judged(store, NOW))["a"].health.state == "unhealthy"
    assert (await judged(store, NOW))["a"].health.last_check_at == NOW
    await keep(store, "s", {}, {"a": replace(refused, secret_version=2)})
    assert (await judged(store, NOW))["a"].health.state == "unknown"


async def test_only_those_asked_for(store: Store) -> None:
    assert list(await judged(store, NOW, ["b", "none"])) == ["b"]
    assert await judged(store, NOW, []) == {}


async def test_metrics_show_the_figures_of_the_store(store: Store) -> None:
    ledger = Ledger()
    ledger.add(report(NOW, ok=3, failed=1), NOW)
    await flush(ledger, store, NOW)
    text = exposition(None, await ask_store(store, NOW)).decode()
    shown = (await judged(store, NOW))["a"].health
    minute = shown.windows[0]
    assert minute.p50_latency_ms is not None
    lines = {line for line in text.splitlines() if line.startswith("wardgate_provider_")}
    rest = 'provider="openai",scope="global"'
    names, names_q = (
        f'alias="Main",{rest}',
        'alias="Main",provider="openai",quantile="0.5",scope="global"',
    )
    seconds = minute.p50_latency_ms / 1000
    assert {
        f"wardgate_provider_health{{{names}}} 0.5",
        f'wardgate_provider_requests{{{names},window="1m"}} 4.0',
        f'wardgate_provider_success_ratio{{{names},window="24h"}} 0.75',
        f'wardgate_provider_errors{{alias="Main",error_type="http_500",{rest},window="5m"}} 1.0',
        f'wardgate_provider_latency_seconds{{{names_q},window="1h"}} {seconds}',
    } <= lines
    assert not [line for line in lines if 'alias="b"' in line]  # nothing is known of it
    assert {"wardgate_store_away 0.0", f"wardgate_store_revision {await revision(store):.1f}"} <= {
        *text.splitlines()
    }


async def test_metrics_do_without_a_store_that_is_away() -> None:
    away = await open_store(f"postgresql+asyncpg://me@127.0.0.1:{dead_port()}/none")
    asked = await ask_store(away, NOW)
    assert asked == Asked()
    await away.aclose()
    shown = exposition(None, asked).decode()
    assert "\nwardgate_store_away 1.0\n" in shown
    assert "wardgate_store_revision" not in shown


def test_counts_of_workers_add_up_in_the_ledger() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.add(report(NOW, ok=2, failed=1), NOW)
    due = ledger.take(NOW)
    assert {place.width for place in due.counts} == set(LONGEST)
    assert {unpack(data).requests for data in due.counts.values()} == {9}
    assert not ledger.take(NOW)


def test_clock_set_back_a_little_begins_no_slot_anew() -> None:
    ledger = Ledger()
    ledger.add(report(NOW + 9), NOW + 9)
    assert ledger.take(NOW + 10)
    ledger.add(report(NOW + 9), NOW + 9)
    place = Place("a", 10, int(NOW // 10))
    assert unpack(ledger.take(NOW + 10).counts[place]).requests == 2


def test_ledger_keeps_no_slot_that_is_over_and_stored() -> None:
    ledger = Ledger()
    for number in range(1000):
        ledger.add(report(NOW + 10 * number), NOW + 10 * number)
        ledger.take(NOW + 10 * number)
    assert "slots=6 dirty=0" in repr(ledger)


def look(ledger: Ledger, at: float, version: int, outcome: str) -> dict[str, Seen]:
    ledger.add(Report(at, {}, {"a": (version, outcome)}), at)
    return ledger.take(at).looks


def test_proof_is_told_when_it_changes_and_once_a_minute() -> None:
    ledger = Ledger()
    steps: list[tuple[float, int, str, Any]] = [
        (0.0, 1, PROVEN, True),
        (1.0, 1, PROVEN, False),
        (2.0, 1, REFUSED, True),
        (3.0, 1, PROVEN, True),
        (3.0 + PROOF_EVERY - 1, 1, PROVEN, False),
        (3.0 + PROOF_EVERY, 1, PROVEN, True),
        (64.0, 2, PROVEN, True),
        (65.0, 1, REFUSED, False),  # a request that still ran with the key before
    ]
    for after, version, outcome, told in steps:
        assert bool(look(ledger, NOW + after, version, outcome)) is told


def test_proof_that_could_not_be_stored_is_told_again() -> None:
    ledger = Ledger()
    ledger.add(Report(NOW, {}, {"a": (1, PROVEN)}), NOW)
    due = ledger.take(NOW)
    assert due.looks == {"a": Seen(1, PROVEN, NOW)}
    ledger.put_back(due)
    assert ledger.take(NOW).looks == due.looks


def test_few_proofs_are_told_at_a_time_and_changes_first() -> None:
    ledger = Ledger()
    many = {f"c{number:03d}": (1, PROVEN) for number in range(MOST_PROOFS + 20)}
    ledger.add(Report(NOW, {}, many), NOW)
    assert len(ledger.take(NOW).looks) == MOST_PROOFS
    assert len(ledger.take(NOW).looks) == 20
    later = NOW + PROOF_EVERY
    ledger.add(Report(later, {}, {**many, "c119": (1, REFUSED)}), later)
    assert next(iter(ledger.take(later).looks)) == "c119"
