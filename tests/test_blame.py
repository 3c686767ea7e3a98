"""Who is to blame: each row of the table, and that errors are counted by it, once a request."""

from __future__ import annotations

from typing import get_args

import pytest
from prometheus_client import REGISTRY

from gateway import catalog, errors
from gateway.blame import ROWS, Blame, blame
from gateway.exchange import Attempt, Outcome
from gateway.health import samples
from gateway.paths import match
from gateway.shapes import Candidate, ProviderConfig
from gateway.tally import Tally

CONFIG = ProviderConfig(
    id="c",
    scope="global",
    provider="openai",
    alias="main",
    dialect="openai",
    base_url="http://x",
    sealed=b"sealed",
)
CASES: list[tuple[Outcome, int, str | None, Blame | None]] = [
    ("ok", 200, None, None),
    ("client_gone", 499, "client_closed_request", "client"),
    ("client_gone", 200, "client_closed_request", "client"),
    ("failed", 0, None, "gateway"),
    ("upstream_error", 503, "secret_unavailable", "gateway"),
    ("upstream_error", 502, "upstream_denied", "gateway"),
    *[("upstream_error", status, f"http_{status}", "gateway") for status in (401, 402, 403)],
    *[("upstream_error", status, f"http_{status}", "client") for status in (400, 404, 413, 422)],
    *[("upstream_error", status, f"http_{status}", "provider") for status in (408, 429, 500, 529)],
    ("upstream_error", 502, "upstream_failed", "provider"),
    ("upstream_error", 502, "upstream_redirect", "provider"),
    ("upstream_error", 504, "upstream_timeout", "provider"),
    ("incomplete", 200, "upstream_incomplete", "provider"),
    ("refused", 503, "unavailable", "gateway"),
    ("refused", 401, "invalid_api_key", "client"),
    ("refused", 403, "model_not_allowed", "client"),
    ("refused", 429, "rate_limit_exceeded", "client"),
]


@pytest.mark.parametrize(("outcome", "status", "code", "to_blame"), CASES)
def test_somebody_is_to_blame(
    outcome: Outcome, status: int, code: str | None, to_blame: Blame | None
) -> None:
    assert blame(outcome, status, code) == to_blame


def test_every_row_is_needed_and_every_outcome_has_one() -> None:
    first = {
        next((n for n, row in enumerate(ROWS) if row.holds(outcome, status, code or "")), None)
        for outcome, status, code, _ in CASES
    }
    assert first == {None, *range(len(ROWS))}
    assert {outcome for outcome, *_ in CASES} == set(get_args(Outcome))


def test_codes_named_in_the_table_are_codes() -> None:
    named = {code for _, _, code, _ in CASES if code and not code.startswith("http_")}
    assert named <= set(errors.CODES)


def grown(blamed: str, error_type: str, provider: str = "openai") -> float:
    labels = {"blame": blamed, "provider": provider, "error_type": error_type}
    return REGISTRY.get_sample_value("wardgate_errors_total", labels) or 0.0


def test_requests_that_did_not_end_well_are_counted_by_blame_and_code() -> None:
    tally = Tally(catalog.load(), samples())
    chat = match("POST", b"/v1/chat/completions").endpoint
    candidate = Candidate(CONFIG, "gpt-4o", "rule")
    before = [grown("provider", "http_503"), grown("client", "invalid_api_key", "")]
    tally.kind(chat, candidate, 503, "upstream_error", "http_503", None, True).fail(1.0)
    tally.kind(chat, None, 401, "refused", "invalid_api_key", None, False).fail(1.0)
    tally.kind(chat, candidate, 200, "ok", None, None, True).end(0.0, 0.1, 0.1, 0.2, 0.3, False)
    tally.abandoned(Attempt(CONFIG, 0.0, 503, "http_503")).fail(1.0)  # the next one did well
    tally.write_out()
    after = [grown("provider", "http_503"), grown("client", "invalid_api_key", "")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1.0, 1.0]
