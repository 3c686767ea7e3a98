"""The port where nobody answers: for tests of what is away. Called by tests only."""

from __future__ import annotations

import socket
from functools import cache


@cache
def dead_port() -> int:
    """Connections to it are refused as long as this process lives: nobody else gets it.

    It is bound, and never listened at.
    """
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = int(sock.getsockname()[1])
    sock.detach()
    return port
