"""Test-connection: asks a provider for its models with a key, and says what came of it.

Goes only to the config's own origin (for Bedrock's list to AWS's other host of the same region),
follows no redirect and reads no more than its bounds. No message holds a key. Called by api/, by
verify.py and by the command line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from admin.configure import configs
from admin.configure.desk import Desk
from admin.echo import Echo
from admin.probed import Offered, Outcome, Probed, Settled
from gateway import __version__, listing
from gateway.addresses import AddressPolicy
from gateway.client.hygiene import settable
from gateway.dialects.table import DIALECTS
from gateway.errors import (
    Malformed,
    SealBroken,
    TlsFailed,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.listing import Listing
from gateway.masking import mask
from gateway.references import resolved
from gateway.settings import Settings
from gateway.shapes import Headers, ProviderConfig, Secret
from gateway.sign import read_keys, region_of, sign
from gateway.store import proofs
from gateway.store.compile import shaped
from gateway.store.proofs import Proof
from gateway.vault import PREFIXES, config_binding

if TYPE_CHECKING:
    from gateway.upstream.seam import Answer, Engine

__all__ = ["Offered", "Outcome", "Probed", "Prober", "keep"]

LARGEST = 4 * 1024 * 1024
MOST_PAGES = 10
MOST_MODELS = 5000
_DECIDED = (proofs.PROVEN, proofs.REFUSED)
_LONGEST_QUOTE = 200
_SENT: Headers = [
    (b"user-agent", f"wardgate/{__version__}".encode()),  # some turn away who sends none
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
]


class Prober:
    """Asks providers, over connections of its own; close it with its app."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    async def aclose(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()

    async def stored(self, desk: Desk, config_id: str) -> Probed:
        """Probe a stored key and keep what it showed. Raises Refusal not_found."""
        probed, _ = await self._stored(desk, config_id)
        return probed

    async def listed(self, desk: Desk, config_id: str, model: str) -> tuple[Probed, bool]:
        """The same, and whether the model is one of the provider's; True where nobody can tell.

        Raises Refusal not_found.
        """
        probed, config = await self._stored(desk, config_id)
        if probed.outcome == "unlisted" and not probed.models:
            return probed, True
        asked = probed.ok or probed.outcome == "unlisted"
        return probed, asked and listing.serves(config, probed.models, model)

    async def offered(self, desk: Desk, target: Offered) -> Probed:
        """Probe a key before it is stored; nothing is kept."""
        config = ProviderConfig(
            id="",
            scope="",
            provider=target.provider,
            alias="",
            dialect=target.dialect or "openai",
            base_url=target.base_url or "",
            auth_type=target.auth_type,
            settings=target.settings,
        )
        try:
            key = _offered(target)
        except LookupError as error:
            return Probed(outcome="unsent", message=str(error))
        return await self._probe(desk, config, key)

    async def _stored(self, desk: Desk, config_id: str) -> tuple[Probed, ProviderConfig]:
        async with desk.store.read() as conn:
            row = await configs.found(conn, config_id, None)
        config = shaped(row, desk.catalog, desk.settings)
        try:
            probed = await self._probe(desk, config, _opened(desk, config))
        except LookupError as error:
            probed = Probed(outcome="unsent", message=str(error))
        await keep(desk, config.id, config.secret_version, probed)
        return probed, config

    async def _probe(self, desk: Desk, config: ProviderConfig, key: Secret) -> Probed:
        began = time.monotonic()
        probed = await self._asked(desk.settings, config, key)
        if probed.outcome == "unlisted" and not probed.models:
            entry = desk.catalog.providers.get(config.provider)
            known = tuple(entry.models)[:MOST_MODELS] if entry is not None else ()
            probed = replace(probed, models=known, source="catalog")
        took = round((time.monotonic() - began) * 1000)
        # A loop's timer may ring part of a millisecond early: what ran out is the least it took.
        return replace(probed, latency_ms=max(probed.latency_ms, took))

    async def _asked(self, settings: Settings, config: ProviderConfig, key: Secret) -> Probed:
        name, patience = config.provider, settings.probe_timeout
        try:
            async with asyncio.timeout(patience):
                return await _Look(self._way_out(settings), config, key).probed()
        except Settled as settled:
            return settled.probed
        except (TimeoutError, UpstreamTimeout):
            message = f"{name} did not answer in {patience:g} s"
            return Probed(outcome="timeout", message=message, latency_ms=round(patience * 1000))
        except TlsFailed as error:
            message = f"no TLS connection to be trusted: {error.message}"
            return Probed(outcome="tls", message=message)
        except UpstreamError as error:
            broken = error.code == "upstream_incomplete"
            return Probed(outcome="bad_answer" if broken else "unreachable", message=error.message)

    def _way_out(self, settings: Settings) -> Engine:
        from gateway.upstream.engine import HttpEngine
        from gateway.upstream.seam import Timeouts

        if self._engine is None:
            patience, overrides = settings.probe_timeout, settings.provider_base_urls
            policy = AddressPolicy.of(settings.allowed_upstream_cidrs, overrides)
            self._engine = HttpEngine(policy, Timeouts(patience, patience, patience))
        return self._engine


