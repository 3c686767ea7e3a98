"""The rules of the store for one field each: what a value must look like to be kept.

Pure. Every function returns the value as it is stored, or raises Refusal naming the field; no
message ever repeats a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import get_args

from admin.configure.identity import read_id
from admin.configure.refusals import Refusal
from admin.permit import Actor, allows
from gateway.catalog import Catalog
from gateway.client.hygiene import settable
from gateway.providers import TEMPLATES, is_custom
from gateway.settings import REFERENCE_PREFIX
from gateway.shapes import GLOBAL, AuthType, DialectName, Setting
from gateway.vault import REFERENCE_FOLDER, is_reference, looks_masked

MOST = 1_000_000_000  # every count and period fits a database's 32-bit integer
DIALECTS: tuple[DialectName, ...] = ("openai", "azure", "anthropic", "gemini")
AUTH_TYPES: tuple[AuthType, ...] = ("api_key", "bearer", "none")
BEDROCK = "amazon-bedrock"
SETTINGS = frozenset(
    {"organization", "project", "region", "location", "resourceName", "apiVersion"}
    | {template.setting for template in TEMPLATES.values() if template.url}
)
# The names surfaces put where an alias may stand.
_RESERVED = frozenset(
    {"agents", "capabilities", "compat", "configure", "connections", "exists", "global", "health"}
    | {"models", "null", "providers", "routes", "test", "wardgate"}
)
_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII | re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,4096}", re.ASCII)
_REFERRING = ("$env:", "$file:")


def alias(text: str, catalog: Catalog) -> str:
    """An alias names a config inside (scope, provider), and must not read as anything else."""
    if not _ALIAS.fullmatch(text):
        raise Refusal("bad_alias", "1-64 of a-z 0-9 . _ -, a letter or digit first", "alias")
    low = text.lower()
    if low in _RESERVED:
        raise Refusal("bad_alias", f"{low} is a reserved word", "alias")
    if read_id(low) is not None:
        raise Refusal("bad_alias", "an alias must not look like an id", "alias")
    if catalog.canonical(low) is not None:
        raise Refusal("bad_alias", f"{low} is the name of a provider", "alias")
    return text


def provider(slug: str, catalog: Catalog) -> str:
    """The catalog's id for `slug`, or custom:<slug>. Refuses what cannot be reached yet."""
    found = catalog.canonical(slug)
    if found is None:
        message = "no provider of the catalog; use its id, or custom:<slug> for a server of yours"
        raise Refusal("unknown_provider", message, "provider")
    known = catalog.providers.get(found)
    if known is not None and known.unsupported is not None:
        raise Refusal("provider_not_supported", f"{found} {known.unsupported}", "provider")
    return found


def dialect(name: DialectName | None, provider_id: str) -> DialectName | None:
    """What a custom provider speaks; catalog providers have theirs."""
    if not is_custom(provider_id):
        if name is not None:
            message = "only custom:<slug> takes a dialect; the catalog knows this provider's"
            raise Refusal("bad_dialect", message, "dialect")
        return None
    if name not in DIALECTS:
        message = f"custom providers need a dialect: {', '.join(DIALECTS)}"
        raise Refusal("bad_dialect", message, "dialect")
    return name


def auth_type(name: AuthType, provider_id: str) -> AuthType:
    """How the key is presented; AWS signatures are Bedrock's alone."""
    offered = (*AUTH_TYPES, "aws_sigv4") if provider_id == BEDROCK else AUTH_TYPES
    if name not in offered:
        later = "comes later" if name in get_args(AuthType) else "is no auth type"
        if name == "aws_sigv4":
            later = f"is {BEDROCK}'s alone"
        message = f"{name[:64]} {later}; use {', '.join(offered)}"
        raise Refusal("bad_auth_type", message, "auth_type")
    return name


def settings(values: Mapping[str, Setting]) -> dict[str, Setting]:
    """Non-secret settings, by their published names; references have no place in them."""
    return {name: _setting(name, value) for name, value in values.items()}


def _setting(name: str, value: Setting) -> Setting:
    if name in TABLES:
        return TABLES[name](value)
    if name not in SETTINGS:
        known = ", ".join(sorted({*SETTINGS, *TABLES}))
        raise Refusal("bad_settings", f"no setting {name[:64]!r}; there are {known}", "settings")
    if not isinstance(value, str) or len(value) > 256 or not _KEY.fullmatch(value):
        message = f"{name} must be 1-256 printable characters without spaces"
        raise Refusal("bad_settings", message, "settings")
    if value.startswith(_REFERRING):
        raise Refusal("bad_settings", f"{name} cannot be a reference", "settings")
    if name in ("region", "location") and not is_region(value):
        raise Refusal("bad_settings", f"{name} is a name such as us-east-1", "settings")
    return value


