"""Permissions: the table itself, where a grant holds, and that nobody grants more than he has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.api.operations import Operation
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
from admin.registry import SURFACES

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


SCOPES = ("global", GROUP, OTHER, "gateway:acc/gw", "gateway:acc/other", "instance:a")
# Any pair at all, the impossible ones included: a row of the store may have been edited by hand.
grants = st.builds(Grant, st.sampled_from([*PERMISSIONS, "NoSuch"]), st.sampled_from(SCOPES))
actors = st.builds(Actor, st.just("id"), st.just("name"), st.lists(grants, max_size=4).map(tuple))


def held(by: Actor) -> set[tuple[str, str]]:
    """Every action in every scope that this actor may."""
    return {(action, scope) for action in ACTIONS for scope in SCOPES if allows(by, action, scope)}


@given(actors, grants)
def test_granting_never_widens(granter: Actor, grant: Grant) -> None:
    if may_grant(granter, grant):
        handed = Actor("new", "new", (grant,))
        assert held(handed) <= held(granter)
        # Nor does what was handed on, by whoever holds it now.
        assert not [g for g in every_grant() if may_grant(handed, g) and not may_grant(granter, g)]


@given(actors, grants)
def test_what_one_holds_entirely_one_may_grant(granter: Actor, grant: Grant) -> None:
    handed = held(Actor("new", "new", (grant,)))
    if flaw(grant) is None and handed <= held(granter):
        assert may_grant(granter, grant)


def every_grant() -> list[Grant]:
    return [Grant(permission, scope) for permission in PERMISSIONS for scope in SCOPES]


@given(actors, st.sampled_from(ACTIONS))
def test_reach_and_allows_agree(by: Actor, action: str) -> None:
    within = reach(by, action)
    assert (within is None) == allows(by, action, "global")
    for scope in SCOPES:
        assert allows(by, action, scope) == (within is None or scope in within)
    assert holds_anywhere(by, action) == (within is None or bool(within))


@given(actors, grants)
def test_more_grants_never_allow_less(by: Actor, grant: Grant) -> None:
    assert held(by) <= held(Actor("id", "name", (*by.grants, grant)))


def test_no_two_grants_together_are_a_third_that_neither_may_give() -> None:
    everyone = Actor("id", "name", tuple(g for g in every_grant() if g.permission != "superadmin"))
    assert not may_grant(everyone, Grant("superadmin", "global"))
    for action in ("tokens.manage", "audit.read", "references.manage", "choices.manage"):
        assert not holds_anywhere(everyone, action)


def test_the_roles_of_a_group_hold_no_more_than_their_global_ones() -> None:
    for family in ("AIProviders", "AIModels"):
        for kind in ("Read", "Manage"):
            group, everywhere = (
                PERMISSIONS[f"Group{family}.{kind}"],
                PERMISSIONS[f"{family}.{kind}"],
            )
            assert group.actions <= everywhere.actions


def test_providers_and_models_are_told_apart() -> None:
    models = {action for action in ACTIONS if action.startswith("models.")}
    for name, row in PERMISSIONS.items():
        if name != "superadmin":
            assert (row.actions <= models) == ("AIModels" in name)
            assert not row.actions & models or "AIModels" in name


def test_every_action_is_held_by_some_permission() -> None:
    assert set(ACTIONS) == set().union(*(row.actions for row in PERMISSIONS.values()))


@pytest.mark.parametrize("row", [row for _, rows in SURFACES for row in rows], ids=lambda r: r.name)
def test_an_operation_that_changes_something_needs_more_than_to_read(row: Operation) -> None:
    # Testing a stored key, and asking what would happen, change nothing.
    if row.method in ("GET", "HEAD"):
        return
    readers = [everything(name) for name in PERMISSIONS if name.endswith(".Read")]
    assert not [reader for reader in readers if holds_anywhere(reader, row.action)]
