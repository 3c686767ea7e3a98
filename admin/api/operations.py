"""One row per operation, what a surface is, and how a row is answered.

Routes, the OpenAPI document, the permission matrix, MCP tools and docs come from rows. The order
never varies: who is calling (401), may he do this anywhere (403), then the handler, whose refusals
leave in its surface's shape. No handler renders a refusal itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from admin import permit
from admin.api import bodies
from admin.api.bodies import BadRequest, Problem
from admin.api.credentials import identify
from admin.api.faults import Fault, fault
from admin.configure.desk import Desk
from admin.permit import Action, Actor
from admin.probe import Prober
from gateway.errors import Forbidden, NotFound, WardgateError

SCOPE_HEADER = "wardgate-scope"
_LONGEST_ID = 200
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request on its way through a handler."""

    request: Request
    desk: Desk
    actor: Actor
    action: Action

    @property
    def prober(self) -> Prober:
        """What tests providers' keys; the app's (admin/app.py)."""
        return cast(Prober, self.request.app.state.prober)

    def part(self, name: str, longest: int = _LONGEST_ID) -> str:
        """A named segment of the path, decoded. Raises NotFound for what no id can hold."""
        text = str(self.request.path_params[name])
        if not text.isprintable() or len(text) > longest:
            raise NotFound("Not Found")
        return text

    def may(self, scope: str) -> bool:
        return permit.allows(self.actor, self.action, scope)

    def insist(self, scope: str) -> None:
        """Raises NotFound where the caller may not act: as if nothing were there."""
        if not self.may(scope):
            raise NotFound("Not Found")

    def named_scope(self) -> str | None:
        """What the header Wardgate-Scope says, if anything. Raises BadRequest for no scope."""
        said = self.request.headers.get(SCOPE_HEADER)
        if said is not None and not (said.isprintable() and len(said) <= _LONGEST_ID):
            raise BadRequest(Problem(("header", SCOPE_HEADER), "names no scope"))
        return said

    def agree(self, scope: str) -> None:
        """Raises BadRequest when the header Wardgate-Scope names another scope than `scope`."""
        said = self.named_scope()
        if said is not None and said != scope:
            message = f"Wardgate-Scope says {said}, the request itself {scope}"
            raise BadRequest(Problem(("header", SCOPE_HEADER), message))

    async def body(self, model: type[T]) -> T:
        """The JSON body, checked. Raises BadRequest, TooLarge, SlowClient."""
        patience = self.desk.settings.body_timeout
        return await bodies.read(self.request, model, patience=patience)

    def query(self, model: type[T]) -> T:
        return bodies.query(self.request, model)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Header:
    """A request header that operations read: all of the surface's, or those of `methods`."""

    name: str
    about: str
    methods: tuple[str, ...] = ()
    pattern: str | None = None


SCOPE = Header("Wardgate-Scope", "The scope meant; 400 where the request itself names another.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """A wire shape: which paths are its own, which headers carry a token, how it says no.

    `name` is its tag in the OpenAPI document and `about` what stands there and in the docs.
    `mounts` are put before every row's path, the one that is documented first; `roots` begin the
    paths whose 404 and 405 it renders; `statuses` is its status per kind of desk refusal, where
    that is not 400; `place` says where in a request the desk's name of a field stands. `error`
    and `media_type` are the shape of what `render` makes, `invalid` the statuses of a request
    that will not do. With `either_slash` a path is served with and without the slash at its end.
    """

    name: str
    about: str
    mounts: tuple[str, ...]
    roots: tuple[str, ...]
    credentials: tuple[str, ...]
    statuses: Mapping[str, int]
    place: Callable[[str], tuple[str, ...]]
    render: Callable[[Fault, Request], Response]
    error: type[BaseModel]
    media_type: str = "application/json"
    invalid: tuple[int, ...] = (400,)
    headers: tuple[Header, ...] = (SCOPE,)
    either_slash: bool = False

    def refuse(self, error: WardgateError, request: Request) -> Response:
        return self.render(fault(error, self.statuses, self.place), request)


@dataclass(frozen=True, slots=True)
class Operation:
    """One row: what a method on a path (Starlette's notation, without the mount) needs and does."""

    method: str
    path: str
    action: Action
    handler: Handler
    # What the OpenAPI document and the reference pages say of it.
    name: str  # operationId, camelCase: createConnection
    summary: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answers: Mapping[int, object] = field(default_factory=dict)  # status -> type; None: no body
    refusals: tuple[int, ...] = ()  # besides 400 (with a body or query), 401, 403, 404 (with an id)
    tool: str | None = None  # the MCP tool that does the same
    mounts: tuple[str, ...] | None = None  # instead of the surface's


async def answer(row: Operation, surface: Surface, desk: Desk, request: Request) -> Response:
    """Serve one request of a row; every refusal leaves in the surface's shape."""
    try:
        actor = await authorize(request, desk, surface, row.action)
        return await row.handler(Call(request, desk, actor, row.action))
    except WardgateError as error:
        return surface.refuse(error, request)


async def authorize(request: Request, desk: Desk, surface: Surface, action: Action) -> Actor:
    """The caller, who holds `action` somewhere. Raises Unauthorized, Forbidden."""
    actor = await identify(request, desk, surface.credentials)
    if not permit.holds_anywhere(actor, action):
        raise Forbidden(f"this token does not hold {action}")
    return actor
