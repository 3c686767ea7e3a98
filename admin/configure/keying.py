"""What becomes of a config's key: a new one, the stored one kept, or none any more.

Looks at a key somebody just sent, before it is sealed; never opens a stored one. Pure. Called by
drafts.py and configs.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from admin.configure import rules
from admin.configure.orders import UNSET, ConfigChange, KeyParts
from admin.configure.refusals import Refusal
from admin.permit import Actor
from gateway.shapes import AuthType, Secret
from gateway.store.configs import ConfigRow
from gateway.vault import looks_masked, preview

# Shorter ones are words like `test`, which an alias may contain.
_SECRET_FROM = 16
_BETWEEN = "::"
# Where a request goes and how it is signed: moving them needs the key again (case 9).
_BINDING = ("region", "resourceName", "location")


@dataclass(frozen=True, slots=True)
class Key:
    """A provider key on its way to the vault, or a reference that is stored as it is.

    `shown` is its preview, `masks` how the parts of AWS credentials are shown.
    """

    text: str
    reference: bool
    shown: str
    masks: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "Key(***)"


Keying = Key | Literal["keep", "clear"]


def unpacked(provider: str, asked: ConfigChange, row: ConfigRow | None) -> ConfigChange:
    """The change with AWS credentials taken apart, and the auth scheme they imply.

    `ACCESS_KEY_ID::SECRET_ACCESS_KEY::REGION[::SESSION_TOKEN]` names the region, too. Anything else
    that is sent for Bedrock is one of its API keys, a bearer token.
    """
    if provider != rules.BEDROCK and isinstance(asked.secret, KeyParts):
        raise Refusal("bad_key", f"AWS credentials are {rules.BEDROCK}'s alone", "secret")
    if provider != rules.BEDROCK or asked.secret is None or asked.secret is UNSET:
        return asked
    parts = asked.secret
    if isinstance(parts, Secret):
        text = parts.expose().decode("utf-8", "replace")
        if _BETWEEN not in text:
            return _bearer(asked, text)
        parts, region = _parts(text)
        merged = dict(asked.merged) if asked.merged is not UNSET else {}
        asked = replace(asked, secret=parts, merged={**merged, "region": region})
    return asked if _whole(parts, row) is None else replace(asked, auth_type="aws_sigv4")


def _bearer(asked: ConfigChange, text: str) -> ConfigChange:
    kept = text == "" or looks_masked(text)
    if kept or asked.auth_type == "none" or text.startswith("$"):
        return asked
    if asked.auth_type == "aws_sigv4":
        message = "AWS credentials are ACCESS_KEY_ID::SECRET_ACCESS_KEY::REGION[::SESSION_TOKEN]"
        raise Refusal("bad_key", message, "secret")
    return replace(asked, auth_type="bearer")


def _parts(text: str) -> tuple[KeyParts, str]:
    fields = text.split(_BETWEEN)
    if len(fields) not in (3, 4) or not all(fields) or not rules.is_region(fields[2]):
        message = "AWS credentials are ACCESS_KEY_ID::SECRET_ACCESS_KEY::REGION[::SESSION_TOKEN]"
        raise Refusal("bad_key", message, "secret")
    session = Secret(fields[3].encode()) if len(fields) == 4 else None
    return KeyParts(Secret(fields[0].encode()), Secret(fields[1].encode()), session), fields[2]


def keying(asked: ConfigChange, row: ConfigRow | None, actor: Actor) -> Keying:
    """What the change asks for. Raises Refusal bad_key, masked_key, forbidden."""
    if asked.secret is UNSET:
        return "keep"
    if asked.secret is None:
        return "clear"
    if isinstance(asked.secret, KeyParts):
        return _made_of(asked.secret, asked, row, actor)
    text = asked.secret.expose().decode("utf-8", "replace")
    if text == "" or (_stored(row) and _as_shown(text, row)):
        return "keep"
    bare, reference = rules.key(text, actor)
    _keep_secret(bare, asked)
    return Key(bare, reference, bare if reference else preview(bare))


def _made_of(
    parts: KeyParts, asked: ConfigChange, row: ConfigRow | None, actor: Actor
) -> Key | Literal["keep"]:
    texts = _whole(parts, row)
    if texts is None:
        return "keep"
    for part in filter(None, texts):
        bare, reference = rules.key(part, actor)
        if reference or _BETWEEN in bare:
            raise Refusal("bad_key", "an AWS credential is text without ::", "secret")
        _keep_secret(bare, asked)
    access, secret, session = texts
    sealed = {"access_key_id": access, "secret_access_key": secret, "session_token": session}
    masks = {"accessKeyId": preview(access), "secretAccessKey": "***"}
    if session is not None:
        masks["sessionToken"] = "***"
    return Key(json.dumps(sealed), False, preview(access), masks)


def _whole(parts: KeyParts, row: ConfigRow | None) -> tuple[str, str, str | None] | None:
    """The texts of all parts, or None where none was really sent (case 9: all or none)."""
    sent = [_sent(part) for part in (parts.access_key_id, parts.secret_access_key)]
    session = _sent(parts.session_token)
    if _stored(row) and sent == [None, None] and session is None:
        return None
    access, secret = sent
    if access is None or secret is None or _masked(parts.session_token):
        message = "send the access key id and the secret access key together, or neither"
        raise Refusal("bad_key", message, "secret")
    return access, secret, session


def _sent(part: Secret | None) -> str | None:
    text = part.expose().decode("utf-8", "replace") if part is not None else ""
    return None if text == "" or looks_masked(text) else text


def _masked(part: Secret | None) -> bool:
    return part is not None and bool(part.expose()) and _sent(part) is None


def _stored(row: ConfigRow | None) -> bool:
    return row is not None and row.preview is not None


def _as_shown(text: str, row: ConfigRow | None) -> bool:
    # A reference is shown as it is, and comes back as it is.
    return looks_masked(text) or (row is not None and text == row.preview)


def _keep_secret(key: str, asked: ConfigChange) -> None:
    """Refuse a key that stands, whole, in a field that is stored and shown as it is."""
    plain: list[Any] = [asked.alias, asked.name, asked.base_url, asked.secret_id]
    for table in (asked.settings, asked.merged):
        for value in () if table is UNSET else table.values():
            plain += value.values() if isinstance(value, dict) else [value]
    if len(key) >= _SECRET_FROM and any(isinstance(t, str) and key in t for t in plain):
        raise Refusal("bad_key", "the key stands in another field, too, and that is shown")


def bound(key: Keying, found: Mapping[str, Any], row: ConfigRow) -> Keying:
    """The same, minding that a stored key belongs to its origin and auth scheme.

    Raises Refusal: rebind (the key must be sent again), bad_key (auth type none takes none).
    """
    auth_type: AuthType = found.get("auth_type", row.auth_type)
    if auth_type == "none":
        if isinstance(key, Key):
            raise Refusal("bad_key", "auth_type none takes no key", "secret")
        return "clear"
    if key == "keep" and _moved(auth_type, found, row) and row.preview is not None:
        message = "the key is sealed to where it was sent and how; send it again to move it"
        raise Refusal("rebind", message, "secret")
    if auth_type == "aws_sigv4" and isinstance(key, Key) and not (key.masks or key.reference):
        raise Refusal("bad_key", "aws_sigv4 needs AWS credentials", "secret")
    return key


def _moved(auth_type: AuthType, found: Mapping[str, Any], row: ConfigRow) -> bool:
    settings = found.get("settings", row.settings)
    return (
        auth_type != row.auth_type
        or found.get("origin", row.origin) != row.origin
        or any(settings.get(name) != row.settings.get(name) for name in _BINDING)
    )


def label(asked: ConfigChange, row: ConfigRow | None) -> dict[str, Any]:
    """The column of `secret_id`, when it was named."""
    if asked.secret_id is UNSET:
        return {}
    alone = asked.secret is UNSET or asked.secret is None
    if isinstance(asked.secret, Secret):
        alone = not asked.secret.expose()
    same = row is not None and asked.secret_id == row.secret_label
    return {"secret_label": rules.label(asked.secret_id, alone=alone and not same)}
