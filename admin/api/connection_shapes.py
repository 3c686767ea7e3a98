"""Surface 2's queries, bodies and answers. No behaviour."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from admin.api.bodies import Query, Shown, Strict, Text
from admin.api.capabilities import Capability
from admin.api.connection_settings import ConnectionSettings

_CAMEL = ConfigDict(alias_generator=to_camel)


class InScope(Query):
    """An alias is looked up in `scope` (default: global); an id works in any scope one may read."""

    scope: Text | None = None


class Window(InScope):
    """Without `scope`: every scope one may read. `filter` is part of a name or an alias."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, alias_generator=to_camel)

    skip: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    take: Annotated[int, Field(ge=0, le=1000)] = 100
    filter: Annotated[str, Field(max_length=200)] = ""
    provider_id: Annotated[str, Field(max_length=200)] = ""
    capability: Annotated[str, Field(max_length=64)] = ""


class Narrowed(Query):
    """Without `scope`: every scope one may read."""

    scope: Text | None = None


class OfCapability(InScope):
    capability: Annotated[str, Field(max_length=64)] = ""


class NewConnection(Strict):
    model_config = _CAMEL

    alias: Text
    name: Text
    provider_id: Text
    is_active: bool = True
    settings: ConnectionSettings | None = None
    scope: Text | None = None


class ConnectionChange(Strict):
    """What is left out or null is kept; `alias` and `providerId` cannot change."""

    model_config = _CAMEL

    name: Text | None = None
    is_active: bool | None = None
    settings: ConnectionSettings | None = None
    alias: Text | None = None
    provider_id: Text | None = None


class ConnectionItem(Shown):
    """`managedBy` is the file that keeps it; it is changed there."""

    model_config = ConfigDict(**Shown.model_config, alias_generator=to_camel)

    id: str
    alias: str
    name: str
    provider_id: str
    is_active: bool
    date_created: str
    date_modified: str
    scope: str
    managed_by: str | None


class Connection(ConnectionItem):
    """`settings` are the provider's own; keys are masks."""

    settings: Annotated[dict[str, Any], Field(title="Shown")]


class Connections(Shown):
    items: list[ConnectionItem]
    total: int


class Capabilities(Shown):
    items: list[Capability]


class ConnectionModel(Shown):
    id: str
    name: str
    capabilities: list[Capability]


class ConnectionModels(Shown):
    """`source` says who listed them: the provider just now, or the catalog."""

    items: list[ConnectionModel]
    source: Literal["provider", "catalog"]


class Tested(Shown):
    model_config = ConfigDict(**Shown.model_config, alias_generator=to_camel)

    success: bool
    error_message: str | None
