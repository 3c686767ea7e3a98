"""`python -m tests.bench`: the gateway against nginx in one run, and a table with ratios.

Provider and callers share one process and one core; the peer has another core to itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop
from rich.console import Console

from tests.bench import peers, phases, processes, table, wire
from tests.bench.load import BenchFailed

NOTES = (
    "CPU is user + system time of the peer's whole process tree (for wardgate the supervising "
    "parent, one worker and the idle admin app) on one core, divided by requests or events. "
    "Both check the caller's key and send the provider's; wardgate also reads the model, resolves "
    "a config, counts a rate limit, keeps metrics and writes a log line for every request. "
    "Only ratios of one run compare."
)
PEERS = {"wardgate": peers.wardgate, "nginx": peers.nginx}
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def arguments(typed: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; wrong bounds end it with a usage message."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, epilog=f"Figures: {', '.join(table.ROWS)}."
    )
    parser.add_argument("--quick", action="store_true", help="shorter phases, rougher figures")
    parser.add_argument("--only", choices=PEERS, help="measure this peer alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    for name, words in (("--max", "the figure itself"), ("--max-ratio", "its ratio to nginx")):
        parser.add_argument(
            name,
            type=table.bounds,
            action="append",
            default=[],
            metavar="FIGURE=N",
            help=f"exit with 1 when {words} is larger; may be repeated",
        )
    return parser.parse_args(typed)


async def measure(name: str, sizes: phases.Sizes) -> dict[str, float]:
    """All figures of one peer, from its start to its end."""
    plan = wire.Plan()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(wire.Upstream, plan), "127.0.0.1", 0, backlog=4096)
    upstream: int = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as folder:
        peer = PEERS[name](Path(folder), upstream)
        try:
            bench = phases.Bench(peer, plan, upstream, sizes)
            return await bench.figures(lambda doing: out.print(f"[dim]{name}: {doing}[/]"))
        finally:
            peer.stop()
            server.close()


def run(asked: argparse.Namespace) -> int:
    """Measures, shows, judges. The exit code: 0, or 1 for a broken bound."""
    sizes = phases.QUICK if asked.quick else phases.Sizes()
    files = processes.many_files()
    if files < 2 * sizes.idle + 200:
        raise BenchFailed(f"{sizes.idle} streams need more than {files} open files (ulimit -n)")
    if processes.SHARED:
        err.print("only one core: callers and peer share it, and the figures are rough")
    figures = {}
    for name in [asked.only] if asked.only else PEERS:
        with processes.on_core(processes.LOAD_CORE):
            figures[name] = uvloop.run(measure(name, sizes))
    out.print(table.draw(figures, "quick run" if asked.quick else ""), NOTES, sep="\n")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    if asked.only:
        return 0
    broken = table.broken(
        figures["wardgate"], figures["nginx"], dict(asked.max), dict(asked.max_ratio)
    )
    for words in broken:
        err.print(f"[bold]too much[/] {words}")
    return 1 if broken else 0


def main() -> int:
    try:
        return run(arguments(sys.argv[1:]))
    except BenchFailed as error:
        err.print(f"no figures: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
