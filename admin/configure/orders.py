"""What is asked of the desk about provider configs, and what it answers. No behaviour.

Surfaces import these names from configs.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from gateway.shapes import AuthType, DialectName, Secret


class Unset(Enum):
    """The type of UNSET: a field the caller did not name, as distinct from null."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
Keep = Literal[Unset.UNSET]


@dataclass(frozen=True, kw_only=True)
class NewConfig:
    """What a surface knows of a new config. `default` None: not said (first one becomes it)."""

    scope: str
    provider: str  # catalog id, a foreign slug, or custom:<slug>
    alias: str
    name: str = ""
    secret: Secret | None = None
    base_url: str | None = None
    auth_type: AuthType = "api_key"
    settings: Mapping[str, str] = field(default_factory=dict)
    active: bool = True
    default: bool | None = None
    rate_limit: int | None = None
    rate_limit_period: int = 60
    dialect: DialectName | None = None  # custom:<slug> only
    secret_id: str | None = None  # a label of the caller's


@dataclass(frozen=True, kw_only=True)
class ConfigChange:
    """What to change; UNSET keeps. `secret` None clears the key, a masked one keeps it."""

    alias: str | Keep = UNSET
    name: str | Keep = UNSET
    secret: Secret | None | Keep = UNSET
    base_url: str | None | Keep = UNSET
    auth_type: AuthType | Keep = UNSET
    settings: Mapping[str, str] | Keep = UNSET
    active: bool | Keep = UNSET
    default: bool | Keep = UNSET
    rate_limit: int | None | Keep = UNSET
    rate_limit_period: int | Keep = UNSET
    dialect: DialectName | None | Keep = UNSET  # custom:<slug> only
    secret_id: str | None | Keep = UNSET


@dataclass(frozen=True, kw_only=True)
class ConfigView:
    """A config as it may be shown: no key, only its preview (`""` when there is none)."""

    id: str  # GUID, lower case
    scope: str
    provider: str
    alias: str
    name: str
    base_url: str | None  # None: the catalog's
    dialect: DialectName | None  # custom:<slug> only
    auth_type: AuthType
    settings: Mapping[str, str]
    active: bool
    default: bool
    rate_limit: int | None
    rate_limit_period: int
    secret_preview: str
    secret_id: str | None
    created_at: float  # Unix seconds
    modified_at: float
