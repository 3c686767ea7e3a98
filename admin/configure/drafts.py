"""From what was asked to the columns that are stored: every rule that needs no transaction.

Pure but for reading the desk's catalog and settings; keys are keying.py's. Called by configs.py.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from admin.configure import keying, rules
from admin.configure.addresses import checked_base_url
from admin.configure.desk import Desk
from admin.configure.keying import Key, Keying
from admin.configure.orders import UNSET, ConfigChange, NewConfig
from admin.configure.refusals import Refusal
from admin.permit import Actor, allows
from gateway.providers import dialect_of, is_custom
from gateway.shapes import GLOBAL, AuthType, DialectName, Setting
from gateway.sign import can_sign
from gateway.store.configs import ConfigRow
from gateway.store.places import base_url, origin

_NO_SLUG = re.compile(r"[^a-z0-9._-]+")
_LONGEST_SLUG = 56  # leaves room for a number behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a config will be once a change is made: all that a probe of its key needs.

    `base_url` is the effective one, without the version of it that an operator's override makes;
    `revision` is the row's, None for a new config.
    """

    provider: str
    dialect: DialectName | None
    base_url: str | None
    auth_type: AuthType
    settings: Mapping[str, Setting]
    origin: str
    key: Keying
    revision: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A new config as its rules left it: the columns to write, and what becomes of its key."""

    provider: str
    columns: Mapping[str, Any]
    key: Keying


def asked_of(desk: Desk, actor: Actor, provider: str, new: NewConfig) -> Asked:
    """A new config, checked as far as no transaction is needed. Raises Refusal."""
    alias = next(aliases(new.alias, desk)) if new.free_alias else new.alias
    asked = keying.unpacked(provider, everything(new, title(desk, provider, alias)), None)
    found = columns(desk, actor, provider, replace(asked, alias=alias), None)
    found["dialect"] = rules.dialect(new.dialect, provider)
    found |= keying.label(asked, None)
    found |= {"made_by": new.made_by, "managed_by": new.managed_by}
    key = keying.keying(asked, None, actor)
    if found["auth_type"] == "none" and isinstance(key, Key):
        raise Refusal("bad_key", "auth_type none takes no key", "secret")
    if found["auth_type"] == "aws_sigv4" and isinstance(key, Key) and not _of_aws(key):
        raise Refusal("bad_key", "aws_sigv4 needs AWS credentials", "secret")
    check_signing(found["auth_type"], found, None)
    return Asked(provider, found, key)


def _of_aws(key: Key) -> bool:
    return bool(key.masks) or key.reference


def check_signing(auth_type: str, found: Mapping[str, Any], row: ConfigRow | None) -> None:
    """A signature names the region, wherever the request goes."""
    settings = found["settings"] if "settings" in found or row is None else row.settings
    if auth_type == "aws_sigv4" and not settings.get("region"):
        raise Refusal("bad_settings", "AWS signatures need the setting region", "settings")
    if auth_type == "aws_sigv4" and not can_sign():
        message = "AWS signatures need botocore: pip install 'wardgate[bedrock]'"
        raise Refusal("provider_not_supported", message, "provider")


def new_from(scope: str, provider: str, alias: str, change: ConfigChange) -> NewConfig:
    """A change of what is not there yet, as something new. Raises nothing."""
    taken = {item.name for item in fields(NewConfig)} & {item.name for item in fields(ConfigChange)}
    named = {name: value for name in taken if (value := getattr(change, name)) is not UNSET}
    merged = {} if change.merged is UNSET else change.merged
    settings = {name: value for name, value in merged.items() if value is not None}
    named["settings"] = {**named.get("settings", {}), **settings}
    return NewConfig(**{**named, "scope": scope, "provider": provider, "alias": alias})


def planned(desk: Desk, provider: str, columns: Mapping[str, Any], key: Keying) -> Planned:
    """`columns` are the row's as they will be."""
    known = desk.catalog.providers.get(provider)
    place = base_url(known, columns["base_url"], columns["settings"])
    return Planned(
        provider=provider,
        dialect=columns.get("dialect") or dialect_of(provider),
        base_url=desk.settings.provider_base_urls.get(provider) or place,
        auth_type=columns["auth_type"],
        settings=columns["settings"],
        origin=columns["origin"],
        key=key,
        revision=columns.get("revision"),
    )


def aliases(text: str, desk: Desk) -> Iterator[str]:
    """Aliases made of any text, the plainest first; endless."""
    slug = _NO_SLUG.sub("-", text.lower()).strip("._-")[:_LONGEST_SLUG].strip("._-") or "config"
    for number in itertools.count(1):
        alias = slug if number == 1 else f"{slug}-{number}"
        try:
            yield rules.alias(alias, desk.catalog)
        except Refusal:
            continue  # a provider's name, a reserved word: the next one with a number is neither


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
        allow_unlisted=new.allow_unlisted,
        secret=UNSET if new.secret is None else new.secret,
        secret_id=new.secret_id,
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
        found["auth_type"] = rules.auth_type(asked.auth_type, provider)
    if asked.dialect is not UNSET:
        found["dialect"] = rules.dialect(asked.dialect, provider)
    if asked.active is not UNSET:
        found["is_active"] = asked.active
    if asked.allow_unlisted is not UNSET:
        found["allow_unlisted"] = asked.allow_unlisted
    if asked.managed_by is not UNSET:
        found["managed_by"] = asked.managed_by
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
    if asked.settings is not UNSET or asked.merged is not UNSET:
        found["settings"] = rules.settings(_settings(asked, row))
    if asked.base_url is not UNSET:
        own = asked.base_url
        found["base_url"] = None if own is None else checked_base_url(own, desk.settings)
    if found:
        own = found["base_url"] if "base_url" in found or row is None else row.base_url
        settings = found["settings"] if "settings" in found or row is None else row.settings
        found["origin"] = _origin(desk, actor, provider, own, settings)
    return found


def _settings(asked: ConfigChange, row: ConfigRow | None) -> dict[str, Setting]:
    stored = dict(row.settings) if row is not None else {}
    found = stored if asked.settings is UNSET else dict(asked.settings)
    merged = {} if asked.merged is UNSET else asked.merged
    kept = {name: value for name, value in found.items() if name not in merged}
    return kept | {name: value for name, value in merged.items() if value is not None}


def _origin(
    desk: Desk, actor: Actor, provider: str, own: str | None, settings: Mapping[str, Setting]
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


def moved_by_catalog(desk: Desk, row: ConfigRow) -> dict[str, Any]:
    """The origin of a config that leaves it to the catalog, where that has moved since: a key that
    is sent again is sealed to the place it will be sent to."""
    known = desk.catalog.providers.get(row.provider_id)
    if row.base_url is not None or known is None or known.base_url is None:
        return {}
    place = origin(known.base_url)
    return {} if place == row.origin else {"origin": place}


def _missing(desk: Desk, provider: str) -> Refusal:
    known = desk.catalog.providers.get(provider)
    template = known.template if known else None
    if template is not None and template.url:
        message = f"{provider} needs the setting {template.setting}, or a base_url"
        return Refusal("bad_settings", message, "settings")
    who = "custom providers need" if is_custom(provider) else f"{provider} needs"
    return Refusal("bad_base_url", f"{who} a base_url", "base_url")
