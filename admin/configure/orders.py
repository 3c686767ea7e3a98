"""What is asked of the desk about provider configs, and what it answers. No behaviour.

Surfaces import these names from configs.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from gateway.shapes import AuthType, DialectName, Secret, Setting


class Unset(Enum):
    """The type of UNSET: a field the caller did not name, as distinct from null."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
Keep = Literal[Unset.UNSET]


@dataclass(frozen=True, slots=True)
class KeyParts:
    """AWS credentials as a caller sent them; one that is left out or masked was not sent."""

    access_key_id: Secret | None
    secret_access_key: Secret | None
    session_token: Secret | None = None


@dataclass(frozen=True, kw_only=True)
class NewConfig:
    """What a surface knows of a new config. `default` None: not said (first one becomes it).

    `alias` may be any text with `free_alias`: it is made an alias, with a number where it is taken.
    `distinct` says what no other config of the scope may have, whatever its provider.
    """

    scope: str
    provider: str  # catalog id, a foreign slug, or custom:<slug>
    alias: str
    name: str = ""
    secret: Secret | KeyParts | None = None
    base_url: str | None = None
    auth_type: AuthType = "api_key"
    settings: Mapping[str, Setting] = field(default_factory=dict)
    active: bool = True
    default: bool | None = None
    rate_limit: int | None = None
    rate_limit_period: int = 60
    dialect: DialectName | None = None  # custom:<slug> only
    secret_id: str | None = None  # a label of the caller's
    allow_unlisted: bool = True
    free_alias: bool = False
    distinct: Literal["alias", "name"] | None = None
    made_by: str | None = None  # the surface, where that matters later
    managed_by: str | None = None  # the file that keeps it


@dataclass(frozen=True, kw_only=True)
class ConfigChange:
    """What to change; UNSET keeps. `secret` None clears the key, a masked one keeps it.

    `settings` replaces the stored ones; `merged` changes those it names, None removes one.
    """

    alias: str | Keep = UNSET
    name: str | Keep = UNSET
    secret: Secret | KeyParts | None | Keep = UNSET
    base_url: str | None | Keep = UNSET
    auth_type: AuthType | Keep = UNSET
    settings: Mapping[str, Setting] | Keep = UNSET
    merged: Mapping[str, Setting | None] | Keep = UNSET
    active: bool | Keep = UNSET
    default: bool | Keep = UNSET
    rate_limit: int | None | Keep = UNSET
    rate_limit_period: int | Keep = UNSET
    dialect: DialectName | None | Keep = UNSET  # custom:<slug> only
    secret_id: str | None | Keep = UNSET
    allow_unlisted: bool | Keep = UNSET
    managed_by: str | None | Keep = UNSET  # the file that keeps it from now on
    distinct_name: bool = False  # a new name must be no other config's of the scope


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
    settings: Mapping[str, Setting]
    active: bool
    default: bool
    rate_limit: int | None
    rate_limit_period: int
    secret_preview: str
    part_masks: Mapping[str, str]  # of AWS credentials: accessKeyId, secretAccessKey, sessionToken
    secret_id: str | None
    secret_version: int | None  # None: there is no key
    allow_unlisted: bool
    made_by: str | None
    managed_by: str | None
    revision: int  # of the store, when it last changed
    created_at: float  # Unix seconds
    modified_at: float

    @property
    def keyed(self) -> bool:
        """Whether it has what it needs to be used, as far as keys go."""
        return self.secret_version is not None or self.auth_type == "none"


@dataclass(frozen=True, kw_only=True)
class Detached:
    """What went with a scope's last config of a provider."""

    configs: tuple[str, ...]
    disabled_agents: tuple[str, ...]
    removed_models: int
