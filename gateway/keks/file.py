"""The key file: read once its mode keeps others out; made anew on a laptop that has none.

Never changes a file that is there. Called by load.py; wrapped.py writes by it.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
import sys
from pathlib import Path

from gateway.errors import StartRefused
from gateway.keks.keyset import GENERATED, MAKE_ONE, Key, exposed, parse
from gateway.keks.source import key_file
from gateway.presence import missing
from gateway.settings import Settings
from gateway.vault import KEY_BYTES

LARGEST = 64 * 1024


async def from_file(settings: Settings) -> list[Key]:
    """The keys in the file, in its order. Raises StartRefused."""
    path = key_file(settings)
    if missing(path):
        _make(path, settings)
    return read_keys(path, settings)


def read_keys(path: Path, settings: Settings) -> list[Key]:
    """The keys of any key file. Raises StartRefused, also for one that others may read."""
    return parse(_read_private(path, settings).splitlines(), str(path))


def _make(path: Path, settings: Settings) -> None:
    if settings.kek_file:
        raise StartRefused(f"WARDGATE_KEK_FILE: there is no {path}; {MAKE_ONE} > {path}")
    if exposed(settings):
        raise StartRefused(
            "no master key: off loopback or in production set WARDGATE_KEK_FILE or "
            f"WARDGATE_KEKS; {MAKE_ONE}"
        )
    try:
        _generate(path)
    except OSError as error:
        raise StartRefused(
            f"no master key can be made in {path}: {error.strerror}; "
            "make the folder writable, or set WARDGATE_KEK_FILE"
        ) from None


def _read_private(path: Path, settings: Settings) -> str:
    """The file's text, once its mode is known to keep others out (of the open file: no race)."""
    try:
        with path.open("rb") as file:
            _check_mode(stat.S_IMODE(os.fstat(file.fileno()).st_mode), path, settings)
            return file.read(LARGEST).decode("utf-8", "replace")
    except OSError as error:
        raise StartRefused(f"the master key file {path} cannot be read: {error.strerror}") from None


def _check_mode(mode: int, path: Path, settings: Settings) -> None:
    shared = mode & (stat.S_IRWXO | stat.S_IWGRP)
    grouped = mode & stat.S_IRGRP and not settings.kek_file_group_readable
    if shared or grouped:
        hint = " (or set WARDGATE_KEK_FILE_GROUP_READABLE=true)" if not shared else ""
        raise StartRefused(
            f"the master key file {path} is open to others (mode {mode:04o}); "
            f"run `chmod 600 {path}`{hint}"
        )


def _generate(path: Path) -> None:
    key = secrets.token_bytes(KEY_BYTES)
    line = f"{GENERATED}{secrets.token_hex(4)}:{base64.b64encode(key).decode()}\n"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = drafted(path, line)
    try:
        os.link(draft, path)  # fails when another process was first: then its key holds
    except FileExistsError:
        return
    finally:
        draft.unlink()
    sys.stderr.write(
        f"\n*** Wardgate made a new master key in {path}: every stored key is lost without it.\n"
        "*** Back it up, apart from the database; for production bring your own "
        "(docs/security.md).\n\n"
    )


def drafted(path: Path, text: str) -> Path:
    """A new file beside `path`, for this user alone, its text safe on disk. Raises OSError."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft
