"""How every surface spells a moment: RFC 3339 in UTC, to the millisecond. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(seconds: float) -> str:
    """Unix seconds as text, e.g. `2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_timestamp(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(seconds)
