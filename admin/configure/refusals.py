"""Why the desk said no: one error with a kind, a sentence and the field that is wrong.

Knows no HTTP and no surface: each surface maps a kind to its own status and envelope.
"""

from __future__ import annotations

from typing import Literal

from gateway.errors import WardgateError

Kind = Literal[
    "not_found",  # no such config, gateway, key or token in that scope
    "alias_taken",
    "answer_lost",  # acted on before, under the same Idempotency-Key, and then came a crash
    "ambiguous_alias",  # an alias that several providers' configs of the scope have
    "gateway_exists",
    "idempotency_key_reused",
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
    "bad_target",
    "bad_time",
    "choice_exists",
    "forbidden",
    "key_refused",  # verified before it was stored, and the provider refused it
    "managed",  # kept by a file; changed there and nowhere else
    "masked_key",  # a preview sent where a key is needed
    "model_not_listed",
    "name_taken",
    "not_verified",  # the key could not be proved: provider away, TLS, time-out
    "provider_not_supported",
    "rebind",  # origin or auth scheme moved: the key must be sent again
    "request_in_progress",  # the same one, under the same Idempotency-Key
    "reserved",
    "scope_exists",
    "secret_label_alone",  # secret_id without a secret
    "several_configs",  # one was meant, and there are more
    "stale",  # If-Match names another state than the present one
    "unknown_agent",
    "unknown_config",
    "unknown_provider",
]


class Refusal(WardgateError):
    """A rule of the store was broken; nothing was written.

    `names` are the other objects it is about: routes that refer, aliases that were meant.
    """

    def __init__(
        self, kind: Kind, message: str, field: str | None = None, names: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.field = field
        self.names = names


def check_owner(managed_by: str | None, owner: str | None) -> None:
    """Raises Refusal managed for what a file keeps, unless it is this file that asks."""
    if managed_by is not None and managed_by != owner:
        raise Refusal("managed", f"kept by the file {managed_by}; change it there")
