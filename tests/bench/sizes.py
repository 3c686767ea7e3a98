"""How long and how much is measured. Seconds, counts. Used by all phases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """A full run, or what is changed of it."""

    starts: int = 3
    calm: float = 0.4  # without work, before anything is measured
    slices: int = 7  # of a closed loop
    slice: float = 0.8
    streams: int = 200  # at a pace, `chunks` events each, one every `pause`
    chunks: int = 100
    pause: float = 0.1
    windows: int = 5
    window: float = 3.0
    timed: int = 400  # first events
    rounds: int = 5  # at a fixed rate
    round: float = 1.0
    idle: int = 1_000  # streams that hold still
    many: int = 9_000


QUICK = Sizes(starts=1, slices=3, slice=0.3, chunks=10, window=0.4, timed=100, rounds=2, round=0.5)
GUARD = Sizes(slices=5, slice=0.6)
