"""Master keys that lie wrapped in a file: a service unwraps them at start, and wraps new ones.

The file is no secret: without the service nobody reads it. Once the keys are here the service is
not asked again, so that it may be away while Wardgate runs. Called by load.py and `wardgate kek`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from gateway.errors import StartRefused
from gateway.keks.file import LARGEST, drafted, read_keys
from gateway.keks.keyset import (
    WRONG_ID,
    Key,
    check_ids,
    exposed,
    fingerprint,
    refuse_weak,
)
from gateway.keks.kms import kms
from gateway.keks.source import described, source_of, wrapped_file
from gateway.keks.transit import transit
from gateway.keks.wire import late
from gateway.settings import Settings
from gateway.vault import KEK_ID, KEY_BYTES

# A key's id, and the key as the service wrapped it.
Wrapped = tuple[str, str]


class Wrapper(Protocol):
    """What a key service does. Both raise StartRefused; errors show nothing of key or answer."""

    async def wrap(self, name: str, key: bytes) -> str: ...

    async def unwrap(self, name: str, wrapped: str) -> bytes: ...


async def from_service(settings: Settings) -> list[Key]:
    """The keys of the file, unwrapped, in its order. Raises StartRefused."""
    path = wrapped_file(settings)
    kept = read_wrapped(path)
    if not kept:
        words = f"there is no wrapped master key in {path}; make one with `wardgate kek wrap`"
        raise StartRefused(words)
    async with _in_time(settings) as service:
        return [(name, await _unwrapped(service, name, text)) for name, text in kept]


def keys_to_wrap(settings: Settings, file: Path | None) -> list[Key]:
    """The keys of a key file, else a new one. Raises StartRefused where no service is named."""
    if source_of(settings) not in ("vault", "aws"):
        raise StartRefused("no key service: set WARDGATE_KEK_VAULT_URL or WARDGATE_KEK_AWS_KEY")
    if file is None:
        key = secrets.token_bytes(KEY_BYTES)
        return [(fingerprint(key), key)]
    keys = read_keys(file, settings)
    if exposed(settings):
        refuse_weak(keys, str(file))
    return keys


async def add(settings: Settings, keys: Sequence[Key], *, last: bool = False) -> list[Wrapped]:
    """Have keys wrapped and put them before the others of the file, or behind them; all of them.

    Each is unwrapped once before it is trusted to the file. Raises StartRefused.
    """
    path = wrapped_file(settings)
    kept = read_wrapped(path)
    check_ids([name for name, _ in (*kept, *keys)], str(path))
    async with _in_time(settings) as service:
        made = [(name, await _proved(service, name, key)) for name, key in keys]
    both = [*kept, *made] if last else [*made, *kept]
    _write(path, both)
    return both


def read_wrapped(path: Path) -> list[Wrapped]:
    """What the file holds; nothing where there is none. Raises StartRefused."""
    try:
        with path.open("rb") as file:
            lines = file.read(LARGEST).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StartRefused(f"{path} cannot be read: {error.strerror}") from None
    kept = [_entry(line.strip(), path) for line in lines if line.strip()]
    check_ids([name for name, _ in kept], str(path))
    return kept


def _entry(line: str, path: Path) -> Wrapped:
    name, _, text = line.partition(":")
    if not KEK_ID.fullmatch(name):
        raise StartRefused(f"{path}: {WRONG_ID}")
    return name, text


async def _unwrapped(service: Wrapper, name: str, text: str) -> bytes:
    key = await service.unwrap(name, text)
    if len(key) != KEY_BYTES:
        raise StartRefused(f"master key {name!r} unwraps to {len(key)} bytes, not to {KEY_BYTES}")
    return key


async def _proved(service: Wrapper, name: str, key: bytes) -> str:
    text = await service.wrap(name, key)
    if not hmac.compare_digest(await _unwrapped(service, name, text), key):
        raise StartRefused(f"the service unwraps {name!r} to another key than it has wrapped")
    return text


@contextlib.asynccontextmanager
async def _in_time(settings: Settings) -> AsyncIterator[Wrapper]:
    """The service of the settings, all of the block within the time they give."""
    service = transit if source_of(settings) == "vault" else kms
    try:
        async with asyncio.timeout(settings.kek_timeout), service(settings) as opened:
            yield opened
    except TimeoutError:
        raise late(described(settings), settings.kek_timeout) from None


def _write(path: Path, entries: Sequence[Wrapped]) -> None:
    """Replace the file at once and for good."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        drafted(path, "".join(f"{name}:{text}\n" for name, text in entries)).rename(path)
    except OSError as error:
        raise StartRefused(f"{path} cannot be written: {error.strerror}") from None
