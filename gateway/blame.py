"""Who is to blame for a request that did not end well: a table, so that budgets can be kept apart.

Pure: nothing is decided by it but a label. Asked by tally.py, once for each kind of request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from gateway.exchange import Outcome

Blame = Literal["client", "provider", "gateway"]

# What whoever runs the gateway has to mend: a key, an account, an address, a table.
_OF_THE_HOUSE: Final = frozenset({"secret_unavailable", "upstream_denied", "unavailable"})
_OF_THE_KEY: Final = frozenset({401, 402, 403})
_OF_THE_PROVIDER: Final = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class Row:
    """One way to end badly. `holds` is asked for (outcome, status, code)."""

    blame: Blame
    when: str
    holds: Callable[[Outcome, int, str], bool]


# The first row that holds.
ROWS: Final = (
    Row(
        "client",
        "the client left before its answer was complete",
        lambda outcome, status, code: outcome == "client_gone",
    ),
    Row(
        "gateway",
        "a defect, or a stop that did not wait for the answer",
        lambda outcome, status, code: outcome == "failed",
    ),
    Row(
        "gateway",
        "the stored key does not open, Wardgate may not connect to its provider's address, or Redis"
        " is away and limits are denied then",
        lambda outcome, status, code: code in _OF_THE_HOUSE,
    ),
    Row(
        "gateway",
        "the provider refused the stored key or its account: 401, 402, 403",
        lambda outcome, status, code: outcome == "upstream_error" and status in _OF_THE_KEY,
    ),
    Row(
        "client",
        "the provider answered any other 4xx but 408 and 429",
        lambda outcome, status, code: (
            outcome == "upstream_error" and 400 <= status < 500 and status not in _OF_THE_PROVIDER
        ),
    ),
    Row(
        "provider",
        "the provider answered 408, 429 or 5xx, did not answer, or broke its answer off",
        lambda outcome, status, code: outcome in ("upstream_error", "incomplete"),
    ),
    Row(
        "client",
        "refused by Wardgate: its key, its limit, its model, its request",
        lambda outcome, status, code: outcome == "refused",
    ),
)


def blame(outcome: Outcome, status: int, code: str | None) -> Blame | None:
    """Who is, for what `status` the client saw; None for what ended well."""
    for row in ROWS:
        if row.holds(outcome, status, code or ""):
            return row.blame
    return None
