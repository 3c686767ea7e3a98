"""`python -m tests.bench`: the gateway against nginx in one run, and a table with ratios.

Provider and callers share one process and one core; the peer has another core to itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import uvloop
from rich.console import Console

from tests.bench import page, plot, processes, table
from tests.bench.load import BenchFailed
from tests.bench.peers import PEERS
from tests.bench.sizes import QUICK, Sizes
from tests.bench.stages import MEMORY, Run

NOTES = (
    "CPU is user + system time of the peer's whole process tree (for wardgate the supervising "
    "parent, its workers and the idle admin app) on one core, divided by requests or events. "
    "Both check the caller's key and send the provider's; wardgate also reads the model, resolves "
    "a config, counts a rate limit, keeps metrics and writes a log line for every request. "
    "Only ratios of one run compare."
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def arguments(typed: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; what makes no sense ends it with a usage message."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, epilog=f"Figures: {', '.join(table.ROWS)}."
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="shorter phases, rougher figures, without the 9,000 streams",
    )
    parser.add_argument("--only", choices=PEERS, help="measure this peer alone")
    parser.add_argument("--figures", type=table.names, metavar="NAME,…", help="take these alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the ratios")
    parser.add_argument(
        "--bounds", action="store_true", help="exit with 1 when a bound of this project is broken"
    )
    for name, words in (("--max", "the figure itself"), ("--max-ratio", "its ratio to nginx")):
        parser.add_argument(
            name,
            type=table.bounds,
            action="append",
            default=[],
            metavar="FIGURE=N",
            help=f"exit with 1 when {words} is larger; may be repeated",
        )
    asked = parser.parse_args(typed)
    asked.figures = asked.figures or [
        name for name in table.ROWS if not (asked.quick and name == MEMORY[1])
    ]
    if (asked.write or asked.svg) and (asked.only or len(asked.figures) < len(table.ROWS)):
        parser.error("--write and --svg show a whole run: no --quick, --only or --figures")
    return asked


def measure(
    peers: Sequence[str], figures: Collection[str], sizes: Sizes, say: Callable[[str], None]
) -> Run:
    """Takes `figures` of `peers`, with the callers on a core of their own."""
    with (
        tempfile.TemporaryDirectory(prefix="wardgate-bench-") as folder,
        processes.on_core(processes.LOAD_CORE),
    ):
        run = Run(peers, figures, sizes, say, Path(folder))
        uvloop.run(run.take())
        return run


def room(asked: argparse.Namespace, sizes: Sizes) -> None:
    """Raises BenchFailed when so many connections may not be opened."""
    streams = {MEMORY[0]: sizes.idle, MEMORY[1]: sizes.many}
    most = max((streams.get(name, 0) for name in asked.figures), default=0)
    files, needed = processes.many_files(), 2 * most + 1_000
    if files < needed:
        raise BenchFailed(
            f"{most} streams need {needed} open files and {files} are allowed: raise the hard "
            "limit (ulimit -Hn), or name the other figures with --figures"
        )


def judge(asked: argparse.Namespace, run: Run) -> int:
    """The exit code: 0, or 1 for a broken bound."""
    most, most_ratio = dict(asked.max), dict(asked.max_ratio)
    if asked.bounds:
        most = {**_among(asked.figures, table.MOST), **most}
        most_ratio = {**_among(asked.figures, table.MOST_RATIO), **most_ratio}
    broken = table.broken(run.figures["wardgate"], run.figures["nginx"], most, most_ratio)
    for words in broken:
        err.print(f"[bold]too much[/] {words}")
    return 1 if broken else 0


def _among(figures: Collection[str], bounds: Mapping[str, float]) -> dict[str, float]:
    return {name: bound for name, bound in bounds.items() if name in figures}


def keep(asked: argparse.Namespace, run: Run, load: float) -> None:
    """Writes what was asked for: figures, table, picture."""
    if asked.json:
        asked.json.write_text(json.dumps({**run.figures, "idle": run.idle}, indent=1) + "\n")
    if asked.write or asked.svg:
        facts = page.Facts.now(load)
        if asked.write:
            page.write(asked.write, page.section(run.figures, run.idle, facts))
        if asked.svg:
            asked.svg.write_text(plot.draw(run.figures["wardgate"], run.figures["nginx"], facts))


def bench(typed: Sequence[str]) -> int:
    """Measures, shows, keeps, judges; gives the exit code."""
    asked = arguments(typed)
    sizes = QUICK if asked.quick else Sizes()
    room(asked, sizes)
    if processes.SHARED:
        err.print("only one core: callers and peer share it, and the figures are rough")
    load = os.getloadavg()[0]
    peers = [asked.only] if asked.only else list(PEERS)
    run = measure(peers, asked.figures, sizes, lambda doing: out.print(f"[dim]{doing}[/]"))
    out.print(table.draw(run.figures, "quick run" if asked.quick else ""))
    out.print(NOTES, *table.remarks(run.idle), sep="\n")
    keep(asked, run, load)
    return 0 if asked.only else judge(asked, run)


def main() -> int:
    try:
        return bench(sys.argv[1:])
    except BenchFailed as error:
        err.print(f"no figures: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
