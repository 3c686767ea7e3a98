"""Processes of a house that ended without being asked: a file in its metrics folder.

Written by the parent, the only one who outlives them; read by metrics.py when somebody scrapes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

_NAME = "deaths.json"
_decoder = msgspec.json.Decoder(dict[str, int])


def tell(folder: Path, deaths: Mapping[str, int]) -> None:
    """Replace what the file says: process -> how often it died."""
    draft = folder / f"{_NAME}.draft"
    draft.write_bytes(msgspec.json.encode(deaths))
    os.replace(draft, folder / _NAME)


def read(folder: str) -> dict[str, int]:
    """The same; nothing where nobody died."""
    try:
        return _decoder.decode((Path(folder) / _NAME).read_bytes())
    except FileNotFoundError:
        return {}
