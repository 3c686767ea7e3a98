"""An open desk on a fresh store: what the tests of configure and store stand on.

The clock is the test's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from admin.configure import configs
from admin.configure.configs import ConfigView, NewConfig
from admin.configure.desk import Desk, open_desk
from admin.configure.refusals import Refusal
from admin.permit import LOCAL, Actor, Grant
from gateway import catalog
from gateway.keks.load import load_ring
from gateway.shapes import GLOBAL, ProviderConfig, Secret
from gateway.snapshot import Snapshot
from gateway.store.compile import compile_snapshot
from gateway.vault import KeyRing, config_binding
from tests.backends import Backend

RING = KeyRing([("test", b"0123456789abcdef0123456789ABCDEF")])
KEY = "sk-proj-canary-0123456789abcdefghij"
GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
GROUP_ADMIN = Actor("g", "group admin", (Grant("GroupAIProviders.Manage", GROUP),))


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def opened(backend: Backend, **changed: Any) -> AsyncIterator[Desk]:
    """A desk on the store there; loopback is allowed unless `changed` says otherwise."""
    given = {"allowed_upstream_cidrs": (ip_network("127.0.0.0/8"),), **changed}
    await backend.lay(RING)
    desk = await open_desk(backend.settings(**given), RING, catalog.load(), Clock())
    try:
        yield desk
    finally:
        await desk.aclose()


@contextlib.asynccontextmanager
async def of_house(backend: Backend) -> AsyncIterator[Desk]:
    """The desk of a running house, as a command opens it."""
    settings = backend.settings(allowed_upstream_cidrs=(ip_network("127.0.0.0/8"),))
    desk = await open_desk(settings, await load_ring(settings), catalog.load())
    try:
        yield desk
    finally:
        await desk.aclose()


def later(desk: Desk, seconds: float = 1.0) -> None:
    """Move the desk's clock."""
    assert isinstance(desk.clock, Clock)
    desk.clock.now += seconds


def secret(text: str = KEY) -> Secret:
    return Secret(text.encode())


async def add(desk: Desk, alias: str = "main", provider: str = "openai", **more: Any) -> ConfigView:
    """Create a config with a key in the global scope."""
    given: dict[str, Any] = {"scope": GLOBAL, "secret": secret()}
    new = NewConfig(provider=provider, alias=alias, **{**given, **more})
    return await configs.create(desk, LOCAL, new)


async def table(desk: Desk) -> Snapshot:
    """The routing table as the parent of the workers compiles it."""
    return await compile_snapshot(desk.store, desk.ring, desk.catalog, desk.settings, desk.clock())


async def stored(desk: Desk, config_id: str) -> ProviderConfig:
    """One config as a worker sees it."""
    found = (await table(desk)).config(config_id)
    assert found is not None
    return found


async def key_of(desk: Desk, config_id: str) -> str:
    """The key a worker would send for this config."""
    found = await stored(desk, config_id)
    assert found.sealed is not None
    return desk.ring.open(found.sealed, config_binding(found)).expose().decode()


async def refused(work: Awaitable[object]) -> tuple[str, str | None]:
    """Kind and field of the refusal that `work` must end in; no message shows the key."""
    with pytest.raises(Refusal) as caught:
        await work
    assert KEY not in caught.value.message
    return caught.value.kind, caught.value.field


def files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by its name: what somebody with a copy of the disk sees."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
