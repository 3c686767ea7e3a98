"""What deploy/ and continuous integration promise, as far as reading them can tell."""

from __future__ import annotations

import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import settings
from gateway.settings import Settings
from tests.image import DOCKERFILE, ROOT, instructions

DEPLOY = ROOT / "deploy"


def dockerfile() -> list[tuple[str, str]]:
    return instructions(DOCKERFILE.read_text())


def last_stage() -> list[tuple[str, str]]:
    steps = dockerfile()
    starts = [number for number, (word, _) in enumerate(steps) if word == "FROM"]
    return steps[starts[-1] :]


def test_image_does_not_run_as_root() -> None:
    users = [rest for word, rest in last_stage() if word == "USER"]
    assert len(users) == 1
    user, _, group = users[0].partition(":")
    # A number, so that a platform can see it is not root; group 0 for any user id.
    assert user.isdecimal()
    assert int(user) > 0
    assert group == "0"


def test_image_installs_only_what_the_locks_pin() -> None:
    runs = " && ".join(rest for word, rest in dockerfile() if word == "RUN")
    pip = re.compile(r"\bpip (--python \S+ )?(install|wheel)\b")
    installs = [part for part in re.split(r"&&", runs) if pip.search(part)]
    assert len(installs) == 4
    for part in installs:
        ours = "--no-deps" in part and re.search(r"--no-index|--no-build-isolation", part)
        assert "--require-hashes" in part or ours, part


def test_image_copies_only_what_is_there_and_not_ignored() -> None:
    copied = [rest.split()[:-1] for word, rest in dockerfile() if word == "COPY"]
    names = [name for words in copied for name in words if not words[0].startswith("--from")]
    assert names
    kept = [
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for name in names:
        assert (ROOT / name).exists(), name
        assert any(fnmatch(name, pattern) for pattern in kept), name


def test_image_settings_exist_and_can_be_read() -> None:
    text = " ".join(rest for word, rest in last_stage() if word == "ENV")
    pairs = dict(part.split("=", 1) for part in text.split())
    ours = {name: value for name, value in pairs.items() if name.startswith(settings.PREFIX)}
    read = Settings.from_env(ours)
    assert (read.env, read.loopback) == ("production", False)


def test_image_says_which_ports_signal_and_health_it_has() -> None:
    said = dict(last_stage())
    default = Settings()
    assert said["EXPOSE"].split() == [str(default.port), str(default.admin_port)]
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert "/readyz" in said["HEALTHCHECK"]
    assert (said["ENTRYPOINT"], said["CMD"]) == ('["wardgate"]', '["serve"]')


def test_health_check_of_the_image_is_a_program() -> None:
    check = dict(last_stage())["HEALTHCHECK"]
    words = yaml.safe_load(check[check.index("[") :])
    assert words[:2] == ["python", "-c"]
    compile(words[2], "HEALTHCHECK", "exec")


def scrapes() -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())[
        "scrape_configs"
    ]
    return jobs


def test_prometheus_scrapes_each_layout() -> None:
    jobs = {job["job_name"]: job for job in scrapes()}
    assert set(jobs) == {"wardgate", "wardgate-gateway", "wardgate-admin"}
    for name in ("wardgate", "wardgate-admin"):
        assert "credentials_file" in jobs[name]["authorization"]
        assert targets(jobs[name])[0].endswith(f":{Settings().admin_port}")
    assert "authorization" not in jobs["wardgate-gateway"]


def targets(job: dict[str, Any]) -> list[str]:
    return [target for group in job["static_configs"] for target in group["targets"]]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda p: p.name
)
def test_workflows_call_only_make(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text())["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs
    assert [run for run in runs if not re.fullmatch(r"make [a-z]+( [A-Z]+=\S+)*", run)] == []


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()
    command = re.search(r"^make test\b", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command
    assert re.search(r"^exec make test </dev/null$", script, re.MULTILINE)


def test_missing_packages_are_named_when_nobody_may_install_them(tmp_path: Path) -> None:
    # Somebody who is not root, on a machine without sudo.
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "sudo").write_text("#!/bin/sh\nexit 1\n")
    for name in ("id", "sudo"):
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [ROOT / ".ci/debian", "sh=dash", "no-such-command=its-package", "nor-this=another"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends its-package another" in done.stderr
    assert "dash" not in done.stderr


def test_make_without_arguments_shows_every_target() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  make ([a-z]+)  +\S", shown, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (help .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert sorted(listed) == sorted(phony[1].split())
