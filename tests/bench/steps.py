"""How long each step of a request takes, in a worker's app between transports without sockets.

Each step is timed where the corridor calls it; a timer's own cost is measured and taken off. The
kernel's part is not in it. `python -m tests.bench.steps`, fewer with two numbers: rounds, requests.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter_ns
from typing import Any, Final

import uvloop

from gateway import app, logs, receive
from gateway.limit import Limiter
from gateway.masking import mask
from tests.bench.instructions import Lane

ROUNDS: Final = 15
MANY: Final = 2000  # requests of a round
# What the corridor calls, by the step's name on the page, and where it finds it.
PLAIN: Final = {
    "read": (receive, "_read"),
    "authenticate": (receive, "authenticate"),
    "peek": (receive, "body_at_hand"),
    "resolve": (receive, "resolve"),
    "inject": (receive, "inject"),
    "record": (app, "record"),
}
WAITING: Final = {"forward": "forward", "stream": "stream"}


class Clock:
    """Nanoseconds spent in each step since the last look."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, int] = defaultdict(int)

    def plain(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            begun = perf_counter_ns()
            result = call(*args, **named)
            self.spent[step] += perf_counter_ns() - begun
            return result

        return timed

    def waiting(self, step: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def timed(*args: Any) -> Any:
            begun = perf_counter_ns()
            result = await call(*args)
            self.spent[step] += perf_counter_ns() - begun
            return result

        return timed

    def look(self) -> dict[str, float]:
        """Microseconds by step."""
        found = {step: spent / 1000 for step, spent in self.spent.items()}
        self.spent.clear()
        return found


def instrument(clock: Clock) -> None:
    """Every step the corridor calls is timed from now on, and nothing at all as `timer`."""
    for step, (module, name) in PLAIN.items():
        setattr(module, name, clock.plain(step, getattr(module, name)))
    for step, name in WAITING.items():
        setattr(receive, name, clock.waiting(step, getattr(receive, name)))
    Limiter.at_hand = clock.plain("limit", Limiter.at_hand)  # type: ignore[method-assign]


async def measure(rounds: int = ROUNDS, many: int = MANY) -> dict[str, float]:
    """Microseconds of a request by step, the median of the rounds; `rest` is in none of them."""
    logs.configure("info", mask, fd=os.open(os.devnull, os.O_WRONLY))
    clock = Clock()
    instrument(clock)
    lane = Lane()
    nothing = clock.plain("timer", lambda: None)
    rows = []
    for _ in range(rounds):
        begun = perf_counter_ns()
        await lane.requests(many)
        whole = (perf_counter_ns() - begun) / 1000
        for _ in range(many):
            nothing()
        rows.append({**clock.look(), "all": whole})
    lane.close()
    found = {step: median(row[step] for row in rows) / many for step in rows[0]}
    timer = found.pop("timer")
    steps = {step: took - timer for step, took in found.items() if step != "all"}
    rest = found["all"] - sum(steps.values()) - len(steps) * timer
    return {**steps, "rest": rest}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        found = uvloop.run(measure(*map(int, sys.argv[1:])))
    whole = sum(found.values())
    for step, took in found.items():
        sys.stdout.write(f"| {step} | {took:.1f} | {100 * took / whole:.0f} % |\n")


if __name__ == "__main__":
    main()
