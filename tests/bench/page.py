"""A run as a part of a Markdown page, between two marks that stand there already.

Used by __main__.py for docs/performance.md.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.bench import table
from tests.bench.load import BenchFailed
from tests.servers import nginx_program

MARKS = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)


@dataclass(frozen=True)
class Facts:
    """When, where and of what a whole run is."""

    date: str
    machine: str
    programs: str
    load: float

    @classmethod
    def now(cls, load: float) -> Facts:
        """Of this machine; `load` is what it had to do when the run began."""
        said = subprocess.run([nginx_program(), "-v"], capture_output=True, text=True, check=True)
        python = f"{platform.python_implementation()} {platform.python_version()}"
        cores = len(os.sched_getaffinity(0))
        return cls(
            date=time.strftime("%Y-%m-%d"),
            machine=f"{_processor()}, {cores} cores, Linux {platform.release().split('-')[0]}",
            programs=f"Wardgate {version('wardgate')} on {python} with uvloop {version('uvloop')}, "
            f"nginx {said.stderr.strip().rpartition('/')[2]}",
            load=load,
        )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def section(
    figures: Mapping[str, table.Figures], idle: Mapping[str, table.Figures], facts: Facts
) -> str:
    """The table, and under it what was measured where and how."""
    heading = table.headings(figures)
    rule = ["---:" if name in (*figures, "ratio") else "---" for name in heading]
    lines = [_row(cells) for cells in (heading, rule, *table.cells(figures))]
    words = (
        f"{facts.date}, `make bench`: {facts.programs}. {facts.machine}, load average "
        f"{facts.load:.1f} at the start."
    )
    return "\n".join([*lines, "", " ".join([words, *table.remarks(idle)]), ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write(page: Path, text: str) -> None:
    """Replaces what stands between the marks. Raises BenchFailed when the page has none."""
    old = page.read_text()
    if not MARKS.search(old):
        raise BenchFailed(f"{page} has no <!-- figures --> … <!-- /figures -->")
    page.write_text(MARKS.sub(lambda _: text, old, count=1))
