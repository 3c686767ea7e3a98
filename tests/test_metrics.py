"""Instruments: many values at a time count as one by one, and a look shows all that was counted."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric

from gateway import metrics

BOUNDS = (0.001, 0.01, 0.1, 1.0)
values = st.lists(st.one_of(st.floats(-1, 10), st.sampled_from(BOUNDS)))


def histogram() -> metrics.Histogram:
    return metrics.Histogram("h", "h", buckets=BOUNDS, registry=CollectorRegistry())


def shown(instrument: metrics.Histogram) -> dict[str, float]:
    [metric] = instrument.collect()
    return {
        sample.name + sample.labels.get("le", ""): round(sample.value, 6)
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@given(values)
@example(list(BOUNDS))
def test_many_values_count_as_one_by_one(observed: list[float]) -> None:
    together, apart = histogram(), histogram()
    together.observe_all(observed.copy())
    for value in observed:
        apart.observe(value)
    assert shown(together) == shown(apart)


class Noted:
    """Counts by one when it is written out."""

    def __init__(self, count: Callable[[], None]) -> None:
        self.write_out = count


def test_what_has_grown_is_written_out_once_before_it_is_shown() -> None:
    counter = metrics.Counter("c", "c", registry=CollectorRegistry())
    metrics.grown.append(Noted(counter.inc))

    def total() -> float:
        [metric] = list[Metric](counter.collect())
        return next(one.value for one in metric.samples if one.name == "c_total")

    assert [total(), total()] == [1.0, 1.0]