def is_region(text: str) -> bool:
    """Whether a region can be called that."""
    return _REGION.fullmatch(text) is not None


def _table(name: str, value: Setting) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _ROWS:
        raise Refusal("bad_settings", f"{name} is a table of at most {_ROWS} rows", "settings")
    return dict(value)


def _headers(value: Setting) -> Setting:
    """More headers for the provider; none that carry keys or frame the message."""
    rows = _table("headers", value)
    for header, text in rows.items():
        if not _TOKEN.fullmatch(header) or not settable(header.lower().encode()):
            raise Refusal("bad_settings", f"the header {header[:64]!r} cannot be set", "settings")
        if not 1 <= len(text) <= 500 or not text.isascii() or not text.isprintable():
            message = f"the header {header} must be 1-500 printable ASCII characters"
            raise Refusal("bad_settings", message, "settings")
        if text.startswith(_REFERRING):
            raise Refusal("bad_settings", f"the header {header} cannot be a reference", "settings")
    return {header.lower(): text for header, text in rows.items()}


def _deployments(value: Setting) -> Setting:
    """Azure: the name of the deployment that stands for a model."""
    rows = _table("deployments", value)
    for model, name in rows.items():
        if not 1 <= len(model) <= 300 or not model.isprintable() or not _DEPLOYMENT.fullmatch(name):
            message = "deployments are rows of a model and 1-64 of A-Z a-z 0-9 . _ -"
            raise Refusal("bad_settings", message, "settings")
    return rows


_ROWS = 100
_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){0,5}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_DEPLOYMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
TABLES: Mapping[str, Callable[[Setting], Setting]] = {
    "headers": _headers,
    "deployments": _deployments,
}


def key(text: str, actor: Actor) -> tuple[str, bool]:
    """The provider key as it is sealed, or a reference as it is kept; True for a reference."""
    if text.startswith(_REFERRING):
        return _reference(text, actor), True
    if looks_masked(text):
        raise Refusal("masked_key", "this is the preview of a key, not a key", "secret")
    if not _KEY.fullmatch(text):
        message = "a key is 1-4096 printable ASCII characters without spaces or line breaks"
        raise Refusal("bad_key", message, "secret")
    if text.startswith("$$"):
        return text[1:], False
    if text.startswith("$"):
        message = "a key that begins with $ is written $$; references are $env:NAME, $file:/path"
        raise Refusal("bad_key", message, "secret")
    return text, False


def _reference(text: str, actor: Actor) -> str:
    if not allows(actor, "references.manage", GLOBAL):
        raise Refusal("forbidden", "only a superadmin may store a reference", "secret")
    if not is_reference(text):
        message = f"a reference is $env:{REFERENCE_PREFIX}… or $file:{REFERENCE_FOLDER}…"
        raise Refusal("bad_key", message, "secret")
    return text


def count(amount: int | None, field: str) -> int | None:
    """Requests a limit lets through; None: no limit. 0 is refused, not understood."""
    return None if amount is None else _whole(amount, field)


def period(seconds: int) -> int:
    """The window of a limit."""
    return _whole(seconds, "rate_limit_period")


def _whole(value: int, field: str) -> int:
    if type(value) is not int or not 1 <= value <= MOST:
        message = f"{field} must be a whole number from 1 to {MOST}"
        raise Refusal("bad_limit", message, field)
    return value


def name(text: str, field: str = "name") -> str:
    """What people call it: 1-200 characters, no control characters."""
    if not text.strip() or len(text) > 200 or not text.isprintable():
        raise Refusal("bad_name", "1-200 characters, none of them control characters", field)
    return text.strip()


def label(text: str | None, *, alone: bool) -> str | None:
    """`secret_id`: the caller's own label for a key; without a key it says nothing."""
    if text is None or text == "":
        return None
    if alone:
        message = "send the key itself in secret; secret_id is only a label"
        raise Refusal("secret_label_alone", message, "secret")
    if len(text) > 200 or not text.isprintable():
        raise Refusal("bad_key", "1-200 characters, none of them control", "secret_id")
    return text
