"""Routes at the desk: their names, and targets that are where the route may lead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from admin.configure import audit, configs, routes, scopes
from admin.configure.configs import ConfigView
from admin.configure.desk import Desk
from admin.configure.identity import as_prov
from admin.configure.refusals import Refusal
from admin.configure.routes import NewRoute, RouteChange, RouteView
from admin.permit import LOCAL, Actor
from gateway.shapes import GLOBAL, Route, Target
from gateway.store.compile import revision
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, GROUP_ADMIN, add, later, refused

OTHER = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened


async def make(
    desk: Desk,
    *configs: ConfigView,
    name: str = "fast",
    scope: str = GLOBAL,
    actor: Actor = LOCAL,
    owner: str | None = None,
) -> RouteView:
    targets = [Target(config.id, "gpt-4o") for config in configs]
    new = NewRoute(name=name, scope=scope, targets=targets)
    return await routes.create(desk, actor, new, owner=owner)


def to(config: ConfigView, *models: str) -> list[Target]:
    return [Target(config.id, model) for model in models]


async def test_a_route_reaches_the_table_in_its_order(desk: Desk) -> None:
    first, second = await add(desk), await add(desk, "second")
    targets = [*to(second, "gpt-4o"), *to(first, "b", "a")]
    view = await routes.create(desk, LOCAL, NewRoute(name=" fast ", targets=targets))
    assert (view.name, view.targets) == ("fast", tuple(targets))
    assert view.created_at == view.updated_at == desk.clock()
    assert await routes.get(desk, view.id) == view
    route = Route(view.id, GLOBAL, "fast", tuple(targets))
    assert (await desks.table(desk)).routes == {GLOBAL: {"fast": route}}


async def test_a_targets_config_is_read_in_every_spelling(desk: Desk) -> None:
    config = await add(desk)
    for number, text in enumerate((config.id.upper(), config.id.replace("-", ""))):
        new = NewRoute(name=f"r{number}", targets=[Target(text, "m")])
        assert (await routes.create(desk, LOCAL, new)).targets[0].config_id == config.id
    new = NewRoute(name="prov", targets=[Target(as_prov(config.id), "m")])
    view = await routes.create(desk, LOCAL, new)
    assert view.targets == (Target(config.id, "m"),)


@pytest.mark.parametrize(
    "name",
    ["gpt-4o", "fast", "team/fast", "a/b/c", "with words", "main/gpt-4o", "fast:free", "x" * 200],
)
async def test_names_that_can_be_given(desk: Desk, name: str) -> None:
    assert (await make(desk, await add(desk), name=name)).name == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "x" * 201, "a\nb", "a\x00", "/fast", "fast/", "/", "openai/gpt-4o", "openai/mine"]
    + ["grok/fast", "custom:vllm/fast"],
)
async def test_names_that_cannot(desk: Desk, name: str) -> None:
    config = await add(desk)
    before = await revision(desk.store)
    assert await refused(make(desk, config, name=name)) == ("bad_name", "name")
    assert await revision(desk.store) == before


async def test_a_name_is_taken_in_its_scope_only(desk: Desk) -> None:
    config = await add(desk)
    held, other = await make(desk, config), await make(desk, config, name="slow")
    assert await refused(make(desk, config)) == ("name_taken", "name")
    renamed = routes.change(desk, LOCAL, other.id, RouteChange(name="fast"))
    assert await refused(renamed) == ("name_taken", "name")
    assert (await make(desk, config, scope=GROUP)).name == "fast"
    assert (await routes.change(desk, LOCAL, held.id, RouteChange(name="fast"))).name == "fast"


async def test_a_route_has_1_to_20_different_targets(desk: Desk) -> None:
    config = await add(desk)
    for count, kind in ((0, "bad_target"), (21, "bad_target")):
        new = NewRoute(name="fast", targets=to(config, *(f"m{n}" for n in range(count))))
        assert await refused(routes.create(desk, LOCAL, new)) == (kind, "targets")
    twice = [Target(config.id, "m"), Target(as_prov(config.id), "m")]
    new = NewRoute(name="fast", targets=twice)
    assert await refused(routes.create(desk, LOCAL, new)) == ("bad_target", "targets.1")
    new = NewRoute(name="fast", targets=to(config, *(f"m{n}" for n in range(20))))
    assert len((await routes.create(desk, LOCAL, new)).targets) == 20


@pytest.mark.parametrize("model", ["", "a b", "a\n", "m" * 301])
async def test_a_targets_model_is_a_name(desk: Desk, model: str) -> None:
    config = await add(desk)
    new = NewRoute(name="fast", targets=[*to(config, "m"), Target(config.id, model)])
    assert await refused(routes.create(desk, LOCAL, new)) == ("bad_model", "targets.1.model")


@pytest.mark.parametrize(
    "text", ["", "nope", "prov_", "01977c2a-0000-7000-8000-000000000000", "openai"]
)
async def test_unknown_configs_are_refused(desk: Desk, text: str) -> None:
    new = NewRoute(name="fast", targets=[*to(await add(desk), "m"), Target(text, "m")])
    expected = ("unknown_config", "targets.1.config_id")
    assert await refused(routes.create(desk, LOCAL, new)) == expected


async def test_a_config_stands_in_the_routes_scope_or_above(desk: Desk) -> None:
    above, theirs, beside = [await add(desk, scope=scope) for scope in (GLOBAL, GROUP, OTHER)]
    await scopes.create(desk, LOCAL, "instance:i", GROUP)
    assert len((await make(desk, above, theirs, scope="instance:i")).targets) == 2
    unknown = ("unknown_config", "targets.0.config_id")
    assert await refused(make(desk, beside, scope="instance:i", name="other")) == unknown
    assert await refused(make(desk, theirs)) == unknown, "never downwards"
    await scopes.create(desk, LOCAL, "instance:alone", GROUP, inherit=False)
    for config in (above, theirs):
        assert await refused(make(desk, config, scope="instance:alone")) == unknown


async def test_whoever_may_not_read_a_config_names_one_that_is_not_there(desk: Desk) -> None:
    above, own = await add(desk), await add(desk, scope=GROUP)
    hidden = make(desk, above, scope=GROUP, actor=GROUP_ADMIN)
    with pytest.raises(Refusal) as forbidden:
        await hidden
    absent = NewRoute(
        name="fast", scope=GROUP, targets=[Target("01977c2a-0000-7000-8000-000000000000", "gpt-4o")]
    )
    with pytest.raises(Refusal) as missing:
        await routes.create(desk, GROUP_ADMIN, absent)
    said = [(e.value.kind, e.value.message, e.value.field) for e in (forbidden, missing)]
    assert said[0] == said[1] == ("unknown_config", said[0][1], "targets.0.config_id")
    await make(desk, own, scope=GROUP, actor=GROUP_ADMIN)


async def test_a_target_that_is_there_may_be_kept_by_whoever_may_not_read_it(desk: Desk) -> None:
    above, own = await add(desk), await add(desk, scope=GROUP)
    view = await make(desk, above, own, scope=GROUP)
    kept = RouteChange(targets=list(reversed(view.targets)))
    after = await routes.change(desk, GROUP_ADMIN, view.id, kept)
    assert after.targets == tuple(reversed(view.targets))
    other = RouteChange(targets=to(above, "another"))
    expected = ("unknown_config", "targets.0.config_id")
    assert await refused(routes.change(desk, GROUP_ADMIN, view.id, other)) == expected


@pytest.mark.parametrize("named", ["name", "targets"])
async def test_change_touches_what_it_names(desk: Desk, named: str) -> None:
    config = await add(desk)
    before = await make(desk, config)
    later(desk)
    given: dict[str, Any] = {"name": "slow", "targets": to(config, "z", "a", "m")}
    after = await routes.change(desk, LOCAL, before.id, RouteChange(**{named: given[named]}))
    expected = {"name": before.name, "targets": before.targets}
    expected[named] = tuple(given[named]) if named == "targets" else given[named]
    assert {"name": after.name, "targets": after.targets} == expected
    assert (after.created_at, after.updated_at) == (before.created_at, desk.clock())


async def test_a_config_in_use_is_not_deleted(desk: Desk) -> None:
    config = await add(desk)
    view = await make(desk, config)
    with pytest.raises(Refusal) as caught:
        await configs.delete(desk, LOCAL, config.id, GLOBAL)
    assert (caught.value.kind, caught.value.names) == ("in_use", ("fast",))
    await routes.delete(desk, LOCAL, view.id)
    assert (await desks.table(desk)).routes == {}
    await configs.delete(desk, LOCAL, config.id, GLOBAL)


async def test_not_found_when_there_is_none(desk: Desk) -> None:
    for work in (
        routes.get(desk, "nope"),
        routes.change(desk, LOCAL, "nope", RouteChange()),
        routes.delete(desk, LOCAL, "nope"),
    ):
        assert await refused(work) == ("not_found", None)


async def test_what_a_file_keeps_is_changed_by_that_file_alone(desk: Desk) -> None:
    kept = await make(desk, await add(desk), owner="house")
    for owner in (None, "garden"):
        for work in (
            routes.change(desk, LOCAL, kept.id, RouteChange(name="x"), owner=owner),
            routes.delete(desk, LOCAL, kept.id, owner=owner),
        ):
            assert await refused(work) == ("managed", None)
    after = await routes.change(desk, LOCAL, kept.id, RouteChange(name="x"), owner="house")
    assert (after.name, after.managed_by) == ("x", "house")
    await routes.delete(desk, LOCAL, kept.id, owner="house")


async def test_a_file_takes_over_what_nobody_keeps(desk: Desk) -> None:
    view = await make(desk, await add(desk))
    after = await routes.change(desk, LOCAL, view.id, RouteChange(), owner="house")
    assert (view.managed_by, after.managed_by) == (None, "house")


async def test_page_is_of_the_scopes_named(desk: Desk) -> None:
    config = await add(desk)
    made = []
    for number, scope in enumerate((GLOBAL, GROUP, GLOBAL)):
        made.append((await make(desk, config, name=f"r{number}", scope=scope)).id)
        later(desk)
    views, total = await routes.page(desk, {GLOBAL}, 1, 5)
    assert ([view.id for view in views], total) == (made[2:], 2)
    views, total = await routes.page(desk, None, 0, 2)
    assert ([view.id for view in views], total) == (made[:2], 3)
    assert await routes.page(desk, (), 0, 5) == ([], 0)


async def test_every_change_is_audited(desk: Desk) -> None:
    config = await add(desk)
    view = await make(desk, config)
    await routes.change(desk, LOCAL, view.id, RouteChange(targets=to(config, "m")))
    await routes.delete(desk, LOCAL, view.id)
    rows, valid = await audit.page(desk, 3)
    assert valid
    assert [row.action for row in rows] == ["route.delete", "route.change", "route.create"]
    assert rows[1].change == {"targets": [{"config_id": config.id, "model": "m"}]}
    assert {row.target for row in rows} == {view.id}


async def test_nothing_is_changed_when_the_guard_refuses(desk: Desk) -> None:
    made = await make(desk, await add(desk))
    seen: list[RouteView] = []

    def guard(present: RouteView) -> None:
        seen.append(present)
        raise Refusal("stale", "no")

    before = await revision(desk.store)
    for work in (
        routes.change(desk, LOCAL, made.id, RouteChange(name="x"), guard=guard),
        routes.delete(desk, LOCAL, made.id, guard=guard),
    ):
        assert await refused(work) == ("stale", None)
    assert seen == [made] * 2
    assert await revision(desk.store) == before
