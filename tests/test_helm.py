"""The Helm chart: what Helm renders of it, Kubernetes takes, and Wardgate starts with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import gateway
from gateway import settings
from gateway.process.supervise import LAST_GRACE
from gateway.settings import Settings
from tests.docs_tables import ROOT
from tests.kubernetes import (
    ALONE,
    CHART,
    LEAST,
    MOST,
    VERSIONS,
    Manifest,
    flaws,
    render,
    run_helm,
)
from tests.promql import exported
from tests.test_alerts import RULES
from tests.test_docs import problem_with

CUSTOM = {"ServiceMonitor", "PrometheusRule"}  # the Prometheus operator's, not Kubernetes' own


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of values."""
    found = {}
    for name, values in {"least": LEAST, "most": MOST, "alone": ALONE}.items():
        found[name] = tmp_path_factory.mktemp("values") / f"{name}.yaml"
        found[name].write_text(yaml.safe_dump(values))
    return found


@pytest.fixture(scope="module")
def rendered(places: dict[str, Path]) -> dict[str, list[Manifest]]:
    return {name: render(place) for name, place in places.items()}


each = pytest.mark.parametrize("which", ["least", "most", "alone"])
both = pytest.mark.parametrize("which", ["least", "most"])


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """By the last part of the name."""
    found = [one for one in manifests if one["kind"] == kind]
    return {one["metadata"]["name"].rpartition("-")[2]: one for one in found}


def pods(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    found = of_kind(manifests, "Deployment")
    return {name: one["spec"]["template"]["spec"] for name, one in found.items()}


def environment(pod: dict[str, Any]) -> dict[str, str]:
    """A container's variables; those of secrets stand for themselves."""
    [container] = pod["containers"]
    return {one["name"]: one.get("value", "") for one in container["env"]}


def references(pod: dict[str, Any]) -> dict[str, str]:
    """Variable -> the Secret it comes from."""
    [container] = pod["containers"]
    found = [one for one in container["env"] if "valueFrom" in one]
    return {one["name"]: one["valueFrom"]["secretKeyRef"]["name"] for one in found}


@each
def test_helm_finds_no_fault_with_the_chart(which: str, places: dict[str, Path]) -> None:
    code, out, err = run_helm("lint", CHART, "--strict", "--values", places[which])
    assert code == 0, out + err


@each
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_manifest(
    which: str, version: str, rendered: dict[str, list[Manifest]]
) -> None:
    found = [one for one in rendered[which] if one["kind"] not in CUSTOM]
    assert found
    assert {one["kind"]: flaws(one, version) for one in found if flaws(one, version)} == {}


def test_what_kubernetes_does_not_know_is_a_flaw(rendered: dict[str, list[Manifest]]) -> None:
    manifest = json.loads(json.dumps(rendered["least"][0]))
    manifest["spec"]["podSelectors"] = {}
    assert flaws(manifest, VERSIONS[0]) != []


def test_kinds_are_those_that_were_asked_for(rendered: dict[str, list[Manifest]]) -> None:
    def kinds(which: str) -> set[str]:
        return {f"{one['kind']} {one['metadata']['name']}" for one in rendered[which]}

    assert kinds("alone") == {
        "Deployment demo-wardgate-gateway",
        "Service demo-wardgate-gateway",
        "Service demo-wardgate-metrics",
    }
    assert kinds("least") - kinds("alone") == {
        "Deployment demo-wardgate-admin",
        "NetworkPolicy demo-wardgate-admin",
        "NetworkPolicy demo-wardgate-gateway",
        "PodDisruptionBudget demo-wardgate-gateway",
        "Service demo-wardgate-admin",
        "ServiceAccount demo-wardgate",
    }
    more = {name.replace("demo-", "ai-") for name in kinds("least")}
    assert kinds("most") - more == {
        "ConfigMap ai-wardgate-dashboard",
        "HorizontalPodAutoscaler ai-wardgate-gateway",
        "PrometheusRule ai-wardgate",
        "ServiceMonitor ai-wardgate-admin",
        "ServiceMonitor ai-wardgate-gateway",
    }


@both
def test_pods_are_as_the_restricted_standard_wants_them(
    which: str, rendered: dict[str, list[Manifest]]
) -> None:
    for pod in pods(rendered[which]).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"].get("runAsUser") == (65532 if which == "least" else None)
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod["volumes"])
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@both
def test_wardgate_can_read_the_settings(which: str, rendered: dict[str, list[Manifest]]) -> None:
    for name, pod in pods(rendered[which]).items():
        found = environment(pod)
        names = [one["name"] for one in pod["containers"][0]["env"]]
        assert len(names) == len(set(names))
        ours = {name: value for name, value in found.items() if name.startswith(settings.PREFIX)}
        assert ours.keys() <= settings.env_names()
        read = Settings.from_env(ours)
        assert read.env == "production"
        assert str(read.data_dir) == "/data"
        # Links to services would be variables of that name, and no settings: it would not start.
        assert pod["enableServiceLinks"] is False
        assert (read.metrics_port > 0, read.metrics_open) == (name == "gateway",) * 2
        assert not read.loopback