async def keep(desk: Desk, config_id: str, version: int, probed: Probed) -> None:
    """Remember what was seen of a key; what proves nothing undoes no proof of the same key."""
    if probed.outcome == "unsent":
        return
    async with desk.store.note() as conn:
        known = await proofs.find(conn, config_id)
        same = known is not None and known.secret_version == version
        if probed.outcome in _DECIDED or not (same and known and known.outcome in _DECIDED):
            await proofs.put(conn, config_id, Proof(version, probed.outcome, desk.clock()))


def _offered(target: Offered) -> Secret:
    if target.auth_type == "none":
        return Secret(b"")
    if target.key is None:
        raise LookupError(f"this config of {target.provider} has no key")
    return resolved(target.key) if isinstance(target.key, str) else target.key


def _opened(desk: Desk, config: ProviderConfig) -> Secret:
    """The stored key. Raises LookupError, in words for people, when there is none to be had."""
    if config.auth_type == "none":
        return Secret(b"")
    try:
        if config.sealed is not None:
            return desk.ring.open(config.sealed, config_binding(config))
    except SealBroken:
        raise LookupError("the stored key cannot be opened: its row was changed") from None
    if config.reference is None:
        raise LookupError(f"this config of {config.provider} has no key")
    return resolved(config.reference)


@dataclass(frozen=True, slots=True)
class _Heard:
    status: int
    body: bytes


class _Look:
    """One probe on its way, from the first request to the last page."""

    def __init__(self, engine: Engine, config: ProviderConfig, key: Secret) -> None:
        self._engine = engine
        self._config = config
        self._key = key
        self._echo = Echo(_parts(config, key))
        self._left = LARGEST

    async def probed(self) -> Probed:
        """Raises Settled, UpstreamError and its kin, TimeoutError."""
        name, keyed = self._config.provider, self._config.auth_type != "none"
        if not self._config.base_url:
            raise Settled("unsent", f"nothing says where {name} is")
        way = listing.listing_of(self._config)
        if way is None:
            raise Settled("unlisted", f"{name} has no list of models; the key was not checked")
        if way.key_path:
            await self._listed(way, way.key_path, "")
        heard, ids = await self._pages(way)
        if keyed and await self._open_to_anybody(way):
            message = f"{name} shows its models to anybody; the key was not checked"
            raise Settled("unlisted", message, heard.status, *ids)
        message = f"{name} {'took the key and ' if keyed else ''}lists {len(ids)} models"
        return Probed(outcome="ok", message=message, status=heard.status, models=ids)

    async def _pages(self, way: Listing) -> tuple[_Heard, tuple[str, ...]]:
        ids: dict[str, None] = {}
        query = listing.first_query(self._config, way)
        for _ in range(MOST_PAGES):
            heard = await self._listed(way, way.path, query)
            try:
                page = listing.read_page(heard.body, way)
            except ValueError:
                message = f"{self._config.provider} answered with something else than its models"
                raise Settled("bad_answer", message, heard.status) from None
            ids |= dict.fromkeys(page.ids)
            query = page.next
            if not query or len(ids) >= MOST_MODELS:
                break
        # Off the loop: a list of long names is a lot of text.
        shown = await asyncio.to_thread(lambda: tuple(self._shown(ids)))
        return heard, shown[:MOST_MODELS]

    def _shown(self, ids: Iterable[str]) -> Iterator[str]:
        # What got the key could give it back as the name of a model.
        return (text for text in ids if not self._echo.heard_in(text))

    async def _listed(self, way: Listing, path: bytes, query: str) -> _Heard:
        """An answer that grants what was asked for; Settled for any other."""
        heard = await self._get(way, path, query, anonymous=False)
        verdict = listing.verdict(heard.status, heard.body)
        if verdict != "listed":
            raise self._refusal(verdict, heard)
        return heard

    async def _open_to_anybody(self, way: Listing) -> bool:
        """Whether the list comes without the key, too: then it says nothing of it."""
        if self._config.provider in listing.KEYED:
            return False
        query = listing.first_query(self._config, way)
        with suppress(UpstreamError, ValueError, Settled):
            heard = await self._get(way, way.path, query, anonymous=True)
            return heard.status == 200 and bool(listing.read_page(heard.body, way))
        return False

    async def _get(self, way: Listing, path: bytes, query: str, *, anonymous: bool) -> _Heard:
        from gateway.upstream.seam import Outbound

        try:
            origin, target = listing.place(self._config, path, way.instead_of)
            target += b"?" + query.encode("ascii") if query else b""
            headers = _headers(self._config, None if anonymous else self._key, origin, target)
        except (Malformed, Unavailable, ValueError) as error:
            raise Settled("unsent", str(error)) from None
        answer = await self._engine.send(Outbound("GET", origin, target, headers, None))
        try:
            return _Heard(answer.status, await self._body(answer))
        finally:
            answer.abort()

    async def _body(self, answer: Answer) -> bytes:
        """All of it, of an error the first part. Raises Settled for more than is read."""
        body, error = bytearray(), answer.status >= 300
        while piece := await answer.read():
            body += piece
            if error and len(body) > listing.ERROR_BYTES:
                break
            if len(body) > self._left:
                message = f"{self._config.provider} answered with more than {LARGEST >> 20} MiB"
                raise Settled("bad_answer", message, answer.status)
        self._left -= len(body)
        return bytes(body)

    def _refusal(self, verdict: listing.Verdict, heard: _Heard) -> Settled:
        name, status = self._config.provider, heard.status
        words = _quoted(heard.body, self._echo)
        match verdict:
            case "refused":
                what = "wants a key" if self._config.auth_type == "none" else "refused the key"
                return Settled("key_refused", f"{name} {what} (status {status}){words}", status)
            case "barred":
                message = f"{name} knows the key, which may not list models: not checked further"
                return Settled("unlisted", message, status)
            case "rate_limited":
                message = f"{name} has had too many requests (status 429); the key was not checked"
                return Settled("rate_limited", message, status)
            case "absent" if name not in listing.KEYED:
                message = f"{name} has no list of models there (status {status}): nothing checked"
                return Settled("unlisted", message, status)
        if 300 <= status < 400:
            words = ", a redirect, which is not followed"
        return Settled("bad_answer", f"{name} answered with status {status}{words}", status)


