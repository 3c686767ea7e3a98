"""Scopes: which ids there can be, what each inherits from, and making the row on the first write.

A read makes nothing. Called by the other files of the desk inside their transactions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from admin.configure.refusals import Refusal
from gateway.paths import RESERVED_ACCOUNTS
from gateway.shapes import GLOBAL, Scope, ScopeKind
from gateway.store import gateways, scopes
from gateway.store.engine import Connection

# Stands for the scopes that are no gateway where a URL must name one (docs/management.md).
OURS = "wardgate"
# In lower case: nobody should have to know which spelling of a word is taken.
_RESERVED = frozenset(word.lower() for word in RESERVED_ACCOUNTS)
_GROUP = re.compile(r"group:gr_[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)
_INSTANCE = re.compile(r"instance:[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_GATEWAY = re.compile(
    r"gateway:(?P<account>[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?)"
    r"/(?P<gateway>(?=.{1,64}\Z)[a-z0-9_]+(?:-[a-z0-9_]+)*)",
    re.ASCII,
)


def kind_of(scope_id: str, field: str = "scope") -> ScopeKind:
    """The kind of a scope by its id. Raises Refusal bad_scope or reserved, naming `field`."""
    if scope_id == GLOBAL:
        return "global"
    if _GROUP.fullmatch(scope_id):
        return "group"
    if _INSTANCE.fullmatch(scope_id):
        return "instance"
    parts(scope_id, field)
    return "gateway"


def parts(scope_id: str, field: str = "scope") -> tuple[str, str]:
    """Account and gateway id of a gateway's scope. Raises Refusal: bad_scope, reserved."""
    found = _GATEWAY.fullmatch(scope_id)
    if found is None:
        expected = "global, group:gr_…, gateway:{account}/{gateway} or instance:{id}"
        raise Refusal("bad_scope", f"no scope can be called that; use {expected}", field)
    account = found["account"]
    if account.lower() in _RESERVED:
        raise Refusal("reserved", f"{account} is a reserved word, not an account", field)
    return account, found["gateway"]


async def ensure(conn: Connection, scope_id: str, now: float) -> None:
    """Make the scope's row, and its gateway's, when they are missing. Refuses as `kind_of`."""
    kind = kind_of(scope_id)
    if await scopes.find(conn, scope_id) is None:
        await scopes.add(conn, Scope(scope_id, kind, GLOBAL), now)
    if kind == "gateway" and await gateways.find(conn, scope_id) is None:
        await gateways.add(conn, fresh_gateway(scope_id, now))


async def chain(conn: Connection, scope_id: str) -> tuple[str, ...]:
    """The scope and those it inherits from, nearest first, as requests look through them.

    Of a scope that is not stored: what it would inherit once it is.
    """
    known = {scope.id: scope for scope in await scopes.everyone(conn)}
    return inherited(known, scope_id)


def inherited(known: Mapping[str, Scope], scope_id: str) -> tuple[str, ...]:
    """The same, where all scopes have been read."""
    walked: list[str] = []
    here: str | None = scope_id
    while here is not None and here not in walked:
        walked.append(here)
        here = _next(known.get(here))
    return tuple(walked)


def _next(scope: Scope | None) -> str | None:
    if scope is None:  # not stored: it would be made below global
        return GLOBAL
    return scope.parent if scope.inherits else None


def fresh_gateway(scope_id: str, now: float) -> dict[str, object]:
    """The columns of a gateway nobody has configured yet."""
    account, gateway = parts(scope_id)
    return {
        "scope_id": scope_id,
        "account": account,
        "gateway_id": gateway,
        "rate_limiting_limit": None,
        "rate_limiting_interval": None,
        "rate_limiting_technique": "fixed",
        "cache_ttl": None,
        "cache_invalidate_on_update": False,
        "collect_logs": True,
        "authentication": True,
        "extra": {},
        "created_at": now,
        "updated_at": now,
    }