def test_values_reach_the_settings(rendered: dict[str, list[Manifest]]) -> None:
    found = pods(rendered["most"])
    read = Settings.from_env(
        {k: v for k, v in environment(found["gateway"]).items() if k.startswith(settings.PREFIX)}
    )
    assert (read.workers, read.drain_timeout, read.metrics_port) == (4, 120.0, 9200)
    assert (read.host, read.log_level, read.heartbeat) == ("::", "warning", 5.0)
    assert environment(found["admin"])["WARDGATE_ADMIN_HOSTS"] == "admin.example.com,admin"


def test_secrets_are_referred_to_and_never_made(rendered: dict[str, list[Manifest]]) -> None:
    assert not [one for which in rendered.values() for one in which if one["kind"] == "Secret"]
    found = pods(rendered["most"])
    others = {"WARDGATE_REDIS_URL": "redis", "WARDGATE_BOOTSTRAP_ADMIN_TOKEN": "first"}
    others |= {"UPSTREAM_OPENAI": "keys"}
    assert references(found["gateway"]) == {"WARDGATE_DATABASE_URL": "db-reader", **others}
    assert references(found["admin"]) == {"WARDGATE_DATABASE_URL": "db", **others}
    assert references(pods(rendered["least"])["gateway"]) == {"WARDGATE_DATABASE_URL": "db"}


def test_master_key_is_a_file_only_its_group_may_read(rendered: dict[str, list[Manifest]]) -> None:
    for pod in pods(rendered["least"]).values():
        [volume] = [one["secret"] for one in pod["volumes"] if one["name"] == "kek"]
        assert (volume["secretName"], volume["defaultMode"]) == ("kek", 0o440)
        [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "kek"]
        found = Settings.from_env(environment(pod))
        assert found.kek_file == f"{mount['mountPath']}/{volume['items'][0]['path']}"
        assert found.kek_file_group_readable
    for pod in pods(rendered["most"]).values():  # it comes from elsewhere
        assert "WARDGATE_KEK_FILE" not in environment(pod)
        assert not [one for one in pod["volumes"] if one["name"] == "kek"]


@both
def test_everything_that_is_written_to_is_a_volume(
    which: str, rendered: dict[str, list[Manifest]]
) -> None:
    for pod in pods(rendered[which]).values():
        kept = {one["name"]: one for one in pod["volumes"]}
        mounts = {one["mountPath"]: one["name"] for one in pod["containers"][0]["volumeMounts"]}
        assert set(mounts.values()) == kept.keys()
        assert all("emptyDir" in kept[mounts[place]] for place in ("/data", "/tmp"))


@both
def test_pods_have_time_to_finish_what_runs(
    which: str, rendered: dict[str, list[Manifest]]
) -> None:
    for pod in pods(rendered[which]).values():
        found = Settings.from_env(
            {k: v for k, v in environment(pod).items() if k.startswith(settings.PREFIX)}
        )
        drain = found.drain_timeout if pod["containers"][0]["name"] == "gateway" else 5
        word, seconds = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert word == "sleep"
        assert pod["terminationGracePeriodSeconds"] > int(seconds) + drain + LAST_GRACE


@both
def test_containers_run_a_command_there_is_and_are_probed_where_it_answers(
    which: str, rendered: dict[str, list[Manifest]]
) -> None:
    for name, pod in pods(rendered[which]).items():
        [container] = pod["containers"]
        assert container["args"] == ["serve", name]
        assert problem_with(" ".join(container["args"])) == ""
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        found = Settings.from_env(
            {k: v for k, v in environment(pod).items() if k.startswith(settings.PREFIX)}
        )
        assert ports["http"] == (found.port if name == "gateway" else found.admin_port)
        assert ports.get("metrics", 0) == found.metrics_port
        for probe, path in (
            ("startup", "/livez"),
            ("liveness", "/livez"),
            ("readiness", "/readyz"),
        ):
            assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "http"}
        assert container["image"].startswith("registry.example/wardgate")
        tail = f":{gateway.__version__}" if which == "least" else f"@sha256:{'a' * 64}"
        assert container["image"].endswith(tail)


