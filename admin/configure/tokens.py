"""Admin tokens: made once, shown once, rotated, revoked, read back to an Actor; and the first one.

A digest that matches nothing is compared all the same, so that time tells nothing. Nobody touches
a token that may more than himself, and through the API the last superadmin stays.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from admin.configure import audit, rules, scoping
from admin.configure.desk import Desk
from admin.configure.orders import UNSET, Keep
from admin.configure.refusals import Refusal
from admin.permit import LOCAL, SUPERADMIN, Actor, Grant, flaw, may_grant
from gateway import credential
from gateway.errors import StartRefused
from gateway.shapes import GLOBAL
from gateway.store import tokens as store
from gateway.store.engine import Connection

# The id of a first token that an operator chose himself and that is none of our making.
BOOTSTRAP = "bootstrap"
_SHORTEST = 16
_SENDABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", re.ASCII)
_DUMMY = bytes(32)


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """An admin token as it may be shown."""

    id: str
    name: str
    grants: tuple[Grant, ...]
    preview: str  # wga_<id>_***
    created_at: float  # Unix seconds
    revoked_at: float | None
    edition: str  # changes with the secret


@dataclass(frozen=True, kw_only=True)
class TokenChange:
    """What to change; `grants` are all it holds from then on."""

    name: str | Keep = UNSET
    grants: tuple[Grant, ...] | Keep = UNSET


Guard = Callable[[TokenView], None]


async def create(
    desk: Desk, actor: Actor, name: str, grants: tuple[Grant, ...]
) -> tuple[TokenView, str]:
    """Mint a token; its text is returned this once.

    Raises Refusal: bad_name, bad_permission, bad_scope, forbidden (more than `actor` holds).
    """
    name = rules.name(name)
    _check(actor, grants)
    minted = credential.mint("wga")
    async with desk.store.write(None) as conn:
        await _add(conn, desk, actor, minted, name, grants)
        return _shown(await _found(conn, minted.public_id)), minted.text


async def change(
    desk: Desk, actor: Actor, token_id: str, change: TokenChange, *, guard: Guard | None = None
) -> TokenView:
    """Change name or grants, which hold from the next request on.

    Raises Refusal: not_found, stale, in_use (the last superadmin), and those of `create`.
    """
    async with desk.store.write(None) as conn:
        row = await _open(conn, actor, token_id, guard)
        values = {} if change.name is UNSET else {"name": rules.name(change.name)}
        told: dict[str, object] = dict(values)
        pairs = None
        if change.grants is not UNSET:
            _check(actor, change.grants)
            if Grant(SUPERADMIN, GLOBAL) not in change.grants:
                await _keep_one(conn, actor, row)
            pairs = told["grants"] = _pairs(change.grants)
        await store.alter(conn, token_id, values, pairs)
        await audit.record(conn, desk, actor, "token.change", token_id, told)
        return _shown(await _found(conn, token_id))


async def rotate(
    desk: Desk, actor: Actor, token_id: str, *, guard: Guard | None = None
) -> tuple[TokenView, str]:
    """Give the token a new secret under the same id; its text is returned this once.

    The old text opens nothing from then on. Raises Refusal: not_found, stale, forbidden, managed
    (a first token of the operator's own making has no id inside its text).
    """
    async with desk.store.write(None) as conn:
        row = await _open(conn, actor, token_id, guard)
        if token_id == BOOTSTRAP:
            message = "the operator chose this token: make another, then revoke this one"
            raise Refusal("managed", message)
        minted = credential.mint("wga", token_id)
        digest = credential.digest(desk.hash_key.expose(), minted.text)
        await store.alter(conn, token_id, {"digest": digest})
        await audit.record(conn, desk, actor, "token.rotate", token_id, {"name": row.name})
        return _shown(await _found(conn, token_id)), minted.text


async def get(desk: Desk, token_id: str) -> TokenView:
    """One token that is not revoked. Raises Refusal not_found."""
    async with desk.store.read() as conn:
        return _shown(await _found(conn, token_id))


async def page(desk: Desk, offset: int, limit: int) -> tuple[list[TokenView], int]:
    """Tokens that are not revoked, oldest first."""
    async with desk.store.read() as conn:
        rows, total = await store.page(conn, offset, limit)
    return [_shown(row) for row in rows], total


async def revoke(
    desk: Desk, actor: Actor, token_id: str, *, guard: Guard | None = None
) -> TokenView:
    """Revoke for good.

    Raises Refusal: not_found, stale, forbidden, in_use (the last superadmin).
    """
    async with desk.store.write(None) as conn:
        row = await _open(conn, actor, token_id, guard)
        await _keep_one(conn, actor, row)
        await store.revoke(conn, token_id, desk.clock())
        await audit.record(conn, desk, actor, "token.revoke", token_id, {"name": row.name})
        return _shown(row)


async def authenticate(desk: Desk, text: str) -> Actor | None:
    """Who holds this token; None: nobody. Takes the same time for a known id and an unknown one."""
    presented = credential.read(text)
    ours = presented is not None and presented.prefix == "wga"
    token_id = presented.public_id if presented is not None and ours else BOOTSTRAP
    async with desk.store.read() as conn:
        row = await store.find(conn, token_id)
    digest = credential.digest(desk.hash_key.expose(), text)
    matches = hmac.compare_digest(digest, row.digest if row is not None else _DUMMY)
    if row is None or row.revoked_at is not None or not matches:
        return None
    return Actor(row.id, row.name, tuple(Grant(*pair) for pair in row.grants))


async def ensure_bootstrap(desk: Desk) -> str | None:
    """Make the first superadmin token when there never was one; the text if it was minted here.

    With WARDGATE_BOOTSTRAP_ADMIN_TOKEN that one is stored, and None returned. Raises StartRefused
    when it is too short to be a secret.
    """
    async with desk.store.read() as conn:
        if await store.any_ever(conn):
            return None
    given = desk.settings.bootstrap_admin_token
    first = _given(given.expose().decode()) if given is not None else credential.mint("wga")
    async with desk.store.write(None) as conn:
        if await store.any_ever(conn):  # another process was first
            return None
        grants = (Grant(SUPERADMIN, GLOBAL),)
        await _add(conn, desk, LOCAL, first, BOOTSTRAP, grants)
    return first.text if given is None else None


def _given(text: str) -> credential.Minted:
    if len(text) < _SHORTEST:
        message = f"WARDGATE_BOOTSTRAP_ADMIN_TOKEN is shorter than {_SHORTEST} characters"
        raise StartRefused(f"{message}; make one with `openssl rand -base64 32`")
    if not _SENDABLE.fullmatch(text):
        message = "WARDGATE_BOOTSTRAP_ADMIN_TOKEN can be sent in no header"
        raise StartRefused(f"{message}; use printable ASCII, no space at its ends")
    presented = credential.read(text)
    if credential.looks_ours(text) and (presented is None or presented.prefix != "wga"):
        raise StartRefused("WARDGATE_BOOTSTRAP_ADMIN_TOKEN is a mistyped or a client's key")
    return credential.Minted(presented.public_id if presented else BOOTSTRAP, text)


async def _add(
    conn: Connection,
    desk: Desk,
    actor: Actor,
    minted: credential.Minted,
    name: str,
    grants: tuple[Grant, ...],
) -> None:
    digest = credential.digest(desk.hash_key.expose(), minted.text)
    pairs = _pairs(grants)
    await store.add(conn, minted.public_id, name, digest, pairs, desk.clock())
    change = {"name": name, "grants": pairs}
    await audit.record(conn, desk, actor, "token.create", minted.public_id, change)


async def _found(conn: Connection, token_id: str) -> store.TokenRow:
    row = await store.find(conn, token_id)
    if row is None or row.revoked_at is not None:
        raise Refusal("not_found", "no such token")
    return row


async def _open(
    conn: Connection, actor: Actor, token_id: str, guard: Guard | None
) -> store.TokenRow:
    """The row, for somebody who may change it. Raises Refusal: not_found, stale, forbidden."""
    row = await _found(conn, token_id)
    view = _shown(row)
    # A grant that cannot exist counts for nothing, here too.
    sound = [grant for grant in view.grants if flaw(grant) is None]
    if not all(may_grant(actor, grant) for grant in sound):
        raise Refusal("forbidden", "that token holds more than this one")
    if guard is not None:
        guard(view)
    return row


async def _keep_one(conn: Connection, actor: Actor, row: store.TokenRow) -> None:
    """Raises Refusal in_use for the last superadmin; the command line can always make another."""
    held = (SUPERADMIN, GLOBAL)
    if actor == LOCAL or held not in row.grants:
        return
    if not await store.others_hold(conn, row.id, *held):
        message = "the last superadmin token: make another first (`wardgate tokens create`)"
        raise Refusal("in_use", message)


def _pairs(grants: tuple[Grant, ...]) -> list[tuple[str, str]]:
    return [(grant.permission, grant.scope) for grant in grants]


def _check(actor: Actor, grants: tuple[Grant, ...]) -> None:
    for grant in grants:
        scoping.kind_of(grant.scope)
        problem = flaw(grant)
        if problem is not None:
            raise Refusal("bad_permission", problem, "grants")
        if not may_grant(actor, grant):
            message = f"{grant.permission} exceeds what this token holds itself"
            raise Refusal("forbidden", message, "grants")


def _shown(row: store.TokenRow) -> TokenView:
    ours = row.id != BOOTSTRAP
    return TokenView(
        id=row.id,
        name=row.name,
        grants=tuple(Grant(*pair) for pair in row.grants),
        preview=f"wga_{row.id}_***" if ours else "***",
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        edition=credential.edition(row.digest),
    )
