"""ETag and If-Match: a strong tag of what is shown, compared inside the desk's transaction.

Every surface answers single objects with `tagged` and hands `guard` to the desk. No desk call here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.configure.orders import ConfigView
from admin.configure.refusals import Refusal

T = TypeVar("T")


def tag(shown: BaseModel | dict[str, Any]) -> str:
    """The entity tag of an object as it is shown."""
    return f'"{hashlib.sha256(_bytes(shown)).hexdigest()[:20]}"'


def revised(view: ConfigView) -> dict[str, Any]:
    """What the tag is made of where more is shown than what is stored (health, status)."""
    return {"id": view.id, "revision": view.revision}


def tagged(
    shown: BaseModel | dict[str, Any],
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    of: dict[str, Any] | None = None,
) -> Response:
    """The object as JSON, with its tag; `of`: what the tag is made of, if not all that is shown."""
    sent = {"etag": tag(shown if of is None else of), **(headers or {})}
    return Response(_bytes(shown), status, sent, "application/json")


def guard(request: Request, show: Callable[[T], BaseModel | dict[str, Any]]) -> Callable[[T], None]:
    """What the desk calls with the present state: raises Refusal stale where If-Match disagrees."""
    wanted = request.headers.get("if-match")

    def check(view: T) -> None:
        if wanted is None or wanted.strip() == "*":
            return
        named = {part.strip() for part in wanted.split(",")}
        if tag(show(view)) not in named:
            raise Refusal("stale", "it has changed since; read it again (If-Match)")

    return check


def _bytes(shown: BaseModel | dict[str, Any]) -> bytes:
    if isinstance(shown, BaseModel):
        return shown.model_dump_json(by_alias=True).encode()
    return bytes(JSONResponse(shown).body)
