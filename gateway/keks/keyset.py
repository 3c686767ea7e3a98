"""Master keys as text: `id:base64` a line, the first seals. Read, checked, never repeated.

An error says what is wrong with a key and nothing of the key. Pure. Used by every source of keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import string
from collections.abc import Iterable, Sequence

from gateway.errors import StartRefused
from gateway.settings import Settings
from gateway.vault import KEK_ID, KEY_BYTES

# Its id, and its bytes.
Key = tuple[str, bytes]

GENERATED = "generated-"
MAKE_ONE = "make one with `openssl rand -base64 32`"
WRONG_ID = "a key's id is 1-63 of A-Z a-z 0-9 . _ -, then a colon"


def parse(lines: Iterable[str], source: str) -> list[Key]:
    """The keys of a set, in its order. Raises StartRefused, which names `source`."""
    keys = [_parse_key(line.strip(), source) for line in lines if line.strip()]
    if not keys:
        raise StartRefused(f"{source} holds no master key; {MAKE_ONE}")
    check_ids([name for name, _ in keys], source)
    return keys


def _parse_key(line: str, source: str) -> Key:
    name, colon, text = line.rpartition(":")
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise StartRefused(f"{source} holds a master key that is not base64; {MAKE_ONE}") from None
    if len(key) != KEY_BYTES:
        raise StartRefused(f"{source}: a master key is {KEY_BYTES} bytes, this one has {len(key)}")
    if colon and not KEK_ID.fullmatch(name):
        raise StartRefused(f"{source}: {WRONG_ID}")
    return name if colon else fingerprint(key), key


def check_ids(names: Sequence[str], source: str) -> None:
    """Raises StartRefused when an id stands twice."""
    if len(set(names)) != len(names):
        raise StartRefused(f"{source} names a master key twice; give every key its own id")


def fingerprint(key: bytes) -> str:
    """The id of a key that was given none."""
    return "key-" + hashlib.sha256(b"wardgate kek id" + key).hexdigest()[:8]


def exposed(settings: Settings) -> bool:
    """True where a master key that is no secret would be a catastrophe."""
    return settings.env == "production" or not settings.loopback


def refuse_weak(keys: Sequence[Key], source: str) -> None:
    """Raises StartRefused for keys made for a laptop, and for examples."""
    if any(name.startswith(GENERATED) for name, _ in keys):
        raise StartRefused(
            f"{source} holds a master key Wardgate generated for a laptop; off loopback or in "
            "production bring your own in WARDGATE_KEK_FILE or WARDGATE_KEKS"
        )
    if any(_made_up(key) for _, key in keys):
        raise StartRefused(f"{source} holds an example or typed master key; {MAKE_ONE}")


def _made_up(key: bytes) -> bool:
    # 32 random bytes are all printable once in 10^14 and have under 16 distinct values never.
    return len(set(key)) < 16 or all(chr(byte) in string.printable for byte in key)
