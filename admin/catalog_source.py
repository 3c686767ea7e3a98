"""Fetches a model catalog: one GET through the house's way out, bounded in bytes and in time.

No redirect is followed, nothing is decoded: what comes back is bytes to be checked, and the ETag
that saves fetching them again. Called by catalog.py.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway import __version__
from gateway.addresses import AddressPolicy
from gateway.catalog import LARGEST
from gateway.errors import TlsFailed, UpstreamError, UpstreamTimeout, WardgateError
from gateway.settings import Settings
from gateway.shapes import Headers

if TYPE_CHECKING:
    from gateway.upstream.seam import Answer, Engine

# Bytes so far, and how many there will be where the source says so.
Received = Callable[[int, int | None], None]

_ETAG = re.compile(rb'(?:W/)?"[\x21\x23-\x7e]{0,195}"')
_SENT: Headers = [
    (b"user-agent", f"wardgate/{__version__}".encode()),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
]
_WHY = {
    "upstream_denied": "is at an address Wardgate may not connect to",
    "upstream_incomplete": "broke its answer off",
    "upstream_timeout": "stopped sending",
}


class FetchFailed(WardgateError):
    """The source did not hand out a catalog; one line that says why."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the source sent, unread. `etag` None: it named none that we could send back."""

    data: bytes
    etag: str | None


async def fetch(
    url: str, etag: str | None, settings: Settings, patience: float, received: Received
) -> Fetched | None:
    """The source's catalog; None: it is still the one `etag` names. Raises FetchFailed."""
    engine, host = _way_out(url, settings, patience), urlsplit(url).netloc
    try:
        async with asyncio.timeout(patience):
            return await _fetch(engine, url, etag, received)
    except (TimeoutError, UpstreamTimeout):
        raise FetchFailed(f"{host} did not answer in {patience:g} s") from None
    except TlsFailed:
        raise FetchFailed(f"{host} makes no TLS connection to be trusted") from None
    except ValueError:  # what looks like an address and is none
        raise FetchFailed(f"{host} could not be reached") from None
    except UpstreamError as error:
        raise FetchFailed(f"{host} {_WHY.get(error.code, 'could not be reached')}") from None
    finally:
        await engine.aclose()


def _way_out(url: str, settings: Settings, patience: float) -> Engine:
    from gateway.upstream.engine import HttpEngine
    from gateway.upstream.seam import Timeouts

    # As with providers' base URLs: an operator who names an address means it.
    policy = AddressPolicy.of(settings.allowed_upstream_cidrs, {"catalog": url})
    connect = min(settings.connect_timeout, patience)
    return HttpEngine(policy, Timeouts(connect, patience, patience))


async def _fetch(engine: Engine, url: str, etag: str | None, received: Received) -> Fetched | None:
    from gateway.upstream.seam import Outbound

    parts = urlsplit(url)
    known: Headers = [(b"if-none-match", etag.encode())] if etag else []
    target = (parts.path or "/").encode()
    origin = f"{parts.scheme}://{parts.netloc}"
    answer = await engine.send(Outbound("GET", origin, target, _SENT + known, None))
    try:
        if answer.status == 304 and etag:
            return None
        _check_head(answer, parts.netloc)
        return Fetched(await _body(answer, parts.netloc, received), _etag(answer))
    finally:
        answer.abort()


def _check_head(answer: Answer, host: str) -> None:
    if 300 <= answer.status < 400:
        raise FetchFailed(f"{host} answered {answer.status}; redirects are not followed")
    if answer.status != 200:
        raise FetchFailed(f"{host} answered {answer.status}")
    if _header(answer, b"content-encoding") not in (b"", b"identity"):
        raise FetchFailed(f"{host} sent the catalog packed, which was not asked for")


async def _body(answer: Answer, host: str, received: Received) -> bytes:
    told = _header(answer, b"content-length")
    total = int(told) if told.isdigit() else None
    pieces: list[bytes] = []
    size = 0
    while size <= LARGEST and (total or 0) <= LARGEST:
        received(size, total)
        piece = await answer.read()
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
    raise FetchFailed(f"{host} sends more than {LARGEST >> 20} MiB")


def _etag(answer: Answer) -> str | None:
    told = _header(answer, b"etag")
    return told.decode() if _ETAG.fullmatch(told) else None


def _header(answer: Answer, name: bytes) -> bytes:
    from gateway.upstream.seam import headers_of

    return next((value for key, value in headers_of(answer) if key == name), b"")
