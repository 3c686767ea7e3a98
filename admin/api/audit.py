"""/api/v1/audit: who changed what, when; newest first, and whether the chain still verifies.

For superadmins. Rows are written by the desk, with every change; nothing is written here.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response

from admin.api.bodies import MOST, Query
from admin.api.operations import Call, Operation
from admin.api.times import timestamp
from admin.configure import audit
from admin.configure.audit import AuditRow
from gateway.shapes import GLOBAL


class Window(Query):
    """`before`: only rows older than the one with this id; a page's `next`."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Annotated[int, Field(ge=1, le=MOST)] | None = None


async def page(call: Call) -> Response:
    asked = call.query(Window)
    call.agree(GLOBAL)
    # One more than asked for tells whether there is another page.
    rows, valid = await audit.page(call.desk, asked.limit + 1, asked.before)
    more = len(rows) > asked.limit
    rows = rows[: asked.limit]
    return JSONResponse(
        {
            "data": [_shown(row) for row in rows],
            "hasMore": more,
            "next": str(rows[-1].id) if more else None,
            "chainValid": valid,
        }
    )


def _shown(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": timestamp(row.at),
        "actor": {"id": row.actor_id, "name": row.actor_name},
        "action": row.action,
        "target": row.target,
        "change": dict(row.change),
    }


OPERATIONS = (Operation("GET", "/audit", "audit.read", page),)
