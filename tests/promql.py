"""What an expression for Prometheus names: metrics, and labels with the values they are to have.

A look at its words, no parser: promtool and Prometheus say whether it is sound. Called by tests.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from prometheus_client.metrics import Histogram

from gateway import metrics
from tests.docs_tables import instruments, shown_name

# Not an instrument's, but Prometheus's own: of a target, a bucket, a recorded quantile, an alert.
EVERYWHERE = {"job", "instance", "le", "quantile"}
_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "bool", "offset"}
_WORDS |= {"group_left", "group_right", "inf", "nan"}
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


class Named(NamedTuple):
    """`matchers`: (label, operator, value) of every selector."""

    metrics: set[str]
    labels: set[str]
    matchers: set[tuple[str, str, str]]


def named(expression: str) -> Named:
    """What `expression` names. Variables of Grafana stand where values or durations may."""
    bare = re.sub(r"\$\w+", "5m", expression)
    matchers = set(_MATCHER.findall(expression))
    labels = {label for label, _, _ in matchers}
    for _, inside in _GROUPING.findall(bare):
        labels |= {word.strip() for word in inside.split(",") if word.strip()}
    bare = _GROUPING.sub(" ", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    words = re.finditer(r"[A-Za-z_:][\w:]*(?P<call>\s*\()?", re.sub(r"\b\d[\w.]*", " ", bare))
    found = {hit[0].strip() for hit in words if not hit["call"]}
    return Named(found - _WORDS, labels, matchers)


def exported() -> dict[str, set[str]]:
    """Every series /metrics may show, and its labels, read off the instruments."""
    found: dict[str, set[str]] = {}
    for one in instruments():
        name, labels = shown_name(one), set(one._labelnames)
        endings = ("_bucket", "_sum", "_count") if isinstance(one, Histogram) else ("",)
        found |= {name + ending: labels for ending in endings}
    found |= {name: set(labels) for name, (labels, _) in metrics.HEALTH.items()}
    found |= {name: set(labels) for name, (_, labels, _) in metrics.HOUSE.items()}
    return found
