"""One POST after another to a key service, through our own way out: bounded in bytes and in time.

TLS is always verified; plain http goes to loopback and into allowed ranges only; no redirect is
followed, no proxy used. What a service answered is never repeated. Used by transit.py and kms.py.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway import __version__
from gateway.addresses import AddressPolicy
from gateway.errors import StartRefused, TlsFailed, UpstreamError, UpstreamTimeout
from gateway.settings import Settings
from gateway.shapes import Headers

if TYPE_CHECKING:
    from gateway.upstream.seam import Engine
    from gateway.upstream.tls import Tls

LARGEST = 64 * 1024
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
# Over TLS the certificate says who it is, and the operator named it: any address will do.
_ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_SENT: Headers = [
    (b"user-agent", f"wardgate/{__version__}".encode()),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
]
_AWAY = "cannot be reached"
_WHY = {
    "upstream_denied": "is where plain http may not go: use https, or allow its range in "
    "WARDGATE_ALLOWED_UPSTREAM_CIDRS",
    "upstream_incomplete": "broke its answer off",
}
T = TypeVar("T")


class Wire:
    """The way to one service. `who` is how it is called in errors."""

    def __init__(self, url: str, who: str, engine: Engine, patience: float) -> None:
        self.who = who
        self._engine = engine
        self._patience = patience
        parts = urlsplit(url)
        self._origin, self._path = f"{parts.scheme}://{parts.netloc}", parts.path

    async def post(self, path: str, headers: Headers, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises StartRefused when there is none to be had."""
        try:
            return await self._post(path, headers, body)
        except UpstreamTimeout:
            raise late(self.who, self._patience) from None
        except TlsFailed:
            why = "makes no TLS connection to be trusted (WARDGATE_KEK_CA_FILE names its authority)"
        except UpstreamError as error:
            why = _WHY.get(error.code, _AWAY)
        except ValueError:  # what looks like an address and is none
            why = _AWAY
        raise StartRefused(f"{self.who} {why}")

    async def _post(self, path: str, headers: Headers, body: bytes) -> tuple[int, bytes]:
        from gateway.upstream.seam import Outbound

        target = (self._path + path).encode("ascii")
        outbound = Outbound("POST", self._origin, target, _SENT + headers, body)
        answer = await self._engine.send(outbound)
        try:
            if 300 <= answer.status < 400:
                words = f"answered {answer.status}; redirects are not followed"
                raise StartRefused(f"{self.who} {words}: name the place that answers itself")
            got = bytearray()
            while piece := await answer.read():
                got += piece
                if len(got) > LARGEST:
                    raise StartRefused(f"{self.who} answers with more than {LARGEST >> 10} KiB")
            return answer.status, bytes(got)
        finally:
            answer.abort()


def read(body: bytes, kind: type[T], who: str) -> T:
    """An answer's body as `kind`. Raises StartRefused."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise StartRefused(f"{who} answered with something else than was asked for") from None


def late(who: str, patience: float) -> StartRefused:
    return StartRefused(f"{who} did not answer in {patience:g} s (WARDGATE_KEK_TIMEOUT)")


@contextlib.asynccontextmanager
async def wire_to(url: str, who: str, settings: Settings) -> AsyncIterator[Wire]:
    """A way to the service at `url`; its connections are closed when the block is left."""
    from gateway.upstream.engine import HttpEngine
    from gateway.upstream.seam import Timeouts

    patience = settings.kek_timeout
    times = Timeouts(patience, patience, patience, patience)
    engine = HttpEngine(policy(url, settings), times, tls=_trusted(settings.kek_ca_file))
    try:
        yield Wire(url, who, engine, patience)
    finally:
        await engine.aclose()


def policy(url: str, settings: Settings) -> AddressPolicy:
    """Where the service at `url` may be."""
    near = (*_LOOPBACK, *settings.allowed_upstream_cidrs)
    return AddressPolicy(_ANYWHERE if url.startswith("https:") else near)


def _trusted(file: str) -> Tls | None:
    """Only these authorities are trusted; None: the system's."""
    from gateway.upstream.tls import tls_context

    if not file:
        return None
    try:
        return tls_context(file)
    except ssl.SSLError:
        why = "holds no certificates in PEM"
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    raise StartRefused(f"WARDGATE_KEK_CA_FILE: {file} {why}")
