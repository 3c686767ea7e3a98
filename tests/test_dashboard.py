"""Grafana's dashboard and its provisioning: every panel's query is put to a real Prometheus.

That one has scraped a gateway that served requests of many kinds: well, refused by a limit and for
a key, failed by its provider in several ways, cut, sent on to a route's next target.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import yaml

from admin.demo.upstream import Upstream
from tests import servers
from tests.docs_tables import ROOT
from tests.houses import Running, house, wardgate
from tests.ports import dead_port
from tests.promql import EVERYWHERE, exported, named
from tests.scraping import Prometheus, prometheus
from tests.servers import Server
from tests.test_alerts import RECORDED

GRAFANA = ROOT / "deploy/grafana"
BOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/wardgate.json").read_text())
PANELS: list[dict[str, Any]] = [one for one in BOARD["panels"] if one["type"] != "row"]
VARIABLES = {one["name"]: one for one in BOARD["templating"]["list"]}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
in_module = pytest.mark.asyncio(loop_scope="module")

MANIFEST = """\
version: 1
name: dashboard
providers:
  - {{provider: openai, alias: main, key: $env:UPSTREAM_OPENAI, default: true}}
  - {{provider: openai, alias: keyless, key: $env:UPSTREAM_NOWHERE}}
  - {{provider: custom:dead, alias: main, key: $env:UPSTREAM_OPENAI, dialect: openai,
     base_url: "http://127.0.0.1:{dead}/v1", allow_unlisted: true}}
routes:
  - name: spare
    targets:
      - {{provider: custom:dead, alias: main, model: some}}
      - {{provider: openai, alias: main, model: gpt-4o-mini}}
