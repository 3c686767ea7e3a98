"""The doctor: every finding names what is wrong and what to do, and nothing is changed."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from admin import doctor
from admin.configure import configs
from admin.configure.desk import open_desk
from admin.doctor import Check, examine
from gateway import catalog
from gateway.keks.load import load_ring
from gateway.process.publish import write_private
from gateway.settings import Settings
from gateway.snapshot import pack
from gateway.store.migrate import make_file, standing
from tests.backends import Backend
from tests.copies import opened_store
from tests.desks import RING, add, opened, table
from tests.ports import dead_port
from tests.serve import free_port

NOW = 1_750_000_000.0


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def environment(folder: Path, **more: str) -> dict[str, str]:
    ports = {"WARDGATE_PORT": str(free_port()), "WARDGATE_ADMIN_PORT": str(free_port())}
    return {"WARDGATE_DATA_DIR": str(folder), **ports, **more}


async def test_doctor_changes_nothing_where_nothing_is(tmp_path: Path) -> None:
    checks = await examine(environment(tmp_path / "data"))
    assert os.listdir(tmp_path) == []
    assert "fail" not in states(checks).values()
    assert states(checks)["data folder"] == "warn"
    assert states(checks)["database"] == "warn"


async def test_doctor_finds_nothing_wrong_with_a_good_installation(backend: Backend) -> None:
    data, env = backend.folder, backend.env
    data.chmod(0o700)
    settings = backend.settings()
    ring = await load_ring(settings)
    desk = await open_desk(settings, ring, catalog.load())
    await add(desk)
    write_private(data / "snapshot.sealed", pack(await table(desk), ring))
    await desk.aclose()
    checks = await examine(environment(data, **env))
    assert [check for check in checks if check.state != "ok"] == []
    assert len(checks) >= 12


async def test_doctor_reports_another_databases_master_key(backend: Backend) -> None:
    await load_ring(backend.settings())
    async with opened(backend):
        pass
    checks = await examine(environment(backend.folder, **backend.env))
    [canary] = [check for check in checks if check.name == "canary"]
    assert canary.state == "fail"
    assert "WARDGATE_KEK_FILE" in canary.words


async def test_doctor_reports_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "wardgate.db").write_bytes(b"not a database" * 100)
    checks = await examine(environment(tmp_path))
    assert states(checks)["database"] == "fail"


async def test_doctor_reports_a_database_that_is_away(backend: Backend) -> None:
    await backend.lay(RING)
    backend.take_away()
    checks = await examine(environment(backend.folder, **backend.env))
    assert states(checks)["database"] == "fail"


async def test_doctor_reports_a_database_that_was_never_migrated(backend: Backend) -> None:
    make_file(backend.place)
    checks = await examine(environment(backend.folder, **backend.env))
    [database] = [check for check in checks if check.name == "database"]
    assert database.state == "fail"
    assert "at None" in database.words
    assert "canary" not in states(checks)


async def test_doctor_reports_settings_that_cannot_be_read() -> None:
    checks = await examine({"WARDGATE_PORT": "eighty"})
    assert states(checks)["settings"] == "fail"


@pytest.mark.parametrize(("version", "state"), [((3, 10), "fail"), ((3, 11), "ok")])
def test_python_must_be_new_enough(version: tuple[int, int], state: str) -> None:
    assert doctor.check_python(version).state == state


@pytest.mark.parametrize(("mode", "state"), [(0o700, "ok"), (0o755, "warn"), (0o777, "fail")])
def test_data_folder_is_for_one_user(tmp_path: Path, mode: int, state: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    check = doctor.check_data_dir(folder)
    assert check.state == state
    assert state == "ok" or "chmod 700" in check.words


def test_data_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    real, effective, _ = os.getresuid()
    if effective == 0:  # root may write anywhere; os.access asks for the real user
        os.setresuid(65534, 0, 0)
    try:
        check = doctor.check_data_dir(folder)
    finally:
        os.setresuid(real, effective, -1)
    assert (check.state, "not writable" in check.words) == ("fail", True)


def test_data_folder_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert doctor.check_data_dir(tmp_path / "data").state == "fail"


async def test_master_key_open_to_others_fails(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    await load_ring(settings)
    (tmp_path / "kek").chmod(0o644)
    ring, check = await doctor.check_master_key(settings)
    assert ring is None
    assert check.state == "fail"
    assert "chmod 600" in check.words


@pytest.mark.parametrize("changed", [{"env": "production"}, {"host": "0.0.0.0"}])
async def test_missing_master_key_fails_where_none_would_be_made(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    settings = replace(Settings(data_dir=tmp_path), **changed)  # type: ignore[arg-type] # two strings
    assert (await doctor.check_master_key(settings))[1].state == "fail"
    assert os.listdir(tmp_path) == []


async def test_routing_table_is_compared_with_store_and_clock(tmp_path: Path) -> None:
    async with opened(Backend(tmp_path)) as desk:
        snapshot = await table(desk)
    settings = Settings(data_dir=tmp_path)
    file = tmp_path / "snapshot.sealed"

    def check(revision: int = snapshot.revision, now: float = snapshot.compiled_at) -> str:
        return doctor.check_snapshot(settings, RING, revision, now).state

    assert check() == "warn"
    write_private(file, pack(snapshot, RING))
    assert check() == "ok"
    assert check(revision=snapshot.revision + 1) == "warn"
    assert check(now=snapshot.compiled_at - 3600) == "fail"
    file.write_bytes(b"edited")
    assert check() == "fail"


async def test_configs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    async with opened(Backend(tmp_path)) as desk:
        settings = replace(desk.settings, allowed_upstream_cidrs=())
        good = await add(desk)
        no_key = replace(good, secret_preview="", alias="empty")
        later = replace(good, provider="google-vertex")
        near = replace(good, provider="custom:near", base_url="http://127.0.0.1:1/v1")
        views = [good, no_key, later, near]
        found = list(doctor.check_configs(views, desk.catalog, settings))
        assert [check.state for check in found] == ["warn"] * 3
        assert "openai/empty of global has no key" in found[0].words
        assert "google-vertex/main of global cannot be reached" in found[1].words
        assert "WARDGATE_ALLOWED_UPSTREAM_CIDRS" in found[2].words
        allowed = list(doctor.check_configs([near], desk.catalog, desk.settings))
        assert [check.state for check in allowed] == ["ok"]
        [none] = doctor.check_configs([], desk.catalog, settings)
        assert none.words.endswith(" config add openai")
        assert (await configs.page(desk, None, 0, 10))[1] == 1


async def test_overrides_nobody_uses_are_named(tmp_path: Path) -> None:
    async with opened(Backend(tmp_path)) as desk:
        view = await add(desk)
    urls = {"openai": "http://a/v1", "groq": "http://b/v1", "opnai": "http://c/v1"}
    settings = Settings(provider_base_urls=urls)
    found = [
        check.words
        for check in doctor.check_configs([view], catalog.load(), settings)
        if check.name == "overrides"
    ]
    assert [words.rpartition(" names ")[2] for words in found] == [
        "groq, which no config uses",
        "opnai, which is no provider: use the catalog's id, or custom:<slug>",
    ]


async def test_redis_that_does_not_answer_fails() -> None:
    assert (await doctor.check_redis("")).state == "ok"
    assert (await doctor.check_redis(f"redis://127.0.0.1:{dead_port()}")).state == "fail"


async def test_redis_that_answers_is_well(redis_url: str) -> None:
    assert (await doctor.check_redis(redis_url)).state == "ok"


def test_workers_without_redis_split_limits() -> None:
    check = doctor.check_workers(Settings(workers=4))
    assert check.state == "warn"
    assert "1/4 of every limit" in check.words
    assert doctor.check_workers(Settings(workers=4, redis_url="redis://r")).state == "ok"
    assert doctor.check_workers(Settings(workers=1)).state == "ok"


@pytest.mark.parametrize(
    ("ranges", "state"),
    [
        ("", "ok"),
        ("10.0.0.0/8,127.0.0.0/8", "ok"),
        ("0.0.0.0/0", "warn"),
        ("169.254.0.0/16", "warn"),
    ],
)
def test_ranges_that_open_cloud_metadata_are_named(ranges: str, state: str) -> None:
    settings = Settings.from_env({"WARDGATE_ALLOWED_UPSTREAM_CIDRS": ranges})
    assert doctor.check_ranges(settings).state == state


async def test_port_in_use_by_something_else_fails() -> None:
    assert (await doctor.check_port("p", "127.0.0.1", free_port())).state == "ok"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        check = await doctor.check_port("p", "127.0.0.1", silent.getsockname()[1])
    assert check.state == "fail"
    assert "says nothing" in check.words


def test_clock_before_the_catalog_is_wrong() -> None:
    assert doctor.check_clock(NOW, NOW + 1).state == "fail"
    assert doctor.check_clock(NOW + 1, NOW).state == "ok"


async def test_doctor_migrates_nothing(backend: Backend) -> None:
    make_file(backend.place)
    await examine(environment(backend.folder, **backend.env))
    async with opened_store(backend.place) as store, store.read() as conn:
        assert await conn.run_sync(standing) == (None, False)
