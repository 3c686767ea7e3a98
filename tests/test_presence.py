"""Files in folders that belong to somebody else: refused in words, and nothing made beside them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin import doctor
from admin.cli.main import wardgate
from gateway.errors import StartRefused
from gateway.keks.load import load_ring
from gateway.presence import missing
from gateway.settings import Settings
from gateway.store.checkup import missing_file

NOBODY = 65534
WORDS = "cannot be looked at: Permission denied; run this as the user it belongs to"


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Path]:
    """A folder that whoever runs the test may not enter, with a file in it."""
    folder = tmp_path / "shut"
    folder.mkdir()
    (folder / "file").touch()
    with as_stranger(folder):
        yield folder


@contextlib.contextmanager
def as_stranger(folder: Path) -> Iterator[None]:
    """Root enters everything, so it is somebody else for a while."""
    real, effective, saved = os.getresuid()
    folder.chmod(0o700 if effective == 0 else 0)
    if effective == 0:
        os.setresuid(-1, NOBODY, -1)
    try:
        yield
    finally:
        os.setresuid(real, effective, saved)
        folder.chmod(0o700)


def test_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not missing(tmp_path / "file")
    assert not missing(tmp_path)
    assert missing(tmp_path / "other")
    assert missing(tmp_path / "file" / "below")


def test_nobody_may_know(shut: Path) -> None:
    for name in ("file", "other"):
        with pytest.raises(StartRefused, match=WORDS):
            missing(shut / name)


async def test_master_key_of_somebody_else_is_refused(shut: Path) -> None:
    with pytest.raises(StartRefused, match=WORDS):
        await load_ring(Settings(kek_file=str(shut / "kek")))


def test_store_of_somebody_else_is_refused(shut: Path) -> None:
    with pytest.raises(StartRefused, match=WORDS):
        missing_file(f"sqlite+aiosqlite:///{shut}/wardgate.db")


async def test_doctor_says_so(shut: Path) -> None:
    checks = await doctor.examine({"WARDGATE_DATA_DIR": str(shut / "data")})
    said = {check.name: check for check in checks}
    for name in ("data folder", "master key", "database"):
        assert (said[name].state, WORDS in said[name].words) == ("fail", True), said[name]


@pytest.mark.parametrize("words", ["keys list", "keys create app", "config list"])
def test_commands_say_so(shut: Path, words: str) -> None:
    env = {"WARDGATE_DATA_DIR": str(shut / "data")}
    found = CliRunner().invoke(wardgate, words.split(), env=env)
    assert found.exit_code == 1
    assert WORDS in found.output
    assert "Traceback" not in found.output
