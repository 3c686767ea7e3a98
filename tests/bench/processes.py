"""What the kernel says about a process tree: processor time and memory; and which core it is on.

Reads /proc only. Used by peers.py and phases.py.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_ALLOWED = sorted(os.sched_getaffinity(0))
PEER_CORE, LOAD_CORE = _ALLOWED[0], _ALLOWED[-1]
SHARED = PEER_CORE == LOAD_CORE


def _stats() -> dict[int, tuple[int, int]]:
    """Process id -> (parent, ticks of user and system time)."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            fields = text[text.rindex(")") + 2 :].split()
            found[int(folder.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    return found


def tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    stats = _stats()
    pids = [root]
    for pid in pids:
        pids += [child for child, (parent, _) in stats.items() if parent == pid]
    return pids


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes so far."""
    stats = _stats()
    return sum(stats[pid][1] for pid in pids if pid in stats) / _TICK


def memory_kib(pids: list[int]) -> int:
    """Proportional set size: a page shared by two processes counts half for each."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started inside run on `core`; so does this thread, until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def many_files() -> int:
    """Raises this process's limit of open files as far as allowed; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
