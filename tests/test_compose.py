"""deploy/compose.yaml, as far as it can be told without an engine: the published schema, what every
service promises, that the parts find each other, and that the database's password comes by file.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest
import yaml

import gateway
from admin.demo.upstream import Script, Upstream
from admin.run import BOTH
from gateway.keks.load import load_ring
from gateway.process.supervise import LAST_GRACE
from gateway.settings import PREFIX, Settings
from gateway.store.engine import open_store
from tests import servers
from tests.databases import name_of
from tests.servers import Server

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose.yaml"
GATEWAYS = ("gateway-1", "gateway-2")
OURS = (*GATEWAYS, "admin")


def read(name: str) -> dict[str, Any]:
    """A YAML file of deploy/."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return found


CONFIG = read("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = CONFIG["services"]
each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_of_ours = pytest.mark.parametrize("name", OURS)


def ours(name: str) -> Settings:
    """The settings a service of ours starts with."""
    env = SERVICES[name]["environment"]
    return Settings.from_env({k: v for k, v in env.items() if k.startswith(PREFIX)})


def test_file_is_what_the_published_schema_wants() -> None:
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@each_service
def test_image_is_pinned(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert image
    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-alpine)?", tag) or re.fullmatch(r"\d+\.\d+-alpine", tag)
    if image == "wardgate":
        assert tag == gateway.__version__


@each_service
def test_service_holds_and_gains_no_right_and_writes_only_where_something_is_mounted(
    name: str,
) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert ("cap_add" in service) == (name == "postgres")
    assert "privileged" not in service
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"


@each_service
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@each_service
def test_what_is_mounted_exists_and_is_read_only(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source, *_, last = volume.split(":")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert last == "ro"
        else:
            assert source in CONFIG["volumes"]


def test_every_volume_and_secret_is_used() -> None:
    volumes = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", ())}
    assert set(CONFIG["volumes"]) == {name for name in volumes if not name.startswith(".")}
    assert set(CONFIG["secrets"]) == {n for s in SERVICES.values() for n in s.get("secrets", ())}


def test_secrets_are_files_that_are_not_committed() -> None:
    for name, secret in CONFIG["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    kept = (ROOT / ".gitignore").read_text().splitlines()
    assert "/deploy/secrets/" in kept


@each_service
def test_no_secret_is_in_an_environment(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASS|SECRET|KEK|TOKEN", variable):
            path = Path(value)
            assert path.parent == Path("/run/secrets")
            assert path.name in SERVICES[name]["secrets"]
        assert not re.search(r"://[^/]*:[^/]*@", value)


@each_of_ours
def test_environment_is_settings_and_what_the_driver_reads(name: str) -> None:
    others = {n for n in SERVICES[name]["environment"] if not n.startswith(PREFIX)}
    assert others == {"PGPASSFILE"}
    assert ours(name).kek_file == "/run/secrets/kek"
    assert SERVICES[name]["command"] in [["serve", app] for app in BOTH]


@each_of_ours
def test_streams_end_before_they_are_killed(name: str) -> None:
    settings = ours(name)
    needed = settings.drain_delay + settings.drain_timeout + LAST_GRACE
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > needed


def test_gateway_says_no_for_longer_than_the_front_needs_to_hear_it() -> None:
    text = (DEPLOY / "haproxy.cfg").read_text()
    [(inter, fast)] = re.findall(r" inter (\d+)ms fastinter (\d+)ms ", text)
    for name in GATEWAYS:
        assert ours(name).drain_delay > 2 * (int(inter) + int(fast)) / 1000


def test_stores_are_reached_from_inside_only() -> None:
    assert CONFIG["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["inside"]
        assert "ports" not in SERVICES[name]


def test_front_is_told_of_both_gateways_and_of_nothing_it_does_not_ask_for() -> None:
    env = SERVICES["front"]["environment"]
    assert set(env) == set(re.findall(r'"\$\{(\w+)-', (DEPLOY / "haproxy.cfg").read_text()))
    port = Settings().port
    assert [env["GATEWAY_1"], env["GATEWAY_2"]] == [f"{name}:{port}" for name in GATEWAYS]
    assert SERVICES["front"]["ports"] == [f"127.0.0.1:8080{env['FRONT']}"]
    assert f"127.0.0.1{env['STATUS']}/livez" in SERVICES["front"]["healthcheck"]["test"][-1]


def test_prometheus_scrapes_what_is_there() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "compose.yml").read_text())
    jobs = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }
    assert jobs == {
        "wardgate-gateway": [f"{name}:{ours(name).metrics_port}" for name in GATEWAYS],
        "wardgate-admin": [f"admin:{ours('admin').admin_port}"],
        "haproxy": [f"front{SERVICES['front']['environment']['STATUS']}"],
    }
    assert all(ours(name).metrics_open for name in OURS)
    assert "--config.file=/etc/prometheus/compose.yml" in SERVICES["prometheus"]["command"]


def test_prometheus_takes_its_file_and_finds_the_rules() -> None:
    words = [servers.program("promtool", "prometheus"), "check", "config"]
    place = DEPLOY / "prometheus" / "compose.yml"
    done = subprocess.run([*words, str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rules = {path.name for path in place.parent.glob("*.yml")} - {place.name}
    assert set(read("prometheus/compose.yml")["rule_files"]) == rules


def test_grafana_is_provisioned_from_where_its_files_are_mounted() -> None:
    mounts = dict(v.split(":")[:2] for v in SERVICES["grafana"]["volumes"])
    [provider] = read("grafana/provisioning/dashboards/wardgate.yaml")["providers"]
    [source] = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    assert source["url"] == "http://prometheus:9090"


@each_of_ours
async def test_health_check_is_a_program_that_can_fail(name: str) -> None:
    settings, words = ours(name), SERVICES[name]["healthcheck"]["test"][2:]
    port = settings.admin_port if name == "admin" else settings.port
    codes = []
    for status in (200, 503):
        async with Upstream(Script(status=status)) as answering:
            program = [w.replace(f":{port}/", f":{answering.port}/") for w in words]
            codes.append(await code_of(*program))
            assert [received.path for received in answering.received] == ["/readyz"]
    assert codes == [0, 1]


async def code_of(*words: str) -> int:
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=DEVNULL)
    return await process.wait()


def made_secrets(folder: Path) -> Path:
    """The secrets, made by the commands of the page."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    [commands] = re.findall(r"```sh\n(cd deploy\n.*?)```", page, re.DOTALL)
    (folder / "deploy").mkdir()
    subprocess.run(["sh", "-euc", commands], cwd=folder, check=True, stderr=DEVNULL)
    return folder / "deploy" / "secrets"


def test_page_names_this_version() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    assert set(re.findall(r"wardgate:(\d[\w.]*)", page)) == {gateway.__version__}


async def test_commands_of_the_page_make_the_secrets(tmp_path: Path) -> None:
    made = made_secrets(tmp_path)
    assert {path.name for path in made.iterdir()} == set(CONFIG["secrets"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o600}
    await load_ring(Settings(data_dir=tmp_path, kek_file=str(made / "kek"), env="production"))
    password = (made / "postgres_password").read_text().strip()
    assert len(password) >= 32
    assert (made / "pgpass").read_text() == f"postgres:5432:wardgate:wardgate:{password}\n"


async def test_database_is_opened_with_the_password_of_the_file(
    tmp_path: Path, shared_postgres: Server, postgres_url: str
) -> None:
    made, name = made_secrets(tmp_path), name_of(postgres_url)
    line = f"host {name} wardgate 127.0.0.1/32 scram-sha-256\n"
    hosts = shared_postgres.folder / "data" / "pg_hba.conf"
    hosts.write_text(line + hosts.read_text())
    password = (made / "postgres_password").read_text().strip()
    servers.sql(shared_postgres, f"ALTER ROLE wardgate PASSWORD '{password}'")
    servers.sql(shared_postgres, "SELECT pg_reload_conf()")
    where = f"127.0.0.1:{shared_postgres.port}:{name}"
    text = (made / "pgpass").read_text()
    assert text.startswith("postgres:5432:wardgate:")
    (made / "pgpass").write_text(text.replace("postgres:5432:wardgate", where))
    os.environ["PGPASSFILE"] = str(made / "pgpass")
    await connect(postgres_url)
    (made / "pgpass").write_text(f"{where}:wardgate:another\n")
    with pytest.raises(Exception, match="password authentication failed"):
        await connect(postgres_url)


async def connect(url: str) -> None:
    store = await open_store(url)
    try:
        async with store.read():
            pass
    finally:
        await store.aclose()
