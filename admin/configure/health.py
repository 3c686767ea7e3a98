"""How provider configs do: what surfaces, tools and /metrics show of it. Reads only.

The figures are everybody's: every gateway that writes to this store is in them. What they mean
and how they are judged: gateway/health.py.
"""

from __future__ import annotations

from collections.abc import Collection

from admin.configure.desk import Desk
from admin.configure.identity import read_id
from admin.configure.refusals import Refusal
from gateway.health import WINDOWS
from gateway.health import Figures as WindowView
from gateway.health import Health as HealthView
from gateway.store.health import judged

__all__ = ["WINDOW_NAMES", "HealthView", "WindowView", "every", "health"]

WINDOW_NAMES = tuple(window.name for window in WINDOWS)


async def health(desk: Desk, config_id: str) -> HealthView:
    """One config's health, by any spelling of its id. Raises Refusal: not_found."""
    known = read_id(config_id)
    found = await judged(desk.store, desk.clock(), [known]) if known is not None else {}
    if known is None or known not in found:
        raise Refusal("not_found", "no such provider config")
    return found[known].health


async def every(desk: Desk, config_ids: Collection[str] | None = None) -> dict[str, HealthView]:
    """Health by config id, in one look at the store; `config_ids` None: of every config."""
    found = await judged(desk.store, desk.clock(), config_ids)
    return {config_id: one.health for config_id, one in found.items()}
