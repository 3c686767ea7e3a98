"""Reads a file of config as code: YAML, nothing in it that is not understood, every flaw by line.

Pure. Keys stand in it only as references. Called by the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, get_args

import yaml

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
from gateway.shapes import AuthType, DialectName
from gateway.vault import is_reference

MOST_BYTES = 1024 * 1024
VERSION = 1
_DEEPEST = 12
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_STR, _INT, _BOOL, _NULL = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "bool", "null"))
Node = yaml.nodes.Node


def read(text: str, source: str) -> Document:
    """The document. Raises ManifestRefused with every flaw found."""
    flaws: list[Flaw] = []
    root = _composed(text, source)
    reader = _Reader(flaws)
    found = reader.document(root, source)
    if flaws or found is None:
        raise ManifestRefused(source, flaws or [Flaw(1, "the file is empty")])
    return found


def _composed(text: str, source: str) -> Node | None:
    if len(text.encode()) > MOST_BYTES:
        raise ManifestRefused(source, [Flaw(1, f"the file is larger than {MOST_BYTES} bytes")])
    try:
        _check_events(text, source)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ManifestRefused(source, [Flaw(line, error.problem or "not YAML")]) from None
    except yaml.YAMLError:
        raise ManifestRefused(source, [Flaw(1, "not YAML")]) from None


def _check_events(text: str, source: str) -> None:
    """An alias may stand for more than anybody wants to read, and depth costs more than it says."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.events.CollectionStartEvent)
        depth -= isinstance(event, yaml.events.CollectionEndEvent)
        if isinstance(event, yaml.events.AliasEvent):
            flaw = Flaw(_line(event), "aliases (*name) are not understood")
            raise ManifestRefused(source, [flaw])
        if depth > _DEEPEST:
            raise ManifestRefused(source, [Flaw(_line(event), "nested too deep")])