def _headers(config: ProviderConfig, key: Secret | None, origin: str, target: bytes) -> Headers:
    """As on the data plane; without a key what anybody would send.

    Raises ValueError, Unavailable where there is nothing to sign with.
    """
    dialect, signed = DIALECTS[config.dialect], config.auth_type == "aws_sigv4"
    keys = [] if key is None or signed else dialect.authorize(config, key.expose())
    own = config.settings.get("headers")
    pairs = own.items() if isinstance(own, dict) else ()
    added = [(name.encode(), value.encode()) for name, value in pairs if settable(name.encode())]
    ours, taken = [*_SENT, *dialect.defaults(config)], {name for name, _ in added}
    sent = [pair for pair in ours if pair[0] not in taken]
    sent += [pair for pair in added if pair[0] not in {name for name, _ in keys}] + keys
    if key is not None and signed:
        region = region_of(config.base_url, config.settings)
        if region is None:
            raise ValueError(f"this config of {config.provider} has no region to sign for")
        url = origin + target.decode("ascii")
        sent += sign(read_keys(key.expose()), region, "GET", url, sent, None)
    return sent


def _parts(config: ProviderConfig, key: Secret) -> list[str]:
    """What must not come back of a key, without its vendor's prefix."""
    whole = key.expose()
    texts: list[str | None] = [whole.decode("latin-1")]
    if config.auth_type == "aws_sigv4":
        with suppress(ValueError):
            keys = read_keys(whole)
            texts = [keys.access_key, keys.secret_key, keys.token]
    return [_bare(text) for text in texts if text]


def _bare(key: str) -> str:
    return key.removeprefix(next((known for known in PREFIXES if key.startswith(known)), ""))


def _quoted(body: bytes, echo: Echo) -> str:
    """`: ` and the provider's own sentence; "" where there is none, or it tells of the key."""
    text = " ".join(listing.said(body)[: 4 * _LONGEST_QUOTE].split())
    if not text.isprintable() or not text or echo.heard_in(text):
        return ""
    return ": " + mask(text.encode()).decode("utf-8", "replace")[:_LONGEST_QUOTE]
