"""The store as a file of config as code: keys only as references, sealed ones left out with a note.

Pure. What it writes, reading.py reads. Called by the command line.
"""

from __future__ import annotations

from typing import Any

import yaml

from admin.configure.configs import ConfigView
from admin.manifest.reading import VERSION
from admin.manifest.state import State
from gateway.shapes import Agent, Route

_SEALED = "# key: stored sealed, so it is not written here; without `key` it stays as it is"


def export(state: State, name: str) -> str:
    """YAML of everything config as code can say, in a fixed order."""
    sections = {
        "scopes": [_scope(state, scope) for scope in sorted(state.scopes) if scope != "global"],
        "providers": [_provider(state, view) for _, view in sorted(state.configs.items())],
        "models": [
            {"scope": scope, "provider": provider, "model": model, "enabled": row.enabled}
            for (scope, provider, model), row in sorted(state.models.items())
        ],
        "agents": [_agent(row.agent) for _, row in sorted(state.agents.items())],
        "routes": [_route(state, row.route) for _, row in sorted(state.routes.items())],
    }
    text = _dumped({"version": VERSION, "name": name})
    for section, rows in sections.items():
        if rows:
            text += f"\n{section}:\n" + "".join(map(_item, rows))
    return text


def _item(row: dict[str, Any]) -> str:
    sealed = row.pop("sealed", False)
    lines = _dumped(row).splitlines()
    if sealed:
        lines.append(_SEALED)
    return "".join(
        f"{'  - ' if not number else '    '}{line}\n" for number, line in enumerate(lines)
    )


def _dumped(values: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return text


def _scope(state: State, scope_id: str) -> dict[str, Any]:
    scope = state.scopes[scope_id]
    row: dict[str, Any] = {"id": scope.id, "parent": scope.parent}
    return row if scope.inherits else {**row, "inherit": False}


def _provider(state: State, view: ConfigView) -> dict[str, Any]:
    row: dict[str, Any] = {"scope": view.scope, "provider": view.provider, "alias": view.alias}
    row["name"] = view.name
    if view.secret_preview.startswith("$"):
        row["key"] = view.secret_preview
    # Only what differs from what a file means by saying nothing.
    said: dict[str, tuple[object, object]] = {
        "auth_type": (view.auth_type, "api_key"),
        "base_url": (view.base_url, None),
        "dialect": (view.dialect, None),
        "settings": (dict(view.settings), {}),
        "active": (view.active, True),
        "default": (view.default, None),
        "rate_limit": (view.rate_limit, None),
        "rate_limit_period": (view.rate_limit_period, 60),
        "allow_unlisted": (view.allow_unlisted, True),
    }
    row |= {name: value for name, (value, silent) in said.items() if value != silent}
    choice = state.choices.get(view.scope)
    if choice is not None and choice.config_id == view.id:
        row["choice"] = choice.model
    keyed = view.secret_version is not None and "key" not in row
    return {**row, "sealed": True} if keyed else row


def _agent(agent: Agent) -> dict[str, Any]:
    row: dict[str, Any] = {"scope": agent.scope, "name": agent.name, "enabled": agent.enabled}
    return row if agent.model is None else {**row, "model": agent.model}


def _route(state: State, route: Route) -> dict[str, Any]:
    targets = []
    for target in route.targets:
        view = state.named(target.config_id)
        if view is not None:
            where = {"scope": view.scope, "provider": view.provider, "alias": view.alias}
            targets.append({**where, "model": target.model})
    return {"scope": route.scope, "name": route.name, "targets": targets}
