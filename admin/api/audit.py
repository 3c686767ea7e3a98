"""/api/v1/audit: who changed what, when; newest first, and whether the chain still verifies.

For superadmins. Rows are written by the desk, with every change; nothing is written here.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from admin.api.bodies import MOST, Query
from admin.api.operations import Call, Operation
from admin.api.pages import Named, Paged
from admin.api.times import timestamp
from admin.configure import audit
from admin.configure.audit import AuditRow
from gateway.shapes import GLOBAL


class Window(Query):
    """`before`: only rows older than the one with this id; a page's `next`."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Annotated[int, Field(ge=1, le=MOST)] | None = None


class AuditActor(Named):
    id: str
    name: str


class AuditEntry(Named):
    """Who did what to what; `change` never holds key material."""

    id: int
    at: str
    actor: AuditActor
    action: str
    target: str
    change: dict[str, Any]


class AuditPage(Paged[AuditEntry]):
    """`next` goes into `before`; `chainValid` is false once anybody edited a row."""

    chain_valid: bool


async def page(call: Call) -> Response:
    asked = call.query(Window)
    call.agree(GLOBAL)
    # One more than asked for tells whether there is another page.
    rows, valid = await audit.page(call.desk, asked.limit + 1, asked.before)
    more = len(rows) > asked.limit
    rows = rows[: asked.limit]
    shown = AuditPage(
        data=[_shown(row) for row in rows],
        has_more=more,
        next=str(rows[-1].id) if more else None,
        chain_valid=valid,
    )
    return Response(shown.model_dump_json(), media_type="application/json")


def _shown(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=timestamp(row.at),
        actor=AuditActor(id=row.actor_id, name=row.actor_name),
        action=row.action,
        target=row.target,
        change=dict(row.change),
    )


OPERATIONS = (
    Operation(
        "GET",
        "/audit",
        "audit.read",
        page,
        name="listAudit",
        summary="Every change, newest first, and whether the chain of rows still verifies",
        query=Window,
        answers={200: AuditPage},
    ),
)
