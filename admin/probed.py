"""What a probe is asked and what it answers. No behaviour.

Everybody but probe.py imports these names from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.shapes import AuthType, DialectName, Secret, Setting

Outcome = Literal[
    "ok",
    "key_refused",
    "unreachable",
    "tls",
    "timeout",
    "rate_limited",
    "bad_answer",
    "unlisted",  # no list, or one that anybody gets: nothing is proved
    "unsent",  # there is no key, it does not open, or nobody says where it goes
]


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a probe found. `models` are ids as the provider writes them, MOST_MODELS at most;
    from the catalog where it does not list them. `status` is the provider's.
    """

    outcome: Outcome
    message: str  # for people; never a key
    status: int | None = None
    models: tuple[str, ...] = ()
    source: Literal["provider", "catalog"] = "provider"
    latency_ms: int = 0

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A key that is not stored, or not yet, and where it would go. `key`: text of a reference."""

    provider: str
    dialect: DialectName | None
    base_url: str | None
    auth_type: AuthType
    settings: Mapping[str, Setting]
    key: Secret | str | None


class Settled(Exception):
    """The probe ends before its end; this came of it."""

    def __init__(
        self, outcome: Outcome, message: str, status: int | None = None, *ids: str
    ) -> None:
        super().__init__(message)
        self.probed = Probed(outcome=outcome, message=message, status=status, models=ids)
