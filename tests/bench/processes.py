"""What the kernel says of processes and cores: processor time, memory, idleness, limits.

Reads clocks and /proc only. Used by peers.py, side.py and phases.py.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

from tests.bench.load import BenchFailed

_ALLOWED = sorted(os.sched_getaffinity(0))
PEER_CORE, LOAD_CORE = _ALLOWED[0], _ALLOWED[-1]
SHARED = PEER_CORE == LOAD_CORE
_TICK = os.sysconf("SC_CLK_TCK")
_SCHEDULED = 2  # user and system time, in the kernel's numbering of clocks
_IDLE = (4, 5)  # columns of /proc/stat: idle, and idle while a disk works


def tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            parents[int(folder.name)] = int(text[text.rindex(")") + 2 :].split()[1])
    pids = [root]
    for pid in pids:
        pids += [child for child, parent in parents.items() if parent == pid]
    return pids


def titled(pids: Sequence[int], words: str) -> list[int]:
    """Those of `pids` whose command line holds `words`."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    return [pid for pid, line in lines.items() if words in line.replace(b"\0", b" ").decode()]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, to the nanosecond: /proc counts in 1/100 s."""
    # Any process has such a clock; its number is what clock_getcpuclockid(3) computes.
    try:
        return time.clock_gettime((~pid << 3) | _SCHEDULED)
    except OSError:
        raise BenchFailed(f"process {pid} ended while it was measured") from None


def memory_kib(pids: Sequence[int]) -> int:
    """Proportional set size: a page shared by two processes counts half for each."""
    return _sum(pids, "Pss:")


def own_memory_kib(pids: Sequence[int]) -> int:
    """The part of it that is no file: it does not change when others use the same libraries."""
    return _sum(pids, "Pss_Anon:")


def _sum(pids: Sequence[int], title: str) -> int:
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(title))
    return total


def idle_seconds(core: int) -> float:
    """How long `core` has had nothing to do so far."""
    for line in Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == f"cpu{core}":
            return sum(int(fields[column]) for column in _IDLE) / _TICK
    return 0.0


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


def in_line(pid: int) -> float:
    """Seconds the process has been ready to run, and another one ran."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def slowness() -> float:
    """How many times 45 ns an empty call takes here, now (40 on the core the bound was set on,
    while it was quiet); at least 1.

    Fifty milliseconds are what so much work takes there; a core that its neighbours slow down has
    the same work to do.
    """
    rounds, calls, nominal = 40, 10_000, 45e-9

    def nothing(number: int) -> int:
        return number

    def took() -> float:
        start = perf_counter()
        for number in range(calls):
            nothing(number)
        return (perf_counter() - start) / calls

    return max(1.0, median(took() for _ in range(rounds)) / nominal)
