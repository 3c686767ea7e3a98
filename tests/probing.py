"""Scripted answers of a provider's model list, and a desk whose files never show the tested key.

Called by the tests of admin/probe.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from admin.configure.desk import Desk
from admin.demo.upstream import Received, Script, Upstream
from admin.probe import Probed, Prober
from tests import desks
from tests.backends import Backend
from tests.desks import KEY, add

Respond = Callable[[Received], Script]


@contextlib.asynccontextmanager
async def desk(backend: Backend, **changed: Any) -> AsyncIterator[Desk]:
    """A desk there; when it is left, KEY is nowhere on its disk."""
    async with desks.opened(backend, **{"probe_timeout": 5.0, **changed}) as opened:
        yield opened
    assert KEY.encode() not in backend.disk()


def in_json(value: Any, status: int = 200) -> Script:
    return Script(status=status, body=msgspec.json.encode(value))


def models(*ids: str, **more: Any) -> Script:
    """A list as OpenAI and most others write it; `more` stands beside it."""
    return in_json({"object": "list", "data": [{"id": name} for name in ids], **more})


async def probe(
    desk: Desk, prober: Prober, respond: Respond | Script | None, **config: Any
) -> tuple[Probed, list[Received]]:
    """Store a config with KEY at such an upstream and probe it: what came of it, what was sent."""
    async with Upstream(respond) as upstream:
        view = await add(desk, **{"provider": "openai", "base_url": upstream.url, **config})
        probed = await prober.stored(desk, view.id)
        assert KEY not in repr(probed)
        return probed, upstream.received
