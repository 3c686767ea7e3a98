"""The ASGI app of a worker: health, the corridor, and the one place where anything is caught.

`build` puts the furniture up; requests walk in receive.py. Called by worker.py and the tests.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from time import perf_counter, process_time
from typing import Any

from gateway import __version__, logs, metrics
from gateway.addresses import AddressPolicy
from gateway.catalog import Catalog
from gateway.client.back import wire
from gateway.client.turn import Turn
from gateway.errors import GatewayError
from gateway.exchange import Exchange, Traced
from gateway.health import Report, fold, samples
from gateway.limit import Limiter
from gateway.receive import Furniture, receive
from gateway.record import record, tracing
from gateway.refuse import refuse
from gateway.settings import Settings
from gateway.snapshot import Snapshot
from gateway.spans import Traces
from gateway.stream import Heartbeats
from gateway.upstream.engine import HttpEngine
from gateway.upstream.seam import Engine, Timeouts
from gateway.vault import KeyRing

_HEALTH = {b"/livez", b"/readyz"}
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gateway:
    """The app, and what its worker may do with it: swap the snapshot, ask which keys were used."""

    def __init__(self, house: Furniture, exchange: type[Exchange] = Exchange) -> None:
        self._house = house
        self._exchange = exchange
        self._draining = False
        self._inflight = 0
        self._cpu = 0.0  # as it was told last, in seconds
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

    def leave(self) -> None:
        """Say at `/readyz` that others should be asked from now on; whoever asks here is served."""
        self._draining = True

    def _tell_gauges(self) -> None:
        now = self._house.clock()
        metrics.workers.set(1)
        cpu, self._cpu = self._cpu, process_time()
        metrics.worker_cpu.inc(self._cpu - cpu)
        metrics.redis_away.set(self._house.limiter.redis_away)
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

    async def __call__(self, scope: Scope, take: Receive, send: Send) -> None:
        """The start and the end of the process; requests come to `serve`."""
        assert scope["type"] == "lifespan"
        await self._lifespan(take, send)

    async def serve(self, turn: Turn) -> None:
        """One request from its head to the end of its answer."""
        if turn.path in _HEALTH:
            try:
                await self._answer_health(turn)
            finally:
                turn.end()
            return
        make = self._exchange
        exchange = make(
            f"{self._prefix}{next(self._ids):08x}",
            turn.method,
            turn.path,
            turn.headers,
            perf_counter(),
        )
        self._inflight += 1
        try:
            await receive(self._house, exchange, turn)
        except Exception as error:  # the boundary: a defect of ours, said so
            self._house.log.error("defect", id=exchange.id, exc_info=error)
            sorry = GatewayError("a defect in Wardgate, see its log", code="internal_error")
            await refuse(sorry, exchange, turn, [])
        finally:
            self._inflight -= 1
            turn.end()

    async def _answer_health(self, turn: Turn) -> None:
        ready = turn.path == b"/livez" or not self._draining
        body = b"ok" if ready else b"draining"
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        turn.start(200 if ready else 503, wire(headers), counted=True)
        await turn.write(body, more=False)

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
    traces: Traces | None = None,
) -> Gateway:
    """The app of one worker; `share` = (index, count) of the workers that split limits.

    With `traces` every request becomes one; without, none pays for the question.
    """
    policy = AddressPolicy.of(settings.allowed_upstream_cidrs, settings.provider_base_urls)
    timeouts = Timeouts(
        settings.connect_timeout, settings.first_byte_timeout, settings.idle_timeout
    )
    house = Furniture(
        settings=settings,
        ring=ring,
        catalog=catalog,
        snapshot=snapshot,
        limiter=Limiter(
            clock,
            share,
            settings.redis_url,
            without=settings.redis_away,
            timeout=settings.redis_timeout,
        ),
        engine=engine or HttpEngine(policy, timeouts),
        log=logs.request_logger(),
        clock=clock,
        used={},
        seen=samples(),
        heartbeats=Heartbeats(settings.heartbeat),
        record=record if traces is None else tracing(traces),
    )
    metrics.build_info.labels(__version__).set(1)
    gateway = Gateway(house, Exchange if traces is None else Traced)
    gateway.swap(snapshot)
    return gateway
