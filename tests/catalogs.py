"""Small model catalogs, and a source that serves them as models.dev does, ETag included.

Called by the tests of the catalog.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from admin.catalog import Synced, Wish, sync
from admin.configure.desk import Desk
from admin.demo.script import Received, Script
from admin.demo.upstream import Upstream
from admin.permit import LOCAL
from gateway.store import catalogs
from gateway.store.catalogs import Stored

ACME = "https://api.acme.example/v1"
TEN = tuple(f"model-{number}" for number in range(10))


def model(name: str, /, **more: Any) -> dict[str, Any]:
    """A model's entry as models.dev writes it."""
    usual = {
        "id": name,
        "name": name.title(),
        "family": "model",
        "attachment": False,
        "reasoning": True,
        "tool_call": True,
        "modalities": {"input": ["text", "image"], "output": ["text"]},
        "limit": {"context": 128_000, "output": 4_096},
        "cost": {"input": 0.5, "output": 1.5},
        "release_date": "2026-01-01",
    }
    return {**usual, **more}


def entry(
    provider: str, /, models: Iterable[str] | Mapping[str, Any] = TEN, **more: Any
) -> dict[str, Any]:
    """A provider's entry; `models` are names, or whole entries by name."""
    listed = models if isinstance(models, Mapping) else {name: model(name) for name in models}
    usual = {
        "id": provider,
        "name": provider.title(),
        "env": [f"{provider.upper()}_API_KEY"],
        "npm": "@ai-sdk/openai-compatible",
        "doc": f"https://{provider}.example/docs",
        "api": ACME,
        "models": listed,
    }
    return {**usual, **more}


def written(*entries: dict[str, Any]) -> bytes:
    """The document they make together."""
    return msgspec.json.encode({one["id"]: one for one in entries})


class Source:
    """What an Upstream answers; `body` may change, and its ETag with it."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        self.put(*entries)

    def put(self, *entries: dict[str, Any]) -> None:
        self.body = written(*entries)

    @property
    def etag(self) -> bytes:
        return b'"%s"' % hashlib.sha256(self.body).hexdigest()[:12].encode()

    def __call__(self, received: Received) -> Script:
        headers = [(b"etag", self.etag), (b"content-type", b"application/json")]
        if received.header(b"if-none-match") == self.etag:
            return Script(status=304, headers=headers, framing="none")
        return Script(headers=headers, body=self.body)


def url_of(upstream: Upstream) -> str:
    return f"{upstream.origin}/api.json"


async def synced(desk: Desk, upstream: Upstream, *, force: bool = False) -> Synced:
    """One sync from there, by the operator."""
    return await sync(desk, LOCAL, Wish(url_of(upstream), force=force))


async def kept(desk: Desk) -> Stored | None:
    """The stored row, byte for byte."""
    async with desk.store.read() as conn:
        return await catalogs.find(conn)
