"""TLS towards providers: always verified, and taken up again where the last connection left it.

Never skips a check; holds no secret but session tickets. Used by dial.py and connection.py.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any


class Tls(ssl.SSLContext):
    """Verifies names and chains, and offers the session of the last connection to the same name."""

    def __init__(self, *_: Any) -> None:
        self._sessions: dict[str | bytes | None, ssl.SSLSession] = {}

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        session = session or self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, made: ssl.SSLObject) -> None:
        """Keep the session of a connection that has been used: tickets come after the start."""
        if made.session is not None and made.session.has_ticket:
            self._sessions[made.server_hostname] = made.session


def remember_session(transport: asyncio.BaseTransport) -> None:
    """Of a connection on which an answer has come, if it is one over TLS."""
    context = transport.get_extra_info("sslcontext")
    if isinstance(context, Tls):
        context.remember(transport.get_extra_info("ssl_object"))


def tls_context(authorities: str = "") -> Tls:
    """The authorities in that PEM file, else the system's (or those SSL_CERT_FILE names); TLS 1.2
    at least. Raises OSError, SSLError for a file that cannot be read or holds none.
    """
    context = Tls(ssl.PROTOCOL_TLS_CLIENT)
    if authorities:
        context.load_verify_locations(authorities)
    else:
        context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
