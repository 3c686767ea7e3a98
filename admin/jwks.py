"""The public keys of an identity provider: fetched through our own way out, kept, fetched anew.

An unknown key id makes us ask once a minute at most; while the provider is away, the keys last seen
hold for a day. Redirects are not followed. Called by oidc.py, which trusts nothing else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from gateway.addresses import AddressPolicy
from gateway.errors import Unavailable, UpstreamError

if TYPE_CHECKING:
    from gateway.upstream.seam import Answer, Engine

Jwk = Mapping[str, Any]

DISCOVERY = "/.well-known/openid-configuration"
LARGEST = 1024 * 1024
FRESH = 3600.0  # keys that old are fetched anew: one that was withdrawn must stop counting
STALE = 24 * 3600.0
PAUSE = 60.0  # between two looks
SOON = 5.0  # the same, while there are no keys at all
_TYPES = ("RSA", "EC", "OKP")  # a symmetric key verifies nothing here
_LONGEST_ID = 200
_SENT = [(b"accept", b"application/json"), (b"user-agent", b"wardgate")]
_log = structlog.get_logger("wardgate.oidc")


class Unusable(Exception):
    """What came is not what was asked for; one line for the log."""


class Keys:
    """The keys of `issuer` by their id; `url` is where they are, if not to be discovered.

    `patience` is how many seconds one look may take, discovery included.
    """

    def __init__(
        self,
        issuer: str,
        url: str,
        policy: AddressPolicy,
        clock: Callable[[], float] = time.monotonic,
        patience: float = 5.0,
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._policy = policy
        self._clock = clock
        self._patience = patience
        self._engine: Engine | None = None
        self._keys: dict[str, Jwk] = {}
        self._seen = self._next = -inf
        self._asking = asyncio.Lock()

    async def find(self, key_id: str) -> Jwk | None:
        """The key of that id, None when the provider has none. Raises Unavailable."""
        # While somebody asks, what is known is good enough for everybody else.
        if not self._settled(key_id) and not (key_id in self._keys and self._asking.locked()):
            async with self._asking:
                if not self._settled(key_id):
                    await self._ask()
        if self._clock() - self._seen > STALE:
            raise Unavailable("the identity provider cannot be reached; admin tokens still work")
        return self._keys.get(key_id)

    async def aclose(self) -> None:
        if self._engine is not None:
            await self._engine.aclose()

    def _settled(self, key_id: str) -> bool:
        now = self._clock()
        return now < self._next or (key_id in self._keys and now - self._seen < FRESH)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                self._keys = await self._fetched()
            self._seen = self._clock()
        except (TimeoutError, UpstreamError, Unusable) as error:
            words = str(error) or f"no answer in {self._patience:g} s"
            _log.warning("no keys from the identity provider", issuer=self._issuer, why=words)
        self._next = self._clock() + (PAUSE if self._keys else SOON)

    async def _fetched(self) -> dict[str, Jwk]:
        found = await self._get(self._url or await self._discovered())
        listed = found.get("keys")
        if not isinstance(listed, list):
            raise Unusable("the key set has no list of keys")
        return {key["kid"]: key for key in listed if _usable(key)}

    async def _discovered(self) -> str:
        found = await self._get(self._issuer.rstrip("/") + DISCOVERY)
        if found.get("issuer") != self._issuer:
            raise Unusable("the discovery document is another issuer's")
        url = found.get("jwks_uri")
        if not isinstance(url, str):
            raise Unusable("the discovery document has no jwks_uri")
        return url

    async def _get(self, url: str) -> dict[str, Any]:
        from gateway.upstream.engine import HttpEngine
        from gateway.upstream.seam import Outbound, Timeouts

        if self._engine is None:
            times = Timeouts(self._patience, self._patience, self._patience)
            self._engine = HttpEngine(self._policy, times)
        origin, target = _parts(url)
        answer = await self._engine.send(Outbound("GET", origin, target, [*_SENT], None))
        try:
            if answer.status != 200:
                raise Unusable(f"{url} answered with status {answer.status}")
            return _document(await _body(answer), url)
        finally:
            answer.abort()


async def _body(answer: Answer) -> bytes:
    body = bytearray()
    while piece := await answer.read():
        body += piece
        if len(body) > LARGEST:
            raise Unusable(f"more than {LARGEST >> 20} MiB")
    return bytes(body)


def _document(body: bytes, url: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unusable(f"{url} answered with something else than a JSON object")
    return found


def _parts(url: str) -> tuple[str, bytes]:
    """Origin and target; the address behind it is checked when it is connected to."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if sound and parts.port != 0:
            return f"{parts.scheme}://{parts.netloc}", target.encode("ascii")
    except ValueError:
        pass
    raise Unusable("the address of the keys is no URL")


def _usable(key: object) -> bool:
    """A key meant for signatures, with an id to find it by."""
    if not isinstance(key, dict) or key.get("use", "sig") != "sig":
        return False
    key_id = key.get("kid")
    return key.get("kty") in _TYPES and isinstance(key_id, str) and 0 < len(key_id) <= _LONGEST_ID
