"""The arithmetic of docs/capacity.md, by hand once."""

from __future__ import annotations

import pytest

from tests.capacity import Load, need

BENCH = {
    "one request, 256 connections": 50.0,
    "one of 9,000 open streams": 11.0,
    "a worker at rest": 40.0,
}
AROUND = {
    "an event at 10,000 a second and core, µs": 20.0,
    "the kernel's part of a stream, KiB": 10.0,
    "the parent of workers, MiB": 80.0,
    "Redis commands a limit": 1.0,
    "Redis commands a second and core": 10_000.0,
    "database statements a second and gateway": 20.0,
}


def test_a_load_takes_what_the_page_says_by_hand() -> None:
    needs = need(Load("by hand", 20_000, 100_000), BENCH, AROUND)
    # A core's worth of requests and forty of events, twice; in machines of sixteen.
    assert (needs.cores, needs.machines) == (82, 6)
    assert needs.memory == pytest.approx((100_000 * 21 / 1024 + 82 * 40 + 6 * 80) / 1024)
    assert (needs.commands, needs.shards, needs.statements) == (20_000, 4, 120)


def test_nobody_runs_on_one_machine_alone() -> None:
    needs = need(Load("small", 1, 1), BENCH, AROUND)
    assert (needs.cores, needs.machines, needs.shards) == (1, 2, 1)
