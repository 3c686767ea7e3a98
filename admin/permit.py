"""Who may do what, where: the permissions as a table, and the four questions asked of it.

Pure: no store, no HTTP. Asked by api/ before the desk is called and by the command line's
actor, LOCAL. An action is what an operation does; a permission is what a token is granted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from gateway.shapes import GLOBAL

Action = Literal[
    "providers.read",
    "providers.manage",
    "models.read",
    "models.manage",
    "agents.read",
    "agents.manage",
    "routes.read",
    "routes.manage",
    "scopes.read",
    "scopes.manage",
    "choices.manage",
    "keys.read",
    "keys.manage",
    "tokens.read",
    "tokens.manage",
    "audit.read",
    "metrics.read",
    "references.manage",
]
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True, slots=True)
class Permission:
    """One row: its actions, and whether it covers every scope or only the one it is granted in."""

    actions: frozenset[Action]
    everywhere: bool


# Whoever sees a scope's providers sees what stands beside them: keys, agents, routes.
_GROUP_READ: tuple[Action, ...] = (
    "providers.read",
    "keys.read",
    "agents.read",
    "routes.read",
    "scopes.read",
)
_GROUP_MANAGE: tuple[Action, ...] = (
    *_GROUP_READ,
    "providers.manage",
    "keys.manage",
    "agents.manage",
    "routes.manage",
)
_READ: tuple[Action, ...] = (*_GROUP_READ, "metrics.read")
_MANAGE: tuple[Action, ...] = (*_GROUP_MANAGE, "metrics.read", "scopes.manage")
_MODELS_READ: tuple[Action, ...] = ("models.read",)
_MODELS_MANAGE: tuple[Action, ...] = ("models.read", "models.manage")


def _row(actions: Iterable[Action], *, everywhere: bool) -> Permission:
    return Permission(frozenset(actions), everywhere)


SUPERADMIN = "superadmin"
PERMISSIONS: Mapping[str, Permission] = {
    SUPERADMIN: _row(ACTIONS, everywhere=True),
    "AIProviders.Read": _row(_READ, everywhere=True),
    "AIProviders.Manage": _row(_MANAGE, everywhere=True),
    "AIModels.Read": _row(_MODELS_READ, everywhere=True),
    "AIModels.Manage": _row(_MODELS_MANAGE, everywhere=True),
    "GroupAIProviders.Read": _row(_GROUP_READ, everywhere=False),
    "GroupAIProviders.Manage": _row(_GROUP_MANAGE, everywhere=False),
    "GroupAIModels.Read": _row(_MODELS_READ, everywhere=False),
    "GroupAIModels.Manage": _row(_MODELS_MANAGE, everywhere=False),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """A permission held in a scope; what covers every scope is granted in `global`."""

    permission: str
    scope: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is asking: an admin token (its public id), an issuer's token, or the command line."""

    id: str
    name: str
    grants: tuple[Grant, ...]


LOCAL = Actor("local", "command line", (Grant(SUPERADMIN, GLOBAL),))


def allows(actor: Actor, action: str, scope: str) -> bool:
    """Whether `actor` may do `action` in exactly this scope; group grants are not inherited."""
    return any(_covers(grant, action, scope) for grant in actor.grants)


def holds_anywhere(actor: Actor, action: str) -> bool:
    """Whether any grant carries `action` at all: False is a 403, whatever the scope."""
    return any(_sound(g) and action in PERMISSIONS[g.permission].actions for g in actor.grants)


def reach(actor: Actor, action: str) -> frozenset[str] | None:
    """The scopes in which `actor` may do `action`; None stands for every scope."""
    if allows(actor, action, GLOBAL):
        return None
    return frozenset(grant.scope for grant in actor.grants if _covers(grant, action, grant.scope))


def may_grant(actor: Actor, grant: Grant) -> bool:
    """Whether `actor` holds everything `grant` would hand out: nobody grants more than he has."""
    if flaw(grant):
        return False
    wanted = PERMISSIONS[grant.permission]
    return all(allows(actor, action, grant.scope) for action in wanted.actions)


def flaw(grant: Grant) -> str | None:
    """Why this grant can be held by nobody, or None. One line for people."""
    row = PERMISSIONS.get(grant.permission)
    if row is None:
        return f"unknown permission; one of {', '.join(PERMISSIONS)}"
    if row.everywhere and grant.scope != GLOBAL:
        return f"{grant.permission} is granted in the scope global"
    if not row.everywhere and grant.scope == GLOBAL:
        return f"{grant.permission} is granted in one scope other than global"
    return None


def _covers(grant: Grant, action: str, scope: str) -> bool:
    if not _sound(grant):
        return False
    row = PERMISSIONS[grant.permission]
    return action in row.actions and (row.everywhere or grant.scope == scope)


def _sound(grant: Grant) -> bool:
    # A row edited by hand must not widen: a grant that cannot exist counts for nothing.
    return flaw(grant) is None