class _Reader:
    """Turns nodes into entries; what does not fit is noted and left out."""

    def __init__(self, flaws: list[Flaw]) -> None:
        self._flaws = flaws

    def document(self, root: Node | None, source: str) -> Document | None:
        if root is None:
            return None
        parts = self._mapping(root, {"version", "name", *_SECTIONS})
        version = parts.get("version")
        if version is None or self._whole(version) != VERSION:
            self._note(version or root, f"version must be {VERSION}")
        name = self._text(parts["name"]) if "name" in parts else ""
        if not _NAME.fullmatch(name or ""):
            self._note(parts.get("name", root), "name must be 1-64 of a-z 0-9 . _ -")
        sections = {
            section: self._entries(parts[section], kind)
            for section, kind in _SECTIONS.items()
            if section in parts
        }
        return Document(source=source, name=name or "", **sections)

    def _entries(self, node: Node, kind: type[Any]) -> tuple[Any, ...]:
        rows = self._sequence(node)
        return tuple(entry for row in rows if (entry := self._entry(row, kind)) is not None)

    def _entry(self, node: Node, kind: type[Any]) -> Any:
        before = len(self._flaws)
        names = {item.name for item in fields(kind) if item.name != "line"}
        parts = self._mapping(node, names)
        readers = _FIELDS[kind]
        values = {
            name: readers.get(name, _Reader._text)(self, part) for name, part in parts.items()
        }
        for item in fields(kind):
            required = item.default is MISSING and item.default_factory is MISSING
            if required and item.name not in values and item.name != "line":
                self._note(node, f"{item.name} is missing")
        if len(self._flaws) > before:
            return None
        return kind(line=_line(node), **values)

    def _mapping(self, node: Node, known: set[str]) -> dict[str, Node]:
        if not isinstance(node, yaml.MappingNode):
            self._note(node, "must be a mapping (name: value)")
            return {}
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in known:
                self._note(key, f"unknown {name[:64]!r}; there are {', '.join(sorted(known))}")
            elif name in found:
                self._note(key, f"{name} stands here twice")
            else:
                found[name] = value
        return found

    def _sequence(self, node: Node) -> list[Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        self._note(node, "must be a list (- …)")
        return []

    def _scalar(self, node: Node, tag: str, wanted: str) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == tag:
            return str(node.value)
        self._note(node, f"must be {wanted}")
        return None

    def _text(self, node: Node) -> str | None:
        return self._scalar(node, _STR, "text; put numbers and words like yes in quotes")

    def _truth(self, node: Node) -> bool | None:
        text = self._scalar(node, _BOOL, "true or false")
        return None if text is None else text.lower() in ("true", "yes", "on")

    def _whole(self, node: Node) -> int | None:
        text = self._scalar(node, _INT, "a whole number")
        if text is None:
            return None
        if not re.fullmatch(r"[1-9][0-9]{0,9}|0", text):
            self._note(node, "must be a plain whole number")
            return None
        return int(text)

    def _limit(self, node: Node) -> int | None:
        return None if node.tag == _NULL else self._whole(node)

    def _key(self, node: Node) -> str | None:
        text = self._text(node)
        if text is not None and not is_reference(text):
            # The text itself may be a key somebody put here: it is not repeated.
            message = (
                "a key stands here only as a reference: $env:UPSTREAM_… or $file:/run/secrets/…"
            )
            self._note(node, message)
        return text

    def _one_of(self, node: Node, known: tuple[str, ...]) -> str | None:
        text = self._text(node)
        if text is not None and text not in known:
            self._note(node, f"one of {', '.join(known)}")
        return text

    def _auth_type(self, node: Node) -> str | None:
        return self._one_of(node, get_args(AuthType))

    def _dialect(self, node: Node) -> str | None:
        return self._one_of(node, get_args(DialectName))

    def _settings(self, node: Node) -> dict[str, Any]:
        return {
            name: self._rows(value) if isinstance(value, yaml.MappingNode) else self._text(value)
            for name, value in self._pairs(node)
        }

    def _rows(self, node: Node) -> dict[str, Any]:
        return {name: self._text(value) for name, value in self._pairs(node)}

    def _pairs(self, node: Node) -> list[tuple[str, Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._note(node, "must be a mapping (name: value)")
            return []
        found = [(self._text(key) or "", value) for key, value in node.value]
        if len({name for name, _ in found}) < len(found):
            self._note(node, "a name stands here twice")
        return found

    def _targets(self, node: Node) -> tuple[TargetEntry, ...]:
        return self._entries(node, TargetEntry)

    def _note(self, node: Node, message: str) -> None:
        self._flaws.append(Flaw(_line(node), message))


def _line(node: Node | yaml.events.Event) -> int:
    return int(node.start_mark.line) + 1 if node.start_mark is not None else 1


_TEXT: Callable[[_Reader, Node], Any] = _Reader._text
_SECTIONS: Mapping[str, type[Any]] = {
    "scopes": ScopeEntry,
    "providers": ProviderEntry,
    "models": ModelEntry,
    "agents": AgentEntry,
    "routes": RouteEntry,
}
# What is not text.
_FIELDS: Mapping[type[Any], Mapping[str, Callable[[_Reader, Node], Any]]] = {
    ScopeEntry: {"inherit": _Reader._truth},
    ProviderEntry: {
        "key": _Reader._key,
        "auth_type": _Reader._auth_type,
        "dialect": _Reader._dialect,
        "settings": _Reader._settings,
        "active": _Reader._truth,
        "default": _Reader._truth,
        "rate_limit": _Reader._limit,
        "rate_limit_period": _Reader._whole,
        "allow_unlisted": _Reader._truth,
    },
    ModelEntry: {"enabled": _Reader._truth},
    AgentEntry: {"enabled": _Reader._truth},
    RouteEntry: {"targets": _Reader._targets},
    TargetEntry: {},
}
