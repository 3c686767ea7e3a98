"""From what was asked to the columns that are stored: every rule that needs no transaction.

Pure but for reading the desk's catalog and settings. Called by configs.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from admin.configure import rules
from admin.configure.addresses import checked_base_url
from admin.configure.desk import Desk
from admin.configure.orders import UNSET, ConfigChange, NewConfig
from admin.configure.refusals import Refusal
from admin.permit import Actor, allows
from gateway.providers import is_custom
from gateway.shapes import GLOBAL
from gateway.store.configs import ConfigRow
from gateway.store.places import base_url, origin
from gateway.vault import looks_masked

# Shorter ones are words like `test`, which an alias may contain.
_SECRET_FROM = 16


@dataclass(frozen=True, slots=True)
class Key:
    """A provider key on its way to the vault, or a reference that is stored as it is."""

    text: str
    reference: bool

    def __repr__(self) -> str:
        return "Key(***)"


Keying = Key | Literal["keep", "clear"]


def everything(new: NewConfig, name: str) -> ConfigChange:
    """A new config as a change that names every field; `name` where the caller gave none."""
    return ConfigChange(
        alias=new.alias,
        name=new.name or name,
        base_url=new.base_url,
        auth_type=new.auth_type,
        settings=new.settings,
        active=new.active,
        rate_limit=new.rate_limit,
        rate_limit_period=new.rate_limit_period,
    )


def title(desk: Desk, provider: str, alias: str) -> str:
    """What a config is called when nobody said."""
    known = desk.catalog.providers.get(provider)
    return f"{known.name if known else provider} {alias}"[:200]


def columns(
    desk: Desk, actor: Actor, provider: str, asked: ConfigChange, row: ConfigRow | None
) -> dict[str, Any]:
    """The columns `asked` names, checked; with `origin` when where it goes was named.

    `row` is what is stored, None for a new config. Raises Refusal.
    """
    found: dict[str, Any] = {}
    if asked.alias is not UNSET:
        found["alias"] = rules.alias(asked.alias, desk.catalog)
        found["alias_key"] = asked.alias.lower()
    if asked.name is not UNSET:
        found["name"] = rules.name(asked.name)
    if asked.auth_type is not UNSET:
        found["auth_type"] = rules.auth_type(asked.auth_type)
    if asked.dialect is not UNSET:
        found["dialect"] = rules.dialect(asked.dialect, provider)
    if asked.active is not UNSET:
        found["is_active"] = asked.active
    return found | _limits(asked) | _place(desk, actor, provider, asked, row)


def _limits(asked: ConfigChange) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if asked.rate_limit is not UNSET:
        found["rate_limit"] = rules.count(asked.rate_limit, "rate_limit")
    if asked.rate_limit_period is not UNSET:
        found["rate_limit_period"] = rules.period(asked.rate_limit_period)
    return found


def _place(
    desk: Desk, actor: Actor, provider: str, asked: ConfigChange, row: ConfigRow | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if asked.settings is not UNSET:
        found["settings"] = rules.settings(asked.settings)
    if asked.base_url is not UNSET:
        own = asked.base_url
        found["base_url"] = None if own is None else checked_base_url(own, desk.settings)
    if found:
        own = found["base_url"] if "base_url" in found or row is None else row.base_url
        settings = found["settings"] if "settings" in found or row is None else row.settings
        found["origin"] = _origin(desk, actor, provider, own, settings)
    return found


def _origin(
    desk: Desk, actor: Actor, provider: str, own: str | None, settings: Mapping[str, str]
) -> str:
    known = desk.catalog.providers.get(provider)
    native = base_url(known, None, settings)
    place = origin(base_url(known, own, settings))
    if not place and provider not in desk.settings.provider_base_urls:
        raise _missing(desk, provider)
    off_catalog = own is not None and place != origin(native)
    if off_catalog and not allows(actor, "providers.manage", GLOBAL):
        message = "a base_url off the catalog needs a Manage permission in global"
        raise Refusal("forbidden", message, "base_url")
    return place


def _missing(desk: Desk, provider: str) -> Refusal:
    known = desk.catalog.providers.get(provider)
    template = known.template if known else None
    if template is not None and template.url:
        message = f"{provider} needs the setting {template.setting}, or a base_url"
        return Refusal("bad_settings", message, "settings")
    who = "custom providers need" if is_custom(provider) else f"{provider} needs"
    return Refusal("bad_base_url", f"{who} a base_url", "base_url")


def keying(asked: ConfigChange, row: ConfigRow | None, actor: Actor) -> Keying:
    """What becomes of the key: a new one, the stored one kept, or none any more."""
    if asked.secret is UNSET:
        return "keep"
    if asked.secret is None:
        return "clear"
    text = asked.secret.expose().decode("utf-8", "replace")
    stored = row is not None and row.preview is not None
    if text == "" or (stored and looks_masked(text)):
        return "keep"
    key = Key(*rules.key(text, actor))
    _keep_secret(key.text, asked)
    return key


def _keep_secret(key: str, asked: ConfigChange) -> None:
    """Refuse a key that stands, whole, in a field that is stored and shown as it is."""
    settings = [] if asked.settings is UNSET else asked.settings.values()
    plain = [asked.alias, asked.name, asked.base_url, asked.secret_id, *settings]
    if len(key) >= _SECRET_FROM and any(isinstance(t, str) and key in t for t in plain):
        raise Refusal("bad_key", "the key stands in another field, too, and that is shown")


def bound(key: Keying, found: Mapping[str, Any], row: ConfigRow) -> Keying:
    """The same, minding that a stored key belongs to its origin and auth scheme.

    Raises Refusal: rebind (the key must be sent again), bad_key (auth type none takes none).
    """
    auth_type = found.get("auth_type", row.auth_type)
    if auth_type == "none":
        if isinstance(key, Key):
            raise Refusal("bad_key", "auth_type none takes no key", "secret")
        return "clear"
    moved = auth_type != row.auth_type or found.get("origin", row.origin) != row.origin
    if key == "keep" and moved and row.preview is not None:
        message = "the key is sealed to where it was sent and how; send it again to move it"
        raise Refusal("rebind", message, "secret")
    return key


def label(asked: ConfigChange, row: ConfigRow | None) -> dict[str, Any]:
    """The column of `secret_id`, when it was named."""
    if asked.secret_id is UNSET:
        return {}
    alone = asked.secret is UNSET or asked.secret is None or not asked.secret.expose()
    same = row is not None and asked.secret_id == row.secret_label
    return {"secret_label": rules.label(asked.secret_id, alone=alone and not same)}
