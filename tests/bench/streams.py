"""Streams: what one event costs while many run, and what an open one keeps in memory.

One peer after the other, each with windows of its own. Used by stages.py.
"""

from __future__ import annotations

import asyncio
from functools import partial
from statistics import median

from tests.bench import processes
from tests.bench.load import Stream, Tally, ask_all, ask_spread, crowd
from tests.bench.side import Side, until
from tests.bench.sizes import Sizes

# Until what a thousand starts leave behind is written.
_SETTLED = 0.5


async def chunk(side: Side, sizes: Sizes) -> float:
    """Processor microseconds per event, streams coming and going: the median of the windows."""
    plan, tally = side.plan, Tally()
    plan.stream, plan.pause, plan.chunks = True, sizes.pause, sizes.chunks
    make = partial(Stream, tally, side.request(stream=True))
    callers = await crowd(make, side.peer.port, sizes.streams)
    # Spread over the life of a stream, so that events, starts and ends do not come in bursts.
    await ask_spread(callers, sizes.chunks * sizes.pause)
    found = [await _window(side, sizes, tally) for _ in range(sizes.windows)]
    await side.leave(tally, callers)
    plan.pause = 0.0
    return median(found) * 1e6


async def _window(side: Side, sizes: Sizes, tally: Tally) -> float:
    before, sent, tally.chunks = side.cpu(), side.plan.sent, 0
    await until(lambda: bool(tally.wrong), sizes.window)
    used, sent, passed = side.cpu() - before, side.plan.sent - sent, tally.chunks
    side.check(tally)
    # At either end of the window every stream may have an event on its way.
    if not passed or abs(passed - sent) > 2 * sizes.streams:
        raise side.failed(f"passed on {passed} events of {sent}")
    return used / passed


async def memory(side: Side, *counts: int) -> list[float]:
    """KiB the peer has grown by for every open stream, when so many are open in which nothing
    happens."""
    plan, tally = side.plan, Tally()
    plan.stream = plan.hold = True
    make = partial(Stream, tally, side.request(stream=True))
    callers: list[Stream] = []
    before, found = processes.own_memory_kib(side.peer.pids), []
    for count in counts:
        more = await crowd(make, side.peer.port, count - len(callers))
        callers += more
        await ask_all(more, tally)
        await asyncio.sleep(_SETTLED)
        side.check(tally)
        found.append((processes.own_memory_kib(side.peer.pids) - before) / count)
    await side.leave(tally, callers)
    plan.hold = False
    return found
