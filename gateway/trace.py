"""Step: say how a request would be resolved, without sending it anywhere.

Same body as the real request; `?path=` names the endpoint, chat completions if it is left out.
Called by receive.py for /v1/_explain.
"""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec

from gateway import paths
from gateway.catalog import Catalog
from gateway.client.back import wire
from gateway.client.turn import Turn
from gateway.exchange import Exchange
from gateway.limit import Limiter, limit_of_gateway
from gateway.peek import peek
from gateway.resolve import Ask, explain
from gateway.shapes import Client, Headers
from gateway.snapshot import Snapshot

PATH = b"/v1/_explain"
_ASSUMED = "/v1/chat/completions"


async def trace(
    snapshot: Snapshot,
    catalog: Catalog,
    limiter: Limiter,
    client: Client,
    exchange: Exchange,
    turn: Turn,
    *,
    body: bytes,
    query: bytes,
    narrow: str | None,
    now: float,
    notes: Headers,
) -> None:
    """Send the trace as JSON. Raises as the real request would, before resolution begins."""
    wanted = parse_qs(query.decode("latin-1")).get("path", [_ASSUMED])[0]
    match = paths.match("POST", wanted.encode())
    model = match.model if match.model is not None else peek(body or b"{}").model
    told = msgspec.to_builtins(explain(snapshot, catalog, Ask(client, match, model, narrow, now)))
    config = snapshot.config(told["chosen"]["config"]) if told["chosen"] else None
    if config is not None:
        told["limits"] = await limiter.left(
            client, limit_of_gateway(snapshot, match, client), config
        )
    answer = msgspec.json.encode(told)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(answer)),
        *notes,
    ]
    exchange.answering, exchange.status, exchange.outcome = True, 200, "ok"
    turn.start(200, wire(headers), counted=True)
    await turn.write(answer, more=False)
