"""Costs in whole micro-dollars."""

from __future__ import annotations

from gateway.catalog import Model
from gateway.cost import cost
from gateway.shapes import Usage

PLAIN = Model("m", "M", None, 2_500_000, 10_000_000, None, None, None, None)
CACHED = PLAIN._replace(cache_read_price=250_000, cache_write_price=3_000_000)


def test_cost_is_tokens_times_prices() -> None:
    assert cost(Usage(input=1000, output=100), PLAIN) == 2500 + 1000


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(input=1000, output=0, cache_read=600, cache_write=100)
    assert cost(usage, CACHED) == 300 * 2.5 + 600 * 0.25 + 100 * 3
    assert cost(usage, PLAIN) == 2500


def test_cost_is_rounded_to_the_nearest() -> None:
    cheap = PLAIN._replace(input_price=100_000, output_price=0)
    assert [cost(Usage(input=n, output=0), cheap) for n in (4, 5, 14, 15)] == [0, 1, 1, 2]


def test_what_puts_nothing_out_costs_its_input() -> None:
    assert cost(Usage(input=1000), PLAIN._replace(output_price=0)) == 2500


def test_cost_is_not_known_without_a_price_or_a_count() -> None:
    assert cost(Usage(input=1, output=1), PLAIN._replace(output_price=None)) is None
    assert cost(Usage(input=1, output=1), PLAIN._replace(input_price=None)) is None
    assert cost(Usage(input=1), PLAIN) is None
    assert cost(Usage(output=1), PLAIN) is None
