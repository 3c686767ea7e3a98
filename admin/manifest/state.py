"""What the store holds, as far as config as code can say it: read once, compared by plan.py.

Nothing is written here, no key is opened: a sealed key is a version number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from admin.configure import configs
from admin.configure.configs import ConfigView
from admin.configure.desk import Desk
from gateway.shapes import Choice, Scope
from gateway.store import agents as agent_store
from gateway.store import choices, enablement, routes, scopes
from gateway.store.agents import AgentRow
from gateway.store.enablement import StateRow
from gateway.store.routes import RouteRow

ConfigName = tuple[str, str, str]  # scope, provider, alias in lower case


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything by the names a file calls it."""

    scopes: Mapping[str, Scope]
    configs: Mapping[ConfigName, ConfigView]
    models: Mapping[tuple[str, str, str], StateRow]
    agents: Mapping[tuple[str, str], AgentRow]
    routes: Mapping[tuple[str, str], RouteRow]
    choices: Mapping[str, Choice]

    def named(self, config_id: str) -> ConfigView | None:
        return next((view for view in self.configs.values() if view.id == config_id), None)


async def read_state(desk: Desk) -> State:
    views = await configs.every(desk, None)
    async with desk.store.read() as conn:
        return State(
            scopes={scope.id: scope for scope in await scopes.everyone(conn)},
            configs={name_of(view): view for view in views},
            models={
                (row.scope_id, row.provider_id, row.model_id): row
                for row in await enablement.everyone(conn)
            },
            agents={
                (row.agent.scope, row.agent.name): row for row in await agent_store.everyone(conn)
            },
            routes={(row.route.scope, row.route.name): row for row in await routes.everyone(conn)},
            choices=await choices.everyone(conn),
        )


def name_of(view: ConfigView) -> ConfigName:
    return view.scope, view.provider, view.alias.lower()
