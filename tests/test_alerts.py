"""Rules and alerts for Prometheus: sound, about metrics there are, each alert proved by promtool.

Whether an alert fires and when it is silent stands in tests/prometheus/*.yml; that every alert has
both, and that its runbook is there, is looked at here.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from gateway import errors
from gateway.blame import Blame
from gateway.exchange import Outcome
from tests.docs_tables import ROOT
from tests.promql import EVERYWHERE, exported, named
from tests.servers import program
from tests.test_docs import anchors

DEPLOY = ROOT / "deploy"
FILES = [DEPLOY / "prometheus" / name for name in ("rules.yml", "alerts.yml")]
CASES = sorted((ROOT / "tests/prometheus").glob("*.yml"))
RUNBOOKS = ROOT / "docs/runbooks.md"
WHERE = "https://github.com/wardgate/wardgate/blob/main/docs/runbooks.md#"
SEVERITIES = {"critical", "warning", "info"}
CLOSED = {"blame": set(get_args(Blame)), "outcome": set(get_args(Outcome))}


def promtool(*words: str | Path) -> tuple[int, str]:
    """Exit code and all it said."""
    command = [program("promtool", "prometheus"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def rules() -> Iterator[dict[str, Any]]:
    for path in FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


RULES = list(rules())
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


def cases() -> Iterator[dict[str, Any]]:
    """What promtool is told to expect of alerts."""
    for path in CASES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            yield from test["alert_rule_test"]


@pytest.fixture
def readable(tmp_path: Path) -> Path:
    """deploy/prometheus.yml with a token where it says one is."""
    (tmp_path / "wardgate.token").write_text("wga_made_up")
    text = (DEPLOY / "prometheus.yml").read_text()
    place = tmp_path / "prometheus.yml"
    place.write_text(text.replace("/etc/prometheus/wardgate.token", f"{tmp_path}/wardgate.token"))
    (tmp_path / "prometheus").symlink_to(DEPLOY / "prometheus")
    return place


def test_prometheus_takes_the_configuration_and_loads_all_rules(readable: Path) -> None:
    code, said = promtool("check", "config", readable)
    assert code == 0, said
    loaded = [int(number) for number in re.findall(r"(\d+) rules found", said)]
    assert loaded == [len(RULES) - len(ALERTS), len(ALERTS)]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_alerts_fire_and_are_silent_as_their_cases_say(path: Path) -> None:
    code, said = promtool("test", "rules", path)
    assert code == 0, said


def test_every_alert_is_seen_firing_and_seen_silent() -> None:
    fires = {case["alertname"] for case in cases() if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases() if not case["exp_alerts"]}
    assert fires == silent == set(ALERTS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_name_only_what_there_is(rule: dict[str, Any]) -> None:
    found, there = named(rule["expr"]), exported()
    assert found.metrics
    assert found.metrics <= there.keys() | RECORDED | {"up"}
    labels = set().union(*(there.get(name, set()) for name in found.metrics))
    if found.metrics <= there.keys():
        assert found.labels <= labels | EVERYWHERE
    for label, operator, value in found.matchers:
        if label in CLOSED and operator == "=":
            assert value in CLOSED[label]


def test_what_an_expression_names_is_found() -> None:
    found = named(
        'sum by (a, le) (rate(x_total{b="c", d=~"$e"}[$__range])) * 1e6'
        " / ignoring (f) group_left () max(y:z:rate5m offset 5m) or vector(0) > bool 0.5"
    )
    assert found.metrics == {"x_total", "y:z:rate5m"}
    assert found.labels == {"a", "le", "b", "d", "f"}
    assert found.matchers == {("b", "=", "c"), ("d", "=~", "$e")}


def test_alerts_ask_only_for_rates_that_are_recorded() -> None:
    used = set().union(*(named(rule["expr"]).metrics for rule in ALERTS.values()))
    assert {name for name in used if ":" in name} <= RECORDED


def test_alerts_say_how_bad_they_are_and_where_their_runbook_is() -> None:
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in SEVERITIES
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["annotations"]["runbook_url"] == WHERE + name.lower()


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert anchors(RUNBOOKS) == {"runbooks"} | {name.lower() for name in ALERTS}
    for section in RUNBOOKS.read_text().split("\n## ")[1:]:
        found = re.findall(r"^\*\*(.+?)\.\*\*", section, re.MULTILINE)
        assert ", ".join(found).lower() == "means, look at, do", section[:40]


def test_runbooks_look_for_what_the_log_says() -> None:
    text = RUNBOOKS.read_text()
    events = set(re.findall(r'\.event == "([^"]+)"', text))
    code = "".join(p.read_text() for f in ("gateway", "admin") for p in (ROOT / f).rglob("*.py"))
    assert events
    assert {event for event in events if f'"{event}"' not in code} == set()
    codes = set(re.findall(r'\.code == "([^"]+)"', text))
    assert {c for c in codes if not re.fullmatch(r"http_\d{3}", c)} <= set(errors.CODES)
    assert set(re.findall(r'\.outcome == "([^"]+)"', text)) <= CLOSED["outcome"]
