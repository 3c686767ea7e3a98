"""Surface 2's `settings`: the providers' own names turned into what the desk stores, and back.

Pure. Called by connections.py; no key leaves here but into a Secret.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from admin.api.bodies import BadRequest, Key, Problem, Strict, Text, Url
from admin.configure.configs import ConfigView, KeyParts
from gateway.providers import TEMPLATES
from gateway.shapes import AuthType, DialectName, Secret, Setting
from gateway.vault import looks_masked

_PARTS = ("access_key_id", "secret_access_key", "session_token")
_TABLE = Field(max_length=100)


def _named_after_models(value: Any) -> Any:
    # A list of deployments names each after its model. No union: its errors would point nowhere.
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return {item: item for item in value}
    return value


_TEXT = {"type": "string"}
_Deployments = Annotated[
    dict[str, str],
    _TABLE,
    BeforeValidator(_named_after_models),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "additionalProperties": _TEXT, "maxProperties": 100},
                {"type": "array", "items": _TEXT, "maxItems": 100},
            ]
        }
    ),
]


class ConnectionSettings(Strict):
    """Every setting of every provider; a name left out is kept, null removes it.

    `apiKey` may be a reference ($env:NAME, $file:/path); sent back masked it is kept.
    """

    model_config = ConfigDict(alias_generator=to_camel)

    api_key: Key | None = None
    endpoint: Url | None = None
    organization: Text | None = None
    project: Text | None = None
    api_version: Text | None = None
    resource_name: Text | None = None
    deployments: _Deployments | None = None
    region: Text | None = None
    location: Text | None = None
    access_key_id: Key | None = None
    secret_access_key: Key | None = None
    session_token: Key | None = None
    headers: Annotated[dict[str, str], _TABLE] | None = None
    account_id: Text | None = None
    account: Text | None = None
    gateway: Text | None = None
    host: Text | None = None
    auth_type: AuthType | None = None
    dialect: DialectName | None = None


_NAMED_APART = {"api_key", "endpoint", "auth_type", "dialect", *_PARTS}
_SETTINGS = tuple(name for name in ConnectionSettings.model_fields if name not in _NAMED_APART)


def asked_of(settings: ConnectionSettings, stored: ConfigView | None = None) -> dict[str, Any]:
    """The fields of a desk's ConfigChange that these settings name. Raises BadRequest.

    `stored` is what they are sent for, None for a new config.
    """
    sent = settings.model_fields_set
    found: dict[str, Any] = {}
    if "endpoint" in sent:
        found["base_url"] = settings.endpoint
    if settings.auth_type is not None:
        found["auth_type"] = settings.auth_type
    if settings.dialect is not None:
        found["dialect"] = settings.dialect
    if named := [name for name in _SETTINGS if name in sent]:
        merged: dict[str, Setting | None] = {n: getattr(settings, n) for n in named}
        found["merged"] = {to_camel(name): value for name, value in merged.items()}
    return found | _secret(settings, stored)


def _secret(settings: ConnectionSettings, stored: ConfigView | None) -> dict[str, Any]:
    """The key, whole or in parts. Null clears what is stored; of what is not, it says nothing."""
    texts = {name: getattr(settings, name) for name in _PARTS}
    nulls = {name for name in settings.model_fields_set if getattr(settings, name) is None}
    held = {name for name in _PARTS if stored and to_camel(name) in stored.part_masks}
    if settings.api_key is not None and any(texts.values()):
        raise _wrong("apiKey", "send an API key or AWS credentials, not both")
    if settings.api_key is not None:
        return {"secret": _wrapped(settings.api_key)}
    if held and held <= nulls | {"session_token"} and not any(texts.values()):
        return {"secret": None}
    if held & nulls and not all(_new(texts[name]) for name in _PARTS[:2]):
        name = to_camel(min(held & nulls))
        raise _wrong(name, "AWS credentials are cleared together, or sent again together")
    if any(texts.values()):
        return {"secret": KeyParts(*(_wrapped(text) for text in texts.values()))}
    return {"secret": None} if "api_key" in nulls and not held else {}


def _wrong(name: str, message: str) -> BadRequest:
    return BadRequest(Problem(("body", "settings", name), message))


def _new(text: str | None) -> bool:
    return text is not None and not looks_masked(text)


def _wrapped(text: str | None) -> Secret | None:
    return Secret(text.encode()) if text is not None else None


def settings_shown(view: ConfigView) -> dict[str, Any]:
    """The settings as they may be shown: each provider's own names, keys as masks."""
    shown: dict[str, Any] = dict.fromkeys(_names(view.provider))
    if view.part_masks:
        shown |= {name: _mask(text) for name, text in view.part_masks.items()}
    elif view.secret_preview:
        shown["apiKey"] = _mask(view.secret_preview)
    shown |= dict(view.settings)
    shown["endpoint"] = view.base_url
    if view.auth_type not in ("api_key", "aws_sigv4"):
        shown["authType"] = view.auth_type
    if view.dialect is not None:
        shown["dialect"] = view.dialect
    return shown


def _names(provider: str) -> tuple[str, ...]:
    if provider == "openai":
        return "apiKey", "organization", "endpoint"
    if provider == "amazon-bedrock":
        return "region", "accessKeyId", "secretAccessKey", "sessionToken", "endpoint"
    if provider.startswith("azure"):
        return "apiKey", "endpoint", "apiVersion", "deployments"
    template = TEMPLATES.get(provider)
    own = (template.setting,) if template is not None and template.url else ()
    return "apiKey", *own, "endpoint"


def _mask(preview: str) -> str:
    """`sk-...WXYZ` as this surface writes it: `sk-***`. A reference stays as it is."""
    if preview.startswith(("$env:", "$file:")):
        return preview
    return f"{preview.partition('...')[0].rstrip('*')}***"
