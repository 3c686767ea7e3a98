"""Whether an upstream has closed an idle connection, asked of the system itself.

Between two looks of the loop a connection may be dead without its transport knowing. Never reads.
Used by connection.py.
"""

from __future__ import annotations

import asyncio
import select
from typing import Final

_CLOSED: Final = getattr(select, "POLLRDHUP", 0)  # where the system tells it


class News:
    """Of one connection; looks at its socket for the first time when asked for the first time."""

    __slots__ = ("_poll",)

    def __init__(self) -> None:
        self._poll: select.poll | None = None

    def any(self, transport: asyncio.Transport) -> bool:
        """Whether something has come that nobody has read, if only the connection's end."""
        if self._poll is None:
            made = transport.get_extra_info("socket")
            encrypted = transport.get_extra_info("sslcontext") is not None
            self._poll = select.poll()
            # TLS has things to say of its own; in plain HTTP nothing is to come.
            self._poll.register(made.fileno(), _CLOSED if encrypted else _CLOSED | select.POLLIN)
        return bool(self._poll.poll(0))
