"""Metrics and health of a gateway that runs without the admin app: three GET paths, no more.

Answered by the parent, from the folder its workers write to and the health in the store. Nothing
here knows a worker.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address

from gateway.metrics import Asked, exposition
from gateway.store.compile import revision
from gateway.store.engine import Store
from gateway.store.health import judged

PATIENCE = 8.0
STORE_PATIENCE = 4.0
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {200: "OK", 403: "Forbidden", 404: "Not Found", 503: "Service Unavailable"}


@asynccontextmanager
async def answering_scrapes(
    sockets: Sequence[socket.socket],
    folder: str,
    ready: Callable[[], bool],
    ask: Callable[[], Awaitable[Asked]],
    *,
    open_to_all: bool,
) -> AsyncIterator[None]:
    """Answer on bound `sockets` while the block runs; `open_to_all`: metrics off loopback too."""

    async def answer(path: str, peer: str) -> tuple[int, bytes]:
        if path == "/livez":
            return 200, b"ok\n"
        if path == "/readyz":
            return (200, b"ok\n") if ready() else (503, b"no worker is ready\n")
        if path != "/metrics":
            return 404, b"/metrics, /livez or /readyz\n"
        if not (open_to_all or ip_address(peer).is_loopback):
            return 403, b"WARDGATE_METRICS_OPEN=true opens this to other machines\n"
        # Many files and many figures: what else the parent does goes on meanwhile.
        return 200, await asyncio.to_thread(exposition, folder, await ask())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                peer = writer.get_extra_info("peername")[0]
                writer.write(_answer(*await answer(_path(head), peer)))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a scraper that talks nonsense or left: the next one is on its way
        finally:
            writer.close()

    async with AsyncExitStack() as servers:
        for sock in sockets:
            await servers.enter_async_context(await asyncio.start_server(serve, sock=sock))
        yield


async def ask_store(store: Store, now: float) -> Asked:
    """Everybody's health and the revision; nothing when the store does not say: the rest is still
    shown."""
    asking = asyncio.ensure_future(_ask(store, now))
    await asyncio.wait([asking], timeout=STORE_PATIENCE)
    if not asking.done():
        asking.cancel()
        await asyncio.wait([asking])
        return Asked()
    return Asked() if asking.exception() else asking.result()


async def _ask(store: Store, now: float) -> Asked:
    return Asked(tuple((await judged(store, now)).values()), await revision(store))


def _path(head: bytes) -> str:
    words = head.partition(b"\r\n")[0].split(b" ")
    known = len(words) == 3 and words[0] == b"GET"
    return words[1].partition(b"?")[0].decode("latin-1") if known else ""


def _answer(status: int, body: bytes) -> bytes:
    lines = (
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"content-type: {_TEXT}",
        f"content-length: {len(body)}",
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
