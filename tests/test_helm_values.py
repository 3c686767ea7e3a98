"""Values of the Helm chart: described by its schema, used by its templates, refused when wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.kubernetes import CHART, LEAST, run_helm

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
# What has content by default and is handed on as it is.
WHOLE = {"gateway.resources", "admin.resources", "metrics.dashboard.labels"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("gatway.replicas=1", "gatway"),
        ("gateway.replica=1", "replica"),
        ("gateway.workers=0", "workers"),
        ("settings.PORT=1", "PORT"),
        ("settings.WARDGATE_DATABASE_URL=postgresql://x", "WARDGATE_DATABASE_URL"),
        ("database.existingSecret=No Name", "existingSecret"),
        ("image.repository=", "image.repository"),
        ("database.existingSecret=", "database.existingSecret"),
        ("kek.existingSecret=", "kek.existingSecret"),
    ],
)
def test_values_that_cannot_be_are_refused(given: str, said: str, tmp_path: Path) -> None:
    least = tmp_path / "values.yaml"
    least.write_text(yaml.safe_dump(LEAST))
    code, _, err = run_helm("template", "x", CHART, "--values", least, "--set", given)
    assert code != 0
    assert said in err


def leaves(values: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value and before + name not in WHOLE:
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name


def used() -> set[str]:
    """Paths of values in the templates, with names they were given there resolved."""
    found = set()
    for path in (CHART / "templates").iterdir():
        text = path.read_text()
        found |= {name.rstrip(".") for name in re.findall(r"\.Values\.([\w.]+)", text)}
        found |= set(re.findall(r"\$values\.([\w.]+)", text))
        for name, whole in re.findall(r"\$(\w+) := \.Values\.([\w.]+)", text):
            found |= {f"{whole}.{rest}" for rest in re.findall(rf"\${name}\.([\w.]+)", text)}
        for whole in re.findall(r'"service" \.Values\.([\w.]+)', text):
            found |= {f"{whole}.{rest}" for rest in re.findall(r"\.service\.(\w+)", text)}
    return found


def test_templates_use_every_value_and_no_other() -> None:
    there, looked_at = set(leaves(VALUES)), used()
    assert there - looked_at == set()
    branches = {name[: hit.start()] for name in there for hit in re.finditer(r"\.", name)}
    assert looked_at - there - branches == set()


def described(schema: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, inner in schema["properties"].items():
        if "properties" in inner and before + name not in WHOLE:
            yield from described(inner, f"{before}{name}.")
        else:
            yield before + name


def test_schema_describes_every_value_and_no_other() -> None:
    assert set(described(SCHEMA)) - {"global"} == set(leaves(VALUES))  # Helm's own name
    assert all(inner["additionalProperties"] is False for inner in objects(SCHEMA))


def objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every part of the schema that lists its properties."""
    if "properties" in schema:
        yield schema
        for inner in cast(dict[str, dict[str, Any]], schema["properties"]).values():
            yield from objects(inner)
