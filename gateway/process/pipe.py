"""Framed messages between the parent and its children, over one inherited socketpair each.

A frame is four bytes of length (big-endian), then one msgpack message of the closed set below.
End of file is a message too: the other side is gone. Nothing here starts or stops a process.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import msgspec

from gateway.health import Report
from gateway.settings import PREFIX, Settings
from gateway.shapes import Secret

# A boot message is a few KB; anything near this size is not a peer of ours.
LARGEST = 16 * 1024 * 1024
_HEAD = 4


class Boot(msgspec.Struct, frozen=True, tag="boot"):
    """Parent → child, once: everything it may know. The ring never touches disk or environment."""

    settings: dict[str, str]
    ring: list[tuple[str, bytes]]
    index: int = 0
    count: int = 1
    snapshot: str = ""
    metrics: str = ""
    catalog: str = ""
    spans: int = 0  # of traces, that may wait for the collector; 0: no traces

    def __repr__(self) -> str:
        return f"Boot(index={self.index}, count={self.count})"


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """Parent → worker: the snapshot file now holds `revision`."""

    revision: int


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Parent → worker: serve on, but say that it will not be for long."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Parent → child: finish what runs, then exit."""


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """Child → parent: requests are answered; from routing table `revision` if it is a worker."""

    revision: int = 0


class Used(msgspec.Struct, frozen=True, tag="used"):
    """Worker → parent: client key id → when it was last used (Unix seconds)."""

    keys: dict[str, float]


class Health(msgspec.Struct, frozen=True, tag="health"):
    """Worker → parent: how attempts at providers ended since the last report."""

    report: Report


Message = Boot | Reload | Leave | Stop | Serving | Used | Health
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Pipe:
    """One end. Writes never block: messages are small and rare."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, message: Message) -> None:
        """Queue a message; a peer that is gone is noticed by `receive`, not here."""
        if not self.writer.is_closing():
            body = _encode(message)
            self.writer.write(len(body).to_bytes(_HEAD, "big") + body)

    async def receive(self) -> Message | None:
        """The next message; None when the other side is gone or no longer makes sense."""
        try:
            size = int.from_bytes(await self.reader.readexactly(_HEAD), "big")
            if size > LARGEST:
                return None
            return _decoder.decode(await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError):
            return None

    async def aclose(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return  # the peer went first


async def connect(sock: socket.socket) -> Pipe:
    """Both directions of a connected AF_UNIX socket, on the running loop."""
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    return Pipe(reader, writer)


def inherited(words: Iterable[str]) -> list[socket.socket]:
    """File descriptors named on a child's command line, as sockets."""
    return [socket.socket(fileno=int(word)) for word in words]


def spell(settings: Settings) -> dict[str, str]:
    """Settings as the environment would spell them; secrets are left out.

    A field whose text is empty is left out too: reading it back gives the default.
    """
    texts = {PREFIX + f.name.upper(): _text(getattr(settings, f.name)) for f in fields(settings)}
    return {name: text for name, text in texts.items() if text}


def _text(value: Any) -> str:
    match value:
        case None | Secret():
            return ""
        case bool() | int() | float() | str() | Path() | IPv4Network() | IPv6Network():
            return str(value)
        case dict():
            return ",".join(f"{name}={item}" for name, item in value.items())
        case _:
            return ",".join(map(str, value))
