"""What a fleet needs: arithmetic on measured figures, as docs/capacity.md shows it.

Figures come from the tables of that page and of docs/performance.md, so a new measurement changes
the answer. Used by docs_tables.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
_NUMBER = re.compile(r"^\| (?P<what>[^|]+?) +\| +(?P<value>[0-9.,]+) +\|", re.MULTILINE)
_SPARE = 2  # a core is planned to be busy half the time
_EVENTS = 20  # a second, of one stream
_CORES = 16  # of one machine
_KIB = 1024 * 1024  # of a GiB


def figures(page: str) -> dict[str, float]:
    """The first number of each row of a page's tables, by what the row is about."""
    rows = _NUMBER.finditer((DOCS / page).read_text())
    return {row["what"]: float(row["value"].replace(",", "")) for row in rows}


@dataclass(frozen=True)
class Load:
    name: str
    requests: int  # a second
    streams: int  # open at once


LOADS = (
    Load("a team", 10, 100),
    Load("a company", 1_000, 10_000),
    Load("a platform", 10_000, 100_000),
    Load("the largest we plan for", 100_000, 1_000_000),
)


@dataclass(frozen=True)
class Need:
    """What a load takes. `commands` a second at Redis, `statements` a second at the database."""

    cores: int
    machines: int
    memory: float  # GiB, of all of them
    commands: int
    shards: int
    statements: int


def need(load: Load, measured: Mapping[str, float], around: Mapping[str, float]) -> Need:
    """`measured` are the bench's figures, `around` those of Redis, the database and the kernel."""
    requests = load.requests * measured["one request, 256 connections"]
    events = load.streams * _EVENTS * around["an event at 10,000 a second and core, µs"]
    cores = ceil(_SPARE * (requests + events) / 1_000_000)
    machines = max(2, ceil(cores / _CORES))
    stream = measured["one of 9,000 open streams"] + around["the kernel's part of a stream, KiB"]
    rest = measured["a worker at rest"] * cores + around["the parent of workers, MiB"] * machines
    commands = load.requests * around["Redis commands a limit"]
    return Need(
        cores,
        machines,
        load.streams * stream / _KIB + rest / 1024,
        ceil(commands),
        ceil(_SPARE * commands / around["Redis commands a second and core"]),
        ceil(machines * around["database statements a second and gateway"]),
    )


def rows() -> Sequence[tuple[str, ...]]:
    """The table, load by load."""
    measured, around = figures("performance.md"), figures("capacity.md")
    found = []
    for load in LOADS:
        needs = need(load, measured, around)
        found.append(
            (
                load.name,
                f"{load.requests:,}",
                f"{load.streams:,}",
                f"{needs.cores:,}",
                f"{needs.machines:,}",
                f"{needs.memory:,.0f} GiB" if needs.memory >= 1 else "under 1 GiB",
                f"{needs.commands:,}",
                f"{needs.shards:,}",
                f"{needs.statements:,}",
            )
        )
    return found


HEADING = (
    "load", "requests/s", "streams open", "cores, and workers", f"machines of {_CORES} cores",
    "memory", "Redis commands/s", "Redis cores", "database statements/s",
)  # fmt: skip
