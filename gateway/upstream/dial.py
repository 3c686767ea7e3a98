"""Makes connections: name to addresses, each address checked, then TCP, and TLS for https.

TLS is always verified; a name's forbidden addresses are never tried; the one that is connected to
is the one that was checked. Nothing is sent here. Used by engine.py.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from gateway.addresses import AddressPolicy
from gateway.errors import TlsFailed, UpstreamError, UpstreamTimeout
from gateway.upstream.connection import Connection
from gateway.upstream.tls import tls_context
from gateway.upstream.wire import unsent

Resolve = Callable[[str, int], Coroutine[Any, Any, Sequence[str]]]
Attempt = Callable[[], Coroutine[Any, Any, Connection]]
_STAGGER = 0.25  # seconds before the next address is tried beside the one before (RFC 8305)
_LITERAL = re.compile(r"[0-9.]+|.*:.*")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """An origin, taken apart."""

    host: str
    port: int
    encrypted: bool

    @classmethod
    def of(cls, origin: str) -> Place:
        """Raises UpstreamError for what is no origin: scheme, host and port alone."""
        try:
            parts = urlsplit(origin)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        bare = f"{parts.scheme}://{parts.netloc}" == origin if host else False
        if not bare or parts.scheme not in _PORTS or "@" in parts.netloc or not _plain(host):
            raise unsent(UpstreamError("the provider's address is none", code="upstream_denied"))
        encrypted = parts.scheme == "https"
        return cls(host, port if port is not None else _PORTS[parts.scheme], encrypted)

    @property
    def header(self) -> bytes:
        """The line of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS["https" if self.encrypted else "http"] else f":{self.port}"
        return f"host: {host}{port}".encode("ascii")


def _plain(host: str) -> bool:
    return host.isascii() and host.isprintable() and " " not in host


async def resolve(host: str, port: int) -> Sequence[str]:
    """A name's addresses in the system's order of preference. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Dialer:
    """`patience`: seconds for everything together. `tls` is made when it is first needed."""

    def __init__(
        self,
        policy: AddressPolicy,
        patience: float,
        tls: ssl.SSLContext | None = None,
        resolver: Resolve = resolve,
    ) -> None:
        self._policy = policy
        self._patience = patience
        self._resolve = resolver
        self._tls = tls

    async def dial(self, place: Place, make: Callable[[], Connection]) -> Connection:
        """A connection to one of the origin's addresses.

        Raises UpstreamError (code upstream_denied where no address is permitted), TlsFailed or
        UpstreamTimeout; nothing has been sent then.
        """
        try:
            async with asyncio.timeout(self._patience):
                return await self._reach(place, make)
        except TimeoutError:
            raise unsent(UpstreamTimeout("connecting to the provider took too long")) from None
        except ssl.SSLError as error:
            raise unsent(TlsFailed(_words(error))) from None
        except (OSError, UnicodeError) as error:
            raise unsent(UpstreamError(_words(error))) from None

    async def _reach(self, place: Place, make: Callable[[], Connection]) -> Connection:
        addresses = await self._permitted(place)
        return await _first([partial(self._connect, place, one, make) for one in addresses])

    async def _permitted(self, place: Place) -> Sequence[str]:
        host, port = place.host, place.port
        found = [host] if _LITERAL.fullmatch(host) else await self._resolve(host, port)
        good = [one for one in found if self._policy.permits(one, port, encrypted=place.encrypted)]
        if not good:
            shown = found[0] if found else host
            words = f"{shown} is not an address Wardgate may connect to"
            raise unsent(UpstreamError(words, code="upstream_denied"))
        return good

    async def _connect(
        self, place: Place, address: str, make: Callable[[], Connection]
    ) -> Connection:
        loop = asyncio.get_running_loop()
        if not place.encrypted:
            _, made = await loop.create_connection(make, address, place.port)
            return made
        if self._tls is None:
            # Reading the authorities takes 40 ms, in which others would wait.
            made_tls = await asyncio.to_thread(tls_context)
            self._tls = made_tls
        _, made = await loop.create_connection(
            make, address, place.port, ssl=self._tls, server_hostname=place.host
        )
        return made


async def _first(attempts: Sequence[Attempt]) -> Connection:
    """The first attempt that succeeds; each starts when one before has failed, or takes long.

    Raises what the first one raised when all have failed.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    left, tasks = deque(attempts), list[asyncio.Task[Connection]]()
    won: asyncio.Task[Connection] | None = None
    try:
        while won is None and (left or not all(task.done() for task in tasks)):
            if left:
                tasks.append(asyncio.ensure_future(left.popleft()()))
            running = [task for task in tasks if not task.done()]
            patience = _STAGGER if left else None
            await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            won = next((task for task in tasks if task.done() and not task.exception()), None)
    finally:
        for task in tasks:
            if task is not won:
                task.add_done_callback(_give_up)
                task.cancel()
    return (won or tasks[0]).result()


def _give_up(task: asyncio.Task[Connection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _words(error: Exception) -> str:
    # Only the kind: a message may repeat what it was given.
    return f"the provider could not be reached ({type(error).__name__})"
