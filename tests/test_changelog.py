"""The changelog is what people read before they upgrade: its newest entry is this version."""

from __future__ import annotations

import re
from pathlib import Path

import gateway

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?$", re.MULTILINE)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def headings() -> list[re.Match[str]]:
    found = list(HEADING.finditer(CHANGELOG.read_text()))
    assert found
    return found


def test_top_version_is_the_packages() -> None:
    assert headings()[0]["version"] == gateway.__version__


def test_every_section_heading_reads_as_keep_a_changelog_wants_it() -> None:
    lines = CHANGELOG.read_text().splitlines()
    seconds = [line for line in lines if line.startswith("## ")]
    assert [line for line in seconds if not HEADING.match(line)] == []
    thirds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert thirds
    assert thirds <= KINDS


def test_versions_go_down_and_only_the_newest_may_be_undated() -> None:
    found = headings()
    versions = [tuple(int(part) for part in match["version"].split(".")) for match in found]
    assert versions == sorted(set(versions), reverse=True)
    assert [match["version"] for match in found[1:] if match["date"] is None] == []
