"""Loads the master keys from where the settings say: the one place that knows all sources.

Called once at start by the parent, and by commands; workers and the admin app get the ring over
their pipe. While Wardgate runs, no source is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from gateway.keks.command import from_command
from gateway.keks.file import from_file
from gateway.keks.keyset import Key, exposed, parse, refuse_weak
from gateway.keks.source import Source, described, source_of
from gateway.keks.wrapped import from_service
from gateway.settings import Settings
from gateway.vault import KeyRing


async def load_ring(settings: Settings) -> KeyRing:
    """The master keys; on a laptop that has none, a new one.

    Raises StartRefused, with what to do, rather than start with a key that is no secret.
    """
    keys = await _FROM[source_of(settings)](settings)
    if exposed(settings):
        refuse_weak(keys, described(settings))
    return KeyRing(keys[::-1])


async def _from_env(settings: Settings) -> list[Key]:
    assert settings.keks is not None
    return parse(settings.keks.expose().decode("utf-8", "replace").split(","), "WARDGATE_KEKS")


_FROM: dict[Source, Callable[[Settings], Coroutine[Any, Any, list[Key]]]] = {
    "env": _from_env,
    "file": from_file,
    "command": from_command,
    "vault": from_service,
    "aws": from_service,
}
