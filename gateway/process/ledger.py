"""What workers saw of the providers, by slots of time, until the store has it.

Slots that are still open stay here and are written again, whole; a store that is away loses
nothing that a window still looks at. No clock and no I/O. Filled by supervise and emptied by
publish; the admin app's rounds have one of their own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from gateway.health import LONGEST, Counts, Place, Report, pack

# A proof that says what is known already is repeated this often, in seconds.
PROOF_EVERY = 60.0
# At most so many at a time: each is statements of its own, and others wait for the store.
MOST_PROOFS = 100


class Seen(NamedTuple):
    """A look at a config's key by traffic: version of the key, outcome, Unix seconds."""

    version: int
    outcome: str
    at: float


@dataclass(frozen=True)
class Due:
    """What the store does not have yet."""

    counts: dict[Place, bytes] = field(default_factory=dict)
    looks: dict[str, Seen] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts or self.looks)


class Ledger:
    """`source` tells the rows of this process from those of any other."""

    def __init__(self) -> None:
        self.source = secrets.token_hex(8)
        self._slots: dict[Place, Counts] = {}
        self._dirty: set[Place] = set()
        self._looks: dict[str, Seen] = {}
        self._told: dict[str, Seen] = {}

    def __repr__(self) -> str:
        return f"<Ledger {self.source} slots={len(self._slots)} dirty={len(self._dirty)}>"

    def add(self, report: Report, now: float) -> None:
        """Count a worker's report in, at the time it came."""
        for config_id, counts in report.counts.items():
            for width in LONGEST:
                place = Place(config_id, width, int(now // width))
                self._slots.setdefault(place, Counts()).add(counts)
                self._dirty.add(place)
        for config_id, (version, outcome) in report.looks.items():
            seen, known = Seen(version, outcome, report.at), self._looks.get(config_id)
            if known is None or (known.version, known.at) <= (version, report.at):
                self._looks[config_id] = seen

    def take(self, now: float) -> Due:
        """Everything that changed since it was last taken; forgets what no window looks at."""
        self._forget(now)
        dirty, self._dirty = self._dirty, set()
        looks = self._news()
        self._told |= looks
        return Due({place: pack(self._slots[place]) for place in dirty}, looks)

    def put_back(self, due: Due) -> None:
        """It could not be kept: it is taken again, with what came since."""
        self._dirty |= due.counts.keys() & self._slots.keys()
        for config_id in due.looks:
            self._told.pop(config_id, None)

    def _news(self) -> dict[str, Seen]:
        """What changed comes before what is only repeated."""
        changed: dict[str, Seen] = {}
        repeated: dict[str, Seen] = {}
        for config_id, seen in self._looks.items():
            told = self._told.get(config_id)
            if told is None or told[:2] != seen[:2]:
                changed[config_id] = seen
            elif seen.at - told.at >= PROOF_EVERY:
                repeated[config_id] = seen
        return dict(islice((changed | repeated).items(), MOST_PROOFS))

    def _forget(self, now: float) -> None:
        for place in list(self._slots):
            # One slot back is kept: a clock that is set back a little must not begin it anew.
            over = place.slot < now // place.width - 1 and place not in self._dirty
            if over or place.slot < LONGEST[place.width].begins(now):
                del self._slots[place]
                self._dirty.discard(place)
