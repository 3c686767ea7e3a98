"""ASGI's types, by name, and the one thing our listener adds to a request's scope. No behaviour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

AsgiScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CONNECTION = "wardgate.connection"  # the scope's key of its Connection


class Connection(Protocol):
    """A client's connection: whether it is gone, and whom to tell when it goes."""

    gone: bool

    @property
    def body_arrived(self) -> bool:
        """True when the present request's body is here whole, so that nobody waits for it."""

    on_departure: Callable[[], None] | None
