"""Lists of ours: which scopes one speaks of, and a page of it with the cursor of the next.

Used by every list under /api/v1 that is paged by `limit` and `after`. No desk call here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from admin import permit
from admin.api.bodies import Shown
from admin.api.operations import Call
from admin.api.problems import Page

T = TypeVar("T", bound=Shown)


def absent() -> None:
    """The default of a field of PATCH that null clears: one that documents show is sent by clients
    that fill in defaults, and would clear what nobody named."""


class Named(Shown):
    """An answer in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class Paged(Named, Generic[T]):
    """One page: `next` goes into `after`, and is null on the last one."""

    data: list[T]
    has_more: bool
    next: str | None


def many(kind: type[Paged[T]], shown: Sequence[T], page: Page, total: int) -> Response:
    seen = page.offset + len(shown)
    more = bool(shown) and seen < total
    listed = kind(data=list(shown), has_more=more, next=str(seen) if more else None)
    return Response(listed.model_dump_json(), media_type="application/json")


def covered(call: Call, page: Page) -> frozenset[str] | None:
    """The scopes a list speaks of: all the caller may read, or of them the one that is named.

    None stands for every scope. Raises BadRequest where query and header name different ones.
    """
    scope = page.scope or call.named_scope()
    if scope is None:
        return permit.reach(call.actor, call.action)
    call.agree(scope)
    return frozenset((scope,)) if call.may(scope) else frozenset()
