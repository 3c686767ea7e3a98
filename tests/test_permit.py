"""Permissions: the table itself, where a grant holds, and that nobody grants more than he has."""

from __future__ import annotations

import pytest

from admin.permit import (
    ACTIONS,
    LOCAL,
    PERMISSIONS,
    Actor,
    Grant,
    allows,
    flaw,
    holds_anywhere,
    may_grant,
    reach,
)

GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
FAMILIES = ("AIProviders", "AIModels", "GroupAIProviders", "GroupAIModels")


def actor(*grants: tuple[str, str]) -> Actor:
    return Actor("id", "name", tuple(Grant(*grant) for grant in grants))


def everything(permission: str) -> Actor:
    return actor((permission, "global" if PERMISSIONS[permission].everywhere else GROUP))


@pytest.mark.parametrize("family", FAMILIES)
def test_manage_implies_read_when_it_is_the_same_family(family: str) -> None:
    read, manage = PERMISSIONS[f"{family}.Read"], PERMISSIONS[f"{family}.Manage"]
    assert read.actions < manage.actions
    assert read.everywhere == manage.everywhere
    assert not any(action.endswith(".manage") for action in read.actions)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("scope", ["global", GROUP, "gateway:acc/gw", "instance:a"])
def test_superadmin_may_everything_everywhere(action: str, scope: str) -> None:
    assert allows(LOCAL, action, scope)


@pytest.mark.parametrize("action", ["tokens.manage", "audit.read", "references.manage"])
def test_only_superadmin_holds_it_when_it_concerns_the_whole_house(action: str) -> None:
    assert [name for name in PERMISSIONS if holds_anywhere(everything(name), action)] == [
        "superadmin"
    ]


def test_a_global_grant_covers_every_scope() -> None:
    held = actor(("AIProviders.Manage", "global"))
    assert allows(held, "providers.manage", "global")
    assert allows(held, "providers.manage", GROUP)
    assert not allows(held, "models.read", GROUP)
    assert reach(held, "providers.manage") is None


def test_a_group_grant_holds_in_its_scope_only() -> None:
    held = actor(("GroupAIProviders.Manage", GROUP))
    assert allows(held, "providers.manage", GROUP)
    assert not allows(held, "providers.manage", OTHER)
    assert not allows(held, "providers.manage", "global")
    assert reach(held, "providers.manage") == frozenset({GROUP})
    assert holds_anywhere(held, "providers.manage")
    assert not holds_anywhere(held, "models.manage")


@pytest.mark.parametrize(
    "grant",
    [
        ("superadmin", GROUP),
        ("AIProviders.Manage", GROUP),
        ("GroupAIProviders.Manage", "global"),
        ("NoSuchPermission", "global"),
        ("", ""),
    ],
)
def test_a_grant_that_cannot_exist_counts_for_nothing(grant: tuple[str, str]) -> None:
    assert flaw(Grant(*grant))
    held = actor(grant)
    assert not any(allows(held, action, grant[1]) for action in ACTIONS)
    assert not any(holds_anywhere(held, action) for action in ACTIONS)
    assert not may_grant(LOCAL, Grant(*grant))


def test_an_actor_without_grants_may_nothing() -> None:
    assert not any(holds_anywhere(actor(), action) for action in ACTIONS)
    assert reach(actor(), "providers.read") == frozenset()


@pytest.mark.parametrize(
    ("held", "granted", "verdict"),
    [
        (("superadmin", "global"), ("superadmin", "global"), True),
        (("superadmin", "global"), ("GroupAIModels.Manage", GROUP), True),
        (("AIProviders.Manage", "global"), ("AIProviders.Read", "global"), True),
        (("AIProviders.Manage", "global"), ("GroupAIProviders.Manage", GROUP), True),
        (("AIProviders.Manage", "global"), ("superadmin", "global"), False),
        (("AIProviders.Manage", "global"), ("AIModels.Read", "global"), False),
        (("AIProviders.Read", "global"), ("AIProviders.Manage", "global"), False),
        (("GroupAIProviders.Manage", GROUP), ("GroupAIProviders.Read", GROUP), True),
        (("GroupAIProviders.Manage", GROUP), ("GroupAIProviders.Read", OTHER), False),
        (("GroupAIProviders.Manage", GROUP), ("AIProviders.Read", "global"), False),
    ],
)
def test_a_grant_never_exceeds_the_granters_own(
    held: tuple[str, str], granted: tuple[str, str], verdict: bool
) -> None:
    assert may_grant(actor(held), Grant(*granted)) is verdict
