"""Step: the models a key may use, in the caller's own list shape.

Answered from the snapshot and the catalog; nothing goes upstream. Called by receive.py.
"""

from __future__ import annotations

from gateway.catalog import Catalog
from gateway.client.back import wire
from gateway.client.turn import Turn
from gateway.dialects.table import DIALECTS, ModelEntry
from gateway.errors import NotFound
from gateway.exchange import Exchange
from gateway.resolve import visible_models
from gateway.shapes import Client, Headers
from gateway.snapshot import Snapshot


async def enumerate_models(
    snapshot: Snapshot,
    catalog: Catalog,
    client: Client,
    exchange: Exchange,
    turn: Turn,
    *,
    now: float,
    notes: Headers,
) -> None:
    """Send the list, or the one model the path names. Raises NotFound for a model not listed."""
    assert exchange.match is not None
    dialect, wanted = DIALECTS[exchange.caller], exchange.match.model
    created = int(snapshot.compiled_at)
    entries = [
        ModelEntry(name, owner, created)
        for name, owner in visible_models(snapshot, catalog, client, now)
        if wanted is None or name == wanted
    ]
    if wanted is not None and not entries:
        raise NotFound(
            f"model {wanted[:100]!r} is not one this key may use", code="model_not_found"
        )
    body = dialect.list_models(entries) if wanted is None else dialect.one_model(entries[0])
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *notes,
    ]
    exchange.answering, exchange.status, exchange.outcome = True, 200, "ok"
    turn.start(200, wire(headers), counted=True)
    await turn.write(body, more=False)
