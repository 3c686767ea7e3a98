"""A data folder as a start leaves it: a store, its master key, and the routing table of the two.

Called by the tests of the next start, which looks into an SQLite file past SQLAlchemy and at no
other database: theirs is a file.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from admin.configure import keys
from admin.configure.desk import Desk
from admin.configure.keys import KeyView, NewKey
from admin.permit import LOCAL
from gateway.process.publish import Publisher, Source
from gateway.process.supervise import House, Plan
from gateway.settings import Settings
from tests.backends import Backend
from tests.desks import RING, add, opened


@dataclass(frozen=True)
class App:
    """An application's client key: how it is stored, and its text."""

    view: KeyView
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@contextlib.asynccontextmanager
async def left(folder: Path, **changed: Any) -> AsyncIterator[tuple[Desk, App]]:
    """A desk with a config for openai and a client key, published; `changed` are settings."""
    async with opened(Backend(folder), **changed) as desk:
        [(name, kek)] = RING.expose()
        (folder / "kek").touch(0o600)
        (folder / "kek").write_text(f"{name}:{base64.b64encode(kek).decode()}\n")
        await add(desk)
        view, key = await keys.create(desk, LOCAL, NewKey(name="app"))
        await publish(desk)
        yield desk, App(view, key)


def house_of(settings: Settings) -> House:
    """A house of one worker that nobody starts."""
    return House(Plan(settings, workers=1), {})


async def publish(desk: Desk, **changed: Any) -> None:
    """Leave a table that fits the store as it is now."""
    source = Source(desk.settings, desk.ring, desk.catalog, **changed)
    await Publisher(house_of(desk.settings), source, desk.store).first()
