"""Ids of stored things: UUIDv7, so that they sort by the time they were made.

Pure but for the random bits. Every spelling of an id that a surface shows is read here.
"""

from __future__ import annotations

import itertools
import re
import secrets
from uuid import UUID

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ALIKE = str.maketrans("ILO", "110")  # what Crockford reads as another character
_GUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.A | re.I)
_PROV = re.compile(r"prov_([0-7][0-9a-hjkmnp-tv-zilo]{25})", re.ASCII | re.IGNORECASE)
_sequence = itertools.count()


def new_id(now: float) -> str:
    """A new UUIDv7 (RFC 9562) as a lower-case GUID; `now` is Unix seconds.

    Below the milliseconds stand their fraction (12 bits), then a counter (14 bits, so that ids
    made at one instant keep their order), then 48 random bits.
    """
    milliseconds, fraction = divmod(int(now * 4_096_000), 4096)
    number = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 7 << 76 | fraction << 64 | 2 << 62
    number |= (next(_sequence) & 0x3FFF) << 48 | secrets.randbits(48)
    return str(UUID(int=number))


def as_prov(config_id: str) -> str:
    """The other spelling of a GUID: `prov_` and its 128 bits in Crockford's base32."""
    number, digits = UUID(config_id).int, []
    for _ in range(26):
        number, rest = divmod(number, 32)
        digits.append(_CROCKFORD[rest])
    return "prov_" + "".join(reversed(digits))


def read_id(text: str) -> str | None:
    """The lower-case GUID behind any spelling (GUID with or without dashes, `prov_…`), or None."""
    if _GUID.fullmatch(text):
        return str(UUID(text))
    found = _PROV.fullmatch(text)
    if found is None:
        return None
    number = 0
    for character in found[1].upper().translate(_ALIKE):
        number = number * 32 + _CROCKFORD.index(character)
    return str(UUID(int=number))
