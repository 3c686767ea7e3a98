"""The installation's own secrets, sealed with the key ring: canaries, hash key, audit key.

Made at the first start and proved at every other: a ring that does not open them is not this
database's. No provider key is opened here. Called when the desk opens, and by compile.py.
"""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import delete, insert, select

from gateway.errors import SealBroken, StartRefused
from gateway.shapes import Secret
from gateway.store import audit, configs
from gateway.store.engine import Connection, Store
from gateway.store.tables import sealed
from gateway.vault import KEY_BYTES, KeyRing, sealed_with

HASH_KEY = "token hash"
AUDIT_KEY = "audit chain"
_CONSTANTS = (HASH_KEY, AUDIT_KEY)
# Beside them while `wardgate store copy` fills this database: until it is gone nobody may start.
UNFINISHED = "unfinished copy"
_CANARY = b"wardgate canary"
_RESTORE = (
    "start with the master key this database was made with (WARDGATE_KEK_FILE, WARDGATE_KEKS or "
    "`kek` in the data folder; see docs/security.md)"
)


async def unlock(store: Store, ring: KeyRing, *, may_make: bool = True) -> dict[str, Secret]:
    """The constants by name, made when missing. Raises StartRefused for another database's ring.

    Who may not make anything goes without the canary of a key that is new: somebody else makes it.
    """
    async with store.read() as conn:
        rows = await _rows(conn)
    if UNFINISHED in rows:
        raise StartRefused(
            "this database is an unfinished copy: run `wardgate store copy` again, to its end"
        )
    names = _names(ring)
    if not may_make and rows.keys() >= {*_CONSTANTS}:
        names &= rows.keys()
    if not names <= rows.keys():
        if not may_make:
            raise StartRefused("this database was never used: start the admin app once")
        async with store.write(None) as conn:
            rows = await _rows(conn)
            rows |= await _make(conn, ring, rows)
    try:
        opened = {name: ring.open(rows[name], _bound(name)) for name in names}
        async with store.read() as conn:
            await _check_secrets(conn, ring)
    except SealBroken as error:
        raise StartRefused(
            f"the master key does not open this database ({error}); {_RESTORE}"
        ) from None
    return {name: opened[name] for name in _CONSTANTS}


async def constant(conn: Connection, ring: KeyRing, name: str) -> Secret:
    """One constant. Raises SealBroken when the ring does not open it, or it was never made, or
    the database is an unfinished copy.
    """
    wanted = select(sealed).where(sealed.c.name.in_((name, UNFINISHED)))
    rows = {row.name: bytes(row.value) for row in await conn.execute(wanted)}
    if UNFINISHED in rows:
        raise SealBroken("this database is an unfinished copy")
    if name not in rows:
        raise SealBroken(f"this database has no {name} key yet: start the admin app once")
    return ring.open(rows[name], _bound(name))


async def prove(conn: Connection, ring: KeyRing) -> audit.Verdict:
    """Open the constants of a database that nobody uses yet, and follow its audit chain.

    Raises SealBroken when the ring is not this database's.
    """
    rows = await _rows(conn)
    keys = {name: ring.open(rows.get(name, b""), _bound(name)) for name in sorted(_names(ring))}
    await _check_secrets(conn, ring)
    return await audit.verify(conn, keys[AUDIT_KEY].expose(), audit.BEGINNING)


async def identity(conn: Connection) -> bytes:
    """What tells this installation's database and its copies from all others; b"" before its
    first start.
    """
    value = await conn.scalar(select(sealed.c.value).where(sealed.c.name == HASH_KEY))
    return hashlib.sha256(value).digest() if value is not None else b""


async def unfinished(conn: Connection) -> bytes | None:
    """What a copy left here when it began; None where none is under way."""
    value = await conn.scalar(select(sealed.c.value).where(sealed.c.name == UNFINISHED))
    return bytes(value) if value is not None else None


async def mark_unfinished(conn: Connection, mark: bytes | None) -> None:
    """Leave `mark` until the copy is finished; None: it is."""
    await conn.execute(delete(sealed).where(sealed.c.name == UNFINISHED))
    if mark is not None:
        await conn.execute(insert(sealed).values(name=UNFINISHED, value=mark))


async def _rows(conn: Connection) -> dict[str, bytes]:
    return {row.name: bytes(row.value) for row in await conn.execute(select(sealed))}


async def _make(conn: Connection, ring: KeyRing, known: dict[str, bytes]) -> dict[str, bytes]:
    if any(name in known for name in _CONSTANTS):
        # A ring that opens nothing here must not leave a canary that proves it the next time.
        for name in _CONSTANTS:
            _open_or_refuse(ring, name, known.get(name, b""))
    made = {}
    for name in _names(ring) - known.keys():
        made[name] = _sealed(ring, name)
        await conn.execute(insert(sealed).values(name=name, value=made[name]))
    if AUDIT_KEY in made:
        await audit.begin(conn, ring.open(made[AUDIT_KEY], _bound(AUDIT_KEY)).expose())
    return made


def _open_or_refuse(ring: KeyRing, name: str, value: bytes) -> None:
    try:
        ring.open(value, _bound(name))
    except SealBroken as error:
        raise StartRefused(
            f"the master key does not open this database ({error}); {_RESTORE}"
        ) from None


def _sealed(ring: KeyRing, name: str) -> bytes:
    if name in _CONSTANTS:
        return ring.seal(secrets.token_bytes(KEY_BYTES), _bound(name))
    one = [(kek, key) for kek, key in ring.expose() if _canary(kek) == name]
    return KeyRing(one).seal(_CANARY, _bound(name))


async def _check_secrets(conn: Connection, ring: KeyRing) -> None:
    blobs = await configs.sealed_secrets(conn)
    missing = {sealed_with(blob) for blob in blobs} - set(ring.ids)
    if missing:
        raise SealBroken(f"stored keys need master key {sorted(missing)[0]!r}")


def _names(ring: KeyRing) -> set[str]:
    return {*_CONSTANTS, *map(_canary, ring.ids)}


def _canary(kek: str) -> str:
    return f"canary {kek}"


def _bound(name: str) -> bytes:
    return b"wardgate constant 1 " + name.encode()
