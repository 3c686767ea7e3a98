"""Step: one request out, the head of its answer back.

A redirect is never followed: the key was stored for one origin. Knows nothing of keys and limits.
Called by receive.py.
"""

from __future__ import annotations

from gateway.errors import UpstreamError
from gateway.upstream.seam import Answer, Engine, Outbound


async def forward(engine: Engine, outbound: Outbound) -> Answer:
    """Raise UpstreamError (unreachable, denied, redirect, no final status) or UpstreamTimeout."""
    answer = await engine.send(outbound)
    if not 200 <= answer.status < 600:
        answer.abort()
        raise UpstreamError(f"the provider answered {answer.status}, which is no final status")
    if 300 <= answer.status < 400 and answer.status != 304:
        answer.abort()
        raise UpstreamError(
            f"the provider answered {answer.status}, a redirect; redirects are not followed",
            code="upstream_redirect",
        )
    return answer