def selectors(manifest: Manifest) -> Iterator[dict[str, str]]:
    """The labels of pods (of a ServiceMonitor: of Services) a manifest looks for."""
    spec = manifest["spec"]
    if manifest["kind"] == "Service":
        yield spec["selector"]
    elif manifest["kind"] == "NetworkPolicy":
        yield spec["podSelector"]["matchLabels"]
    elif "selector" in spec:
        yield spec["selector"]["matchLabels"]


@both
def test_what_looks_for_pods_finds_them(which: str, rendered: dict[str, list[Manifest]]) -> None:
    manifests = rendered[which]
    deployed = of_kind(manifests, "Deployment").values()
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in deployed]
    served = [one["metadata"]["labels"] for one in manifests if one["kind"] == "Service"]
    looked = 0
    opened = {
        port["name"] for pod in pods(manifests).values() for port in pod["containers"][0]["ports"]
    }
    for manifest in manifests:
        if "spec" not in manifest:
            continue
        if manifest["kind"] == "Service":
            assert {port["targetPort"] for port in manifest["spec"]["ports"]} <= opened
        among = served if manifest["kind"] == "ServiceMonitor" else labels
        for selector in selectors(manifest):
            assert [one for one in among if selector.items() <= one.items()] != []
            looked += 1
    assert looked >= 8


def test_gateways_scale_on_a_number_they_export(rendered: dict[str, list[Manifest]]) -> None:
    scaler = of_kind(rendered["most"], "HorizontalPodAutoscaler")["gateway"]["spec"]
    [metric] = scaler["metrics"]
    assert metric["pods"]["metric"]["name"] in exported()
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "200"}
    named = of_kind(rendered["most"], "Deployment")["gateway"]
    assert scaler["scaleTargetRef"]["name"] == named["metadata"]["name"]
    assert "replicas" not in named["spec"]
    [adapter] = blocks("seriesQuery")
    [rule] = adapter["rules"]["custom"]
    assert rule["seriesQuery"].startswith(metric["pods"]["metric"]["name"] + "{")


def test_prometheus_operator_gets_the_same_rules_and_finds_the_ports(
    rendered: dict[str, list[Manifest]],
) -> None:
    manifests = rendered["most"]
    [rules] = [one for one in manifests if one["kind"] == "PrometheusRule"]
    assert [rule for group in rules["spec"]["groups"] for rule in group["rules"]] == RULES
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    services = [one for one in manifests if one["kind"] == "Service"]
    for monitor in of_kind(manifests, "ServiceMonitor").values():
        selector = monitor["spec"]["selector"]["matchLabels"]
        [found] = [s for s in services if selector.items() <= s["metadata"]["labels"].items()]
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["path"] == "/metrics"
        assert endpoint["port"] in {port["name"] for port in found["spec"]["ports"]}
    board = of_kind(manifests, "ConfigMap")["dashboard"]
    kept = ROOT / "deploy/grafana/dashboards/wardgate.json"
    assert json.loads(board["data"]["wardgate.json"]) == json.loads(kept.read_text())


def test_network_policies_let_in_and_out_what_is_needed(
    rendered: dict[str, list[Manifest]],
) -> None:
    for name, policy in of_kind(rendered["least"], "NetworkPolicy").items():
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        opened = [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
        assert opened == (["http", "metrics"] if name == "gateway" else ["http", "http"])
        assert ("from" in spec["ingress"][0]) == (name == "admin")
        assert "from" in spec["ingress"][1]
        left = [port["port"] for rule in spec["egress"] for port in rule["ports"]]
        assert left == [53, 53, 5432, 443]
    egress = of_kind(rendered["most"], "NetworkPolicy")["gateway"]["spec"]["egress"]
    assert [port["port"] for port in egress[1]["ports"]] == [5432, 6379, 443, 8443]
    assert egress[2] == MOST["networkPolicy"]["egress"][0]


def blocks(word: str) -> list[Any]:
    """What stands in the page's blocks of YAML that contain `word`."""
    page = (ROOT / "docs/kubernetes.md").read_text()
    found = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    return [yaml.safe_load(body) for body in found if word in body]


def test_values_in_the_documentation_can_be_rendered(tmp_path: Path) -> None:
    found = blocks("image:")
    assert len(found) == 2
    for number, values in enumerate(found):
        place = tmp_path / f"{number}.yaml"
        place.write_text(yaml.safe_dump(values))
        for pod in pods(render(place)).values():
            ours = {k: v for k, v in environment(pod).items() if k.startswith(settings.PREFIX)}
            assert Settings.from_env(ours).kek_file


def test_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == gateway.__version__
    assert chart["kubeVersion"] == f">={VERSIONS[0]}-0"
