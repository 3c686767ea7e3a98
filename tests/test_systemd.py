"""deploy/wardgate.service, as systemd reads it without starting it."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from gateway.process.supervise import LAST_GRACE
from gateway.settings import Settings
from tests.servers import program

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "deploy" / "wardgate.service"
COMMAND = "/opt/wardgate/bin/wardgate"
MOST_EXPOSURE = 15  # of 100, by systemd's own measure
# How systemd spells out what it fills in.
FILLED_IN = {"%S": "/var/lib", "%d": "/run/credentials/wardgate.service"}


def said() -> dict[str, list[str]]:
    """Each directive's values, in order."""
    found = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name].append(value)
    return found


def environment() -> dict[str, str]:
    pairs = dict(pair.split("=", 1) for pair in said()["Environment"])
    for short, long in FILLED_IN.items():
        pairs = {name: value.replace(short, long) for name, value in pairs.items()}
    return pairs


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    """The unit where a program is in the place of its own."""
    file = tmp_path / UNIT.name
    file.write_text(UNIT.read_text().replace(COMMAND, "/bin/sh"))
    return file


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), "--no-pager", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_understands_every_line(placed: Path) -> None:
    done = analyze("verify", str(placed))
    # It looks at the units this one waits for, too, which are the machine's.
    assert [line for line in done.stderr.splitlines() if UNIT.name in line] == []
    assert done.returncode == 0


def test_service_is_closed_in_as_far_as_its_work_allows(placed: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(placed))
    assert done.returncode == 0, done.stdout


def test_environment_is_settings_for_production() -> None:
    read = Settings.from_env(environment())
    assert read.env == "production"
    assert read.data_dir == Path("/var/lib", said()["StateDirectory"][0])
    assert read.kek_file_group_readable


def test_master_key_is_handed_over_by_systemd() -> None:
    [(name, file)] = [value.split(":") for value in said()["LoadCredential"]]
    assert environment()["WARDGATE_KEK_FILE"] == f"{FILLED_IN['%d']}/{name}"
    assert f">{file})" in (ROOT / "docs" / "deploy.md").read_text()


def test_streams_end_before_they_are_killed() -> None:
    read = Settings.from_env(environment())
    needed = read.drain_delay + read.drain_timeout + LAST_GRACE
    assert int(said()["TimeoutStopSec"][0]) > needed
    # To all processes at once it would end workers in the middle of the delay.
    assert said()["KillMode"] == ["mixed"]


def test_page_installs_the_command_where_the_unit_looks_for_it() -> None:
    assert said()["ExecStart"] == [f"{COMMAND} serve"]
    assert (
        f"python3 -m venv {COMMAND.removesuffix('/bin/wardgate')}\n"
        in (ROOT / "docs" / "deploy.md").read_text()
    )
