"""Which source of master keys the settings name, and how it is called where people read it.

Exactly one, or on a laptop none: then the key file in the data folder. Pure. Asked before anything
is read, run or called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from gateway.errors import StartRefused
from gateway.settings import PREFIX, Settings, rows

Source = Literal["env", "file", "command", "vault", "aws"]

# What names a source; of a service, any of its settings.
_NAMES: tuple[tuple[Source, str], ...] = (
    ("env", "keks"),
    ("file", "kek_file"),
    ("command", "kek_command"),
    ("vault", "kek_vault_"),
    ("aws", "kek_aws_"),
)
_NEEDED: dict[Source, tuple[str, ...]] = {
    "vault": ("kek_vault_url", "kek_vault_key"),
    "aws": ("kek_aws_key",),
}


def source_of(settings: Settings) -> Source:
    """The one source. Raises StartRefused for two, and for one that is named by halves."""
    named: dict[Source, str] = {
        source: found for source, name in _NAMES if (found := _first_set(settings, name))
    }
    if len(named) > 1:
        one, other, *_ = named.values()
        raise StartRefused(f"{one} and {other} are both set: master keys have one source")
    source: Source = next(iter(named), "file")
    missing = [name for name in _NEEDED.get(source, ()) if not getattr(settings, name)]
    if missing:
        raise StartRefused(f"{named[source]} is set, but not {PREFIX + missing[0].upper()}")
    if settings.kek_wrapped_file and source not in _NEEDED:
        raise StartRefused(
            "WARDGATE_KEK_WRAPPED_FILE is set, but neither WARDGATE_KEK_VAULT_URL nor "
            "WARDGATE_KEK_AWS_KEY, which says who unwraps it"
        )
    return source


def described(settings: Settings) -> str:
    """Its name for people; nothing secret, also of what was set wrongly. Raises as `source_of`."""
    match source_of(settings):
        case "env":
            return "WARDGATE_KEKS"
        case "command":
            return "WARDGATE_KEK_COMMAND"
        case "vault":
            return f"Vault at {urlsplit(settings.kek_vault_url).netloc}"
        case "aws":
            return f"AWS KMS at {urlsplit(settings.kek_aws_endpoint).netloc or region(settings)}"
        case "file":
            return str(key_file(settings))


def key_file(settings: Settings) -> Path:
    return Path(settings.kek_file) if settings.kek_file else settings.data_dir / "kek"


def wrapped_file(settings: Settings) -> Path:
    named = settings.kek_wrapped_file
    return Path(named) if named else settings.data_dir / "kek.wrapped"


def region(settings: Settings) -> str:
    """The region of the KMS key: the setting, else what its ARN says. Raises StartRefused."""
    parts = settings.kek_aws_key.split(":")
    named = parts[3] if len(parts) > 5 and parts[0] == "arn" else ""
    if not (settings.kek_aws_region or named):
        raise StartRefused("WARDGATE_KEK_AWS_KEY is no ARN: name the region, too")
    return settings.kek_aws_region or named


def _first_set(settings: Settings, name: str) -> str:
    """The first variable of that name (or beginning) that is not at its default; "": none."""
    for item in rows():
        same = item.name == name or (name.endswith("_") and item.name.startswith(name))
        if same and getattr(settings, item.name) != item.default:
            return PREFIX + item.name.upper()
    return ""
