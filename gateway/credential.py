"""Wardgate's own keys: minting, reading and hashing `wg_<id>_<secret>` and `wga_<id>_<secret>`.

Only the keyed hash of a key is ever stored; nothing here stores, logs or compares anything.
Called by the desk (mint), by authenticate and by the admin app (read, digest).
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Literal, cast
from urllib.parse import unquote_to_bytes

Prefix = Literal["wg", "wga"]
ALPHABET = string.digits + string.ascii_letters
ID_LENGTH = 12
SECRET_LENGTH = 43  # 43 characters of 62 carry 256 bits
_SHAPE = re.compile(r"(wga?)_([0-9A-Za-z]{12})_[0-9A-Za-z]{43}([0-9a-f]{8})", re.ASCII)
_INSIDE = re.compile(rb"wga?_[0-9A-Za-z]{6,}_[0-9A-Za-z]{16,}")


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key. `text` is shown once and kept nowhere."""

    public_id: str
    text: str

    def __repr__(self) -> str:
        return f"Minted({self.public_id!r}, ***)"


@dataclass(frozen=True, slots=True)
class Presented:
    """A key somebody sent, whose form and checksum are right; nothing more is known yet."""

    prefix: Prefix
    public_id: str
    text: str

    def __repr__(self) -> str:
        return f"Presented({self.prefix!r}, {self.public_id!r}, ***)"


def mint(prefix: Prefix, public_id: str | None = None) -> Minted:
    """A new key of 256 random bits with a public id and a checksum against typing errors.

    `public_id` is the id of a key whose secret is changed; without it there is a new one.
    """
    public_id = public_id or _draw(ID_LENGTH)
    body = f"{prefix}_{public_id}_{_spell(secrets.randbits(256))}"
    return Minted(public_id, body + _checksum(body))


def read(text: str) -> Presented | None:
    """The parts of a key, or None when it is not ours or its checksum is wrong."""
    found = _SHAPE.fullmatch(text)
    if found is None or _checksum(text[:-8]) != found[3]:
        return None
    return Presented(cast(Prefix, found[1]), found[2], text)


def id_in(text: str) -> str:
    """Where the public id stands in a client key; its form is not checked."""
    return text[3 : 3 + ID_LENGTH]


def looks_ours(text: str) -> bool:
    """True for anything that begins like a key of ours, mistyped ones included."""
    return text[:3] == "wg_" or text[:4] == "wga_"


def stands_in(raw: bytes) -> bool:
    """True when a key of ours stands anywhere in `raw`, percent-encoded or not."""
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    return b"wg" in raw and _INSIDE.search(raw) is not None


def digest(hash_key: bytes, text: str) -> bytes:
    """What is stored of a key or token: keyed BLAKE2b, 32 bytes (RFC 7693; a MAC by itself)."""
    return Hasher(hash_key)(text)


class Hasher:
    """`digest` with one key, which is taken in once for many texts."""

    __slots__ = ("_keyed",)

    def __init__(self, hash_key: bytes) -> None:
        self._keyed = blake2b(key=hash_key, digest_size=32)

    def __call__(self, text: str) -> bytes:
        made = self._keyed.copy()
        made.update(text.encode("utf-8", "surrogatepass"))
        return made.digest()


def _draw(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _spell(number: int) -> str:
    digits = []
    for _ in range(SECRET_LENGTH):
        number, rest = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[rest])
    return "".join(digits)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def edition(digest: bytes) -> str:
    """Which secret a stored digest is of: another one after a rotation, and nothing more."""
    return sha256(b"wardgate edition 1" + digest).hexdigest()[:12]
