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
    read, written = usage.cache_read or 0, usage.cache_write or 0
    plain = max(0, usage.input - read - written)
    total = (
        plain * model.input_price
        + read * _or(model.cache_read_price, model.input_price)
        + written * _or(model.cache_write_price, model.input_price)
        + output * model.output_price
    )
    return (total + _PER // 2) // _PER


def _or(price: int | None, otherwise: int) -> int:
    return otherwise if price is None else price
