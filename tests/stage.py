"""The demo upstream behind a gateway, as an SDK meets it, and what must hold whatever it called.

On the way out: each request upstream carried one credential, its provider's stored one, no cookie
and nothing of the client's key; the log was written and holds no key. Called by SDK tests.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import structlog

from admin.demo.upstream import Received, Upstream
from gateway import logs
from gateway.masking import mask
from gateway.shapes import DialectName, ProviderConfig
from tests.world import PROVIDER_KEY, World, served

PLACEHOLDER = "sk-placeholder-canary-0123456789abcdef"
"""What an SDK gets as its key where the Wardgate key goes elsewhere."""

_PLACES = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cf-aig-authorization")
_DIALECTS: dict[str, DialectName] = {  # all others speak OpenAI's
    "anthropic": "anthropic",
    "google": "gemini",
    "azure": "azure",
}
_ROOTS = {"google": "/v1beta", "azure": "/openai/v1"}

Fill = Callable[[World, Upstream], object]


@dataclass(frozen=True)
class Stage:
    """`url` is the gateway's, without a path; `key` a client key for it."""

    url: str
    key: str
    upstream: Upstream

    @property
    def last(self) -> Received:
        """The newest request that reached the upstream."""
        return self.upstream.received[-1]


def stored_key(provider: str) -> str:
    """Each provider has a key of its own, so that none can stand in for another."""
    return f"{PROVIDER_KEY}-{provider}"


def put(world: World, upstream: Upstream, provider: str, **more: Any) -> ProviderConfig:
    """A config of `provider`; its base path begins with the provider's name."""
    root = f"{upstream.origin}/{provider}{_ROOTS.get(provider, '/v1')}"
    given = {"dialect": _DIALECTS.get(provider, "openai"), "secret": stored_key(provider)}
    return world.config(provider, root, **{**given, **more})


def put_usual(world: World, upstream: Upstream) -> None:
    """OpenAI, Anthropic and Google."""
    for provider in ("openai", "anthropic", "google"):
        put(world, upstream, provider)


@contextlib.asynccontextmanager
async def staged(
    captured: pytest.CaptureFixture[str],
    fill: Fill = put_usual,
    *,
    clock: Callable[[], float] | None = None,
    stored: Callable[[str], str] = stored_key,
    settings: Mapping[str, Any] = MappingProxyType({}),
    **client: Any,
) -> AsyncIterator[Stage]:
    """Serve what `fill` puts into the world; `client` are fields of the client key.

    `stored` says what key a provider's configs hold, where `fill` gave them another.
    """
    # Each client would read all authorities this machine trusts, 30 ms long, to talk to loopback.
    os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)
    async with Upstream() as upstream:
        world = World()
        fill(world, upstream)
        key = world.key(**client)
        with logged():
            async with served(world, clock=clock, **settings) as house:
                yield Stage(house.url, key, upstream)
        for received in upstream.received:
            assert credentials(received) == [stored(provider_of(received))]
            assert received.values(b"cookie") == []
        sent = b"".join(bytes(wire) for wire in upstream.wire)
        assert key.encode() not in sent
        assert PLACEHOLDER.encode() not in sent
    check_log(captured.readouterr(), {key, PLACEHOLDER, PROVIDER_KEY, stored("openai")})


def provider_of(received: Received) -> str:
    """Whose config it was sent with."""
    return received.path.split("/")[1]


def credentials(received: Received) -> list[str]:
    """Every credential of a request, wherever one may stand."""
    found = [value.decode() for name in _PLACES for value in received.values(name)]
    found += [part for part in received.query.split("&") if part.startswith("key=")]
    return [text.removeprefix("Bearer ") for text in found]


def check_log(captured: Any, secrets: Iterable[str]) -> None:
    assert '"event":"request"' in captured.out
    for secret in secrets:
        assert secret not in captured.out
        assert secret not in captured.err


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """The log as a worker writes it, to the process's own stdout; as before afterwards."""
    root = logging.getLogger()
    before = root.handlers, root.level
    logs.configure("debug", mask)
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.handlers, level = before
        root.setLevel(level)
