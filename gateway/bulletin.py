"""What a parent says of its house to whoever shows metrics: a file in its metrics folder.

Written by the parent, the only one who outlives the others; read by metrics.py when somebody
scrapes. None stands for what does not apply, or was not found out yet.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_NAME = "bulletin.json"


class Bulletin(msgspec.Struct):
    """`deaths`: process → how often it ended without being asked."""

    deaths: dict[str, int] = {}
    # When the routing table was last known to be the store's; on the clock of time.monotonic,
    # which the processes of one machine share.
    current_at: float | None = None
    subscribed: bool | None = None
    announced: int = 0
    reports_kept: bool | None = None


_decoder = msgspec.json.Decoder(Bulletin)


def post(folder: Path, bulletin: Bulletin) -> None:
    """Replace what the file says."""
    draft = folder / f"{_NAME}.draft"
    draft.write_bytes(msgspec.json.encode(bulletin))
    os.replace(draft, folder / _NAME)


def read(folder: str) -> Bulletin:
    """The same; an empty one where nothing was said yet."""
    try:
        return _decoder.decode((Path(folder) / _NAME).read_bytes())
    except FileNotFoundError:
        return Bulletin()
