"""Why the desk said no: one error with a kind, a sentence and the field that is wrong.

Knows no HTTP and no surface: each surface maps a kind to its own status and envelope.
"""

from __future__ import annotations

from typing import Literal

from gateway.errors import WardgateError

Kind = Literal[
    "not_found",  # no such config, gateway, key or token in that scope
    "alias_taken",
    "gateway_exists",
    "in_use",
    "bad_alias",
    "bad_auth_type",
    "bad_base_url",
    "bad_dialect",
    "bad_key",
    "bad_limit",
    "bad_model",
    "bad_name",
    "bad_permission",
    "bad_scope",
    "bad_settings",
    "bad_time",
    "forbidden",
    "masked_key",  # a preview sent where a key is needed
    "provider_not_supported",
    "rebind",  # origin or auth scheme moved: the key must be sent again
    "reserved",
    "secret_label_alone",  # secret_id without a secret
    "unknown_agent",
    "unknown_provider",
]


class Refusal(WardgateError):
    """A rule of the store was broken; nothing was written."""

    def __init__(self, kind: Kind, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.field = field
