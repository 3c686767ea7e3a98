"""A key is proved before it is stored: probe what the config will be, then let the desk write it.

A refused key changes nothing, and no transaction is open while a provider is asked. What is written
is what was probed: a config that changed meanwhile is probed once more. Called by api/.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from admin.configure import configs, drafts, rules
from admin.configure.configs import ConfigChange, ConfigView, Expect, Guard, NewConfig
from admin.configure.desk import Desk
from admin.configure.drafts import Planned
from admin.configure.keying import Key
from admin.configure.refusals import Refusal, check_owner
from admin.permit import Actor
from admin.probe import Offered, Probed, Prober, keep
from gateway.shapes import Secret

T = TypeVar("T")


class _Moved(Refusal):
    """The config is not any more what was probed."""

    def __init__(self) -> None:
        super().__init__("stale", "the config changed while its key was verified; send it again")


async def changed(
    desk: Desk,
    prober: Prober,
    actor: Actor,
    config_id: str,
    scope: str,
    change: ConfigChange,
    *,
    guard: Guard | None = None,
) -> ConfigView:
    """`configs.change`, but a key it brings is verified first, there where it will be sent.

    Raises Refusal: key_refused, not_verified, stale, and those of `configs.change`.
    """

    async def once() -> ConfigView:
        view = await configs.get(desk, config_id, scope)
        return await _changed(desk, prober, actor, view, change, guard)

    return await _twice(once)


async def configured(
    desk: Desk,
    prober: Prober | None,
    actor: Actor,
    scope: str,
    provider: str,
    alias: str | None,
    change: ConfigChange,
    *,
    guard: Expect | None = None,
) -> tuple[ConfigView, bool]:
    """`configs.configure`; with a `prober` the key it will have is verified first, sent or stored.

    Raises Refusal: key_refused, not_verified, stale, and those of `configs.configure`.
    """
    if prober is None:
        return await configs.configure(desk, actor, scope, provider, alias, change, guard=guard)

    async def once() -> tuple[ConfigView, bool]:
        known = rules.provider(provider, desk.catalog)
        present = await configs.picked(desk, scope, known, alias)
        if present is not None:
            plan = await configs.plan_change(desk, actor, present.id, scope, change)
            if plan.key == "keep" and present.secret_version is not None:
                _insist(await prober.stored(desk, present.id), strict=True)
            return await _changed(desk, prober, actor, present, change, guard), False
        if guard is not None:
            guard(None)
        new = drafts.new_from(scope, known, alias or "default", change)
        probed = await _tried(desk, prober, await configs.plan_new(desk, actor, new), strict=True)
        stored, made = await configs.configure(
            desk, actor, scope, known, alias, change, guard=_not_there
        )
        await _kept(desk, stored, probed)
        return stored, made

    return await _twice(once)


async def created(
    desk: Desk, prober: Prober, actor: Actor, new: NewConfig, *, strict: bool
) -> ConfigView:
    """`configs.create`, but its key is tried first; only a refused one stops it unless `strict`.

    Raises Refusal: key_refused, not_verified (if strict), and those of `configs.create`.
    """
    probed = await _tried(desk, prober, await configs.plan_new(desk, actor, new), strict=strict)
    stored = await configs.create(desk, actor, new)
    await _kept(desk, stored, probed)
    return stored


async def _twice(work: Callable[[], Awaitable[T]]) -> T:
    try:
        return await work()
    except _Moved:
        return await work()


async def _changed(
    desk: Desk,
    prober: Prober,
    actor: Actor,
    view: ConfigView,
    change: ConfigChange,
    guard: Guard | None,
) -> ConfigView:
    check_owner(view.managed_by, None)
    if guard is not None:
        guard(view)
    plan = await configs.plan_change(desk, actor, view.id, view.scope, change)
    probed = await _tried(desk, prober, plan, strict=True)

    def unmoved(now: ConfigView) -> None:
        if guard is not None:
            guard(now)
        if probed is not None and now.revision != plan.revision:
            raise _Moved

    stored = await configs.change(desk, actor, view.id, view.scope, change, guard=unmoved)
    await _kept(desk, stored, probed)
    return stored


def _not_there(view: ConfigView | None) -> None:
    if view is not None:
        raise _Moved


async def _tried(desk: Desk, prober: Prober, plan: Planned, *, strict: bool) -> Probed | None:
    """What came of probing the key the plan brings; None: it brings none. Raises Refusal."""
    if not isinstance(plan.key, Key):
        return None
    return _insist(await prober.offered(desk, _offered(plan, plan.key)), strict=strict)


def _insist(probed: Probed, *, strict: bool) -> Probed:
    """What proves nothing (`unlisted`) is not held against a key."""
    if probed.outcome == "key_refused":
        raise Refusal("key_refused", probed.message, "secret")
    if strict and not probed.ok and probed.outcome != "unlisted":
        raise Refusal("not_verified", probed.message, "secret")
    return probed


async def _kept(desk: Desk, stored: ConfigView, probed: Probed | None) -> None:
    if probed is not None and stored.secret_version is not None:
        await keep(desk, stored.id, stored.secret_version, probed)


def _offered(plan: Planned, key: Key) -> Offered:
    return Offered(
        provider=plan.provider,
        dialect=plan.dialect,
        base_url=plan.base_url,
        auth_type=plan.auth_type,
        settings=plan.settings,
        key=key.text if key.reference else Secret(key.text.encode()),
    )
