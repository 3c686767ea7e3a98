"""Step: a request that ends here gets its answer in the caller's own dialect.

Facts come from the error, the shape from the dialect. Never sends once an answer has begun.
Called by receive.py.
"""

from __future__ import annotations

import math

from gateway.client.back import wire
from gateway.client.turn import Turn
from gateway.dialects.table import DIALECTS
from gateway.errors import ClientGone, GatewayError, LimitFacts, UpstreamError
from gateway.exchange import Exchange, Outcome
from gateway.shapes import Headers

# The rest of such a request is not worth reading, or cannot be told apart from the next one.
_CLOSING = frozenset({400, 408, 413, 431})
_FINAL = frozenset({"upstream_redirect", "upstream_denied", "secret_unavailable"})


async def refuse(error: GatewayError, exchange: Exchange, turn: Turn, notes: Headers) -> None:
    """Send `error` and note it; for a client that has left it is only noted."""
    exchange.code, exchange.outcome = error.code, _outcome(error)
    exchange.policy = error.limit.policy if error.limit else None
    if exchange.answering:
        return
    exchange.status = error.status
    if isinstance(error, ClientGone):
        return
    exchange.answering = True
    rendered = DIALECTS[exchange.caller].render(error, exchange.id)
    headers = [*rendered.headers, *notes, *retry_headers(error)]
    headers.append((b"content-length", b"%d" % len(rendered.body)))
    if error.status in _CLOSING:
        turn.keep_alive = False
    turn.start(rendered.status, wire(headers), counted=True)
    await turn.write(rendered.body, more=False)


def retry_headers(error: GatewayError) -> Headers:
    """What SDKs and proxies read to decide whether and when to come back."""
    worth = error.status in (429, 502, 503, 504) and error.code not in _FINAL
    headers = [(b"x-should-retry", b"true" if worth else b"false")]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(error.retry_after * 1000))))
    return headers + (_limit_headers(error.limit) if error.limit else [])


def _limit_headers(facts: LimitFacts) -> Headers:
    """OpenAI's names, and draft-ietf-httpapi-ratelimit-headers as of its 11th revision."""
    reset = max(1, math.ceil(facts.reset_after))
    name = facts.policy.encode()
    return [
        (b"x-ratelimit-limit-requests", b"%d" % facts.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % facts.remaining),
        (b"x-ratelimit-reset-requests", b"%dms" % math.ceil(facts.reset_after * 1000)),
        (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (name, facts.limit, facts.window)),
        (b"ratelimit", b'"%s";r=%d;t=%d' % (name, facts.remaining, reset)),
    ]


def _outcome(error: GatewayError) -> Outcome:
    if isinstance(error, ClientGone):
        return "client_gone"
    return "upstream_error" if isinstance(error, UpstreamError) else "refused"
