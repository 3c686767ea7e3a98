"""What a start tells a newcomer to type."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from admin.welcome import spelled


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "a venv" / "wardgate"
    path.parent.mkdir()
    path.touch()
    return path


def test_command_is_its_name_where_the_shell_finds_it(script: Path, tmp_path: Path) -> None:
    link = tmp_path / "wardgate"
    link.symlink_to(script)
    assert spelled(str(script), str(script)) == "wardgate"
    assert spelled(str(script), str(link)) == "wardgate"


def test_command_is_what_was_typed_where_the_shell_finds_none(script: Path) -> None:
    assert spelled(".venv/bin/wardgate", None) == ".venv/bin/wardgate"
    assert spelled(str(script), None) == f"'{script}'"


def test_command_of_another_installation_is_not_meant(script: Path, tmp_path: Path) -> None:
    other = tmp_path / "wardgate"
    other.touch()
    assert spelled(str(script), str(other)) == f"'{script}'"


def test_command_run_as_a_module_is_run_as_one_again() -> None:
    assert spelled("/x/admin/cli/__main__.py", None) == f"{sys.executable} -m admin.cli"
