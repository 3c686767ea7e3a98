"""MCP at /mcp: every operation that names a tool, served by the same row, permissions and words.

The official SDK speaks the protocol (streamable HTTP, stateless), with messages that were read and
checked here: what is none is not quoted back. Tools are listed and called here; nothing here knows
the desk. Mounted by app.py, whose lifespan must hold `running()`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from urllib.parse import urlencode

import mcp_types as types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from admin import permit
from admin.api import bodies
from admin.api.operations import SCOPE_HEADER, Operation
from admin.permit import Actor
from gateway import __version__
from gateway.errors import GatewayError, Malformed, WrongMethod

PATH = "/mcp"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PASSED = ("authorization", SCOPE_HEADER)
_UNKNOWN = "unknown_tool"
_NO_JSON = "invalid_json"
_HEADERS = {401: {"www-authenticate": "Bearer"}, 405: {"allow": "POST"}}

Serve = Callable[[Operation, Request], Awaitable[Response]]
Identify = Callable[[Request], Awaitable[Actor]]


@dataclass(frozen=True, slots=True)
class _Tool:
    row: Operation
    shown: types.Tool
    path: frozenset[str]
    query: frozenset[str]


class Tools:
    """The ASGI app at /mcp. `serve` answers a row and raises nothing; `identify` says who calls or
    raises 401. A message may take `patience` seconds to arrive."""

    def __init__(
        self,
        rows: Sequence[Operation],
        serve: Serve,
        identify: Identify,
        hosts: Sequence[str],
        *,
        patience: float,
    ) -> None:
        named = sorted((row for row in rows if row.tool), key=lambda row: row.tool or "")
        self._tools = {row.tool or "": _tool(row) for row in named}
        self._serve = serve
        self._identify = identify
        self._patience = patience
        server: Server[Any] = Server(
            "wardgate",
            version=__version__,
            instructions="Provider credentials of a Wardgate gateway. Keys are never shown.",
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, security_settings=_security(hosts)
        )

    def running(self) -> AbstractAsyncContextManager[None]:
        """To be held open while the app serves; once."""
        return self._manager.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            request.state.actor = await self._identify(request)
            message = await self._message(request)
        except GatewayError as error:
            await _refusal(error)(scope, receive, send)
            return
        await self._manager.handle_request(scope, _again(message, receive), send)

    async def _message(self, request: Request) -> bytes:
        """The one message of a POST. Raises WrongMethod, Malformed, TooLarge, SlowClient.

        The SDK would answer a GET with a stream on which nothing ever comes, and quote what is no
        message in its refusal, a key in it and all.
        """
        if request.method != "POST":
            raise WrongMethod("only POST: there are no sessions, and nothing is sent unasked")
        body = await bodies.raw(request, patience=self._patience)
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise Malformed("the body is not JSON", code=_NO_JSON) from None
        try:
            types.jsonrpc_message_adapter.validate_python(said, by_name=False)
        except ValidationError:
            raise Malformed("the body is not one JSON-RPC 2.0 message") from None
        return body

    async def _list(
        self, context: ServerRequestContext[Any, Request], _: object
    ) -> types.ListToolsResult:
        """What the caller may do somewhere, in alphabetical order."""
        actor = _actor(context)
        tools = [tool.shown for tool in self._tools.values() if _may(actor, tool)]
        return types.ListToolsResult(tools=tools)

    async def _call(
        self, context: ServerRequestContext[Any, Request], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None or not _may(_actor(context), tool):
            return _failed({"error": {"code": _UNKNOWN, "message": "there is no such tool"}})
        assert context.request is not None
        arguments = params.arguments or {}
        if unknown := sorted(set(arguments) - set(tool.shown.input_schema["properties"])):
            message = f"unknown argument {unknown[0][:64]!r}"
            return _failed({"error": {"code": "invalid_request", "message": message}})
        request = _request(tool, arguments, context.request)
        response = await self._serve(tool.row, request)
        body = msgspec.json.decode(bytes(response.body)) if response.body else {"deleted": True}
        return _failed(body) if response.status_code >= 400 else _succeeded(body)


def _again(message: bytes, receive: Receive) -> Receive:
    unread = [message]

    async def replay() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay


def _refusal(error: GatewayError) -> Response:
    """A JSON-RPC error to nobody's request in particular."""
    code = types.PARSE_ERROR if error.code == _NO_JSON else types.INVALID_REQUEST
    told = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": error.message}}
    return JSONResponse(told, error.status, _HEADERS.get(error.status))


