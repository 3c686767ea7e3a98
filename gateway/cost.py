"""What a request cost, in whole micro-dollars: tokens times the catalog's prices.

Pure. A price or a count that is not known makes the cost not known, never 0. Used by record.py.
"""

from __future__ import annotations

from gateway.catalog import Model
from gateway.shapes import Usage

_PER = 1_000_000  # prices are per million tokens


def cost(usage: Usage, model: Model) -> int | None:
    """Micro-dollars, rounded to the nearest; None when a price or a count is missing.

    `usage.input` counts every token read, cached ones included; those have prices of their own
    where the catalog lists them, else the ordinary one.
    """
    # Embeddings put nothing out: the catalog says so with a price of 0.
    output = 0 if usage.output is None and model.output_price == 0 else usage.output
    if usage.input is None or output is None:
        return None
    if model.input_price is None or model.output_price is None:
        return None
    total = usage.input * model.input_price + output * model.output_price
    if usage.cache_read or usage.cache_write:
        total += _cached(usage, model, model.input_price)
    return (total + _PER // 2) // _PER


def _cached(usage: Usage, model: Model, price: int) -> int:
    """What reading from the cache and writing to it costs more than input does, at its `price`."""
    read, written = usage.cache_read or 0, usage.cache_write or 0
    # No more was read than there was, whatever a provider says.
    counted = min(usage.input or 0, read + written)
    of_read = price if model.cache_read_price is None else model.cache_read_price
    of_written = price if model.cache_write_price is None else model.cache_write_price
    return read * of_read + written * of_written - counted * price
