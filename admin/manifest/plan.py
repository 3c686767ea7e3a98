"""What must change for the store to be as a file says: steps in the order they can be done.

Pure. An object nobody keeps is taken over when the file names it; one another file keeps is a flaw.
Only what this file keeps is ever removed. Called by the command line, before and for carry_out.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from admin.manifest.document import (
    AgentEntry,
    Document,
    Flaw,
    ManifestRefused,
    ModelEntry,
    ProviderEntry,
    RouteEntry,
    ScopeEntry,
)
from admin.manifest.state import State
from gateway.catalog import Catalog

Kind = Literal["scope", "provider", "model", "agent", "route", "choice"]
Verb = Literal["create", "change", "remove"]
Entry = ScopeEntry | ProviderEntry | ModelEntry | AgentEntry | RouteEntry | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change. `fields`: name -> (as it is, as it will be); no key is ever among them."""

    verb: Verb
    kind: Kind
    name: str
    line: int
    entry: Entry = None
    stored: str | None = None  # the id of what is changed or removed
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    scope: str = ""


def plan(document: Document, state: State, catalog: Catalog) -> list[Step]:
    """The steps; none when the store is as the file says. Raises ManifestRefused."""
    return _Planner(document, state, catalog).run()


class _Planner:
    def __init__(self, document: Document, state: State, catalog: Catalog) -> None:
        self._file = document
        self._state = state
        self._catalog = catalog
        self._flaws: list[Flaw] = []

    def run(self) -> list[Step]:
        self._check_names()
        changes = [
            *map(self._scope, self._file.scopes),
            *map(self._provider, self._file.providers),
            *map(self._model, self._file.models),
            *map(self._agent, self._file.agents),
            *map(self._route, self._file.routes),
        ]
        choices = list(self._choices())
        removals = list(self._removals())
        if self._flaws:
            raise ManifestRefused(self._file.source, self._flaws)
        return [step for step in changes if step is not None] + choices + removals

    def _scope(self, entry: ScopeEntry) -> Step | None:
        stored = self._state.scopes.get(entry.id)
        wanted = {"parent": entry.parent, "inherit": entry.inherit}
        if stored is None:
            return self._create("scope", entry.id, entry, wanted)
        have = {"parent": stored.parent, "inherit": stored.inherits}
        return self._change("scope", entry.id, entry, entry.id, have, wanted)

    def _provider(self, entry: ProviderEntry) -> Step | None:
        provider = self._known(entry)
        title = f"{provider}/{entry.alias} in {entry.scope}"
        stored = self._state.configs.get((entry.scope, provider, entry.alias.lower()))
        wanted = _config_fields(entry)
        if stored is None:
            return self._create("provider", title, entry, wanted)
        if not self._ours(stored.managed_by, entry.line, title):
            return None
        have = {
            "name": stored.name,
            "key": stored.secret_preview if stored.secret_preview.startswith("$") else None,
            "auth_type": stored.auth_type,
            "base_url": stored.base_url,
            "dialect": stored.dialect,
            "settings": dict(stored.settings),
            "active": stored.active,
            "default": stored.default,
            "rate_limit": stored.rate_limit,
            "rate_limit_period": stored.rate_limit_period,
            "allow_unlisted": stored.allow_unlisted,
        }
        # What the file does not say about these is left as it is.
        wanted = {name: value for name, value in wanted.items() if name in have}
        have["kept by"], wanted["kept by"] = stored.managed_by, self._file.name
        return self._change("provider", title, entry, stored.id, have, wanted)

    def _model(self, entry: ModelEntry) -> Step | None:
        provider = self._known(entry)
        title = f"{provider}/{entry.model} in {entry.scope}"
        if not self._catalog.lists(provider, entry.model):
            self._flaw(entry.line, f"{provider} lists no model {entry.model}")
            return None
        stored = self._state.models.get((entry.scope, provider, entry.model))
        wanted = {"enabled": entry.enabled}
        if stored is None:
            return self._create("model", title, entry, wanted)
        if not self._ours(stored.managed_by, entry.line, title):
            return None
        have = {"enabled": stored.enabled, "kept by": stored.managed_by}
        wanted["kept by"] = self._file.name  # type: ignore[assignment]
        return self._change("model", title, entry, title, have, wanted)

    def _agent(self, entry: AgentEntry) -> Step | None:
        title = f"{entry.name} in {entry.scope}"
        stored = self._state.agents.get((entry.scope, entry.name))
        wanted: dict[str, Any] = {"enabled": entry.enabled, "model": entry.model}
        if stored is None:
            return self._create("agent", title, entry, wanted)
        if not self._ours(stored.managed_by, entry.line, title):
            return None
        have = {"enabled": stored.agent.enabled, "model": stored.agent.model}
        have |= {"kept by": stored.managed_by}
        wanted["kept by"] = self._file.name
        return self._change("agent", title, entry, stored.agent.id, have, wanted)

    def _route(self, entry: RouteEntry) -> Step | None:
        title = f"{entry.name} in {entry.scope}"
        self._check_targets(entry)
        wanted: dict[str, Any] = {
            "targets": [
                f"{t.scope} {self._catalog.canonical(t.provider)}/{t.alias.lower()} {t.model}"
                for t in entry.targets
            ]
        }
        stored = self._state.routes.get((entry.scope, entry.name))
        if stored is None:
            return self._create("route", title, entry, wanted)
        if not self._ours(stored.managed_by, entry.line, title):
            return None
        views = [(self._state.named(t.config_id), t.model) for t in stored.route.targets]
        have: dict[str, Any] = {
            "targets": [
                f"{view.scope} {view.provider}/{view.alias.lower()} {model}"
                for view, model in views
                if view is not None
            ]
        }
        have["kept by"], wanted["kept by"] = stored.managed_by, self._file.name
        return self._change("route", title, entry, stored.route.id, have, wanted)

    def _choices(self) -> Iterable[Step]:
        """A scope's choice is the config whose entry says so."""
        said: dict[str, ProviderEntry] = {}
        for entry in self._file.providers:
            if entry.choice is not None and said.setdefault(entry.scope, entry) is not entry:
                self._flaw(entry.line, f"{entry.scope} has a choice already")
        for scope, entry in said.items():
            provider = self._known(entry)
            stored = self._state.configs.get((scope, provider, entry.alias.lower()))
            present = self._state.choices.get(scope)
            have = present.model if present and stored and present.config_id == stored.id else None
            if have != entry.choice:
                yield Step(
                    verb="change" if present else "create",
                    kind="choice",
                    name=f"of {scope}",
                    line=entry.line,
                    entry=entry,
                    scope=scope,
                    fields={"model": (have, entry.choice)},
                )
        for scope, choice in self._state.choices.items():
            view = self._state.named(choice.config_id)
            kept = view is not None and view.managed_by == self._file.name
            if scope not in said and kept:
                yield Step(verb="remove", kind="choice", name=f"of {scope}", line=1, scope=scope)

    def _removals(self) -> Iterable[Step]:
        """What this file kept and no longer names; what others refer to goes last."""
        name = self._file.name
        routes = {(entry.scope, entry.name) for entry in self._file.routes}
        agents = {(entry.scope, entry.name) for entry in self._file.agents}
        models = {(e.scope, self._canonical(e.provider), e.model) for e in self._file.models}
        providers = {
            (e.scope, self._canonical(e.provider), e.alias.lower()) for e in self._file.providers
        }
        for where, route in self._state.routes.items():
            if route.managed_by == name and where not in routes:
                yield self._remove("route", f"{where[1]} in {where[0]}", route.route.id, where[0])
        for where, agent in self._state.agents.items():
            if agent.managed_by == name and where not in agents:
                yield self._remove("agent", f"{where[1]} in {where[0]}", agent.agent.id, where[0])
        for of, row in self._state.models.items():
            if row.managed_by == name and of not in models:
                yield self._remove("model", f"{of[1]}/{of[2]} in {of[0]}", "\n".join(of), of[0])
        for at, view in self._state.configs.items():
            if view.managed_by == name and at not in providers:
                title = f"{view.provider}/{view.alias} in {view.scope}"
                yield self._remove("provider", title, view.id, view.scope)

    def _check_names(self) -> None:
        """Nothing may be said twice."""
        seen: dict[tuple[Any, ...], int] = {}
        for key, line in self._named():
            if key in seen:
                self._flaw(line, f"the {key[0]} stands on line {seen[key]} already")
            seen.setdefault(key, line)
        for key, lines in self._defaults().items():
            for line in lines[1:]:
                self._flaw(line, f"{key[1]} has a default in {key[0]} already (line {lines[0]})")

    def _defaults(self) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = {}
        for entry in self._file.providers:
            if entry.default:
                where = (entry.scope, self._canonical(entry.provider))
                found.setdefault(where, []).append(entry.line)
        return found

    def _named(self) -> Iterable[tuple[tuple[Any, ...], int]]:
        for scope in self._file.scopes:
            yield ("scope", scope.id), scope.line
        for one in self._file.providers:
            where = (one.scope, self._canonical(one.provider), one.alias.lower())
            yield ("provider", *where), one.line
        for model in self._file.models:
            of = (model.scope, self._canonical(model.provider), model.model)
            yield ("model", *of), model.line
        for agent in self._file.agents:
            yield ("agent", agent.scope, agent.name), agent.line
        for route in self._file.routes:
            yield ("route", route.scope, route.name), route.line

    def _check_targets(self, entry: RouteEntry) -> None:
        ours = {
            (e.scope, self._canonical(e.provider), e.alias.lower()) for e in self._file.providers
        }
        for target in entry.targets:
            where = (target.scope, self._canonical(target.provider), target.alias.lower())
            if where not in ours and where not in self._state.configs:
                name = f"{target.provider}/{target.alias} in {target.scope}"
                self._flaw(target.line, f"there is no provider config {name}")

    def _known(self, entry: ProviderEntry | ModelEntry) -> str:
        known = self._catalog.canonical(entry.provider)
        if known is None:
            self._flaw(entry.line, f"no provider {entry.provider[:64]!r} in the catalog")
        return known or entry.provider

    def _canonical(self, provider: str) -> str:
        return self._catalog.canonical(provider) or provider

    def _ours(self, managed_by: str | None, line: int, title: str) -> bool:
        if managed_by in (None, self._file.name):
            return True
        self._flaw(line, f"{title} is kept by the file {managed_by}")
        return False

    def _flaw(self, line: int, message: str) -> None:
        flaw = Flaw(line, message)
        if flaw not in self._flaws:
            self._flaws.append(flaw)

    def _create(self, kind: Kind, name: str, entry: Any, wanted: Mapping[str, Any]) -> Step:
        fields = {key: (None, value) for key, value in wanted.items() if value not in (None, {})}
        return Step(
            verb="create", kind=kind, name=name, line=entry.line, entry=entry, fields=fields
        )

    def _change(
        self,
        kind: Kind,
        name: str,
        entry: Any,
        stored: str,
        have: Mapping[str, Any],
        wanted: Mapping[str, Any],
    ) -> Step | None:
        fields = {
            key: (have[key], value) for key, value in wanted.items() if have.get(key) != value
        }
        if not fields:
            return None
        return Step(
            verb="change",
            kind=kind,
            name=name,
            line=entry.line,
            entry=entry,
            stored=stored,
            fields=fields,
        )

    def _remove(self, kind: Kind, name: str, stored: str, scope: str) -> Step:
        return Step(verb="remove", kind=kind, name=name, line=1, stored=stored, scope=scope)


def _config_fields(entry: ProviderEntry) -> dict[str, Any]:
    said: dict[str, Any] = {
        "auth_type": entry.auth_type,
        "base_url": entry.base_url,
        "dialect": entry.dialect,
        "settings": {name: _stored(name, value) for name, value in entry.settings.items()},
        "active": entry.active,
        "rate_limit": entry.rate_limit,
        "rate_limit_period": entry.rate_limit_period,
        "allow_unlisted": entry.allow_unlisted,
    }
    left = {"name": entry.name, "key": entry.key, "default": entry.default}
    return said | {name: value for name, value in left.items() if value is not None}


def _stored(name: str, value: Any) -> Any:
    # Names of headers are kept in lower case.
    return {key.lower(): text for key, text in value.items()} if name == "headers" else value
