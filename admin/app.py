"""The admin app: every operation of api/ on its path, health and metrics, and the one boundary.

Handlers stand in api/, rules in configure/. What no layer foresaw ends here as a 5xx without
details. Built by the command line; the desk it is handed stays its maker's to close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from itertools import groupby

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin.api import admin_tokens, audit, client_keys, gateways, provider_configs
from admin.api.cloudflare import CLOUDFLARE
from admin.api.faults import Fault
from admin.api.operations import Operation, Surface, answer, authorize
from admin.api.problems import OURS
from admin.configure.desk import Desk
from gateway.errors import WardgateError
from gateway.metrics import CONTENT_TYPE
from gateway.store.compile import revision

Endpoint = Callable[[Request], Awaitable[Response]]

SURFACES: tuple[tuple[Surface, tuple[Operation, ...]], ...] = (
    (CLOUDFLARE, (*gateways.OPERATIONS, *provider_configs.OPERATIONS)),
    (OURS, (*client_keys.OPERATIONS, *admin_tokens.OPERATIONS, *audit.OPERATIONS)),
)
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
_STORE_PATIENCE = 2.0
# A proxy on the same machine makes everybody look local; these say that there is one.
_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip")
_log = structlog.get_logger("wardgate.admin")


def build(desk: Desk, *, metrics: Callable[[], bytes]) -> Starlette:
    """The ASGI app. `metrics` gives the Prometheus text of all processes; it may block."""
    app = Starlette(
        routes=[*_health(desk), _metrics(desk, metrics), *_operations(desk)],
        exception_handlers={HTTPException: _no_route},
        middleware=[Middleware(Boundary, desk=desk)],
    )
    # A redirect would send a client's body, key and all, twice.
    app.router.redirect_slashes = False
    return app


def _operations(desk: Desk) -> list[Route]:
    return [
        Route(mount + path, _endpoint(rows, surface, desk), methods=[row.method for row in rows])
        for surface, operations in SURFACES
        for path, rows in _by_path(operations)
        for mount in surface.mounts
    ]


def _by_path(operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
    ordered = sorted(operations, key=lambda row: row.path)
    return [(path, list(rows)) for path, rows in groupby(ordered, key=lambda row: row.path)]


def _endpoint(rows: Sequence[Operation], surface: Surface, desk: Desk) -> Endpoint:
    by_method = {row.method: row for row in rows}

    async def serve(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await answer(by_method[method], surface, desk, request)

    return serve


def _health(desk: Desk) -> list[Route]:
    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        if await _reachable(desk):
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "the store cannot be reached"}, 503)

    return [Route("/livez", livez), Route("/readyz", readyz)]


def _metrics(desk: Desk, metrics: Callable[[], bytes]) -> Route:
    async def serve(request: Request) -> Response:
        try:
            if not (desk.settings.metrics_open or _local(request)):
                await authorize(request, desk, OURS, "metrics.read")
        except WardgateError as error:
            return OURS.refuse(error, request)
        # Reading every worker's file takes a while; nobody else should wait for it.
        return Response(await asyncio.to_thread(metrics), media_type=CONTENT_TYPE)

    return Route("/metrics", serve)


def _local(request: Request) -> bool:
    """Whether the request comes from this machine, through no proxy that says so."""
    if request.client is None or any(name in request.headers for name in _PROXIED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def _reachable(desk: Desk) -> bool:
    try:
        async with asyncio.timeout(_STORE_PATIENCE):
            await revision(desk.store)
    except Exception:  # noqa: BLE001 # whatever the database driver calls it, the store is away
        return False
    return True


async def _no_route(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the shape of the surface the path looks like."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    return _surface(request.url.path).render(
        Fault(error.status_code, error.detail, headers=headers), request
    )


def _surface(path: str) -> Surface:
    return next(s for s, _ in SURFACES if path.startswith(s.roots))


class Boundary:
    """The outermost layer: headers every answer carries, and what to say when nobody else can."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self.app = app
        self.desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def dressed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, dressed)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 # the app boundary
            # Its type only: a driver's message may quote what was being written.
            _log.error("request failed", path=scope["path"], error=type(error).__name__)
            if not started:
                response = await self._apology(Request(scope))
                await response(scope, receive, dressed)

    async def _apology(self, request: Request) -> Response:
        if await _reachable(self.desk):
            broken = Fault(500, "the request could not be completed")
        else:
            broken = Fault(503, "the store cannot be reached")
        return _surface(request.url.path).render(broken, request)
