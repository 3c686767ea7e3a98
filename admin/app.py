"""The admin app: every operation of the registry on its paths, health, metrics, and the boundary.

Handlers stand in api/, rules in configure/. What no layer foresaw ends here as a 5xx without
details. Built by the command line; the desk it is handed stays its maker's to close.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin import mcp
from admin.api.credentials import identify
from admin.api.faults import Fault
from admin.api.operations import Operation, Surface, answer, authorize
from admin.api.problems import OURS
from admin.configure.desk import Desk
from admin.oidc import Identities
from admin.permit import Actor
from admin.probe import Prober
from admin.registry import SURFACES, served, surface_of
from admin.viewer import pages
from gateway.errors import WardgateError
from gateway.metrics import CONTENT_TYPE
from gateway.store.compile import revision

Endpoint = Callable[[Request], Awaitable[Response]]

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


def build(
    desk: Desk,
    *,
    metrics: Callable[[], bytes],
    prober: Prober | None = None,
    identities: Identities | None = None,
) -> Starlette:
    """The ASGI app. `metrics` gives the Prometheus text of all processes; it may block.

    `prober` tests providers' keys, `identities` reads an identity provider's tokens; the app closes
    both when it shuts down.
    """
    asking = prober or Prober()
    tools = _tools(desk)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with tools.running():
            yield
        await asking.aclose()
        if identities is not None:
            await identities.aclose()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            *_health(desk),
            _metrics(desk, metrics),
            *pages.routes(),
            *(Route(path, tools) for path in (mcp.PATH, f"{mcp.PATH}/")),
            *_operations(desk),
        ],
        exception_handlers={HTTPException: _no_route},
        middleware=[Middleware(Boundary, desk=desk)],
    )
    # A redirect would send a client's body, key and all, twice.
    app.router.redirect_slashes = False
    app.state.prober = asking
    app.state.identities = identities
    return app


def _tools(desk: Desk) -> mcp.Tools:
    """The operations that are MCP tools, too, answered as their routes answer them."""
    rows = [(surface, row) for surface, rows in SURFACES for row in rows if row.tool]
    surfaces = {row.name: surface for surface, row in rows}

    async def serve(row: Operation, request: Request) -> Response:
        try:
            return await answer(row, surfaces[row.name], desk, request)
        except Exception as error:  # noqa: BLE001 # the SDK would log and answer what it says
            _log.error("request failed", path=mcp.PATH, tool=row.tool, error=type(error).__name__)
            return await _apology(desk, surfaces[row.name], request)

    async def caller(request: Request) -> Actor:
        return await identify(request, desk, OURS.credentials)

    hosts = (desk.settings.admin_host, *desk.settings.admin_hosts)
    patience = desk.settings.body_timeout
    return mcp.Tools([row for _, row in rows], serve, caller, hosts, patience=patience)


def _operations(desk: Desk) -> list[Route]:
    by_path: dict[str, tuple[Surface, list[Operation]]] = {}
    for surface, rows in SURFACES:
        for row in rows:
            for path in served(surface, row):
                by_path.setdefault(path, (surface, []))[1].append(row)
    # In order a word of a path comes before a parameter in its place.
    return [
        Route(path, _endpoint(rows, surface, desk), methods=[row.method for row in rows])
        for path, (surface, rows) in sorted(by_path.items(), key=lambda item: item[0])
    ]


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
    return surface_of(request.url.path).render(
        Fault(error.status_code, error.detail, headers=headers), request
    )


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
                request = Request(scope)
                response = await _apology(self.desk, surface_of(scope["path"]), request)
                await response(scope, receive, dressed)


async def _apology(desk: Desk, surface: Surface, request: Request) -> Response:
    if await _reachable(desk):
        broken = Fault(500, "the request could not be completed")
    else:
        broken = Fault(503, "the store cannot be reached")
    return surface.render(broken, request)
