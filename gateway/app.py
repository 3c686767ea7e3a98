"""The ASGI app of a worker: health, the corridor, and the one place where anything is caught.

`build` puts the furniture up; requests walk in receive.py. Called by worker.py and the tests.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from itertools import count
from time import perf_counter

from gateway import __version__, logs, metrics
from gateway.addresses import AddressPolicy
from gateway.catalog import Catalog
from gateway.client.asgi import AsgiScope, Receive, Send
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.health import Report, fold, samples
from gateway.limit import Limiter
from gateway.receive import Furniture, receive
from gateway.refuse import refuse
from gateway.settings import Settings
from gateway.snapshot import Snapshot
from gateway.upstream.engine import HttpEngine
from gateway.upstream.seam import Engine, Timeouts
from gateway.vault import KeyRing

_HEALTH = {b"/livez", b"/readyz"}


class Gateway:
    """The app, and what its worker may do with it: swap the snapshot, ask which keys were used."""

    def __init__(self, house: Furniture) -> None:
        self._house = house
        self._draining = False
        self._inflight = 0
        self._ids = count(1)
        # Unique, not secret: a prefix of this process and a number cost no system call a request.
        self._prefix = "req_" + secrets.token_hex(8)

    def swap(self, snapshot: Snapshot) -> None:
        """Serve from `snapshot` from the next request on; running ones keep theirs."""
        self._house.snapshot = snapshot
        metrics.snapshot_revision.set(snapshot.revision)
        self._tell_gauges()

    def swap_catalog(self, catalog: Catalog) -> None:
        """The same for the catalog; where requests go stands in the snapshot."""
        self._house.catalog = catalog
        self._tell_gauges()

    def _tell_gauges(self) -> None:
        now = self._house.clock()
        metrics.inflight.set(self._inflight)
        metrics.snapshot_age.set(max(0.0, now - self._house.snapshot.compiled_at))
        metrics.catalog_age.set(max(0.0, now - self._house.catalog.age_date))

    def take_used(self) -> dict[str, float]:
        """Client key id -> last use (Unix seconds), since the last call about a second ago."""
        self._tell_gauges()
        metrics.write_out()
        used, self._house.used = self._house.used, {}
        return used

    def take_health(self) -> Report:
        """How attempts at providers ended, since the last call about a second ago."""
        seen = self._house.seen
        report = fold(seen, self._house.clock())
        seen.clear()
        return report

    async def __call__(self, scope: AsgiScope, take: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(take, send)
        elif scope["raw_path"] in _HEALTH:
            await self._answer_health(scope, send)
        else:
            await self._serve(scope, take, send)

    async def _serve(self, scope: AsgiScope, take: Receive, send: Send) -> None:
        exchange = Exchange(
            f"{self._prefix}{next(self._ids):08x}",
            scope["method"],
            scope["raw_path"],
            scope["headers"],
            perf_counter(),
        )
        self._inflight += 1
        try:
            await receive(self._house, exchange, scope, take, send)
        except Exception as error:  # the boundary: a defect of ours, said so
            self._house.log.error("defect", id=exchange.id, exc_info=error)
            sorry = GatewayError("a defect in Wardgate, see its log", code="internal_error")
            await refuse(sorry, exchange, send, [])
        finally:
            self._inflight -= 1

    async def _answer_health(self, scope: AsgiScope, send: Send) -> None:
        ready = scope["raw_path"] == b"/livez" or not self._draining
        body = b"ok" if ready else b"draining"
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        status = 200 if ready else 503
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _lifespan(self, take: Receive, send: Send) -> None:
        await take()
        await send({"type": "lifespan.startup.complete"})
        await take()
        self._draining = True
        await self._house.engine.aclose()
        await self._house.limiter.aclose()
        metrics.write_out()
        logs.flush()
        await send({"type": "lifespan.shutdown.complete"})


def build(
    settings: Settings,
    ring: KeyRing,
    catalog: Catalog,
    snapshot: Snapshot,
    *,
    engine: Engine | None = None,
    clock: Callable[[], float] = time.time,
    share: tuple[int, int] = (0, 1),
) -> Gateway:
    """The app of one worker; `share` = (index, count) of the workers that split limits."""
    policy = AddressPolicy.of(settings.allowed_upstream_cidrs, settings.provider_base_urls)
    timeouts = Timeouts(
        settings.connect_timeout, settings.first_byte_timeout, settings.idle_timeout
    )
    house = Furniture(
        settings=settings,
        ring=ring,
        catalog=catalog,
        snapshot=snapshot,
        limiter=Limiter(clock, share, settings.redis_url),
        engine=engine or HttpEngine(policy, timeouts),
        log=logs.request_logger(),
        clock=clock,
        used={},
        seen=samples(),
    )
    metrics.build_info.labels(__version__).set(1)
    gateway = Gateway(house)
    gateway.swap(snapshot)
    return gateway
