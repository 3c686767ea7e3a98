"""Carries a plan out, one step after the other, each a transaction of the desk with its audit row.

A step that is refused stops the rest: what was done before it stays, and the next plan goes on from
there. Called by the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from admin.configure import agents, choices, configs, models, routes, scopes
from admin.configure.agents import AgentChange, NewAgent
from admin.configure.choices import Rechoice
from admin.configure.configs import ConfigChange, ConfigView, NewConfig
from admin.configure.desk import Desk
from admin.configure.refusals import Refusal
from admin.configure.routes import NewRoute, RouteChange
from admin.configure.scopes import ScopeChange
from admin.manifest.document import (
    AgentEntry,
    Document,
    Flaw,
    ManifestRefused,
    ModelEntry,
    ProviderEntry,
    RouteEntry,
    ScopeEntry,
    TargetEntry,
)
from admin.manifest.plan import Step
from admin.permit import LOCAL
from gateway.shapes import Secret, Target


async def carry_out(
    desk: Desk, document: Document, steps: Sequence[Step], done: Callable[[Step], None]
) -> None:
    """`done` hears of each step. Raises ManifestRefused with the line of the one refused."""
    worker = _Worker(desk, document.name)
    for step in steps:
        try:
            await worker.take(step)
        except Refusal as error:
            where = f"{error.field}: " if error.field else ""
            flaw = Flaw(step.line, f"{step.kind} {step.name}: {where}{error.message}")
            raise ManifestRefused(document.source, [flaw]) from None
        done(step)


class _Worker:
    def __init__(self, desk: Desk, owner: str) -> None:
        self._desk = desk
        self._owner = owner

    async def take(self, step: Step) -> None:
        if step.verb == "remove":
            await self._remove(step)
            return
        match step.entry:
            case ScopeEntry() as entry:
                await self._scope(step, entry)
            case ProviderEntry() as entry if step.kind == "choice":
                await self._choose(entry)
            case ProviderEntry() as entry:
                await self._provider(step, entry)
            case ModelEntry() as entry:
                await self._model(entry)
            case AgentEntry() as entry:
                await self._agent(step, entry)
            case RouteEntry() as entry:
                await self._route(step, entry)

    async def _scope(self, step: Step, entry: ScopeEntry) -> None:
        if step.verb == "create":
            await scopes.create(self._desk, LOCAL, entry.id, entry.parent, inherit=entry.inherit)
            return
        change = ScopeChange(parent=entry.parent, inherit=entry.inherit)
        await scopes.change(self._desk, LOCAL, entry.id, change)

    async def _provider(self, step: Step, entry: ProviderEntry) -> None:
        said = _said(entry)
        if step.verb == "create":
            new = NewConfig(
                scope=entry.scope,
                provider=entry.provider,
                alias=entry.alias,
                managed_by=self._owner,
                **said,
            )
            await configs.create(self._desk, LOCAL, new)
            return
        # Only what differs: a key or a place sent again would seal or move what stays.
        changed = {_FIELD.get(name, name) for name in step.fields}
        asked = {name: value for name, value in said.items() if name in changed}
        change = ConfigChange(**asked, managed_by=self._owner)
        await configs.change(
            self._desk, LOCAL, step.stored or "", entry.scope, change, owner=self._owner
        )

    async def _choose(self, entry: ProviderEntry) -> None:
        view = await self._config(entry)
        change = Rechoice(model=entry.choice)
        await choices.rechoose(self._desk, LOCAL, entry.scope, change, view.id)

    async def _model(self, entry: ModelEntry) -> None:
        await models.set_enabled(
            self._desk,
            LOCAL,
            entry.scope,
            entry.provider,
            entry.model,
            entry.enabled,
            owner=self._owner,
        )

    async def _agent(self, step: Step, entry: AgentEntry) -> None:
        if step.stored is None:
            new = NewAgent(
                name=entry.name, scope=entry.scope, enabled=entry.enabled, model=entry.model
            )
            await agents.create(self._desk, LOCAL, new, owner=self._owner)
            return
        change = AgentChange(enabled=entry.enabled, model=entry.model)
        await agents.change(self._desk, LOCAL, step.stored, change, owner=self._owner)

    async def _route(self, step: Step, entry: RouteEntry) -> None:
        views = [(await self._config(target), target.model) for target in entry.targets]
        targets = [Target(view.id, model) for view, model in views]
        if step.stored is None:
            new = NewRoute(name=entry.name, scope=entry.scope, targets=targets)
            await routes.create(self._desk, LOCAL, new, owner=self._owner)
            return
        change = RouteChange(targets=targets)
        await routes.change(self._desk, LOCAL, step.stored, change, owner=self._owner)

    async def _remove(self, step: Step) -> None:
        desk, owner, stored = self._desk, self._owner, step.stored or ""
        match step.kind:
            case "route":
                await routes.delete(desk, LOCAL, stored, owner=owner)
            case "agent":
                await agents.delete(desk, LOCAL, stored, owner=owner)
            case "provider":
                await configs.delete(desk, LOCAL, stored, step.scope, owner=owner)
            case "choice":
                await choices.unchoose(desk, LOCAL, step.scope)
            case "model":
                scope, provider, model = stored.split("\n")
                await models.forget(desk, LOCAL, scope, provider, model, owner=owner)

    async def _config(self, entry: ProviderEntry | TargetEntry) -> ConfigView:
        return await configs.named(self._desk, f"{entry.provider}:{entry.alias}", entry.scope)


# The desk's name of what a file calls otherwise.
_FIELD = {"key": "secret"}


def _said(entry: ProviderEntry) -> dict[str, Any]:
    """The fields of a desk's order that the entry names."""
    said: dict[str, Any] = {
        "auth_type": entry.auth_type,
        "base_url": entry.base_url,
        "settings": dict(entry.settings),
        "active": entry.active,
        "rate_limit": entry.rate_limit,
        "rate_limit_period": entry.rate_limit_period,
        "allow_unlisted": entry.allow_unlisted,
        "dialect": entry.dialect,
    }
    left = {"name": entry.name, "default": entry.default}
    if entry.key is not None:
        left["secret"] = Secret(entry.key.encode())  # type: ignore[assignment]
    return said | {name: value for name, value in left.items() if value is not None}
