"""A scope's choice: the one (config, model) a request that names no model gets (data-model, 11).

Each change is one transaction: the choice, its config and the audit rows together. Nothing is ever
chosen by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from admin.configure import audit, configs, drafts, rules, scoping, written
from admin.configure.desk import Desk
from admin.configure.orders import ConfigChange, ConfigView, NewConfig
from admin.configure.refusals import Refusal, check_owner
from admin.permit import Actor
from gateway.shapes import Secret
from gateway.store import choices as store
from gateway.store import routes
from gateway.store.configs import ConfigRow
from gateway.store.engine import Connection

# The alias of a config made here, and how we know later that it was.
MADE_BY = "llm-config"
_LONGEST_MODEL = 300


@dataclass(frozen=True, kw_only=True)
class ChoiceView:
    """A choice as it may be shown; `model` None: the config is there but not chosen."""

    config: ConfigView
    model: str | None
    created_at: float  # Unix seconds
    updated_at: float


@dataclass(frozen=True, kw_only=True)
class NewChoice:
    provider: str
    model: str
    secret: Secret


@dataclass(frozen=True, kw_only=True)
class Rechoice:
    """What to change; None keeps."""

    provider: str | None = None
    model: str | None = None
    secret: Secret | None = None


Guard = Callable[[ChoiceView], None]


async def current(desk: Desk, scope: str, config_id: str | None = None) -> ChoiceView | None:
    """The scope's own choice, or any config of it by id; never a parent's."""
    async with desk.store.read() as conn:
        return await _view(conn, scope, config_id)


async def choose(desk: Desk, actor: Actor, scope: str, new: NewChoice) -> ChoiceView:
    """Make a config and choose it. Raises Refusal: choice_exists, bad_model, and of a config."""
    model = _model(new.model)
    order = _order(scope, desk, new.provider, new.secret)
    asked = drafts.asked_of(desk, actor, order.provider, order)
    async with desk.store.write(scope) as conn:
        await scoping.ensure(conn, scope, desk.clock())
        if await store.find(conn, scope) is not None:
            raise Refusal("choice_exists", "this scope has a configuration already")
        row = await written.insert(conn, desk, actor, order, asked)
        return await _chosen(conn, desk, actor, row, model)


async def rechoose(
    desk: Desk,
    actor: Actor,
    scope: str,
    change: Rechoice,
    config_id: str | None = None,
    guard: Guard | None = None,
) -> ChoiceView:
    """Change the choice, or with `config_id` choose that config of the scope.

    Another provider is another config: it needs its key, and the old one goes if it was made here
    and nothing refers to it. Raises Refusal: not_found, rebind, managed, bad_model.
    """
    async with desk.store.write(scope) as conn:
        view = await _view(conn, scope, config_id)
        if view is None:
            raise Refusal("not_found", "no configuration found")
        if guard is not None:
            guard(view)
        row = await configs.found(conn, view.config.id, scope)
        model = _model(change.model) if change.model is not None else view.model
        if model is None:
            model = await _present_model(conn, scope)
        wanted = rules.provider(change.provider or row.provider_id, desk.catalog)
        if wanted != row.provider_id:
            return await _replaced(conn, desk, actor, row, wanted, model, change.secret)
        if change.secret is not None:
            check_owner(row.managed_by, None)
            keyed = ConfigChange(secret=change.secret)
            row = await written.alter(conn, desk, actor, row, keyed)
        return await _chosen(conn, desk, actor, row, model)


async def unchoose(
    desk: Desk,
    actor: Actor,
    scope: str,
    config_id: str | None = None,
    guard: Guard | None = None,
) -> None:
    """Remove the choice, and its config if it was made here and nothing refers to it.

    With `config_id` that config goes in any case. Raises Refusal: not_found, in_use, managed.
    """
    async with desk.store.write(scope) as conn:
        view = await _view(conn, scope, config_id)
        if view is None:
            raise Refusal("not_found", "no configuration found")
        if guard is not None:
            guard(view)
        row = await configs.found(conn, view.config.id, scope)
        if view.model is not None:
            await store.remove(conn, scope)
            told = {"scope_id": scope, "config_id": row.id}
            await audit.record(conn, desk, actor, "choice.delete", scope, told)
        if config_id is not None:
            check_owner(row.managed_by, None)
            await written.remove(conn, desk, actor, row)
        else:
            await _tidy(conn, desk, actor, row)


async def _view(conn: Connection, scope: str, config_id: str | None) -> ChoiceView | None:
    choice = await store.find(conn, scope)
    if config_id is None:
        if choice is None:
            return None
        config_id = choice.config_id
    try:
        view = configs.shown(await configs.found(conn, config_id, scope))
    except Refusal:
        return None
    if choice is None or choice.config_id != view.id:
        return ChoiceView(
            config=view, model=None, created_at=view.created_at, updated_at=view.modified_at
        )
    return ChoiceView(
        config=view,
        model=choice.model,
        created_at=choice.created_at,
        updated_at=max(choice.updated_at, view.modified_at),
    )


async def _replaced(
    conn: Connection,
    desk: Desk,
    actor: Actor,
    old: ConfigRow,
    provider: str,
    model: str,
    secret: Secret | None,
) -> ChoiceView:
    if secret is None:
        message = "another provider needs its own api_key"
        raise Refusal("rebind", message, "secret")
    order = _order(old.scope_id, desk, provider, secret)
    asked = drafts.asked_of(desk, actor, order.provider, order)
    # The choice goes first: deleting the config it names would take it along.
    row = await written.insert(conn, desk, actor, order, asked)
    view = await _chosen(conn, desk, actor, row, model)
    await _tidy(conn, desk, actor, old)
    return view


async def _chosen(
    conn: Connection, desk: Desk, actor: Actor, row: ConfigRow, model: str
) -> ChoiceView:
    await store.put(conn, row.scope_id, row.id, model, desk.clock())
    told = {"scope_id": row.scope_id, "config_id": row.id, "model": model}
    await audit.record(conn, desk, actor, "choice.put", row.scope_id, told)
    view = await _view(conn, row.scope_id, row.id)
    assert view is not None
    return view


async def _tidy(conn: Connection, desk: Desk, actor: Actor, row: ConfigRow) -> None:
    """Remove a config made here that nothing refers to any more, and no file keeps."""
    ours = row.made_by == MADE_BY and row.managed_by is None
    if ours and not await routes.naming(conn, row.id):
        await written.remove(conn, desk, actor, row)


async def _present_model(conn: Connection, scope: str) -> str:
    choice = await store.find(conn, scope)
    if choice is None:
        raise Refusal("bad_model", "name the model, too", "model")
    return choice.model


def _order(scope: str, desk: Desk, provider: str, secret: Secret) -> NewConfig:
    scoping.kind_of(scope)
    known = rules.provider(provider, desk.catalog)
    return NewConfig(
        scope=scope,
        provider=known,
        alias=MADE_BY,
        free_alias=True,
        name=drafts.title(desk, known, MADE_BY),
        secret=secret,
        made_by=MADE_BY,
    )


def _model(text: str) -> str:
    if not 1 <= len(text) <= _LONGEST_MODEL or not text.isprintable() or " " in text:
        message = f"a model's name is 1-{_LONGEST_MODEL} characters without spaces"
        raise Refusal("bad_model", message, "model")
    return text