"""
# (model, x-demo, stream): what is asked in each round.
ASKED = [
    *[("gpt-4o-mini", "", stream) for stream in (False, False, True, True)],
    *[("gpt-4o-mini", f"status={status}", False) for status in (400, 401, 503)],
    ("gpt-4o-mini", "cut_at=60", True),
    ("spare", "", False),
    ("no-such-model", "", False),
]


async def ask(http: httpx2.AsyncClient, key: str, model: str, order: str, stream: bool) -> None:
    headers = {"authorization": f"Bearer {key}", "x-demo": order}
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    try:
        await http.post("/v1/chat/completions", headers=headers, json=body)
    except httpx2.RemoteProtocolError:
        assert "cut_at" in order


async def keys_of(running: Running) -> tuple[list[str], int]:
    """A key without a limit, one whose limit is used up by its first request; and the revision."""
    headers = {"authorization": f"Bearer {running.token}"}
    limit = {"rateLimit": 1, "rateLimitPeriod": 3600}
    async with httpx2.AsyncClient(base_url=running.admin, headers=headers, timeout=30) as http:
        made = [
            (await http.post("/api/v1/client-keys", json={"name": "app", **more})).json()["key"]
            for more in ({}, limit)
        ]
        shown = re.search(
            r"^wardgate_store_revision (\d+)", (await http.get("/metrics")).text, re.M
        )
    assert shown
    return made, int(shown[1])


async def round_of(running: Running, app: str, greedy: str) -> int:
    """Ask for everything once; how many requests these were."""
    async with httpx2.AsyncClient(base_url=running.gateway, timeout=30) as http:
        await asyncio.gather(*(ask(http, app, *one) for one in ASKED))
        for key in (greedy, greedy, "wg_not_a_key"):
            await ask(http, key, "gpt-4o-mini", "", False)
        headers = {"authorization": f"Bearer {app}", "wardgate-config": "openai/keyless"}
        body = {"model": "gpt-4o-mini", "messages": []}
        await http.post("/v1/chat/completions", headers=headers, json=body)
    return len(ASKED) + 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(
    tmp_path_factory: pytest.TempPathFactory, shared_redis: Server
) -> AsyncIterator[Prometheus]:
    """Prometheus after two rounds of requests: what a rate is to see must have grown."""
    data = tmp_path_factory.mktemp("dashboard") / "data"
    manifest = data.parent / "fleet.yaml"
    manifest.write_text(MANIFEST.format(dead=dead_port()))
    async with Upstream() as upstream:
        env = {
            "UPSTREAM_OPENAI": "sk-made-up-for-the-demo-upstream",
            "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8",
            "WARDGATE_PROVIDER_BASE_URLS": f"openai={upstream.url}/v1",
            "WARDGATE_REDIS_URL": servers.redis_url(shared_redis),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{dead_port()}",  # nobody is there
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        words = ("config", "apply", "--yes", str(manifest))
        code, out, err = await wardgate(data, *words, stdin=b"", **env)
        assert code == 0, out + err
        async with (
            house(data, **env) as running,
            prometheus(running.admin.removeprefix("http://")) as asked,
        ):
            keys, revision = await keys_of(running)
            await asked.until(f"wardgate_workers == 1 and wardgate_snapshot_revision >= {revision}")
            sent = 0
            for _ in range(2):
                sent += await round_of(running, *keys)
                await asked.until(f"sum(wardgate_requests_total) >= {sent}")
                await asked.until(f"sum(wardgate_spans_total) >= {sent}")
            await asked.until('wardgate_provider_errors{window="5m", error_type="http_503"} == 2')
            yield asked


def filled(expression: str, **chosen: str) -> str:
    """An expression as Grafana sends it; a variable stands for all values if none is `chosen`."""
    values = {"__rate_interval": "1m", "__range": "5m", **dict.fromkeys(VARIABLES, ".*"), **chosen}
    return re.sub(r"\$(\w+)", lambda hit: values[hit[1]], expression)


@in_module
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
async def test_every_query_of_a_panel_has_data(panel: dict[str, Any], seen: Prometheus) -> None:
    chosen = {"instance": seen.target, "provider": "openai|custom:dead", "config": "main|keyless"}
    for target in panel["targets"]:
        found = await seen.query(filled(target["expr"]))
        assert [value for _, value in found if not math.isnan(value)], target["expr"]
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert label in set().union(*(labels for labels, _ in found)), target["legendFormat"]
        await seen.query(filled(target["expr"], **chosen))


@in_module
async def test_panels_say_what_happened(seen: Prometheus) -> None:
    async def shown(title: str, index: int = 0) -> dict[str, float]:
        panel = next(one for one in PANELS if one["title"] == title)
        found = await seen.query(filled(panel["targets"][index]["expr"]))
        return {"/".join(sorted(labels.values())): value for labels, value in found}

    assert set(await shown("Requests by outcome")) == {
        "ok", "refused", "upstream_error", "incomplete",
    }  # fmt: skip
    blame = await shown("Errors by who is to blame")
    assert set(blame) == {"gateway", "provider", "client"}
    assert 0 < sum(blame.values()) < 1
    assert "openai/secret_unavailable" in await shown("Errors by code")
    assert set(await shown("Refused by limits")) == {"client"}
    assert await shown("Given up for the next target") != {}
    assert await shown("Away") == {seen.target: 0.0}
    assert await shown("Behind the store") == {seen.target: 0.0}
    assert await shown("Workers") == {seen.target: 1.0}
    assert (await shown("Cost"))[""] > 0


@in_module
async def test_variables_offer_what_there_is(seen: Prometheus) -> None:
    async def offered(name: str) -> set[str]:
        asked = VARIABLES[name]["query"]["query"]
        hit = re.fullmatch(r"label_values\((.+), (\w+)\)", asked)
        assert hit
        selector = {"match[]": filled(hit[1])}
        return set(await seen.get(f"label/{hit[2]}/values", **selector))

    assert await offered("instance") == {seen.target}
    assert await offered("provider") >= {"openai"}
    assert await offered("config") >= {"main", "keyless"}


@in_module
@pytest.mark.parametrize("name", sorted(RECORDED))
async def test_recording_rules_record(name: str, seen: Prometheus) -> None:
    await seen.until(f"{name} == {name}")  # NaN is not itself


@in_module
async def test_alerts_are_looked_at_without_a_fault(seen: Prometheus) -> None:
    groups = (await seen.get("rules"))["groups"]
    assert groups
    faults = [rule.get("lastError") for group in groups for rule in group["rules"]]
    assert [fault for fault in faults if fault] == []


def targets() -> list[dict[str, Any]]:
    return [target for panel in PANELS for target in panel["targets"]]


def test_queries_name_only_what_there_is() -> None:
    there = exported()
    for target in targets():
        found = named(target["expr"])
        assert found.metrics
        assert found.metrics <= there.keys(), target["expr"]
        labels = set().union(*(there[name] for name in found.metrics))
        assert found.labels <= labels | EVERYWHERE, target["expr"]
        values = {value for _, _, value in found.matchers if value.startswith("$")}
        assert values <= {f"${name}" for name in VARIABLES}


def test_every_number_that_is_exported_is_on_the_dashboard() -> None:
    shown = set().union(*(named(target["expr"]).metrics for target in targets()))
    left = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()} - {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in shown
    }
    # Percentiles are taken from the histogram, which knows instances and models.
    assert left == {"wardgate_build_info", "wardgate_provider_time_to_first_token_seconds"}


def test_the_source_is_a_variable() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    variables = [one for one in VARIABLES.values() if one["type"] == "query"]
    asking = [*PANELS, *targets(), *variables]
    assert all(one["datasource"] == SOURCE for one in asking)
    assert set(VARIABLES) == {"datasource", "instance", "provider", "config"}


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    assert len({one["title"] for one in panels}) == len(panels)
    taken: dict[tuple[int, int], str] = {}
    for one in panels:
        place = one["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), one["title"]) == one["title"]
    assert len(taken) % WIDTH == 0  # and leave no holes


def test_provisioning_leads_to_the_dashboard_and_to_prometheus() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    scrapes = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scrapes["scrape_interval"]
    [place] = yaml.safe_load((GRAFANA / "provisioning/dashboards/wardgate.yaml").read_text())[
        "providers"
    ]
    assert place["type"] == "file"
    assert Path(place["options"]["path"]).name == (GRAFANA / "dashboards").name
