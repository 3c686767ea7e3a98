"""The retry table: each row of it, and that the page shows it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.errors import (
    Forbidden,
    GatewayError,
    LimitFacts,
    Malformed,
    NotFound,
    RateLimited,
    TlsFailed,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.verdict import (
    ANSWERED,
    BUSY,
    CONFIG_LIMIT,
    NO_ANSWER,
    NO_KEY,
    NOT_SENT,
    REFUSED,
    ROWS,
    Row,
    after,
    goes_on,
)


@dataclass(frozen=True)
class Case:
    """What happened, its row, and when the next target is tried then."""

    outcome: int | GatewayError
    row: Row
    post: bool
    streamed: bool  # a POST whose body was streamed on as it came
    get: bool


def limited(policy: str) -> RateLimited:
    return RateLimited("used up", limit=LimitFacts(policy, 1, 0, 1.0, 60))


def unsent(error: UpstreamError) -> UpstreamError:
    error.sent = False
    return error


CASES = [
    Case(limited("config"), CONFIG_LIMIT, post=True, streamed=True, get=True),
    Case(limited("client"), REFUSED, post=False, streamed=False, get=False),
    Case(limited("gateway"), REFUSED, post=False, streamed=False, get=False),
    Case(RateLimited("nobody's"), REFUSED, post=False, streamed=False, get=False),
    Case(
        Unavailable("no key", code="secret_unavailable"), NO_KEY, post=True, streamed=True, get=True
    ),
    Case(unsent(UpstreamError("refused")), NOT_SENT, post=True, streamed=True, get=True),
    Case(unsent(TlsFailed("no trust")), NOT_SENT, post=True, streamed=True, get=True),
    Case(unsent(UpstreamTimeout("no connection")), NOT_SENT, post=True, streamed=True, get=True),
    Case(UpstreamError("reset"), NO_ANSWER, post=False, streamed=False, get=True),
    Case(UpstreamTimeout("no head"), NO_ANSWER, post=False, streamed=False, get=True),
    Case(
        UpstreamError("away", code="upstream_redirect"),
        NO_ANSWER,
        post=False,
        streamed=False,
        get=True,
    ),
    *(
        Case(status, BUSY, post=True, streamed=False, get=True)
        for status in (429, 500, 501, 502, 503, 504, 505, 529, 599)
    ),
    *(
        Case(status, ANSWERED, post=False, streamed=False, get=False)
        for status in (200, 204, 304, 400, 401, 402, 403, 404, 408, 409, 413, 422, 428, 430, 499)
    ),
    Case(Malformed("not JSON"), REFUSED, post=False, streamed=False, get=False),
    Case(NotFound("nobody"), REFUSED, post=False, streamed=False, get=False),
    Case(Forbidden("no"), REFUSED, post=False, streamed=False, get=False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.outcome}")
def test_what_happened_decides_whether_the_next_target_is_tried(case: Case) -> None:
    assert after(case.outcome) is case.row
    assert goes_on(case.outcome, "POST", whole=True) == case.post
    assert goes_on(case.outcome, "POST", whole=False) == case.streamed
    assert goes_on(case.outcome, "GET", whole=True) == case.get
    assert goes_on(case.outcome, "HEAD", whole=True) == case.get
    assert goes_on(case.outcome, "DELETE", whole=True) == case.post


def test_every_row_has_a_case() -> None:
    assert {row.happened for row in ROWS} == {case.row.happened for case in CASES}
