"""/openapi.json and /docs: open to everybody, since they say nothing that the source does not.

The page and its parts are files beside this one and load nothing from elsewhere. No desk here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from admin.openapi import document
from admin.registry import SURFACES

PARTS = {
    "page.css": "text/css",
    "page.mjs": "text/javascript",
    "request.mjs": "text/javascript",
    "sample.mjs": "text/javascript",
}
# No inline script, no inline style, nothing from another origin, and requests go here only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def routes() -> list[Route]:
    return [
        Route("/openapi.json", _openapi),
        Route("/docs", _page),
        *(Route(f"/docs/{name}", _part(name)) for name in PARTS),
    ]


async def _openapi(_: Request) -> Response:
    return Response(_document(), media_type="application/json")


@cache
def _document() -> bytes:
    return json.dumps(document(SURFACES), ensure_ascii=False).encode()


async def _page(_: Request) -> Response:
    return _file("page.html", "text/html")


def _part(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_: Request) -> Response:
        return _file(name, PARTS[name])

    return serve


def _file(name: str, media_type: str) -> Response:
    headers = {"content-security-policy": POLICY}
    return Response(_read(name), headers=headers, media_type=media_type)


@cache
def _read(name: str) -> bytes:
    return files("admin.viewer").joinpath(name).read_bytes()