def _actor(context: ServerRequestContext[Any, Request]) -> Actor:
    assert context.request is not None
    actor: Actor = context.request.state.actor
    return actor


def _may(actor: Actor, tool: _Tool) -> bool:
    return permit.holds_anywhere(actor, tool.row.action)


def _tool(row: Operation) -> _Tool:
    path = frozenset(part[1:-1] for part in row.path.split("/") if part.startswith("{"))
    query = _schema(row.query) if row.query is not None else {}
    body = _schema(row.body) if row.body is not None else {}
    names = {name: {"type": "string", "description": "any spelling of the id"} for name in path}
    properties = {**names, **query.get("properties", {}), **body.get("properties", {})}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": [*sorted(path), *body.get("required", [])],
        "additionalProperties": False,
    }
    if defs := {**query.get("$defs", {}), **body.get("$defs", {})}:
        schema["$defs"] = defs
    shown = types.Tool(
        name=row.tool or "",
        title=row.summary,
        description=_description(row),
        input_schema=schema,
        output_schema=_output(row),
        annotations=_annotations(row.method),
    )
    return _Tool(row, shown, path, frozenset(query.get("properties", {})))


def _description(row: Operation) -> str:
    about = row.body.__doc__ if row.body is not None else None
    return f"{row.summary}. {' '.join(about.split())}" if about else f"{row.summary}."


@cache
def _schema(
    model: Any, mode: Literal["validation", "serialization"] = "validation"
) -> dict[str, Any]:
    return TypeAdapter(model).json_schema(mode=mode)


def _output(row: Operation) -> dict[str, Any]:
    model: Any = next(iter(row.answers.values()))
    if model is None:
        gone = {"deleted": {"type": "boolean", "const": True}}
        return {"type": "object", "properties": gone, "required": ["deleted"]}
    return _schema(model, "serialization")


def _annotations(method: str) -> types.ToolAnnotations:
    reads = method == "GET"
    return types.ToolAnnotations(
        read_only_hint=reads,
        destructive_hint=method in ("PATCH", "DELETE"),
        idempotent_hint=method != "POST",
        # Keys are verified with their provider before they are stored.
        open_world_hint=method in ("POST", "PATCH"),
    )


def _request(tool: _Tool, arguments: Mapping[str, Any], outer: Request) -> Request:
    """The request that the row's own route would have got."""
    row = tool.row
    path = {name: str(arguments.get(name, "")) for name in tool.path}
    # Models fill what they leave out with null; a URL has no word for it.
    query = {n: v for n, v in arguments.items() if n in tool.query and v is not None}
    rest = {n: v for n, v in arguments.items() if n not in tool.path | tool.query}
    body = msgspec.json.encode(rest) if row.body is not None else b""
    headers = [(name, outer.headers[name]) for name in _PASSED if name in outer.headers]
    scope: Scope = {
        "type": "http",
        "method": row.method,
        "path": row.path.format_map(path),
        "query_string": urlencode(query).encode(),
        "headers": Headers(dict([*headers, ("content-type", "application/json")])).raw,
        "path_params": path,
        "client": outer.scope.get("client"),
        "app": outer.scope.get("app"),
        "server": outer.scope.get("server"),
        "scheme": outer.scope.get("scheme", "http"),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(scope, receive)


def _succeeded(body: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[_text(body)], structured_content=body)


def _failed(body: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[_text(body)], is_error=True)


def _text(body: Any) -> types.TextContent:
    return types.TextContent(type="text", text=msgspec.json.encode(body).decode())


def _security(hosts: Sequence[str]) -> TransportSecuritySettings:
    """Against pages that make a browser talk to this port: names that may stand in Host, Origin."""
    spelled = [f"[{name}]" if ":" in name and name[0] != "[" else name for name in hosts]
    allowed = [form for name in (*_LOOPBACK, *spelled) for form in (name, f"{name}:*")]
    return TransportSecuritySettings(
        allowed_hosts=allowed,
        allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in allowed],
    )
